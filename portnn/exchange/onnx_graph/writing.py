"""A network as an ONNX model: its layers, one after the other, as nodes of a graph.

Images come in and go out as portnn has them, (N, H, W, C). Where ONNX's operators want the channels second, a run of
such layers has one transpose in front and one after. After FlattenLayer there is none if an FCLayer follows: the rows
of its weights are put into the order in which the values then come.
"""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from math import prod
from typing import Any

import numpy as np

from portnn import activations, losses
from portnn._typing import Shape
from portnn.exchange.onnx_graph.extra import onnx
from portnn.exchange.onnx_graph.functions import name_in_graphs
from portnn.exchange.onnx_graph.graph import Graph, Value, rounded
from portnn.exchange.onnx_graph.pieces import PIECES
from portnn.exchange.samples import declared, sample_shape
from portnn.functions import name_of
from portnn.layers import sequential
from portnn.ops import is_ours
from portnn.ops.windows import pads_of, per_axis
from portnn.version import __version__

OF_ANY_ORDER = ("ActivationLayer", "BatchNormLayer", "LayerNormLayer", "ScaleLayer", "SoftmaxLayer")
OLDEST = 18  # the opset from which reductions take their axes as an input
MOST_BYTES = (1 << 31) - (1 << 24)  # of weights: protobuf holds less than 2 GiB, the nodes with them
INPUT, OUTPUT, BATCH = "x", "y", "N"


class Writer:
    """Writes layers into a graph, which ends with what the last one returned."""

    def __init__(self, graph: Graph):
        self.graph = graph

    def chain(self, layers: Sequence[Any], x: Value) -> Value:
        """Layers in order."""
        shape, left = x.shape, []
        for layer in _spliced(layers):
            before, shape = shape, _shape_after(layer, shape)
            if not _does_nothing(layer, before, shape):
                left.append((layer, shape))
        for i, (layer, after) in enumerate(left):
            if type(layer).__name__ == "FlattenLayer":
                x = _flatten(self, layer, x, after, [each for each, _ in left[i + 1 :]])
            else:
                x = NODES[type(layer).__name__](self, layer, x, after)
        return x

    def array(self, layer: Any, name: str) -> np.ndarray | None:
        """A parameter or buffer of a layer, on the host; None for one that it does not have."""
        home = layer.parameters if name in layer.parameters else layer.buffers
        return np.asarray(layer.backend.to_numpy(home[name])) if name in home else None

    def arrays(self, layer: Any, x: Value, *names: str) -> list[str]:
        """Initializers of a layer's arrays (C,), in the order of the values of ``x``."""
        return [self.graph.constant(layer.path, name, in_order(x, self.array(layer, name))) for name in names]


def _spliced(layers: Sequence[Any]) -> Iterator[Any]:
    """Layers in order, those inside a SequentialLayer in its place, and those of a ParallelLayer's only branch."""
    for layer in layers:
        name = type(layer).__name__
        if name == "SequentialLayer" or (name == "ParallelLayer" and len(layer.layers) == 1):
            yield from _spliced(layer.layers)
        else:
            yield layer


def _shape_after(layer: Any, shape: Shape) -> Shape:
    after = sequential.shapes([layer], shape)[-1]
    assert after is not None, "a layer of ours knows its output's shape for a known input"
    return after


def _does_nothing(layer: Any, shape: Shape, after: Shape) -> bool:
    """Whether a layer returns what it is given: it acts in training only, or gives samples the shape they have."""
    name = type(layer).__name__
    return NODES[name] is _nothing or (name in ("FlattenLayer", "ReshapeLayer") and after == shape)


# -- a function for each kind of layer ---------------------------------------------------------------------------------


