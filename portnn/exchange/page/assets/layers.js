// A tensor has a shape and its numbers in C order: the last axis varies fastest.
function tensor(shape, data) {
  return { shape, data };
}

function product(sizes) {
  return sizes.reduce((all, n) => all * n, 1);
}

// FCLayer: Y = X W + B, on the last axis of X.
function fullyConnected(x, weights, bias) {
  const [inputs, outputs] = weights.shape;
  const rows = x.data.length / inputs;
  const y = new Numbers(rows * outputs);
  for (let row = 0; row < rows; row++) {
    const sums = new Float64Array(outputs);
    for (let i = 0; i < inputs; i++) {
      const value = x.data[row * inputs + i];
      for (let j = 0; j < outputs; j++) sums[j] += value * weights.data[i * outputs + j];
    }
    for (let j = 0; j < outputs; j++) y[row * outputs + j] = sums[j] + (bias ? bias.data[j] : 0);
  }
  return tensor([...x.shape.slice(0, -1), outputs], y);
}

// ConvLayer: Y[i, j, f] = B[f] + sum over u, v, c of X[s i + d u - p, s j + d v - p, c] W[u, v, c, f].
// Padding is [[before, after], [before, after]] with zeros. A sequence (L, C) is an image of one row, (1, L, C).
function convolution(x, weights, bias, { stride, padding, dilation, groups }) {
  const [height, width, channels] = x.shape.length === 2 ? [1, ...x.shape] : x.shape;
  const [h, w, depth, filters] = weights.shape.length === 3 ? [1, ...weights.shape] : weights.shape; // depth: C / groups
  const [[top, bottom], [left, right]] = padding;
  const rows = Math.floor((height + top + bottom - (h - 1) * dilation[0] - 1) / stride[0]) + 1;
  const columns = Math.floor((width + left + right - (w - 1) * dilation[1] - 1) / stride[1]) + 1;
  const each = filters / groups; // filters of a group, which see the same channels
  const y = new Numbers(rows * columns * filters);
  const sums = new Float64Array(filters);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      sums.fill(0);
      for (let u = 0; u < h; u++) {
        const a = stride[0] * i + dilation[0] * u - top;
        if (a < 0 || a >= height) continue; // padding
        for (let v = 0; v < w; v++) {
          const b = stride[1] * j + dilation[1] * v - left;
          if (b < 0 || b >= width) continue;
          for (let c = 0; c < channels; c++) {
            const value = x.data[(a * width + b) * channels + c];
            const first = Math.floor(c / depth) * each; // of the filters that see channel c
            const from = ((u * w + v) * depth + (c % depth)) * filters;
            for (let f = first; f < first + each; f++) sums[f] += value * weights.data[from + f];
          }
        }
      }
      const at = (i * columns + j) * filters;
      for (let f = 0; f < filters; f++) y[at + f] = sums[f] + (bias ? bias.data[f] : 0);
    }
  }
  return tensor([...(x.shape.length === 2 ? [] : [rows]), columns, filters], y);
}

// MaxPoolLayer: the largest value of each window. The maximum of a window is the maximum of its rows' maxima, so it is
// taken along one axis after the other. Padding holds no values.
function maxPool(x, window, stride, padding) {
  const largest = (values) => values.reduce((most, value) => Math.max(most, value));
  return pooled(x, window, stride, padding, largest);
}

// AvgPoolLayer: the mean of each window, likewise; padding does not count.
function avgPool(x, window, stride, padding) {
  const mean = (values) => values.reduce((sum, value) => sum + value) / values.length;
  return pooled(x, window, stride, padding, mean);
}

function pooled(x, window, stride, padding, merge) {
  window.forEach((size, axis) => {
    const n = x.shape[axis];
    const [before, after] = padding[axis];
    const m = Math.floor((n + before + after - size) / stride[axis]) + 1;
    const outer = product(x.shape.slice(0, axis));
    const inner = product(x.shape.slice(axis + 1));
    const y = new Numbers(outer * m * inner);
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < m; i++) {
        const first = Math.max(0, i * stride[axis] - before);
        const end = Math.min(n, i * stride[axis] - before + size);
        for (let k = 0; k < inner; k++) {
          const values = [];
          for (let a = first; a < end; a++) values.push(x.data[(o * n + a) * inner + k]);
          y[(o * m + i) * inner + k] = merge(values);
        }
      }
    }
    x = tensor([...x.shape.slice(0, axis), m, ...x.shape.slice(axis + 1)], y);
  });
  return x;
}

