"""Networks drawn at random: any layers of portnn's in any order, composites within each other."""

from math import prod
from typing import Any

import numpy as np

from cases import ACTIVATIONS
from portnn import (
    ActivationLayer,
    AvgPoolLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    GlobalMaxPoolLayer,
    GroupNormLayer,
    LayerNormLayer,
    MaxPoolLayer,
    ParallelLayer,
    RandomAffineLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    SequentialLayer,
    SoftmaxLayer,
    UpsampleLayer,
)

Shape = tuple[int, ...]
SAMPLES: list[Shape] = [
    (4,),
    (6,),
    (1, 5),
    (3, 4),
    (8, 2),
    (5, 1),
    (4, 5, 2),
    (6, 6, 1),
    (5, 4, 3),
    (2, 1, 4),
    (1, 1, 6),
]
MOST = 400  # values of a sample between two layers


class Drawer:
    """Draws layers for samples of a shape; each method returns layers and the shape behind them."""

    def __init__(self, seed: int, deepest: int = 3):
        self.rng, self.deepest = np.random.default_rng(seed), deepest

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def network(self) -> tuple[list[Any], Shape]:
        """Layers, and the shape of a sample for them."""
        sample = self.pick(*SAMPLES)
        return self.chain(sample, int(self.rng.integers(1, 7)), 0)[0], sample

    def chain(self, shape: Shape, count: int, depth: int) -> tuple[list[Any], Shape]:
        layers = []
        for _ in range(count):
            made, shape = self.layer(shape, depth)
            layers.append(made)
        return layers, shape

    def layer(self, shape: Shape, depth: int) -> tuple[Any, Shape]:
        kinds = [self.alike, self.alike, self.weights, self.shaped]
        kinds += [self.window, self.window] if len(shape) in (2, 3) else []
        kinds += [self.composite] * 2 if depth < self.deepest else []
        return self.pick(*kinds)(shape, depth)

    def alike(self, shape: Shape, depth: int) -> tuple[Any, Shape]:
        """Layers that keep the shape."""
        rng, channels = self.rng, shape[-1]
        makers = [
            *[lambda: ActivationLayer(self.pick(*ACTIVATIONS))] * 3,
            lambda: ScaleLayer(self.pick(-1.0, 0.5, 1.0, 1 / 3), offset=self.pick(0.0, 0.0, -0.7, 1.0)),
            lambda: BatchNormLayer(momentum=float(rng.uniform()), epsilon=self.pick(1e-5, 1e-3, float(rng.uniform()))),
            lambda: LayerNormLayer(epsilon=self.pick(1e-5, 1e-3, float(rng.uniform()))),
            lambda: GroupNormLayer(self.pick(*(g for g in range(1, channels + 1) if channels % g == 0))),
            lambda: SoftmaxLayer(),
            lambda: DropoutLayer(0.5),
        ]
        makers += [lambda: RandomAffineLayer(rotate=9.0)] if len(shape) == 3 else []
        return self.pick(*makers)(), shape

    def weights(self, shape: Shape, depth: int) -> tuple[Any, Shape]:
        bias = bool(self.pick(True, True, False))
        if len(shape) not in (2, 3) or self.rng.random() < 0.4:
            made = int(self.rng.integers(1, 7))
            return FCLayer(shape[-1], made, bias=bias), (*shape[:-1], made)
        *image, channels = shape
        groups = self.pick(*(g for g in range(1, channels + 1) if channels % g == 0))
        dilation = tuple(self.pick(1, 1, 2) for _ in image)
        kernel = tuple(
            int(self.rng.integers(1, min((n - 1) // d + 1, 3) + 1)) for n, d in zip(image, dilation, strict=True)
        )
        padding = self.pick("valid", "same", 1, tuple((int(self.rng.integers(3)), 1) for _ in image))
        stride = tuple(self.pick(1, 1, 2) for _ in image)
        options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias)
        layer = ConvLayer(shape, kernel, groups * int(self.rng.integers(1, 4)), **options)
        return layer, layer.output_shape(shape)

    def window(self, shape: Shape, depth: int) -> tuple[Any, Shape]:
        *image, _ = shape
        kind = self.pick("max", "avg", "global", "up")
        if kind == "global":
            layer: Any = self.pick(GlobalAvgPoolLayer, GlobalMaxPoolLayer)()
        elif kind == "up" and 4 * prod(shape) <= MOST:
            layer = UpsampleLayer(self.pick(2, tuple(self.pick(1, 2) for _ in image)))
        else:
            window = tuple(int(self.rng.integers(1, min(n, 3) + 1)) for n in image)
            stride = self.pick(None, tuple(self.pick(1, 2) for _ in image))
            pairs = tuple((int(self.rng.integers(w)), int(self.rng.integers(w))) for w in window)
            padding = self.pick("valid", "same", pairs)
            layer = (MaxPoolLayer if kind == "max" else AvgPoolLayer)(window, stride=stride, padding=padding)
        return layer, layer.output_shape(shape)

    def shaped(self, shape: Shape, depth: int) -> tuple[Any, Shape]:
        size = prod(shape)
        if self.rng.random() < 0.5:
            return FlattenLayer(), (size,)
        divisors = [n for n in range(1, size + 1) if size % n == 0]
        first = self.pick(*divisors)
        second = self.pick(*(n for n in divisors if (size // first) % n == 0))
        target = self.pick((size,), (first, size // first), (first, second, size // first // second))
        return ReshapeLayer(target), target

    def composite(self, shape: Shape, depth: int) -> tuple[Any, Shape]:
        count = int(self.rng.integers(1, 4))
        kind = self.pick("residual", "concat", "add", "sequential")
        if kind == "sequential":
            layers, after = self.chain(shape, count - 1, depth + 1)
            return SequentialLayer(*layers), after
        if kind == "residual":
            layers, after = self.chain(shape, count, depth + 1)
            return ResidualLayer(*layers, *back(after, shape)), shape
        branches, goal = [], None
        for _ in range(int(self.rng.integers(1, 4))):
            layers, after = self.chain(shape, int(self.rng.integers(0, 3)), depth + 1)
            goal = after if goal is None else goal
            layers += back(after, goal if kind == "add" else (*goal[:-1], after[-1] if len(after) == len(goal) else 2))
            branches.append(layers[0] if len(layers) == 1 else layers)
        layer = ParallelLayer(*branches, merge=kind)
        return layer, layer.output_shape(shape)


def back(shape: Shape, goal: Shape) -> list[Any]:
    """Layers from one shape to another."""
    if shape == goal:
        return []
    if prod(shape) == prod(goal):
        return [ReshapeLayer(goal)]
    if shape[:-1] == goal[:-1]:
        return [FCLayer(shape[-1], goal[-1])]
    return [FlattenLayer(), FCLayer(prod(shape), prod(goal)), ReshapeLayer(goal)]
