// -- what the page shows: none of this computes ----------------------------------------------------------------------

const element = (id) => document.getElementById(id);

function create(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// A number in four digits, as people write it.
function shown(value) {
  if (!Number.isFinite(value)) return String(value).replace("-", "\u2212");
  const size = Math.abs(value);
  const text = size !== 0 && (size < 0.001 || size >= 1e6) ? value.toExponential(2) : String(+value.toPrecision(4));
  return text.replaceAll("-", "\u2212");
}

// Runs the network on a tensor, or clears the page if there is none, and says what came out.
function show(x) {
  const seen = {};
  const started = performance.now();
  const y = x && forward(x, seen);
  const duration = performance.now() - started;
  showOutput(y);
  showLayers(y && seen);
  element("duration").textContent = y ? `computed in ${duration < 1 ? "less than 1" : Math.round(duration)} ms` : "";
  return duration;
}

// -- the output ------------------------------------------------------------------------------------------------------

const OUTPUTS = product(ABOUT.outputShape);

// What the outputs say: shares of one (from logits, where the network was trained on them), or the numbers themselves.
function meant(y) {
  const values = Array.from(y.data);
  if (ABOUT.meaning === "logits") return Array.from(softmax(tensor([OUTPUTS], Float64Array.from(values))).data);
  if (ABOUT.meaning === "logit") return values.map((value) => 1 / (1 + Math.exp(-value)));
  return values;
}

function showOutput(y) {
  const values = y ? meant(y) : [];
  const best = values.indexOf(Math.max(...values));
  const isShare = ABOUT.meaning !== "numbers";
  const text = (value) => (isShare ? `${shown(+(100 * value).toFixed(1))} %` : shown(value));
  const most = isShare ? 1 : Math.max(...values.map(Math.abs));
  if (ABOUT.bars) {
    for (const [i, bar] of [...element("bars").children].entries()) {
      const value = values[i] ?? 0;
      const share = most > 0 && Number.isFinite(most) ? Math.min(1, Math.abs(value) / most) : 0;
      bar.querySelector(".fill").style.width = `${100 * share}%`;
      bar.querySelector(".fill").classList.toggle("negative", value < 0);
      bar.querySelector(".number").textContent = y ? text(value) : "";
      bar.classList.toggle("best", ABOUT.classes && i === best);
      bar.title = y ? `output ${i}: ${shown(y.data[i])}` : "";
    }
  } else {
    element("numbers").textContent = values.map(shown).join(", ");
  }
  const chosen = Boolean(ABOUT.classes && y && best >= 0);
  const sureness = chosen ? `${isShare ? "" : "output "}${text(values[best])}` : "";
  element("answer").textContent = chosen ? ABOUT.classes[best] : ABOUT.classes ? "\u2013" : "";
  element("answer").classList.toggle("none", !chosen);
  element("sureness").textContent = sureness;
  if (chosen) say("said", `${ABOUT.reading} ${ABOUT.classes[best]}, ${sureness}.`);
  else say("said", y ? `Output ${values.slice(0, 5).map(text).join(", ")}${values.length > 5 ? ", \u2026" : ""}` : "");
}

// For screen readers, once nothing has changed for a moment.
function say(name, text) {
  clearTimeout(say[name]);
  say[name] = setTimeout(() => (element(name).textContent = text), 400);
}

function prepareOutput() {
  if (!ABOUT.bars) return;
  for (let i = 0; i < OUTPUTS; i++) {
    element("bars").append(create("li", {},
      create("span", { class: "name" }, ABOUT.classes ? ABOUT.classes[i] : ABOUT.outputs[i]),
      create("span", { class: "track" }, create("span", { class: "fill" })),
      create("span", { class: "number" })));
  }
}

// -- the layers' outputs as pictures ---------------------------------------------------------------------------------

// Values from -most to most as colours: orange, the background, blue.
function paint(canvas, rows, columns, valueAt, most) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim().split(" ").map(Number);
  const [zero, positive, negative] = ["--zero", "--positive", "--negative"].map(colour);
  canvas.width = columns;
  canvas.height = rows;
  const picture = new ImageData(columns, rows);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const value = valueAt(i, j);
      if (value === undefined) continue; // between tiles
      const share = most > 0 ? Math.min(1, Math.abs(value) / most) : 0;
      const end = value < 0 ? negative : positive;
      const at = 4 * (i * columns + j);
      for (let c = 0; c < 3; c++) picture.data[at + c] = zero[c] + (end[c] - zero[c]) * share;
      picture.data[at + 3] = 255;
    }
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

