"""The functions that the exported file may need, each for a whole batch x (N, ...)."""

import base64

import numpy as np


def fully_connected(x, weights, bias=None):
    """FCLayer: Y = X W + B, on the last axis."""
    y = x @ weights
    return y if bias is None else y + bias


def convolution(x, weights, bias=None, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    """ConvLayer: Y[i, j, f] = B[f] + sum over u, v, c of X[s i + d u - p, s j + d v - p, c] W[u, v, c, f]. One product
    of matrices for each place (u, v) of the kernel. A sequence (N, L, C) is an image of one row.
    """
    if x.ndim == 3:
        image = convolution(x[:, None], weights[None], bias, stride, padding, dilation, groups)
        return image[:, 0]
    x = np.pad(x, ((0, 0), *padding, (0, 0)))
    h, w, channels, filters = weights.shape  # channels, filters / groups: of one group
    filters //= groups
    rows = (x.shape[1] - (h - 1) * dilation[0] - 1) // stride[0] + 1
    columns = (x.shape[2] - (w - 1) * dilation[1] - 1) // stride[1] + 1
    y = np.zeros((len(x), rows, columns, groups * filters), x.dtype)
    for u in range(h):
        for v in range(w):
            top, left = u * dilation[0], v * dilation[1]
            down = slice(top, top + (rows - 1) * stride[0] + 1, stride[0])
            across = slice(left, left + (columns - 1) * stride[1] + 1, stride[1])
            seen = x[:, down, across]
            for g in range(groups):
                inside, outside = (slice(g * n, (g + 1) * n) for n in (channels, filters))
                y[..., outside] += seen[..., inside] @ weights[u, v, :, outside]
    return y if bias is None else y + bias


def max_pool(x, window, stride, padding):
    """MaxPoolLayer: the largest value of each window; padding holds no values."""
    return pooled(x, window, stride, padding, np.max)


def avg_pool(x, window, stride, padding):
    """AvgPoolLayer: the mean of each window; padding does not count."""
    return pooled(x, window, stride, padding, np.mean)


def pooled(x, window, stride, padding, merge):
    """The maximum of a window is the maximum of its rows' maxima, and the mean the mean of their means: so windows are
    merged along one axis after the other.
    """
    for axis, size in enumerate(window, start=1):
        n, (before, after), parts = x.shape[axis], padding[axis - 1], []
        for first in range(-before, n + after - size + 1, stride[axis - 1]):
            inside = slice(max(first, 0), min(first + size, n))
            seen = x[(slice(None),) * axis + (inside,)]
            parts.append(merge(seen, axis=axis, keepdims=True))
        x = np.concatenate(parts, axis=axis)
    return x


def global_max_pool(x):
    """GlobalMaxPoolLayer: the largest value of each channel over the whole image."""
    return x.max(axis=tuple(range(1, x.ndim - 1)))


def global_avg_pool(x):
    """GlobalAvgPoolLayer: the mean of each channel over the whole image."""
    return x.mean(axis=tuple(range(1, x.ndim - 1)), dtype=np.float64).astype(x.dtype)


def upsample(x, factors):
    """UpsampleLayer: repeats each pixel, along one axis after the other."""
    for axis, factor in enumerate(factors, start=1):
        x = x.repeat(factor, axis=axis)
    return x


def reshape(x, *shape):
    """FlattenLayer, ReshapeLayer: the same numbers in another shape of each sample."""
    return x.reshape(len(x), *shape)


def batch_norm(x, weights, bias, mean, variance, epsilon):
    """BatchNormLayer: each channel with the mean and variance that training has gathered, scaled and shifted."""
    slope = weights / np.sqrt(variance + epsilon)
    return x * slope + (bias - mean * slope)


def layer_norm(x, weights, bias, epsilon):
    """LayerNormLayer: to mean 0 and variance 1 over the last axis, then scaled and shifted."""
    return normalized(x, -1, epsilon) * weights + bias


def group_norm(x, weights, bias, groups, epsilon):
    """GroupNormLayer: the same over all pixels and the neighbouring channels of a group."""
    channels = x.shape[-1]
    pixels = int(np.prod(x.shape[1:-1]))
    grouped = x.reshape(len(x), pixels, groups, channels // groups)
    return normalized(grouped, (1, 3), epsilon).reshape(x.shape) * weights + bias


def normalized(x, axes, epsilon):
    """To mean 0 and variance 1 over some axes, computed in float64."""
    z = x - x.mean(axis=axes, dtype=np.float64, keepdims=True)
    variance = (z * z).mean(axis=axes, keepdims=True)
    return (z / np.sqrt(variance + epsilon)).astype(x.dtype)


def softmax(x):
    """SoftmaxLayer: exp(x) over the sum of exp(x), on the last axis. Subtracting the largest changes nothing, and
    nothing overflows.
    """
    z = np.exp(x - x.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


def tanh(x):
    return np.tanh(x)


def sigmoid(x):
    z = np.exp(-np.abs(x))  # never more than 1
    return np.where(x >= 0, np.ones_like(z), z) / (1.0 + z)


def relu(x):
    return np.maximum(x, 0.0)


def leaky_relu(x):
    return np.maximum(x, 0.01 * x)


def elu(x):
    return np.maximum(x, 0.0) + np.expm1(np.minimum(x, 0.0))


def selu(x):
    s, a = 1.0507009873554805, 1.6732632423543772
    return s * np.maximum(x, 0.0) + s * a * np.expm1(np.minimum(x, 0.0))


def gelu(x):
    """x P(x), where P is the standard normal distribution; below -40 it is 0 to the last bit."""
    return np.maximum(x, -40.0) * (0.5 + 0.5 * erf(x * 0.5**0.5))


def gelu_tanh(x):
    z = np.clip(x, -40.0, 40.0)
    return 0.5 * np.maximum(x, -40.0) * (1.0 + np.tanh((2.0 / np.pi) ** 0.5 * (z + 0.044715 * z * z * z)))


def silu(x):
    return np.maximum(x, -1000.0) * sigmoid(x)


def softplus(x):
    return np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))


def softsign(x):
    z = np.clip(x, -1e30, 1e30)
    return z / (1.0 + np.abs(z))


def hard_sigmoid(x):
    return np.clip(x * (1.0 / 6.0) + 0.5, 0.0, 1.0)


def erf(x):
    """The error function, to 1e-15. Source: W. J. Cody, "Rational Chebyshev approximations for the error function",
    1969.
    """
    z = np.abs(x)
    s = np.minimum(z, 0.46875)
    near = s * ratio(
        s * s,
        [
            1.85777706184603153e-1,
            3.1611237438705656,
            1.13864154151050156e2,
            3.77485237685302021e2,
            3.20937758913846947e3,
        ],
        [1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3],
    )
    f = np.clip(z, 0.46875, 6.0)
    middle = ratio(
        np.minimum(f, 4.0),
        [
            2.15311535474403846e-8,
            5.64188496988670089e-1,
            8.88314979438837594,
            6.61191906371416295e1,
            2.98635138197400131e2,
            8.81952221241769090e2,
            1.71204761263407058e3,
            2.05107837782607147e3,
            1.23033935479799725e3,
        ],
        [
            1.0,
            1.57449261107098347e1,
            1.17693950891312499e2,
            5.37181101862009858e2,
            1.62138957456669019e3,
            3.29079923573345963e3,
            4.36261909014324716e3,
            3.43936767414372164e3,
            1.23033935480374942e3,
        ],
    )
    r = 1.0 / (f * f)
    far = np.pi**-0.5 - r * ratio(
        r,
        [
            1.63153871373020978e-2,
            3.05326634961232344e-1,
            3.60344899949804439e-1,
            1.25781726111229246e-1,
            1.60837851487422766e-2,
            6.58749161529837803e-4,
        ],
        [
            1.0,
            2.56852019228982242,
            1.87295284992346725,
            5.27905102951428412e-1,
            6.05183413124413191e-2,
            2.33520497626869185e-3,
        ],
    )
    rest = 1.0 - np.exp(-f * f) * np.where(f <= 4.0, middle, far / f)
    return np.copysign(np.where(z <= 0.46875, near, rest), x)


def ratio(x, above, below):
    """A quotient of two polynomials, their coefficients from the highest power down."""
    values = []
    for coefficients in (above, below):
        value = np.zeros_like(x)
        for c in coefficients:
            value = value * x + c
        values.append(value)
    return values[0] / values[1]


def unpack(shape, kind, text):
    """Weights from the bytes of little-endian numbers in base64."""
    return np.frombuffer(base64.b64decode(text), kind).astype(kind[1:]).reshape(shape)
