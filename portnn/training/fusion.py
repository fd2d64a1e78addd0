"""Fusion: an FC or convolution layer and the activation after it run as one.

Every pass over an array costs memory traffic, and on a GPU a launch. So where the backend has fast versions of the
functions below, more is joined: pooling with a convolution (``convolved``), and in the backward pass the chain rule
with the sums of its columns, dE/dB (``chained``); a pooling layer's derivative with both (``pooled``); at the end of
the network the loss with its derivative and with both (``whole``); and for one sample at a time gradient descent on an
FC layer with its backward pass (``descended``).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from portnn import activations, ops
from portnn._typing import Array
from portnn.backend import namespace
from portnn.layers.activation import ActivationLayer
from portnn.layers.conv import ConvLayer
from portnn.layers.fc import FCLayer
from portnn.layers.pooling import AvgPoolLayer, MaxPoolLayer
from portnn.ops import portable

# Activations that ``ops.biased`` knows. Their derivative is a function of Y: X is never written to memory.
PAIRS = ((activations.relu, activations.relu_prime), (activations.tanh, activations.tanh_prime))


class Fused:
    """Two fused layers, Y = f(X W + B) in one pass over the products, by the backend's fast ``ops.biased``.

    It replaces the two only in the list of layers that run; ``network.layers`` still holds both. Where the backend has
    a fast ``chained``, dE/dB is summed in the pass of the chain rule; where it has a fast ``convolved``, a convolution
    runs with what follows it. ``activation`` is None for a layer alone.
    """

    def __init__(self, layer: Any, activation: Any = None):
        self.layer, self.activation = layer, activation
        self.f: Any = None if activation is None else activation.activation
        self.chain: Any = None if activation is None else activation.chain
        self.is_convolution = isinstance(layer, ConvLayer)
        self.path, self.backend = layer.path, layer.backend
        # A step may move the parameters in the backward pass: see ``descending``.
        self.descended: Any = None  # the backend's fast version
        self.rate: Any = None  # the learning rate; None in a step in which the optimizer moves them
        self.one_row = (1, layer.input_size) if type(layer) is FCLayer else ()  # the shape that X must have
        self.moved: list[Array] | None = None  # afterwards the new weights and bias
        self.chained = _fast(chained_image if self.is_convolution else chained, layer.backend, layer.kernels)
        self.convolved = ops.implementation(layer.backend, layer.kernels, convolved)
        self.differentiated = ops.implementation(layer.backend, layer.kernels, differentiated)

    def fit_to(self, X: Array) -> None:
        self.layer.fit_to(X)

    def compute(self, X: Array, training: bool) -> Array:
        layer = self.layer
        if self.activation is None:
            return layer.compute(X, training)
        if self.is_convolution:
            Y: Array = self.compute_pooled(X, training, None)[0]
            return Y
        Y = layer.ops.affine(X, layer.parameters["weights"], layer.parameters["bias"], self.f)
        if training:
            self._keep(X, Y)
        return Y

    def compute_pooled(self, X: Array, training: bool, pooling: tuple[str, Any] | None) -> tuple[Any, Any]:
        """Y of a convolution, and Y pooled by a layer of this class and plan, if there is one: see ``convolved``."""
        layer = self.layer
        W, B = layer.parameters["weights"], layer.parameters["bias"]
        Y, P, seen = self.convolved(X, W, B, self.f, layer.plan, layer.groups, pooling, training, layer.ops)
        if training:
            self._keep(X, Y)
            layer.kept = seen
        return Y, P

    def _keep(self, X: Array, Y: Array) -> None:
        self.layer.input, self.layer.output = X, None  # what is between the two is never in memory
        self.activation.input, self.activation.output = None, Y

    def compute_backward(self, output_error: Array, need_input_error: bool) -> Array | None:
        if self.activation is None:
            return self.compute_below(output_error, None, need_input_error)
        if self.rate is not None and self.layer.input.shape == self.one_row:
            return self._compute_descent(self.activation.output, output_error, self.chain, need_input_error)
        if self.chained is None:
            return self.layer.compute_backward(self.chain(self.activation.output, output_error), need_input_error)
        errors = partial(self.chained, self.activation.output, output_error, self.chain)
        if self.is_convolution:
            return self.compute_convolution(errors, None, output_error, None, need_input_error)
        D, sums = errors()
        return self.compute_below(D, sums, need_input_error)

    def compute_convolution(
        self, errors: Any, P: Array | None, output_error: Array, pooling: tuple[str, Any] | None, need_input_error: bool
    ) -> Array | None:
        """dE/dX of a convolution from the error after its activation and pooling: see ``differentiated``."""
        layer, W = self.layer, self.layer.parameters["weights"]
        if layer._is_frozen:
            D, sums = errors()
            return self.compute_below(D, sums, need_input_error)
        given = layer.kept, self.activation.output, P, output_error, self.chain, pooling
        D, dW, dB = self.differentiated(errors, *given, layer.plan, W.shape, need_input_error, layer.ops)
        layer.gradients["weights"], layer.gradients["bias"] = dW, layer.xp.reshape(dB, layer.shapes["bias"])
        return layer.ops.convolution_backward(W, D, layer.plan, layer.groups) if need_input_error else None

    def compute_below(self, D: Array, sums: Array | None, need_input_error: bool) -> Array | None:
        """dE/dX for D, the layer's own dE/dY, and dE/dB, the sums of its columns; None if they have not been taken."""
        layer = self.layer
        if self.rate is not None and layer.input.shape == self.one_row:
            return self._compute_descent(None, D, None, need_input_error)
        if sums is None or layer._is_frozen:
            return layer.compute_backward(D, need_input_error)
        W, ops, gradients = layer.parameters["weights"], layer.ops, layer.gradients
        if self.is_convolution:
            gradients["weights"] = ops.convolution_gradient(layer.kept, D, layer.plan, W.shape)
        else:
            gradients["weights"] = layer.xp.matmul(ops.rows(layer.input).T, ops.rows(D))
        gradients["bias"] = layer.xp.reshape(sums, layer.shapes["bias"])
        if not need_input_error:
            return None
        return ops.convolution_backward(W, D, layer.plan, layer.groups) if self.is_convolution else ops.affine(D, W.T)

    def _compute_descent(
        self, Y: Array | None, output_error: Array, chain: Any, need_input_error: bool
    ) -> Array | None:
        """dE/dX from the error after the activation with that ``chain``, if any; computes the new parameters too."""
        layer = self.layer
        W, B = layer.parameters["weights"], layer.parameters["bias"]
        input_error, dW, dB, *self.moved = self.descended(
            layer.input, Y, output_error, chain, W, B, self.rate, need_input_error
        )
        layer.gradients["weights"], layer.gradients["bias"] = dW, dB
        return input_error

    def walk(self) -> Iterator[Any]:
        yield from (self.layer,) if self.activation is None else (self.layer, self.activation)