const TILES = 64; // no more channels than these are drawn

// How a layer's output is laid out in a width of so many pixels: rows and columns of the picture, how large a value is
// drawn, and which value stands at each place.
function layout(shape, available) {
  if (shape.length === 3 && shape[0] * shape[1] > 1) {
    const [height, width, channels] = shape;
    const tiles = Math.min(channels, TILES);
    const zoom = Math.max(1, Math.floor(Math.min(Math.max(3 * width, 28), 88) / width));
    const across = Math.max(1, Math.min(tiles, Math.floor(available / ((width + 1) * zoom))));
    const down = Math.ceil(tiles / across);
    const place = (i, j) => {
      const [a, b] = [i % (height + 1), j % (width + 1)];
      const tile = Math.floor(i / (height + 1)) * across + Math.floor(j / (width + 1));
      return a < height && b < width && tile < tiles ? (a * width + b) * channels + tile : undefined;
    };
    return { rows: down * (height + 1) - 1, columns: across * (width + 1) - 1, zoom, place };
  }
  const n = product(shape);
  const isImage = shape.length === 2 && shape[0] > 1;
  const usual = n === 784 ? 28 : n > 160 ? 56 : 40; // 784 numbers are an image of MNIST's in one row
  const columns = isImage ? shape[1] : Math.min(n, usual, Math.floor(available / 6));
  const rows = Math.min(Math.ceil(n / columns), 400);
  const place = (i, j) => (i * columns + j < n ? i * columns + j : undefined);
  const zoom = Math.max(1, Math.min(n === 784 ? 3 : columns < 24 ? 14 : 8, Math.floor(available / columns)));
  return { rows, columns, zoom, place };
}

const pictures = []; // one for each layer

function prepareLayers() {
  for (const layer of ABOUT.layers) {
    const canvas = create("canvas", { role: "img" });
    const range = create("span", { class: "range" });
    const title = create("span", { class: "layer" }, create("b", {}, layer.path), ` ${layer.about}`);
    const left = layer.shape.length === 3 && layer.shape[2] > TILES ? `, the first ${TILES} channels` : "";
    const shape = create("span", { class: "shape" }, `${layer.shape.join(" \u00d7 ")}${left}`);
    element("layers").append(create("figure", {}, create("figcaption", {}, title, shape, range), canvas));
    pictures.push({ layer, canvas, range });
  }
}

function showLayers(seen) {
  const available = Math.min(element("layers").clientWidth || 530, 530);
  for (const { layer, canvas, range } of pictures) {
    const { rows, columns, zoom, place } = layout(layer.shape, available);
    canvas.style.width = `${columns * zoom}px`;
    const data = seen ? seen[layer.path].data : new Float64Array(product(layer.shape));
    let [least, most] = [Infinity, -Infinity];
    for (const value of data) {
      if (value < least) least = value;
      if (value > most) most = value;
    }
    const valueAt = (i, j) => (place(i, j) === undefined ? undefined : data[place(i, j)]);
    paint(canvas, rows, columns, valueAt, Math.max(Math.abs(least), Math.abs(most)));
    range.textContent = seen ? `${shown(least)} to ${shown(most)}` : "";
    const values = seen ? `, values from ${shown(least)} to ${shown(most)}` : "";
    canvas.setAttribute("aria-label", `Output of layer ${layer.path}, ${layer.about}${values}`);
  }
}

// -- the code that runs, for who wants to read it --------------------------------------------------------------------

function prepareCode() {
  element("code").textContent = forward.toString();
}

function start() {
  prepareOutput();
  prepareLayers();
  prepareCode();
  prepareInput();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => refresh());
  window.addEventListener("resize", () => refresh());
}
