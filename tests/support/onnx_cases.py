"""ONNX's operators implemented with portnn's layers, losses, optimizers and ops; ``test_onnx.py`` compares the results.

Each adapter takes a node and its inputs in ONNX's layout (channels second), and returns the outputs in that layout. If
our options cannot express a node, it raises NotOursError with the reason. Outputs that we do not compute (the indices
of maxima, masks, the means of LayerNormalization) are neither returned nor compared. Nothing here needs ONNX itself.
"""

from enum import StrEnum
from math import prod
from typing import Any

import numpy as np

import portnn
from portnn import ops

CPU = portnn.get_backend("cpu")


class Why(StrEnum):
    """Why a case is skipped."""

    THREE_AXES = "images with three axes"
    ROUNDED_UP = "output sizes that are rounded up (ceil_mode)"
    DILATED = "pooling with dilation"
    PADDING_COUNTS = "averages that include the padding"
    NUMBERS = "numbers that are neither float32 nor float64"
    CONSTANTS = "a constant that differs from ours"
    SAMPLES = "the sample axis is not kept"
    INTERPOLATED = "interpolated pixels"
    NEIGHBOUR = "a rule for the nearest pixel that does not repeat pixels"
    NOT_WHOLE = "a factor that is not an integer"
    RANDOM = "random numbers from another generator"
    FACTORS = "a factor of the product or the bias (alpha, beta)"
    OWN_BIAS = "a different bias for each sample"
    OWN_WEIGHTS = "different weights for each sample"
    CLASS_WEIGHTS = "class weights"
    IGNORED = "an ignored class"
    EACH_LOSS = "a loss per sample, not the mean"
    NEGATIVE = "class numbers below 0"
    BROADCAST = "a sum of arrays of different shapes"
    LATER_STEP = "corrections for the step number that PyTorch makes differently"
    UNSTATED = "a constant that the graph omits, although its results depend on it"
    OTHER_OPERATORS = "operators in the graph that we do not implement"
    OTHER_ATTRIBUTES = "an attribute that the adapter does not know"


class NotOursError(Exception):
    """Raised by an adapter, with the reason, if our options cannot express what the node asks for."""


class Given(portnn.Layer):
    """A layer with a given output: the second summand of a residual layer, or a branch of a parallel one."""

    def __init__(self, value):
        self.value = value

    def forward(self, X, *, training=False):
        return self.value

    def backward(self, output_error, *, need_input_error=True):
        return output_error


# Attributes without effect here: for sums in older graphs, random numbers, intermediate dtypes and indices of maxima.
IDLE = {"broadcast", "seed", "stash_type", "storage_order"}


class Node:
    """An operator in a graph: adapters take its attributes from here, and run our layers with it."""

    def __init__(self, attributes: dict[str, Any], opset: int, kernels: str):
        self.attributes = {name: value for name, value in attributes.items() if name not in IDLE}
        self.opset, self.kernels = opset, kernels

    def take(self, name: str, default: Any = None) -> Any:
        return self.attributes.pop(name, default)

    def run(self, layer, X, training=False, **arrays):
        """Builds the layer for X, assigns the arrays that are not None to its parameters and buffers, and returns Y."""
        if X.dtype not in (np.float32, np.float64):
            raise NotOursError(Why.NUMBERS)
        for each in layer.walk():
            each.kernels = self.kernels
        layer.build(X.shape[1:] or X.shape, CPU, X.dtype.name, 0, "0")
        for name, array in arrays.items():
            if name in layer.buffers:
                layer.buffers[name] = array
            elif array is not None:
                setattr(layer, name, array)
        X = np.ascontiguousarray(X)
        return layer.forward_propagation(X) if training else layer(X)

    def call(self, function, *arguments):
        """Calls one of our functions, or its fast version."""
        return ops.implementation(CPU, self.kernels, function)(*arguments)


def last(X, axis=1):
    """Converts ONNX's layout (channels second) to ours (channels last)."""
    return np.moveaxis(X, axis, -1)


def second(Y, axis=1):
    """Converts our layout to ONNX's."""
    return np.moveaxis(Y, -1, axis)


# -- windows ----------------------------------------------------------------------------------------------------------