class Pooled:
    """A fused convolution and the pooling layer after it, in one pass where the backend's ``convolved`` can do that.

    Their derivatives are one pass, by the fast ``pooled``.
    """

    def __init__(self, below: Fused, layer: Any):
        self.below, self.layer = below, layer
        self.pooled = _fast(pooled, layer.backend, layer.kernels)
        self.path, self.backend = layer.path, layer.backend
        self.plan = layer.plan_of(below.layer.plan.output)

    def fit_to(self, X: Array) -> None:
        self.below.fit_to(X)

    def compute(self, X: Array, training: bool) -> Array:
        layer = self.layer
        Y, P = self.below.compute_pooled(X, training, (type(layer).__name__, self.plan))
        if training:
            layer.input, layer.output, layer.Y = Y, P, P
        pooled_image: Array = P
        return pooled_image

    def compute_backward(self, output_error: Array, need_input_error: bool) -> Array | None:
        layer, below, kind = self.layer, self.below, type(self.layer).__name__
        Y, P = layer.input, layer.output
        errors = partial(self.pooled, Y, P, output_error, below.chain, kind, self.plan, layer.ops)
        return below.compute_convolution(errors, P, output_error, (kind, self.plan), need_input_error)

    def walk(self) -> Iterator[Any]:
        yield from (*self.below.walk(), self.layer)


def convolved(
    X: Array,
    weights: Array,
    bias: Array,
    activation: Any,
    plan: Any,
    groups: int,
    pooling: Any,
    training: bool,
    routines: Any,
) -> tuple[Array | None, Array | None, Any]:
    """Y = f(X * W + B); Y pooled, by a layer of this class and plan, or None; and ``seen`` of the convolution.

    Y may be None if it is pooled and this is no training: then only the pooling layer needs it.
    """
    product, seen = routines.convolution(X, weights, plan, groups)
    Y = routines.biased(product, bias, activation)
    if pooling is None:
        return Y, None, seen
    kind, windows = pooling
    return Y, (routines.max_pool if kind == "MaxPoolLayer" else routines.avg_pool)(Y, windows), seen


def differentiated(
    errors: Any,
    seen: Any,
    Y: Array,
    P: Array | None,
    output_error: Array,
    chain: Any,
    pooling: Any,
    plan: Any,
    shape: Any,
    need_error: bool,
    routines: Any,
) -> tuple[Array | None, Array, Array]:
    """A convolution's dE/dY, dE/dW of that ``shape``, and dE/dB, from the error after its activation and pooling.

    ``errors()`` is dE/dY, by ``chained`` or ``pooled`` for these arrays, and its sums. A fast version that does all in
    one pass does not call it; then dE/dY may be None if it is not needed.
    """
    D, sums = errors()
    if sums is None:
        sums = routines.total(routines.columns(D, plan), 1)
    return D, routines.convolution_gradient(seen, D, plan, shape), sums


def chained(Y: Array, output_error: Array, chain: Any) -> tuple[Array, Array | None]:
    """The chain rule of an activation, and the sums of its columns (over all axes but the last) or None."""
    return chain(Y, output_error), None