def _fully_connected(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
    g, path = w.graph, layer.path
    x = g.turned(path, x, False)
    weights, bias = w.array(layer, "weights"), w.array(layer, "bias")
    assert weights is not None
    inputs = [x.name, g.constant(path, "weights", in_order(x, weights))]
    if bias is not None and len(x.shape) == 1:
        return Value(g.node(path, "Gemm", [*inputs, g.constant(path, "bias", bias[0])]), after)
    name = g.node(path, "MatMul", inputs)
    if bias is not None:
        name = g.node(path, "Add", [name, g.constant(path, "bias", bias[0])])
    return Value(name, after)


def in_order(x: Value, array: Any) -> Any:
    """An array with a row for each value of ``x``, in the order in which these come."""
    return array if x.order is None else array[places(x.order)]


def places(order: Shape) -> np.ndarray:
    """Of each value of a row (C, H, W) its place in the row (H, W, C)."""
    channels, *image = order
    return np.moveaxis(np.arange(prod(order)).reshape(*image, channels), -1, 0).ravel()


def _convolution(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
    g, path, axes = w.graph, layer.path, len(layer.kernel_shape)
    x = g.turned(path, x, True)
    weights, bias = w.array(layer, "weights"), w.array(layer, "bias")
    assert weights is not None
    inputs = [
        x.name,
        g.constant(path, "weights", np.moveaxis(weights, (-1, -2), (0, 1))),
    ]  # (h, w, C, F) -> (F, C, h, w)
    if bias is not None:
        inputs.append(g.constant(path, "bias", bias))
    name = g.node(
        path,
        "Conv",
        inputs,
        kernel_shape=list(layer.kernel_shape),
        strides=list(layer.plan.stride),
        pads=_pads(layer.plan.padding),
        dilations=list(per_axis("dilation", layer.dilation, axes)),
        group=layer.groups,
    )
    return g.after(x, name, after)


def _pads(pads: Any) -> list[int]:
    return [pair[side] for side in (0, 1) for pair in pads]


def _pool(operator: str) -> Callable[..., Value]:
    def write(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
        g, axes = w.graph, len(x.shape) - 1
        x = g.turned(layer.path, x, True)
        window, stride = per_axis("window", layer.window, axes), per_axis("stride", layer.stride, axes)
        pads = pads_of(layer.padding, x.shape[:-1], window, stride)
        options = dict(kernel_shape=list(window), strides=list(stride), pads=_pads(pads))
        return g.after(x, g.node(layer.path, operator, [x.name], **options), after)

    return write


def _global_pool(operator: str) -> Callable[..., Value]:
    """A reduction over the image, wherever its axes are."""

    def write(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
        first = 2 if x.second else 1
        axes = w.graph.constant(layer.path, "axes", range(first, first + len(x.shape) - 1), np.int64)
        return Value(w.graph.node(layer.path, operator, [x.name, axes], keepdims=0), after)

    return write


def _upsample(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
    g, path = w.graph, layer.path
    x = g.turned(path, x, True)
    scales = g.constant(path, "scales", [1.0, 1.0, *map(float, layer.factors(len(x.shape) - 1))], np.float32)
    rule = dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    return g.after(x, g.node(path, "Resize", [x.name, "", scales], **rule), after)


def _flatten(w: Writer, layer: Any, x: Value, after: Shape, following: Sequence[Any]) -> Value:
    g, order = w.graph, None
    if x.second and 1 not in (x.shape[-1], prod(x.shape[:-1])):  # else the two orders are one
        if _meets_weights(following):
            order = (x.shape[-1], *x.shape[:-1])
        else:
            x = g.turned(layer.path, x, False)
    return Value(g.node(layer.path, "Flatten", [x.name], axis=1), after, order=order)


def _meets_weights(following: Sequence[Any]) -> bool:
    """Whether an FCLayer follows, after layers that do the same with the values of a row in any order."""
    names = (type(each).__name__ for each in following)
    return next((name == "FCLayer" for name in names if name not in OF_ANY_ORDER), False)


def _reshape(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
    g = w.graph
    shape = g.constant(layer.path, "shape", [0, *after], np.int64)
    return Value(g.node(layer.path, "Reshape", [g.turned(layer.path, x, False).name, shape]), after)


def _scale(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
    g, name = w.graph, x.name
    factor, offset = (rounded(layer.path, each, g.dtype.type) for each in (layer.factor, layer.offset))
    if factor != 1.0 or not offset:
        name = g.node(layer.path, "Mul", [name, g.number(layer.path, "factor", factor)])
    if offset:
        name = g.node(layer.path, "Add", [name, g.number(layer.path, "offset", offset)])
    return g.after(x, name)


def _activation(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
    name = name_in_graphs(layer)
    assert name is not None, "others are refused before"
    return w.graph.after(x, PIECES[name](w.graph, layer.path, x.name))


def _nothing(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
    """Of layers that have no nodes: ``chain`` leaves them out, or puts their layers in their place."""
    return x


def _batch_norm(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
    g = w.graph
    x = g.turned(layer.path, x, True)
    epsilon, variance = _single(layer, nearest=not g.exact), w.array(layer, "running_var")
    assert variance is not None
    arrays = w.arrays(layer, x, "weights", "bias", "running_mean")
    # Only their sum counts: what a float32 cannot hold of epsilon goes into the variance, which in float64 can hold it.
    variance = in_order(x, variance) + (layer.epsilon - epsilon if g.exact else 0.0)
    arrays.append(g.constant(layer.path, "running_var", variance))
    # ONNX weights the old value. In decimal 1 - 0.1 is 0.9, and 1 - 0.9 is 0.1 again.
    options = dict(epsilon=epsilon, momentum=float(1 - Decimal(repr(float(layer.momentum)))))
    return g.after(x, g.node(layer.path, "BatchNormalization", [x.name, *arrays], **options))


def _single(layer: Any, nearest: bool = True) -> float:
    """The epsilon of a layer as a float32, never 0.0: the nearest, or the next one that is not above it."""
    found = np.float32(rounded(layer.path, layer.epsilon, np.float32))
    if not nearest and float(found) > layer.epsilon:
        found = np.nextafter(found, np.float32(0.0))
    return float(max(found, np.finfo(np.float32).smallest_subnormal))


def _layer_norm(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
    g, path = w.graph, layer.path
    x = g.turned(path, x, False)
    weights, bias = w.arrays(layer, x, "weights", "bias")
    if not g.exact:
        options = dict(axis=-1, epsilon=_single(layer))
        return g.after(x, g.node(path, "LayerNormalization", [x.name, weights, bias], **options))
    scaled = g.node(path, "Mul", [_normalized(g, path, x.name, layer.epsilon), weights])
    return g.after(x, g.node(path, "Add", [scaled, bias]))


def _normalized(g: Graph, path: str, x: str, epsilon: float) -> str:
    """(x - mean) / sqrt(variance + epsilon) over the last axis, in pieces: ONNX's operators have a float32 epsilon."""
    axes = g.constant(path, "axes", [-1], np.int64)
    centred = g.node(path, "Sub", [x, g.node(path, "ReduceMean", [x, axes], keepdims=1)])
    variance = g.node(path, "ReduceMean", [g.node(path, "Mul", [centred, centred]), axes], keepdims=1)
    root = g.node(path, "Sqrt", [g.node(path, "Add", [variance, g.number(path, "epsilon", epsilon)])])
    return g.node(path, "Div", [centred, root])


def _group_norm(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
    """Groups as channels of InstanceNormalization; then scale and shift of each channel, as PyTorch's exporter does."""
    g, path, groups = w.graph, layer.path, layer.groups
    x = g.turned(path, x, True)
    *image, channels = x.shape
    grouped = [0, groups, channels // groups * prod(image)]  # -1 for the last size would fail for an empty batch
    name = g.node(path, "Reshape", [x.name, g.constant(path, "grouped", grouped, np.int64)])
    if g.exact:
        name = _normalized(g, path, name, layer.epsilon)
    else:
        ones, zeros = g.constant(path, "ones", np.ones(groups)), g.constant(path, "zeros", np.zeros(groups))
        name = g.node(path, "InstanceNormalization", [name, ones, zeros], epsilon=_single(layer))
    name = g.node(path, "Reshape", [name, g.constant(path, "shape", [0, channels, *image], np.int64)])
    for operator, what in (("Mul", "weights"), ("Add", "bias")):
        array = w.array(layer, what)
        assert array is not None
        name = g.node(path, operator, [name, g.constant(path, what, array.reshape(channels, *(1 for _ in image)))])
    return g.after(x, name)


def _softmax(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
    return w.graph.after(x, w.graph.node(layer.path, "Softmax", [x.name], axis=1 if x.second else -1))


def _residual(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
    return _sum(w, layer, [x, w.chain(layer.layers, x)])


def _sum(w: Writer, layer: Any, values: list[Value], x: Value | None = None) -> Value:
    """The sum of several values; of two, ``x``, the input of the layer, comes first."""
    values = sorted(values, key=lambda value: value != x) if len(values) == 2 else values
    values = w.graph.alike(layer.path, values)
    name = w.graph.node(layer.path, "Add" if len(values) == 2 else "Sum", [value.name for value in values])
    return w.graph.after(values[0], name)


def _parallel(w: Writer, layer: Any, x: Value, after: Shape) -> Value:
    branches = [w.chain([branch], x) for branch in layer.layers]
    if layer.merge == "add":
        return _sum(w, layer, branches, x)
    values = w.graph.alike(layer.path, branches)
    axis = 1 if values[0].second else -1
    name = w.graph.node(layer.path, "Concat", [value.name for value in values], axis=axis)
    return w.graph.after(values[0], name, after)


NODES: dict[str, Callable[..., Value]] = {
    "FCLayer": _fully_connected,
    "ConvLayer": _convolution,
    "ActivationLayer": _activation,
    "FlattenLayer": _flatten,  # also given the layers after it
    "ReshapeLayer": _reshape,
    "ScaleLayer": _scale,
    "MaxPoolLayer": _pool("MaxPool"),
    "AvgPoolLayer": _pool("AveragePool"),
    "GlobalMaxPoolLayer": _global_pool("ReduceMax"),
    "GlobalAvgPoolLayer": _global_pool("ReduceMean"),
    "UpsampleLayer": _upsample,
    "DropoutLayer": _nothing,  # in training only
    "RandomAffineLayer": _nothing,
    "BatchNormLayer": _batch_norm,
    "LayerNormLayer": _layer_norm,
    "GroupNormLayer": _group_norm,
    "SoftmaxLayer": _softmax,
    "SequentialLayer": _nothing,  # its layers stand in its place
    "ResidualLayer": _residual,
    "ParallelLayer": _parallel,
}


# -- the model ---------------------------------------------------------------------------------------------------------


def model(network: Any, input_shape: Shape | None = None, opset: int = 18, probabilities: bool = False) -> bytes:
    """The model of a network whose layers have their paths and parameters, as the bytes of a file."""
    package = onnx()
    check(network)
    newest = package.defs.onnx_opset_version()
    if not OLDEST <= opset <= newest:
        raise ValueError(f"opset must be from {OLDEST} to {newest}, which the installed onnx knows; got {opset}")
    shape = _input_shape(network, input_shape)
    graph = Graph(network.dtype, opset)
    graph.reserve(INPUT, OUTPUT)
    writer = Writer(graph)
    y = writer.chain(network.layers, Value(INPUT, shape))
    path = len(network.layers)  # where the next layer would be
    if probabilities:
        y, path = _probabilities(graph, str(path), network, y), path + 1
    y = graph.turned(str(path), y, False)
    _end(graph, str(path), y)
    return _file(graph, shape, y.shape)


def _input_shape(network: Any, given: Shape | None) -> Shape:
    if given is None and network._checked is None and declared(network.layers) is None:
        raise ValueError(  # a guess may do for a page, but not for the input of a model
            f"the layers do not say what shape a sample has, and {network.layers[0]} takes several: say it, "
            "portnn.onnx.export(network, path, input_shape=(28, 28, 1)), or call predict once before"
        )
    if given is not None:
        shape = given
    else:
        shape = sample_shape(network) if network._checked is None else tuple(network._checked)
    if shape == ():
        raise ValueError("samples are single numbers, and a model takes batches with two axes or more: x[:, None]")
    if sequential.shapes(network.layers, shape)[-1] is None:
        raise ValueError(f"the layers do not tell what they return for samples of input_shape={shape}")
    return shape


def _probabilities(graph: Graph, path: str, network: Any, y: Value) -> Value:
    """What makes probabilities of logits, as ``predict_proba`` does; without a loss, as the number of outputs says."""
    last, loss = _last(network.layers), network.loss
    if last is not None:
        raise ValueError(
            f"probabilities=True is for networks that return logits: this one ends in {last}, which makes "
            "probabilities already; leave it out"
        )
    logistic = y.shape[-1] == 1 if loss is None else loss is losses.binary_cross_entropy
    if not (logistic or loss is None or losses.takes_classes(loss)):
        raise ValueError(
            f"probabilities=True is for networks that return logits: the loss of this one, {name_of(loss)}, does not "
            'say so, as "softmax_cross_entropy" and "binary_cross_entropy" do; leave it out'
        )
    if logistic:
        return graph.after(y, graph.node(path, "Sigmoid", [y.name]))
    return graph.after(y, graph.node(path, "Softmax", [y.name], axis=1 if y.second else -1))


def _last(layers: Sequence[Any]) -> Any:
    """The last layer that computes something, if it makes probabilities; None if it does not."""
    for layer in reversed(list(_spliced(layers))):
        if type(layer).__name__ == "SoftmaxLayer" or getattr(layer, "activation", None) is activations.sigmoid:
            return layer
        if NODES[type(layer).__name__] is not _nothing and type(layer).__name__ not in ("FlattenLayer", "ReshapeLayer"):
            return None
    return None


def _end(graph: Graph, path: str, y: Value) -> None:
    """Gives the last value the name of the model's output."""
    users = [name for node in graph.nodes for name in node.input if name == y.name]
    if y.name == INPUT or users:  # a network that does nothing, or whose last value is used once more
        graph.nodes.append(onnx().helper.make_node("Identity", [y.name], [OUTPUT], name=f"{path}/Identity"))
        return
    last = next(node for node in reversed(graph.nodes) if y.name in node.output)
    last.output[0] = OUTPUT


def _file(graph: Graph, shape: Shape, after: Shape) -> bytes:
    package = onnx()
    helper, kind = package.helper, package.helper.np_dtype_to_tensor_dtype(graph.dtype)
    made = helper.make_graph(
        graph.nodes,
        "portnn",
        [helper.make_tensor_value_info(INPUT, kind, [BATCH, *shape])],
        [helper.make_tensor_value_info(OUTPUT, kind, [BATCH, *after])],
        [package.numpy_helper.from_array(array, name) for name, array in graph.initializers.items()],
    )
    opsets = [helper.make_opsetid("", graph.opset)]
    written = helper.make_model(
        made,
        opset_imports=opsets,
        producer_name="portnn",
        producer_version=__version__,
        ir_version=helper.find_min_ir_version_for(opsets, True),
    )
    package.checker.check_model(written, full_check=True)
    return bytes(written.SerializeToString(deterministic=True))


# -- what has no counterpart -------------------------------------------------------------------------------------------


def check(network: Any) -> None:
    """ValueError that lists all layers without a counterpart, or for too many weights; RuntimeError for parameters
    that do not exist yet.
    """
    strange = [f"{layer.path} {what}" for layer in network.walk() if (what := _strange(layer))]
    if strange:
        listed = "".join(f"\n  layer {line}" for line in strange)
        raise ValueError(
            f"ONNX has no operators for {len(strange)} of the network's layers; it has for portnn's own, not for "
            f"layers and functions of yours:{listed}"
        )
    for layer in network.walk():
        if not layer.complete:
            raise RuntimeError(
                f"layer {layer.path} ({layer}) creates its parameters on the first batch: call fit or predict first"
            )
    arrays = [
        array for layer in network.walk() for home in (layer.parameters, layer.buffers) for array in home.values()
    ]
    size = sum(prod(array.shape) for array in arrays) * np.dtype(network.dtype).itemsize
    if size > MOST_BYTES:
        raise ValueError(
            f"the network has {size:,} bytes of weights, and an ONNX file may hold {MOST_BYTES:,} at most: "
            "net.save(path) has no such limit"
        )


def _strange(layer: Any) -> str | None:
    kind = type(layer)
    if not is_ours(kind) or kind.__name__ not in NODES:
        return kind.__name__
    if kind.__name__ == "ActivationLayer" and name_in_graphs(layer) is None:
        return f"ActivationLayer with the function {getattr(layer.activation, '__name__', 'of a user')}"
    return None
