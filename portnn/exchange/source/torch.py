"""The source of a network in PyTorch.

Images have their channels first there, (N, C, H, W): they are permuted where they come in and where they go out.
After a Flatten values are in another order than here, and so are the weights in ``portnn.torch.state_dict``.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from portnn._typing import Shape
from portnn.exchange import counterparts
from portnn.exchange.counterparts import shown
from portnn.exchange.source import parts
from portnn.exchange.source.parts import MOST_AXES

MODULES = {
    "tanh": "nn.Tanh()",
    "sigmoid": "nn.Sigmoid()",
    "relu": "nn.ReLU()",
    "leaky_relu": "nn.LeakyReLU(0.01)",
    "elu": "nn.ELU()",
    "selu": "nn.SELU()",
    "gelu": "nn.GELU()",
    "gelu_tanh": 'nn.GELU(approximate="tanh")',
    "silu": "nn.SiLU()",
    "softplus": "nn.Softplus(threshold=100)",  # by default it returns x above 20
    "softsign": "nn.Softsign()",
    "hard_sigmoid": "nn.Hardsigmoid()",
}
OF_IMAGES = {"ConvLayer", "MaxPoolLayer", "AvgPoolLayer", "GlobalMaxPoolLayer", "GlobalAvgPoolLayer", "UpsampleLayer"}
OF_IMAGES |= {"BatchNormLayer", "GroupNormLayer", "RandomAffineLayer"}
COMPOSITES = {"SequentialLayer", "ResidualLayer", "ParallelLayer"}
KNOWN = OF_IMAGES | COMPOSITES | {"FCLayer", "ActivationLayer", "FlattenLayer", "ReshapeLayer", "ScaleLayer"}
KNOWN |= {"DropoutLayer", "LayerNormLayer", "SoftmaxLayer"}


@dataclass
class Values:
    """Values between two modules: the shape of a sample here, and how PyTorch's network has them.

    ``second``: the channels are the second axis. ``images``: some layer has told whether they are images. ``order``: of
    one row of numbers, value k is value ``order[k]`` here, since a Flatten of images of shape ``image`` has mixed them;
    ``free``: a Linear has made them, so they come in whatever order the next layers need. ``reshaped``: the number of a
    module that has made a sequence of one row of numbers, of which nobody knows yet where its channels are.
    """

    shape: Shape
    second: bool = False
    images: bool | None = None
    order: np.ndarray | None = None
    image: Shape | None = None
    free: bool = False
    reshaped: int | None = None


def source(network: Any) -> str:
    """The text: a function that makes the network, one that loads its weights, the loss, the modules that these use."""
    parts.check(network, "PyTorch", KNOWN)
    shape = counterparts.shape_of_samples(network)
    writer = Writer()
    lines, values = writer.chain(network.layers, Values(shape))
    if values.second:
        lines.append(f'"last": {writer.to_last(values)},')
    if values.order is not None and not values.free:
        lines.append(f'"in_order": {writer.in_order(values)},')
    body = "\n".join(f"            {line}" for line in lines)
    for number, text in enumerate(writer.reshapes):
        body = body.replace(f"@reshape{number}@", text)
    body = "\n".join(part for line in body.split("\n") for part in counterparts.folded(line))
    double = ".double()" if network.dtype == "float64" else ""
    build = (
        'def build():\n    """The network, with new weights."""\n    return nn.Sequential(\n        OrderedDict({\n'
        f"{body}\n        }})\n    ){double}"
    )
    loss = _loss(network, values.shape)
    modules = parts.used(OWN_MODULES, build)
    head = HEAD.replace("@made@", counterparts.how_it_was_made('network.to_source("torch")')).replace(
        "@shapes@", f"A sample x is {shown(shape)}, its result {shown(values.shape)}, as in portnn, in {network.dtype}."
    )
    text = "\n\n\n".join([head, *modules, build, LOAD, *([loss] if loss else [])])
    if "F." not in text:
        text = text.replace("import torch.nn.functional as F\n", "")
    return text + "\n"


HEAD = '''"""A neural network in PyTorch.

@made@
@shapes@
Its weights: in portnn, with the package safetensors,

    safetensors.numpy.save_file(portnn.torch.state_dict(network), "net.safetensors")