def windows(n, image, kernel):
    """Stride, padding and dilation in the form that our layers take."""
    axes = len(image)
    stride, dilation = (tuple(n.take(name, [1] * axes)) for name in ("strides", "dilations"))
    pads, auto_pad = n.take("pads", [0] * 2 * axes), n.take("auto_pad", b"NOTSET")
    if axes > 2:
        raise NotOursError(Why.THREE_AXES)
    if auto_pad == b"NOTSET":
        return stride, tuple(zip(pads[:axes], pads[axes:], strict=True)), dilation
    if auto_pad != b"SAME_LOWER":
        return stride, {b"SAME_UPPER": "same", b"VALID": "valid"}[auto_pad], dilation
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    missing = [max((-(-m // s) - 1) * s + r - m, 0) for m, s, r in zip(image, stride, reach, strict=True)]
    return stride, tuple((m - m // 2, m // 2) for m in missing), dilation


def conv(n, X, W, B=None):
    stride, padding, dilation = windows(n, X.shape[2:], W.shape[2:])
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=n.take("group", 1))
    n.take("kernel_shape")
    shapes = (*X.shape[2:], X.shape[1]), W.shape[2:], W.shape[0]
    layer = portnn.ConvLayer(*shapes, **options, bias=B is not None)
    weights = np.moveaxis(W, (1, 0), (-2, -1))  # (F, C, h, w) -> (h, w, C, F)
    return second(n.run(layer, last(X), weights=weights, bias=B))


def pool(make):
    def adapter(n, X):
        window = tuple(n.take("kernel_shape"))
        stride, padding, dilation = windows(n, X.shape[2:], window)
        if max(dilation) > 1:
            raise NotOursError(Why.DILATED)
        if n.take("ceil_mode", 0):
            raise NotOursError(Why.ROUNDED_UP)
        if n.take("count_include_pad", 0):
            raise NotOursError(Why.PADDING_COUNTS)
        return second(n.run(make(window, stride=stride, padding=padding), last(X)))

    return adapter


def global_pool(make):
    return lambda n, X: n.run(make(), last(X)).reshape(*X.shape[:2], *(1 for _ in X.shape[2:]))


def resize(n, X, roi=None, scales=None, sizes=None):
    for name in ("cubic_coeff_a", "exclude_outside", "extrapolation_value", "antialias"):
        n.take(name)  # used only by the modes that interpolate
    rule = n.take("coordinate_transformation_mode", b"half_pixel"), n.take("nearest_mode", b"round_prefer_floor")
    axes = n.take("axes", range(X.ndim))
    keep = {b"stretch": None, b"not_larger": min, b"not_smaller": max}[n.take("keep_aspect_ratio_policy", b"stretch")]
    if n.take("mode", b"nearest") != b"nearest":
        raise NotOursError(Why.INTERPOLATED)
    repeat = (b"half_pixel", b"round_prefer_floor"), (b"half_pixel", b"round_prefer_ceil"), (b"asymmetric", b"floor")
    if rule not in repeat:
        raise NotOursError(Why.NEIGHBOUR)
    if sizes is not None:
        scales = [size / X.shape[axis] for axis, size in zip(axes, sizes, strict=True)]
        scales = [keep(scales)] * len(scales) if keep else scales
    return enlarged(n, X, dict(zip(axes, scales, strict=True)))


def enlarged(n, X, scales):
    factors = [float(scales.get(axis, 1.0)) for axis in range(X.ndim)]
    if any(factor < 1.0 or factor % 1.0 for factor in factors) or factors[:2] != [1.0, 1.0]:
        raise NotOursError(Why.NOT_WHOLE)
    return second(n.run(portnn.UpsampleLayer(tuple(map(int, factors[2:]))), last(X)))


# -- normalization ----------------------------------------------------------------------------------------------------


def batch_norm(n, X, scale, bias, mean, variance):
    """ONNX's running variance is the biased one; ours and PyTorch's is unbiased, n / (n - 1) times as large."""
    old = n.take("momentum", 0.9)  # weights the old value; our momentum weights the new one
    training = bool(n.take("training_mode", 0) or not n.take("is_test", int(n.opset > 6)))
    layer = portnn.BatchNormLayer(momentum=1.0 - old, epsilon=n.take("epsilon", 1e-5))
    Y = n.run(layer, last(X), training, weights=scale, bias=bias, running_mean=mean, running_var=variance)
    if not training:
        return second(Y)
    count = X.size // X.shape[1]
    new = layer.new_buffers["running_var"] - old * variance
    return second(Y), layer.new_buffers["running_mean"], old * variance + new * (count - 1) / count


def layer_norm(n, X, scale, bias=None):
    """Normalizes over all axes from ``axis`` on, flattened into one."""
    axis = n.take("axis", -1) % X.ndim
    rows = X.reshape(*X.shape[:axis], -1) if axis else X.reshape(1, -1)
    layer = portnn.LayerNormLayer(epsilon=n.take("epsilon", 1e-5))
    return n.run(layer, rows, weights=scale.ravel(), bias=None if bias is None else bias.ravel()).reshape(X.shape)


def group_norm(n, X, scale, bias):
    layer = portnn.GroupNormLayer(n.take("num_groups", X.shape[1]), epsilon=n.take("epsilon", 1e-5))
    return second(n.run(layer, last(X), weights=scale, bias=bias))


# -- functions --------------------------------------------------------------------------------------------------------


def activation(name, **constants):
    def adapter(n, X):
        if any(abs(n.take(constant, value) - value) > 1e-6 for constant, value in constants.items()):
            raise NotOursError(Why.CONSTANTS)
        return n.run(portnn.ActivationLayer(name), X)

    return adapter


def gelu(n, X):
    return activation({b"none": "gelu", b"tanh": "gelu_tanh"}[n.take("approximate", b"none")])(n, X)


def hard_sigmoid(n, X):
    """max(0, min(1, alpha x + beta)) is our function of 6 (alpha x + beta - 1/2)."""
    scaled = n.run(portnn.ScaleLayer(6.0 * n.take("alpha", 0.2), offset=6.0 * (n.take("beta", 0.5) - 0.5)), X)
    return n.run(portnn.ActivationLayer("hard_sigmoid"), scaled)


def softmax(run):
    def adapter(n, X):
        if n.opset >= 13:
            axis = n.take("axis", -1)
            return second(run(n, last(X, axis)), axis)
        axis = n.take("axis", 1) % X.ndim  # older opsets: over all axes from this one on, flattened into one
        return run(n, X.reshape(prod(X.shape[:axis]), -1)).reshape(X.shape)

    return adapter


def cross_entropy(n, X, labels, weights=None):
    """Our loss is the sum divided by N; ONNX's mean also divides by the other axes, except the classes."""
    reduction, ignored = n.take("reduction", b"mean"), n.take("ignore_index")
    if weights is not None:
        raise NotOursError(Why.CLASS_WEIGHTS)
    if ignored is not None and np.any(labels == ignored):
        raise NotOursError(Why.IGNORED)
    if reduction == b"none":
        raise NotOursError(Why.EACH_LOSS)
    loss = n.call(portnn.softmax_cross_entropy, labels, last(X))
    loss = loss / prod(labels.shape[1:]) if reduction == b"mean" else loss * labels.shape[0]
    return loss, second(n.call(portnn.log_softmax, last(X)))


def one_hot(n, labels, depth, values):
    axis, (off, on) = n.take("axis", -1), values
    if values.dtype not in (np.float32, np.float64, np.int32):
        raise NotOursError(Why.NUMBERS)
    if np.any(labels < 0):
        raise NotOursError(Why.NEGATIVE)
    rows = ops.bind(CPU, n.kernels).one_hot(labels.astype(np.int64), int(depth), np.float32)
    return second((off + rows * (on - off)).astype(values.dtype), axis)


# -- layers that join, reshape, multiply ------------------------------------------------------------------------------


def concat(n, *parts):
    axis = n.take("axis", 1)
    layer = portnn.ParallelLayer(*(Given(last(part, axis)) for part in parts))
    return second(n.run(layer, last(parts[0], axis)), axis)


def add(n, X, Y):
    n.take("axis")  # for arrays of different shapes, in older graphs
    if Y.size == 1 < X.size and Y.ndim <= 1:
        return n.run(portnn.ScaleLayer(1.0, offset=float(Y.reshape(()))), X)
    if X.shape != Y.shape:
        raise NotOursError(Why.BROADCAST)
    return n.run(portnn.ResidualLayer(Given(Y)), X)


def flatten(n, X):
    if n.take("axis", 1) not in (1, 1 - X.ndim):
        raise NotOursError(Why.SAMPLES)
    return n.run(portnn.FlattenLayer(), X)


def reshape(n, X, shape):
    """0 copies the size of the axis unless ``allowzero`` is set; -1 stands for the remaining size."""
    copied = not n.take("allowzero", 0)
    shape = [X.shape[i] if size == 0 and copied else int(size) for i, size in enumerate(shape)]
    shape = [X.size // -prod(shape) if size == -1 else size for size in shape]
    if len(shape) < 2 or shape[0] != X.shape[0]:
        raise NotOursError(Why.SAMPLES)
    return n.run(portnn.ReshapeLayer(tuple(shape[1:])), X)


def dropout(n, X, ratio=None, training=False):
    rate = float(n.take("ratio", 0.5) if ratio is None else ratio)
    if training and rate:
        raise NotOursError(Why.RANDOM)
    return n.run(portnn.DropoutLayer(rate), X, bool(training))


def gemm(n, A, B, C=None):
    X, W = (M.T if n.take(name, 0) else M for M, name in ((A, "transA"), (B, "transB")))
    alpha, beta = n.take("alpha", 1.0), n.take("beta", 1.0)
    if alpha != 1.0 or beta not in (0.0, 1.0):
        raise NotOursError(Why.FACTORS)
    bias = None if C is None or beta == 0.0 else np.atleast_2d(C)
    if bias is not None and bias.shape[0] > 1:
        raise NotOursError(Why.OWN_BIAS)
    bias = bias if bias is None else np.broadcast_to(bias, (1, W.shape[1]))
    return n.run(portnn.FCLayer(*W.shape, bias=bias is not None), X, weights=W, bias=bias)


def matmul(n, A, B):
    if B.ndim > 2:
        raise NotOursError(Why.OWN_WEIGHTS)
    W = B if B.ndim == 2 else B[:, None]
    Y = n.run(portnn.FCLayer(*W.shape, bias=False), A, weights=W)
    return Y if B.ndim == 2 else Y[..., 0]


# -- optimizers -------------------------------------------------------------------------------------------------------


def step(n, optimizer, hyper, arrays, *names):
    """New parameters and slots; ``arrays`` are the parameters, the gradients and each kind of slot, equally many."""
    size = len(arrays) // (2 + len(names))
    parameters, gradients, *kept = (list(arrays[i : i + size]) for i in range(0, len(arrays), size))
    slots = dict(zip(names, kept, strict=True))
    new, slots = n.call(type(optimizer).update, optimizer, parameters, gradients, slots, hyper)
    return *new, *(array for name in names for array in slots[name])


def momentum(n, R, T, *arrays):
    options = dict(momentum=n.take("alpha"), weight_decay=n.take("norm_coefficient"))
    optimizer = portnn.SGD(float(R), **options, nesterov=n.take("mode") == b"nesterov")
    if n.take("beta") != 1.0 and T > 0:
        raise NotOursError(Why.LATER_STEP)
    return step(n, optimizer, optimizer.hyper(int(T)), arrays, "velocity")


def adagrad(n, R, T, *arrays):
    optimizer = portnn.AdaGrad(float(R), weight_decay=n.take("norm_coefficient"))
    optimizer.EPSILON = n.take("epsilon")  # not an option of ours, but part of the formula
    if n.take("decay_factor") * T:
        raise NotOursError(Why.LATER_STEP)
    return step(n, optimizer, optimizer.hyper(int(T)), arrays, "squares")


def adam(n, R, T, *arrays):
    """At step 0 ONNX applies no bias correction, so ``hyper`` contains none."""
    options = dict(beta1=n.take("alpha"), beta2=n.take("beta"), epsilon=n.take("epsilon"))
    if options["epsilon"] is None:  # missing in a case of ONNX up to 1.21
        raise NotOursError(Why.UNSTATED)
    optimizer = portnn.Adam(float(R), **options, weight_decay=n.take("norm_coefficient"))
    if T > 0 or n.take("norm_coefficient_post", 0.0):
        raise NotOursError(Why.LATER_STEP)
    return step(n, optimizer, (float(R), float(R), 1.0), arrays, "mean", "square")


OPERATORS = {
    "Adagrad": adagrad,
    "Adam": adam,
    "Add": add,
    "AveragePool": pool(portnn.AvgPoolLayer),
    "BatchNormalization": batch_norm,
    "Concat": concat,
    "Conv": conv,
    "Dropout": dropout,
    "Elu": activation("elu", alpha=1.0),
    "Erf": lambda n, X: ops.bind(CPU, n.kernels).erf(X),
    "Flatten": flatten,
    "Gelu": gelu,
    "Gemm": gemm,
    "GlobalAveragePool": global_pool(portnn.GlobalAvgPoolLayer),
    "GlobalMaxPool": global_pool(portnn.GlobalMaxPoolLayer),
    "GroupNormalization": group_norm,
    "HardSigmoid": hard_sigmoid,
    "InstanceNormalization": group_norm,
    "LayerNormalization": layer_norm,
    "LeakyRelu": activation("leaky_relu", alpha=0.01),
    "LogSoftmax": softmax(lambda n, X: n.call(portnn.log_softmax, X)),
    "MatMul": matmul,
    "MaxPool": pool(portnn.MaxPoolLayer),
    "Momentum": momentum,
    "OneHot": one_hot,
    "Reshape": reshape,
    "Resize": resize,
    "Selu": activation("selu", alpha=1.6732632, gamma=1.0507010),
    "Softmax": softmax(lambda n, X: n.run(portnn.SoftmaxLayer(), X)),
    "SoftmaxCrossEntropyLoss": cross_entropy,
    "Swish": activation("silu", alpha=1.0),
    "Upsample": lambda n, X, scales: resize(n, X, None, scales),
} | {name: activation(name.lower()) for name in ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")}
