// A picture of a digit, made into an image as MNIST's. portnn.datasets.prepare_digit does the same and gives the same
// bytes: each step is one operation on each pixel, or a sum of whole numbers, which is exact in any order.
// gray: height * width numbers from 0, black, to top, white. Returns the image, 28 * 28 bytes, light ink on black, and
// what was taken for ink.
function prepareDigit(gray, height, width, top = 255) {
  const SIDE = 28; // of the image
  const BOX = 20; // of the digit in it: MNIST's longer side
  const MIDDLE = 14; // MNIST's digits have their centre of mass in this row and column, counted from 0
  const image = new Uint8Array(SIDE * SIDE);

  // The paper is the median along the edge, the ink is what differs most from it.
  const edge = [];
  for (let j = 0; j < width; j++) edge.push(gray[j], gray[(height - 1) * width + j]);
  for (let i = 1; i < height - 1; i++) edge.push(gray[i * width], gray[i * width + width - 1]);
  const paper = median(edge);
  let least = Infinity;
  let most = -Infinity;
  for (const value of gray) {
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  const dark = paper > (least + most) / 2;
  const contrast = dark ? paper - least : most - paper;
  if (contrast < top / 32) return { image, ink: "none" };
  const noise = median(edge.map((value) => Math.abs(value - paper))) / contrast;
  const faintest = 255 * Math.min(Math.max(1 / 16, 4 * noise), 0.5);

  // Ink as whole numbers from 0 to 255, and the box around it.
  const ink = new Float64Array(height * width);
  const box = { top: height, left: width, bottom: 0, right: 0 };
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      const value = gray[i * width + j];
      const amount = Math.floor(((dark ? paper - value : value - paper) * 255) / contrast + 0.5);
      if (amount < faintest) continue;
      ink[i * width + j] = amount;
      box.top = Math.min(box.top, i);
      box.left = Math.min(box.left, j);
      box.bottom = Math.max(box.bottom, i + 1);
      box.right = Math.max(box.right, j + 1);
    }
  }

  // Scaled so that the longer side has 20 pixels, each the mean of the area that it covers, and the strongest 255.
  const sizes = [box.bottom - box.top, box.right - box.left];
  const longer = Math.max(...sizes);
  const [h, w] = sizes.map((n) => Math.max(1, Math.floor((2 * BOX * n + longer) / (2 * longer))));
  const rows = overlaps(sizes[0], h);
  const columns = overlaps(sizes[1], w);
  const small = new Float64Array(h * w);
  for (let i = 0; i < h; i++) {
    for (const [a, high] of rows[i]) {
      const from = (box.top + a) * width + box.left;
      for (let j = 0; j < w; j++) {
        for (const [b, wide] of columns[j]) small[i * w + j] += high * wide * ink[from + b];
      }
    }
  }
  const strongest = Math.max(...small);
  for (let k = 0; k < small.length; k++) small[k] = Math.floor((510 * small[k] + strongest) / (2 * strongest));

  // With the centre of mass in the middle, as near as whole pixels and the edge allow.
  let mass = 0;
  let down = 0;
  let across = 0;
  small.forEach((value, k) => {
    mass += value;
    down += value * Math.floor(k / w);
    across += value * (k % w);
  });
  const place = (moment, size) => {
    const first = Math.ceil(((2 * MIDDLE - 1) * mass - 2 * moment) / (2 * mass));
    return Math.min(Math.max(first, 0), SIDE - size);
  };
  const [y, x] = [place(down, h), place(across, w)];
  small.forEach((value, k) => (image[(y + Math.floor(k / w)) * SIDE + x + (k % w)] = value));
  return { image, ink: dark ? "dark on light" : "light on dark" };
}

function median(values) {
  const ordered = Float64Array.from(values).sort();
  return (ordered[(ordered.length - 1) >> 1] + ordered[ordered.length >> 1]) / 2;
}

// For each of m equal parts of n pixels: the pixels that it covers, each with how much of it, where a whole one is m.
function overlaps(n, m) {
  return Array.from({ length: m }, (_, part) => {
    const covered = [];
    for (let pixel = Math.floor((part * n) / m); pixel * m < (part + 1) * n; pixel++) {
      covered.push([pixel, Math.min((part + 1) * n, (pixel + 1) * m) - Math.max(part * n, pixel * m)]);
    }
    return covered;
  });
}
