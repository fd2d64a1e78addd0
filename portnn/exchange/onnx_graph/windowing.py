"""Operators that move windows over images, as layers: convolution, pooling, padding, enlarging."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from portnn._typing import Shape
from portnn.exchange.onnx_graph.folding import BATCH
from portnn.exchange.onnx_graph.proto import Node, check_values
from portnn.exchange.onnx_graph.steps import NoLayerError, Steps, Var
from portnn.exchange.onnx_graph.structure import Piece
from portnn.layers import AvgPoolLayer, ConvLayer, MaxPoolLayer, ReshapeLayer, UpsampleLayer
from portnn.ops.windows import window_plan

Pads = tuple[tuple[int, int], ...]


def _options(node: Node, image: Shape, kernel: Shape) -> tuple[Shape, Pads, Shape]:
    """Stride, padding and dilation."""
    a, axes = node.attributes, len(image)
    stride, dilation = (tuple(a.get(name, [1] * axes)) for name in ("strides", "dilations"))
    pads, auto = a.get("pads", [0] * 2 * axes), a.get("auto_pad", "NOTSET")
    if not len(kernel) == len(stride) == len(dilation) == axes or len(pads) != 2 * axes or min(*stride, *dilation) < 1:
        raise NoLayerError(f"windows of {kernel}, stride {stride}, dilation {dilation} on images of {image}")
    if min(pads) < 0:
        raise NoLayerError("negative padding, which cuts pixels off")
    if auto == "VALID":
        return stride, ((0, 0),) * axes, dilation
    if auto == "NOTSET":
        return stride, tuple(zip(pads[:axes], pads[axes:], strict=True)), dilation
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    missing = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(image, stride, reach, strict=True)]
    if auto == "SAME_UPPER":
        return stride, tuple((m // 2, m - m // 2) for m in missing), dilation
    if auto == "SAME_LOWER":
        return stride, tuple((m - m // 2, m // 2) for m in missing), dilation
    raise NoLayerError(f"auto_pad={auto!r:.40}")


def _short(values: Any) -> Any:
    """What a user would write: 1 for (1, 1) and for ((1, 1), (1, 1)), "valid" for no padding."""
    if isinstance(values[0], tuple):
        numbers = {number for pair in values for number in pair}
        return values if len(numbers) > 1 else numbers.pop() or "valid"
    return values[0] if len(set(values)) == 1 else values


def _conv(s: Steps, node: Node, inputs: list[Any]) -> Var:
    x, weights, bias = (*inputs, None)[:3]
    x, weights = s.image(x), s.weights(weights)
    filters, _, *kernel = weights.shape
    image, channels = x.shape[:-1], x.shape[-1]
    if list(node.attributes.get("kernel_shape", kernel)) != kernel:
        raise NoLayerError(f"its kernel_shape is not that of its weights, {weights.shape}")
    padded = image if x.pads is None else tuple(n + sum(pad) for n, pad in zip(image, x.pads, strict=True))
    stride, padding, dilation = _options(node, padded, tuple(kernel))
    padding = _together(padding, x.pads)
    groups = node.attributes.get("group", 1)
    if len(image) > 2:
        raise NoLayerError("images with three axes")
    shape, size = (*image, channels), tuple(kernel)
    options = dict(stride=_short(stride), padding=_short(padding), dilation=_short(dilation), groups=groups)
    s.count(size)
    ours = np.ascontiguousarray(np.moveaxis(weights, (0, 1), (-1, -2)))  # (F, C, h, w) -> (h, w, C, F)
    if weights.shape[1] * groups != channels:
        raise NoLayerError(f"its weights have shape {weights.shape} with {groups} groups, for {channels} channels")
    plan = window_plan(image, size, stride, padding, dilation)
    check_values((*plan.padded, channels), "a layer of the model, with its padding,")
    arrays = {"weights": ours} | ({} if bias is None else {"bias": s.weights(bias, (filters,))})
    ConvLayer(shape, size, filters, **options)  # which checks the options
    piece = Piece("linear", lambda bias: ConvLayer(shape, size, filters, **options, bias=bias), arrays)
    return s.add(replace(x, pads=None), piece, (*plan.output, filters))


def _together(padding: Pads, before: Pads | None) -> Pads:
    if before is None:
        return padding
    return tuple((a + c, b + d) for (a, b), (c, d) in zip(padding, before, strict=True))


def _pool(layer: Callable[..., Any]) -> Callable[..., Var]:
    def pool(s: Steps, node: Node, inputs: list[Any]) -> Var:
        x = s.image(inputs[0])
        image, a = x.shape[:-1], node.attributes
        window = tuple(a["kernel_shape"])
        stride, padding, dilation = _options(node, image, window)
        if max(dilation) > 1:
            raise NoLayerError("pooling with dilation")
        padded = any(max(pair) for pair in padding)
        if layer is AvgPoolLayer and a.get("count_include_pad", 0) and padded:
            raise NoLayerError("averages that count the padding (count_include_pad)")
        if a.get("ceil_mode", 0) and a.get("auto_pad", "NOTSET") == "NOTSET":
            padding = tuple(map(_rounded_up, image, window, stride, padding))
        s.count(window)
        around = tuple(n + sum(pad) for n, pad in zip(image, padding, strict=True))
        check_values((*around, x.shape[-1]), "a layer of the model, with its padding,")
        size, options = _short(window), dict(stride=_short(stride), padding=_short(padding))
        made = layer(size, **options)
        return s.add(x, Piece("pool", lambda: layer(size, **options)), made.output_shape(x.shape))

    return pool


def _rounded_up(n: int, window: int, stride: int, pad: tuple[int, int]) -> tuple[int, int]:
    """Padding that makes room for a last window that begins on the image, or on the padding before it."""
    before, after = pad
    last = -(-(n + before + after - window) // stride)
    if last * stride >= n + before:
        last -= 1
    return before, max(after, last * stride + window - n - before)


def _pad(s: Steps, node: Node, inputs: list[Any]) -> Var:
    """Zeros around an image, which the next convolution adds."""
    x, pads, value, axes = (*inputs, None, None, None)[:4]
    a = node.attributes
    x = s.full(x)
    count = len(x.seen) + 1
    pads = a["pads"] if pads is None else pads.tolist()
    axes = list(range(count)) if axes is None else [axis % count for axis in axes.tolist()]
    fill = a.get("value", 0.0) if value is None else value
    if a.get("mode", "constant") != "constant" or np.any(fill):
        raise NoLayerError("it pads with something else than zeros")
    if len(pads) != 2 * len(axes) or min(pads) < 0 or x.axes is None:
        raise NoLayerError("negative padding, which cuts pixels off")
    found = {x.axes[axis]: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    last = len(x.shape)
    if any(found.get(axis, (0, 0)) != (0, 0) for axis in (0, last)) or last < 2:
        raise NoLayerError("it pads another axis than those of an image")
    image = tuple(found.get(axis, (0, 0)) for axis in range(1, last))
    if not any(map(any, image)):
        return x
    return replace(x, pads=_together(image, x.pads))


def _resize(s: Steps, node: Node, inputs: list[Any]) -> Var:
    """Enlarging by repeating pixels."""
    x, a = s.full(inputs[0]), node.attributes
    scales, sizes = (None, None)
    if node.operator == "Upsample":
        scales = inputs[1].tolist() if len(inputs) > 1 else a["scales"]
        rule = ("asymmetric", "floor")
    elif s.opset < 11:
        scales, rule = inputs[1].tolist(), ("asymmetric", "floor")
    else:
        _, _, scales, sizes = (*inputs, None, None, None)[:4]
        rule = a.get("coordinate_transformation_mode", "half_pixel"), a.get("nearest_mode", "round_prefer_floor")
    modes, roundings = ("half_pixel", "pytorch_half_pixel"), ("round_prefer_floor", "round_prefer_ceil")
    halves = [(mode, rounding) for mode in modes for rounding in roundings]
    if a.get("mode", "nearest") != "nearest":
        raise NoLayerError("it interpolates pixels")
    if rule not in [*halves, ("asymmetric", "floor")]:
        raise NoLayerError(f"its rule for the nearest pixel, {rule}, does not repeat pixels")
    if a.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NoLayerError("it keeps the ratio of the image's sides")
    count = len(x.seen) + 1
    axes = [axis % count for axis in a.get("axes", range(count))]
    if sizes is not None and np.size(sizes):
        whole = (BATCH if s.batch is None else s.batch, *x.seen)
        scales = [1.0 if n == whole[axis] else n / whole[axis] for n, axis in zip(sizes.tolist(), axes, strict=True)]
    factors = {axis: float(scale) for axis, scale in zip(axes, np.asarray(scales).tolist(), strict=True)}
    if x.free and x.axes == x.plain and factors.get(1, 1.0) == 1.0:
        x = s.image(x)
    assert x.axes is not None
    ours = {x.axes[axis]: factor for axis, factor in factors.items() if factor != 1.0}
    last = len(x.shape)
    if 0 in ours or last in ours or any(factor < 1.0 or factor % 1.0 for factor in ours.values()) or last < 2:
        raise NoLayerError(f"it enlarges by {list(factors.values())}, expected whole numbers along the image's axes")
    if x.order is not None or x.axes not in (x.plain, x.channels_second):
        raise NoLayerError("the axes of the image were exchanged")
    factor = _short(tuple(int(ours.get(axis, 1.0)) for axis in range(1, last)))
    made = UpsampleLayer(factor)
    return s.add(x, Piece("upsample", lambda: UpsampleLayer(factor)), made.output_shape(x.shape))


def _tile(s: Steps, node: Node, inputs: list[Any]) -> Var:
    """Enlarging as Keras' exporter writes it: (H, W, C) becomes (H, 1, W, C), the new axis is repeated, and another
    node makes (r H, W, C) of that, or (H, r W, C) of (H, W, 1, C)."""
    x, repeats = s.settled(inputs[0]), inputs[1]
    if not isinstance(repeats, np.ndarray) or repeats.size != len(x.seen) + 1:
        raise NoLayerError("it repeats axes by numbers that are not known")
    factors = repeats.tolist()[1:]
    at = next((i for i, factor in enumerate(factors) if factor != 1), 0)
    piece, image = s.before(x, "reshape"), x.seen[:at] + x.seen[at + 1 :]
    enlarges = 1 <= at < len(image) and factors[at] > 1 and factors.count(1) == len(factors) - 1 and repeats[0] == 1
    if not enlarges or piece is None or piece.before != image or x.axes != x.plain:
        raise NoLayerError(f"it repeats values by {repeats.tolist()}, which is not enlarging of images")
    before = s.turned(replace(x, step=s.all[x.step].inputs[0], shape=image), tuple(range(len(image) + 1)))
    factor = tuple(factors[at] if i == at - 1 else 1 for i in range(len(image) - 1))
    made = UpsampleLayer(_short(factor))
    y = s.add(before, Piece("upsample", lambda: UpsampleLayer(_short(factor))), made.output_shape(image))
    apart = (*image[:at], factors[at], *image[at:])
    shaped = Piece("reshape", lambda: ReshapeLayer(apart))
    shaped.passing = True
    y = s.add(replace(y, free=False), shaped, apart)
    return s.turned(y, y.plain)


WINDOWING = {
    "AveragePool": _pool(AvgPoolLayer),
    "Conv": _conv,
    "MaxPool": _pool(MaxPoolLayer),
    "Pad": _pad,
    "Resize": _resize,
    "Tile": _tile,
    "Upsample": _resize,
}