and here

    model = build()
    load_weights(model, "net.safetensors")
    model.eval()
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import nn'''

LOAD = '''def load_weights(model, weights):
    """Takes the weights of portnn.torch.state_dict(network): a safetensors file of them, or the dict itself."""
    if not isinstance(weights, dict):
        from safetensors.torch import load_file

        weights = load_file(weights)
    tensors = {name: torch.as_tensor(array).clone() for name, array in weights.items()}
    found = model.load_state_dict(tensors, strict=False)
    wrong = [
        name
        for name in [*found.missing_keys, *found.unexpected_keys]
        if not name.endswith("num_batches_tracked")  # matters in training without a momentum only
    ]
    if wrong:
        raise ValueError(f"missing or not of this network: {', '.join(wrong)}")'''

OWN_MODULES = {
    "Permute": '''
class Permute(nn.Module):
    """The axes of a batch in another order."""

    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(self.axes)
''',
    "Reshape": '''
class Reshape(nn.Module):
    """The same numbers in another shape of each sample."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.reshape(len(x), *self.shape)
''',
    "Reorder": '''
class Reorder(nn.Module):
    """The numbers of each sample in another order."""

    def __init__(self, order):
        super().__init__()
        self.order = order

    def forward(self, x):
        return x[..., self.order]
''',
    "Scale": '''
class Scale(nn.Module):
    """Y = factor X + offset."""

    def __init__(self, factor, offset):
        super().__init__()
        self.factor, self.offset = factor, offset

    def forward(self, x):
        return self.factor * x + self.offset
''',
    "Residual": '''
class Residual(nn.Sequential):
    """Y = X + F(X)."""

    def forward(self, x):
        return x + super().forward(x)
''',
    "Concatenated": '''
class Concatenated(nn.Sequential):
    """The outputs of branches, side by side on an axis."""

    def __init__(self, branches, axis):
        super().__init__(branches)
        self.axis = axis

    def forward(self, x):
        return torch.cat([branch(x) for branch in self], dim=self.axis)
''',
    "Added": '''
class Added(nn.Sequential):
    """The sum of the outputs of branches."""

    def forward(self, x):
        first, *others = [branch(x) for branch in self]
        return sum(others, first)
''',
    "ChannelsLinear": '''
class ChannelsLinear(nn.Linear):
    """Linear, along the channels of images (N, C, ...)."""

    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)
''',
    "ChannelsLayerNorm": '''
class ChannelsLayerNorm(nn.LayerNorm):
    """LayerNorm, over the channels of images (N, C, ...)."""

    def forward(self, x):
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)
''',
    "PaddedConv1d": '''
class PaddedConv1d(nn.Conv1d):
    """Convolution with other padding before than after: (left, right)."""

    def __init__(self, *sizes, around, **options):
        super().__init__(*sizes, **options)
        self.around = around

    def forward(self, x):
        return super().forward(F.pad(x, self.around))
''',
    "PaddedConv2d": '''
class PaddedConv2d(nn.Conv2d):
    """Convolution with other padding before than after: (left, right, top, bottom)."""

    def __init__(self, *sizes, around, **options):
        super().__init__(*sizes, **options)
        self.around = around

    def forward(self, x):
        return super().forward(F.pad(x, self.around))
''',
    "PaddedMaxPool": '''
class PaddedMaxPool(nn.Module):
    """The largest value of each window, with padding that PyTorch's layer does not take."""

    def __init__(self, pool, around):
        super().__init__()
        self.pool, self.around = pool, around

    def forward(self, x):
        return self.pool(F.pad(x, self.around, value=-torch.inf))
''',
    "PaddedAvgPool": '''
class PaddedAvgPool(nn.Module):
    """The mean of each window, of the pixels that are not padding, which PyTorch's layer does not take."""

    def __init__(self, pool, around):
        super().__init__()
        self.pool, self.around = pool, around

    def forward(self, x):
        share = self.pool(F.pad(torch.ones_like(x), self.around))  # of pixels that are not padding
        return self.pool(F.pad(x, self.around)) / share
''',
    "RandomAffine": '''