// GlobalMaxPoolLayer: the largest value of each channel over the whole image.
function globalMaxPool(x) {
  const channels = x.shape.at(-1);
  const y = new Numbers(channels).fill(-Infinity);
  x.data.forEach((value, i) => (y[i % channels] = Math.max(y[i % channels], value)));
  return tensor([channels], y);
}

// GlobalAvgPoolLayer: the mean of each channel over the whole image.
function globalAvgPool(x) {
  const channels = x.shape.at(-1);
  const sums = new Float64Array(channels);
  x.data.forEach((value, i) => (sums[i % channels] += value));
  return tensor([channels], Numbers.from(sums, (sum) => sum / (x.data.length / channels)));
}

// UpsampleLayer: repeats each pixel, along one axis after the other.
function upsample(x, factors) {
  factors.forEach((factor, axis) => {
    const n = x.shape[axis];
    const inner = product(x.shape.slice(axis + 1));
    const y = new Numbers(x.data.length * factor);
    for (let i = 0; i < y.length; i++) {
      const k = i % inner;
      const place = Math.floor(i / inner); // counts outer axes and the pixels of this one
      y[i] = x.data[Math.floor(place / factor) * inner + k];
    }
    x = tensor([...x.shape.slice(0, axis), n * factor, ...x.shape.slice(axis + 1)], y);
  });
  return x;
}

// FlattenLayer, ReshapeLayer: the same numbers in another shape.
function reshape(x, shape) {
  return tensor(shape, x.data);
}

// ScaleLayer: Y = factor X + offset.
function scale(x, factor, offset) {
  return tensor(x.shape, x.data.map((value) => round(round(factor) * value) + round(offset)));
}

// ActivationLayer: Y = f(X), number by number.
function activation(x, f) {
  return tensor(x.shape, x.data.map((value) => f(value)));
}

function tanh(x) {
  return Math.tanh(x);
}

function sigmoid(x) {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}

function relu(x) {
  return Math.max(x, 0);
}

function leaky_relu(x) {
  return Math.max(x, 0.01 * x);
}

function elu(x) {
  return x > 0 ? x : Math.expm1(x);
}

function selu(x) {
  const s = 1.0507009873554805;
  const a = 1.6732632423543772;
  return x > 0 ? s * x : s * a * Math.expm1(x);
}

// x P(x), where P is the standard normal distribution.
function gelu(x) {
  return x < -40 ? -0 : x * (0.5 + 0.5 * erf(x / Math.SQRT2));
}

function gelu_tanh(x) {
  const u = Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x);
  return x < -40 ? -0 : 0.5 * x * (1 + Math.tanh(u));
}

function silu(x) {
  return x < -1000 ? -0 : x * sigmoid(x);
}