def chained_image(Y: Array, output_error: Array, chain: Any) -> tuple[Array, Array | None]:
    """``chained`` after a convolution: a column holds a filter's values at all pixels."""
    return chain(Y, output_error), None


def pooled(
    Y: Array, P: Array, output_error: Array, chain: Any, kind: str, plan: Any, routines: Any
) -> tuple[Array, Array | None]:
    """``chained`` for dE/dP of the pooled image P, by the layer of class ``kind``."""
    if kind == "MaxPoolLayer":
        return chain(Y, routines.max_pool_backward(Y, P, output_error, plan)), None
    return chain(Y, routines.avg_pool_backward(output_error, plan)), None


def whole(Y_true: Array, Y: Array, loss: Any, loss_prime: Any, chain: Any) -> tuple[Array, Array, Array | None]:
    """The error, and what ``chained`` returns for its derivative; ``chain`` is None without an activation."""
    D = loss_prime(Y_true, Y)
    return loss(Y_true, Y), D if chain is None else chain(Y, D), None


def descended(
    X: Array,
    Y: Array | None,
    output_error: Array,
    chain: Any,
    weights: Array,
    bias: Array,
    rate: float,
    need_input_error: bool,
) -> tuple[Array | None, Array, Array, Array, Array]:
    """Gradient descent on a fully connected layer, for one row: dE/dX or None, dE/dW, dE/dB, the new W, the new B.

    The layer's own dE/dY is by the chain rule of its activation, from Y and the error after that; where ``chain`` is
    None it is that error itself.
    """
    xp = namespace(X)
    D = output_error if chain is None else chain(Y, output_error)
    dW = xp.matmul(X.T, D)
    return xp.matmul(D, weights.T) if need_input_error else None, dW, D, weights - rate * dW, bias - rate * D


def descending(layers: Sequence[Any], parameters: Sequence[Any], backend: Any, kernels: str) -> tuple[list[Any], Any]:
    """The layers, and those of them that move all ``parameters`` (home, name) in the backward pass, in that order.

    For steps of plain gradient descent on one sample: dE/dW is as large as the weights there, and to read both again,
    for the optimizer, takes much of the time. None for the second if there are other parameters than the weights and
    biases of fully connected layers, or the backend has no fast ``descended``.
    """
    fast = _fast(descended, backend, kernels)
    if fast is None:
        return list(layers), None
    alone = [Fused(layer) if type(layer) is FCLayer and _is_plain(layer) else layer for layer in layers]
    dense = [layer for layer in alone if type(layer) is Fused and not (layer.is_convolution or layer.layer._is_frozen)]
    moved = [(layer.layer.parameters, name) for layer in dense for name in ("weights", "bias")]
    if [(id(home), name) for home, name in moved] != [(id(home), name) for home, name in parameters]:
        return list(layers), None
    for layer in dense:
        layer.descended = fast
    return alone, dense


def ending(layers: Sequence[Any], backend: Any, kernels: str) -> tuple[list[Any], Any]:
    """The fused layers, the last one so that it takes D and its sums, and the fast ``whole``; else None for that."""
    fast = _fast(whole, backend, kernels)
    if fast is None or not layers:
        return list(layers), None
    last = layers[-1] if isinstance(layers[-1], Fused) else Fused(layers[-1]) if _is_plain(layers[-1]) else None
    return (list(layers), None) if last is None else ([*layers[:-1], last], fast)


def fuse(layers: Sequence[Any], backend: Any, kernels: str) -> list[Any]:
    """The layers, fused where the backend can run two as one; unchanged with ``kernels="portable"``."""
    if kernels == "portable" or backend.implementation(portable.biased) is portable.biased:
        return list(layers)
    pools = _fast(pooled, backend, kernels) is not None
    fused: list[Any] = []
    for layer in layers:
        if fused and _suits(fused[-1], layer):
            fused[-1] = Fused(fused[-1], layer)
        elif pools and fused and type(fused[-1]) is Fused and fused[-1].is_convolution and _pools(layer):
            fused[-1] = Pooled(fused[-1], layer)
        else:
            fused.append(layer)
    return fused


def _fast(function: Any, backend: Any, kernels: str) -> Any:
    """The backend's fast version of a function, or None."""
    found = ops.implementation(backend, kernels, function)
    return None if found is function else found


def _is_plain(layer: Any) -> bool:
    """Whether this is a layer of portnn's own with a bias: a class derived from it may differ."""
    return type(layer) in (FCLayer, ConvLayer) and "bias" in layer.shapes and _as_written(layer)


def _as_written(layer: Any) -> bool:
    return not {"forward", "backward"} & vars(layer).keys()


def _pools(layer: Any) -> bool:
    return type(layer) in (MaxPoolLayer, AvgPoolLayer) and _as_written(layer)


def _suits(layer: Any, activation: Any) -> bool:
    """Whether the two can be fused."""
    return (
        _is_plain(layer)
        and _as_written(activation)
        and type(activation) is ActivationLayer
        and (activation.activation, activation.activation_prime) in PAIRS
    )