class RandomAffine(nn.Module):
    """In training, moves, rotates (by degrees) and scales each image at random, with other numbers than in portnn."""

    def __init__(self, shift, rotate, scale):
        super().__init__()
        self.shift, self.rotate, self.scale = shift, rotate, scale

    def forward(self, x):
        if not self.training:
            return x
        n, _, height, width = x.shape
        s, t, a, f = (2 * torch.rand(4, n, dtype=x.dtype, device=x.device) - 1).unbind()
        a, f = torch.deg2rad(self.rotate * a), 1 + self.scale * f
        sin, cos = a.sin() / f, a.cos() / f
        s, t = 2 * self.shift * s / height, 2 * self.shift * t / width  # an image reaches from -1 to 1
        rows = [cos, sin * height / width, -(cos * t + sin * s * height / width)]
        columns = [-sin * width / height, cos, sin * t * width / height - cos * s]
        theta = torch.stack([torch.stack(rows, 1), torch.stack(columns, 1)], 1)
        grid = F.affine_grid(theta, x.shape, align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)
''',
}


def first(shape: Shape) -> Shape:
    """The shape with the channels first."""
    return (shape[-1], *shape[:-1])


def channels_first(shape: Shape) -> np.ndarray | None:
    """The order of an image's values where its channels come first; None where that is the same order."""
    order = np.moveaxis(np.arange(prod(shape)).reshape(shape), -1, 0).reshape(-1)
    return None if np.array_equal(order, np.arange(order.size)) else order


class Writer:
    """Writes a module for each layer, named as its path is: ``3.0.weight`` is the weight of module 0 in module 3."""

    def __init__(self) -> None:
        self.reshapes: list[str] = []  # what is decided later

    def chain(self, layers: Any, x: Values) -> tuple[list[str], Values]:
        """The entries of an OrderedDict for layers in order."""
        lines: list[str] = []
        for i, layer in enumerate(layers):
            if _needs_order(layer, x):
                lines.append(f'"{i}_in_order": {_together([self.to_last(x)] * x.second + [self.in_order(x)])},')
                x = Values(x.shape)
            if _needs_second(layer, x) and not x.second and x.reshaped is None:
                lines.append(f'"{i}_first": {self.to_second(x)},')
                x = replace(x, second=True)
            before = x.shape
            module, x = self.module(layer, x)
            comment = parts.about(layer, before, x.shape)
            head, *others = module.split("\n")
            lines += [comment, f'"{i}": {head}' + ("" if others else ",")]
            if others:
                lines += [*others[:-1], others[-1] + ","]
        return lines, x

    def to_second(self, x: Values) -> str:
        axes = len(x.shape)
        return f"Permute({', '.join(map(str, (0, axes, *range(1, axes))))})"

    def to_last(self, x: Values) -> str:
        axes = len(x.shape)
        return f"Permute({', '.join(map(str, (0, *range(2, axes + 1), 1)))})"

    def in_order(self, x: Values) -> str:
        assert x.order is not None
        if x.image is not None:
            turned = ", ".join(map(str, (0, *range(2, len(x.image) + 1), 1)))
            inside = f"Reshape({', '.join(map(str, first(x.image)))}), Permute({turned})"
            return f"nn.Sequential({inside}, Reshape({', '.join(map(str, x.shape))}))"
        return f"Reorder({np.argsort(x.order).tolist()})"

    def module(self, layer: Any, x: Values) -> tuple[str, Values]:
        """A layer's module, and the values after it."""
        name = type(layer).__name__
        after = counterparts.shape_after(layer, x.shape)
        if x.reshaped is not None and name != "SequentialLayer" and _has_images(layer):  # a sequence, as it turns out
            self.reshapes[x.reshaped] = f"Reshape({', '.join(map(str, first(x.shape)))})"
            x = replace(x, second=True, images=True, reshaped=None, order=None, free=False)
        write = getattr(self, f"_{name}")
        module, values = write(layer, x, after)
        return module, replace(values, shape=after)

    # -- layers along the last axis ----------------------------------------------------------------------------------

    def _FCLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        bias = "" if "bias" in layer.parameters else ", bias=False"
        kind = "ChannelsLinear" if x.second else "nn.Linear"
        module = f"{kind}({layer.input_size}, {layer.output_size}{bias})"
        if parts.flat(x.shape):
            return module, Values(after, x.second, free=True)
        return module, Values(after, x.second, x.images or False)

    def _LayerNormLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        kind = "ChannelsLayerNorm" if x.second else "nn.LayerNorm"
        if not parts.flat(x.shape):
            x = replace(x, images=x.images or False, reshaped=None)
        return f"{kind}({x.shape[-1]}, eps={float(layer.epsilon)!r})", x

    def _SoftmaxLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        return f"nn.Softmax(dim={1 if x.second else -1})", x

    # -- layers number by number ---------------------------------------------------------------------------------------

    def _ActivationLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        return MODULES[counterparts.activation_name(layer) or ""], x

    def _ScaleLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        return f"Scale({float(layer.factor)!r}, {float(layer.offset)!r})", x

    def _DropoutLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        return f"nn.Dropout({float(layer.rate)!r})", x

    # -- layers of images ----------------------------------------------------------------------------------------------

    def _RandomAffineLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        module = f"RandomAffine(shift={layer.shift!r}, rotate={layer.rotate!r}, scale={layer.scale!r})"
        return module, replace(x, images=True)

    def _ConvLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        axes = len(layer.kernel_shape)
        plan = counterparts.convolution(layer).along(axes)
        stride, dilation, padding = plan.stride, plan.dilation, plan.padding
        options: dict[str, Any] = {}
        if set(stride) != {1}:
            options["stride"] = parts.one(stride)
        equal = all(before == behind for before, behind in padding)
        if any(map(any, padding)):
            options["padding" if equal else "around"] = (
                parts.one([before for before, _ in padding]) if equal else around(padding)
            )
        if set(dilation) != {1}:
            options["dilation"] = parts.one(dilation)
        if layer.groups != 1:
            options["groups"] = layer.groups
        if "bias" not in layer.parameters:
            options["bias"] = False
        given = "".join(f", {name}={value}" for name, value in options.items())
        kind = f"nn.Conv{axes}d" if equal else f"PaddedConv{axes}d"
        module = f"{kind}({x.shape[-1]}, {layer.layer_depth}, {parts.one(layer.kernel_shape)}{given})"
        return module, Values(after, True, True)

    def _pool(self, kind: str, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:
        axes = parts.check_axes(layer, x.shape, "PyTorch")
        plan = counterparts.pooling(layer, x.shape)
        sizes = f"{parts.one(plan.window)}, stride={parts.one(plan.stride)}"
        values = Values(after, True, True)
        if not any(map(any, plan.padding)):
            return f"nn.{kind}Pool{axes}d({sizes})", values
        taken = all(a == b and 2 * a <= k for (a, b), k in zip(plan.padding, plan.window, strict=True))
        if axes == MOST_AXES:  # PyTorch refuses windows larger than the volume, though the padding makes room for them
            taken = taken and all(k <= n for k, n in zip(plan.window, plan.image, strict=True))
        if taken:
            counted = ", count_include_pad=False" if kind == "Avg" else ""
            before = parts.one([a for a, _ in plan.padding])
            return f"nn.{kind}Pool{axes}d({sizes}, padding={before}{counted})", values
        return f"Padded{kind}Pool(nn.{kind}Pool{axes}d({sizes}), around={around(plan.padding)})", values

    def _MaxPoolLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        return self._pool("Max", layer, x, after)

    def _AvgPoolLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        return self._pool("Avg", layer, x, after)

    def _global_pool(self, kind: str, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:
        axes = parts.check_axes(layer, x.shape, "PyTorch")
        return f"nn.Sequential(nn.Adaptive{kind}Pool{axes}d(1), nn.Flatten())", Values(after)

    def _GlobalMaxPoolLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        return self._global_pool("Max", layer, x, after)

    def _GlobalAvgPoolLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        return self._global_pool("Avg", layer, x, after)

    def _UpsampleLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        factors = tuple(map(float, layer.factors(parts.check_axes(layer, x.shape, "PyTorch"))))
        return f"nn.Upsample(scale_factor={factors})", Values(after, True, True)

    def _BatchNormLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        axes = max(1, parts.check_axes(layer, x.shape, "PyTorch"))
        options = f"eps={float(layer.epsilon)!r}, momentum={float(layer.momentum)!r}"
        values = x if parts.flat(x.shape) else replace(x, images=True)
        return f"nn.BatchNorm{axes}d({x.shape[-1]}, {options})", values

    def _GroupNormLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        values = x if parts.flat(x.shape) else replace(x, images=True)
        return f"nn.GroupNorm({layer.groups}, {x.shape[-1]}, eps={float(layer.epsilon)!r})", values

    # -- other shapes --------------------------------------------------------------------------------------------------

    def _FlattenLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        return self._to_row(x, after)

    def _ReshapeLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        if parts.flat(after):
            return self._to_row(x, after)
        row, shape = parts.flat(x.shape), ", ".join(map(str, after))
        if row and (x.free or x.order is not None):
            if len(after) > 2:  # the weights before it are in the order that this needs
                return f"Reshape({', '.join(map(str, first(after)))})", Values(after, True, True)
            self.reshapes.append(f"Reshape({shape})")
            number = len(self.reshapes) - 1
            return f"@reshape{number}@", replace(x, images=None, reshaped=number)
        modules = [self.to_last(x)] * x.second + [f"Reshape({shape})"]
        images = (True if len(after) > 2 else None) if row and x.images else x.images
        return _together(modules), Values(after, False, images)

    def _to_row(self, x: Values, after: Shape) -> tuple[str, Values]:
        """Each sample as one row of numbers; images with their channels first, as PyTorch has them."""
        last = "nn.Flatten()" if len(after) == 1 else f"Reshape({', '.join(map(str, after))})"
        if parts.flat(x.shape) or x.reshaped is not None:
            return last, replace(x, second=False, reshaped=None)
        channels = len(x.shape) > 2 if x.images is None else x.images
        modules = [last]
        if channels != x.second:
            modules = [self.to_second(x) if channels else self.to_last(x), last]
        order = channels_first(x.shape) if channels else None
        return _together(modules), Values(after, order=order, image=x.shape if order is not None else None)

    # -- composites ----------------------------------------------------------------------------------------------------

    def _SequentialLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        lines, values = self.chain(layer.layers, x)
        return _block("nn.Sequential", lines), values

    def _ResidualLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        lines, values = self.chain(layer.layers, x)
        if values.second != x.second:
            lines.append(f'"turned": {self.to_second(values) if x.second else self.to_last(values)},')
        fixed = values if x.free else x  # a Linear gives its outputs in whatever order they are added to
        images = x.images if values.images is None else values.images
        reshaped = x.reshaped if values.reshaped == x.reshaped else None
        found = replace(x, order=fixed.order, image=fixed.image, free=fixed.free, images=images, reshaped=reshaped)
        return _block("Residual", lines), found

    def _ParallelLayer(self, layer: Any, x: Values, after: Shape) -> tuple[str, Values]:  # noqa: N802
        ends, modules = [], []
        for branch in layer.layers:
            needed = _needs_order(branch, x)
            module, end = self.module(branch, Values(x.shape, x.second) if needed else x)
            if needed:
                before, behind = [self.to_last(x)] * x.second, [self.to_second(x)] * x.second
                module = _together([*before, self.in_order(x), *behind, module])
            modules.append((module, end, branch))
            ends.append(end)
        # All end with their channels at one place: at that of a branch that is no chain, and has names to keep.
        kept = (end.second for end, branch in zip(ends, layer.layers, strict=True) if _is_kept(branch))
        second, lines = next(kept, ends[0].second), []
        for i, (module, end, branch) in enumerate(modules):
            lines.append(parts.about(branch, x.shape, end.shape))
            if end.second != second:
                turned = self.to_second(end) if second else self.to_last(end)
                module = _followed(module, turned)
            head, *others = module.split("\n")
            lines += [f'"{i}": {head}' + ("" if others else ",")]
            lines += [*others[:-1], others[-1] + ","] if others else []
        images = next((end.images for end in ends if end.images is not None), None)
        values = Values(after, second, images)
        if layer.merge == "add":
            fixed = next((end for end in ends if not end.free), ends[0])
            return _block("Added", lines), replace(values, order=fixed.order, image=fixed.image, free=fixed.free)
        if parts.flat(after) and any(end.order is not None for end in ends):
            values = replace(values, order=_joined(ends))
        elif all(end.free for end in ends):
            values = replace(values, free=True)
        return _block("Concatenated", lines, f"axis={1 if second else -1}"), values


def _joined(ends: list[Values]) -> np.ndarray:
    """The order of rows of numbers that stand side by side."""
    orders, start = [], 0
    for end in ends:
        size = end.shape[-1]
        orders.append(start + (np.arange(size) if end.order is None or end.free else end.order))
        start += size
    return np.concatenate(orders)


def _needs_second(layer: Any, x: Values) -> bool:
    """Whether a layer, or one within it, is one of images, whose channels come first; a chain sees to it itself."""
    return len(x.shape) > 1 and type(layer).__name__ != "SequentialLayer" and _has_images(layer)


def _has_images(layer: Any) -> bool:
    return any(type(each).__name__ in OF_IMAGES for each in layer.walk())


def _is_kept(branch: Any) -> bool:
    """Whether a branch with parameters cannot be followed by another module without new names for them."""
    return type(branch).__name__ != "SequentialLayer" and any(layer.parameters for layer in branch.walk())


def _followed(module: str, turned: str) -> str:
    """A branch and what turns its outputs; in a block of its own that is one module more, else one around."""
    if module == "nn.Sequential()":
        return f"nn.Sequential({turned})"
    if module.startswith("nn.Sequential(OrderedDict({"):
        return f'{module.removesuffix("}))")}    "turned": {turned},\n}}))'
    return f"nn.Sequential({module}, {turned})"


def _needs_order(layer: Any, x: Values) -> bool:
    """Whether a layer takes a row of numbers, such as (1, C), for an image: it needs them in the order of here, in
    which ``portnn.torch.state_dict`` has its weights and what comes after it."""
    name = type(layer).__name__
    return x.order is not None and parts.flat(x.shape) and name in OF_IMAGES and not name.endswith("NormLayer")


def _together(modules: list[str]) -> str:
    return modules[0] if len(modules) == 1 else f"nn.Sequential({', '.join(modules)})"


def _block(kind: str, lines: list[str], option: str = "") -> str:
    """A module that holds others, over several lines."""
    if not lines:
        return f"{kind}()"
    end = "}))" if not option else f"}}), {option})"
    return "\n".join([f"{kind}(OrderedDict({{", *(f"    {line}" for line in lines), end])


def around(padding: Any) -> tuple[int, ...]:
    """Padding as ``F.pad`` takes it: the last axis first."""
    return tuple(n for pair in reversed(padding) for n in pair)


def _loss(network: Any, output: Shape) -> str:
    """A function of targets and outputs; nothing for a network without a loss."""
    name = None if network.loss is None else parts.loss_name(network)
    if name is None:
        return ""
    smoothing = f", label_smoothing={network.loss.label_smoothing!r}" if name == "SoftmaxCrossEntropy" else ""
    classes = f"F.cross_entropy(y_pred, y_true{smoothing})"
    if len(output) > 1:
        classes = f"F.cross_entropy(y_pred.movedim(-1, 1), y_true{smoothing}, reduction='sum') / len(y_pred)"
    formulas = {
        "mse": "F.mse_loss(y_pred, y_true)",
        "mae": "F.l1_loss(y_pred, y_true)",
        "Huber": f"F.huber_loss(y_pred, y_true, delta={getattr(network.loss, 'delta', 1.0)!r})",
        "binary_cross_entropy": "F.binary_cross_entropy_with_logits(y_pred, y_true)",
        "hinge": "torch.clamp(1 - y_true * y_pred, min=0).mean()",
        "softmax_cross_entropy": classes,
        "SoftmaxCrossEntropy": classes,
    }
    shares = ", or shares of the classes" * (len(output) == 1)
    targets = f"y_true are class numbers{shares}." if "oftmax" in name else "y_true and y_pred have one shape."
    return (
        f'def loss(y_true, y_pred):\n    """{name}, the mean over the batch; {targets}"""\n    return {formulas[name]}'
    )