function softplus(x) {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

function softsign(x) {
  return Number.isFinite(x) ? x / (1 + Math.abs(x)) : Math.sign(x);
}

function hard_sigmoid(x) {
  return Math.min(Math.max(x / 6 + 0.5, 0), 1);
}

// The error function, to 1e-15. Source: W. J. Cody, "Rational Chebyshev approximations for the error function", 1969.
function erf(x) {
  const ratio = (z, above, below) => {
    const value = (coefficients) => coefficients.reduce((sum, c) => sum * z + c);
    return value(above) / value(below);
  };
  const z = Math.abs(x);
  if (z <= 0.46875) {
    return x * ratio(z * z,
      [1.85777706184603153e-1, 3.1611237438705656, 1.13864154151050156e2, 3.77485237685302021e2,
        3.20937758913846947e3],
      [1, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3]);
  }
  if (!(z < 6)) return Number.isNaN(x) ? x : Math.sign(x);
  let rest; // (1 - erf z) exp(z z)
  if (z <= 4) {
    rest = ratio(z,
      [2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1,
        2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
        1.23033935479799725e3],
      [1, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
        3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3]);
  } else {
    const r = 1 / (z * z);
    rest = (1 / Math.sqrt(Math.PI) - r * ratio(r,
      [1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
        1.60837851487422766e-2, 6.58749161529837803e-4],
      [1, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1, 6.05183413124413191e-2,
        2.33520497626869185e-3])) / z;
  }
  return Math.sign(x) * (1 - Math.exp(-z * z) * rest);
}

// SoftmaxLayer: exp(x) over the sum of exp(x), on the last axis. Subtracting the largest changes nothing, and nothing
// overflows.
function softmax(x) {
  const n = x.shape.at(-1);
  const y = new Numbers(x.data.length);
  for (let from = 0; from < y.length; from += n) {
    const row = x.data.subarray(from, from + n);
    const largest = row.reduce((most, value) => Math.max(most, value), -Infinity);
    const powers = Array.from(row, (value) => Math.exp(value - largest));
    const sum = powers.reduce((all, value) => all + value, 0);
    powers.forEach((power, i) => (y[from + i] = power / sum));
  }
  return tensor(x.shape, y);
}

// BatchNormLayer: each channel with the mean and variance that training has gathered, scaled and shifted.
function batchNorm(x, weights, bias, mean, variance, epsilon) {
  const channels = x.shape.at(-1);
  const slope = new Numbers(channels);
  const shift = new Numbers(channels);
  for (let c = 0; c < channels; c++) {
    slope[c] = weights.data[c] / round(Math.sqrt(round(variance.data[c] + round(epsilon))));
    shift[c] = bias.data[c] - round(mean.data[c] * slope[c]);
  }
  return tensor(x.shape, x.data.map((value, i) => round(value * slope[i % channels]) + shift[i % channels]));
}

// LayerNormLayer: to mean 0 and variance 1 over the last axis, then scaled and shifted.
function layerNorm(x, weights, bias, epsilon) {
  const channels = x.shape.at(-1);
  return normalized(x, weights, bias, epsilon, (i) => Math.floor(i / channels));
}

// GroupNormLayer: the same over all pixels and the neighbouring channels of a group.
function groupNorm(x, weights, bias, groups, epsilon) {
  const channels = x.shape.at(-1);
  return normalized(x, weights, bias, epsilon, (i) => Math.floor(((i % channels) * groups) / channels));
}

// Numbers with the same partOf(i) are normalized together: Z = (X - mean) / sqrt(variance + epsilon), Y = Z W + B.
function normalized(x, weights, bias, epsilon, partOf) {
  const parts = [];
  x.data.forEach((value, i) => (parts[partOf(i)] ??= []).push(value));
  const known = parts.map((values) => {
    let mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    mean += values.reduce((sum, value) => sum + (value - mean), 0) / values.length; // what rounding has cost
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    return { mean, slope: 1 / Math.sqrt(variance + epsilon) };
  });
  const channels = weights.data.length;
  return tensor(x.shape, x.data.map((value, i) => {
    const { mean, slope } = known[partOf(i)];
    return (value - mean) * slope * weights.data[i % channels] + bias.data[i % channels];
  }));
}

// ResidualLayer, and ParallelLayer with merge="add": the sum of tensors of one shape.
function add(...tensors) {
  const [first, ...others] = tensors;
  return tensor(first.shape, first.data.map((value, i) => others.reduce((sum, x) => sum + x.data[i], value)));
}

// ParallelLayer: the branches' outputs side by side on the last axis.
function concatenate(...tensors) {
  const sizes = tensors.map((x) => x.shape.at(-1));
  const rows = tensors[0].data.length / sizes[0];
  const y = new Numbers(tensors.reduce((all, x) => all + x.data.length, 0));
  let at = 0;
  for (let row = 0; row < rows; row++) {
    tensors.forEach((x, k) => {
      y.set(x.data.subarray(row * sizes[k], (row + 1) * sizes[k]), at);
      at += sizes[k];
    });
  }
  return tensor([...tensors[0].shape.slice(0, -1), sizes.reduce((all, n) => all + n, 0)], y);
}
