// -- the pad: strokes of a pen, drawn with the mouse, a finger, a stylus or the keyboard -----------------------------

const SIZE = 448; // of the pad, in its own pixels: 16 for each of the 28
const STEP = 16; // that an arrow key moves the pen

const pad = element("pad");
const surface = pad.getContext("2d", { willReadFrequently: true });
let strokes = []; // each { width, points: [[x, y], ...] }
let stroke = null; // the one being drawn
let pen = null; // the keyboard's, { x, y, down }
let waiting = false; // for the next frame
let lastDuration = 0;

function draw() {
  surface.fillStyle = "black";
  surface.fillRect(0, 0, SIZE, SIZE);
  surface.strokeStyle = surface.fillStyle = "white";
  surface.lineCap = surface.lineJoin = "round";
  for (const { width, points } of strokes) {
    surface.lineWidth = width;
    surface.beginPath();
    surface.moveTo(...points[0]);
    for (const point of points) surface.lineTo(...point);
    surface.stroke(); // a single point is a dot, for its caps are round
  }
}

// The pad as the network gets it: centred as MNIST's digits are, or null if it is blank.
function prepared() {
  const pixels = surface.getImageData(0, 0, SIZE, SIZE).data;
  const gray = new Uint8Array(SIZE * SIZE);
  for (let k = 0; k < gray.length; k++) gray[k] = pixels[4 * k];
  const { image, ink } = prepareDigit(gray, SIZE, SIZE);
  return ink === "none" ? null : image;
}

// The numbers that the network gets for the bytes of an image.
function given(image) {
  const most = Number(element("most").value);
  return tensor(ABOUT.inputShape, Numbers.from(image, (byte) => (byte * most) / 255));
}

function refresh() {
  waiting = false;
  draw();
  const image = prepared();
  paintImage(image ?? new Uint8Array(28 * 28));
  lastDuration = show(image && given(image));
  element("undo").disabled = element("clear").disabled = strokes.length === 0;
  pad.classList.toggle("blank", strokes.length === 0);
  placePen();
}

// At most once a frame; while a stroke is drawn, a network that takes longer than a few frames waits for its end.
function refreshSoon() {
  if (stroke && lastDuration > 60) {
    draw();
    return;
  }
  if (!waiting) requestAnimationFrame(refresh);
  waiting = true;
}

function paintImage(image) {
  const picture = new ImageData(28, 28);
  image.forEach((byte, k) => picture.data.set([byte, byte, byte, 255], 4 * k));
  element("image").getContext("2d", { willReadFrequently: true }).putImageData(picture, 0, 0);
}

function begin(x, y) {
  stroke = { width: Number(element("width").value), points: [[x, y]] };
  strokes.push(stroke);
}

function undo() {
  stroke = null;
  strokes.pop();
  liftPen();
  refresh();
}

function clear() {
  stroke = null;
  strokes = [];
  liftPen();
  refresh();
}

// -- mouse, touch, stylus --

function placeOf(event) {
  const box = pad.getBoundingClientRect();
  return [((event.clientX - box.left) * SIZE) / box.width, ((event.clientY - box.top) * SIZE) / box.height];
}

function onPointerDown(event) {
  if (!event.isPrimary || event.button !== 0) return;
  pen = null;
  pad.setPointerCapture(event.pointerId); // a stroke may leave the pad
  begin(...placeOf(event));
  refreshSoon();
}

function onPointerMove(event) {
  if (!stroke || !event.isPrimary || pen) return;
  const events = event.getCoalescedEvents?.() ?? [];
  for (const each of events.length ? events : [event]) stroke.points.push(placeOf(each));
  refreshSoon();
}

function onPointerUp(event) {
  if (!stroke || !event.isPrimary || pen) return;
  stroke = null;
  refreshSoon();
}

// -- keyboard: arrows move the pen, the space bar sets it down and lifts it --

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const pressed = new Set();

function liftPen() {
  if (pen) pen.down = false;
  if (pen) stroke = null;
  placePen();
}

function placePen() {
  const mark = element("pen");
  mark.hidden = !pen;
  if (!pen) return;
  mark.style.left = `${(100 * pen.x) / SIZE}%`;
  mark.style.top = `${(100 * pen.y) / SIZE}%`;
  mark.classList.toggle("down", pen.down);
}

function onKeyDown(event) {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
    event.preventDefault();
    undo();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Delete" || event.key === "Backspace") {
    event.preventDefault();
    clear();
  } else if (event.key === "Escape") {
    liftPen();
  } else if (event.key === " " || event.key in ARROWS) {
    event.preventDefault(); // the page does not scroll
    pen ??= { x: SIZE / 2, y: SIZE / 4, down: false };
    if (event.key !== " ") {
      pressed.add(event.key);
      movePen(event.shiftKey ? 1 / 4 : 1);
    } else if (!event.repeat) {
      pen.down = !pen.down;
      if (pen.down) begin(pen.x, pen.y);
      else stroke = null;
      say("pen-said", pen.down ? "Pen down." : "Pen up.");
    }
    refreshSoon();
    placePen();
  }
}

function movePen(share) {
  const steps = [...pressed].map((key) => ARROWS[key]); // two keys at once: a diagonal
  const within = (value) => Math.min(Math.max(value, STEP), SIZE - STEP);
  pen.x = within(pen.x + share * STEP * steps.reduce((sum, [x]) => sum + x, 0));
  pen.y = within(pen.y + share * STEP * steps.reduce((sum, [, y]) => sum + y, 0));
  if (pen.down) stroke.points.push([pen.x, pen.y]);
}

function prepareInput() {
  pad.addEventListener("pointerdown", onPointerDown);
  pad.addEventListener("pointermove", onPointerMove);
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) pad.addEventListener(name, onPointerUp);
  pad.addEventListener("keydown", onKeyDown);
  pad.addEventListener("keyup", (event) => pressed.delete(event.key));
  pad.addEventListener("blur", () => {
    pressed.clear();
    liftPen();
    pen = null;
    placePen();
  });
  element("undo").addEventListener("click", undo);
  element("clear").addEventListener("click", clear);
  element("most").addEventListener("change", refresh);
  element("most").value = String(ABOUT.most);
  refresh();
}
