"""Networks drawn at random: all layers, activations and composites, one within the other, whatever fits."""

import copy
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from pages import touched
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
    Network,
    ParallelLayer,
    RandomAffineLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    SequentialLayer,
    SoftmaxLayer,
    UpsampleLayer,
    activations,
)

MOST = 3000  # numbers between two layers
DEEPEST = 3  # composites within composites


class Draw:
    """Draws layers; a layer that does not fit is drawn again."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)

    def between(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most + 1))

    def sizes(self, least: int, most: int, axes: int) -> tuple[int, ...]:
        return tuple(self.between(least, most) for _ in range(axes))

    def of(self, things: Any) -> Any:
        return things[self.between(0, len(things) - 1)]

    def padding(self, axes: int, most: int) -> Any:
        pairs = tuple(self.sizes(0, most, 2) for _ in range(axes))
        return self.of(("same", "valid", pairs, self.between(0, most)))

    def chain(self, shape: tuple[int, ...], depth: int, n: int) -> tuple[list[Any], tuple[int, ...]]:
        layers = []
        for _ in range(n):
            layer, shape = self.layer(shape, depth)
            layers.append(layer)
        return layers, shape

    def layer(self, shape: tuple[int, ...], depth: int) -> tuple[Any, tuple[int, ...]]:
        kinds = LEAVES + (COMPOSITES if depth < DEEPEST else [])
        for _ in range(40):
            try:
                layer = self.of(kinds)(self, shape, depth)
                y = Network([copy.deepcopy(layer)]).predict(np.zeros((1, *shape), np.float32))
            except (ValueError, TypeError, IndexError):  # it does not fit: another
                continue
            if 0 < y.size <= MOST:
                return layer, y.shape[1:]
        return ActivationLayer("tanh"), shape

    def conv(self, shape: tuple[int, ...], depth: int) -> ConvLayer:
        axes, channels = len(shape) - 1, shape[-1]
        groups = self.of([g for g in (1, 1, 2, 3, channels) if channels % g == 0])
        return ConvLayer(
            shape,
            self.sizes(1, 4, axes),
            groups * self.between(1, 4),
            stride=self.sizes(1, 3, axes),
            padding=self.padding(axes, 5),
            dilation=self.sizes(1, 2, axes),
            groups=groups,
            bias=bool(self.between(0, 1)),
        )

    def reshape(self, shape: tuple[int, ...], depth: int) -> ReshapeLayer:
        n = prod(shape)
        a = self.of([i for i in range(1, n + 1) if n % i == 0])
        b = self.of([i for i in range(1, n // a + 1) if n // a % i == 0])
        return ReshapeLayer(self.of([(a, n // a), (a, b, n // a // b), (n,), (1, n)]))

    def pool(self, shape: tuple[int, ...], depth: int) -> Any:
        axes = len(shape) - 1
        kind = self.of((MaxPoolLayer, AvgPoolLayer))
        return kind(self.sizes(1, 3, axes), stride=self.between(1, 3), padding=self.padding(axes, 1))

    def sequential(self, shape: tuple[int, ...], depth: int) -> SequentialLayer:
        return SequentialLayer(*self.chain(shape, depth + 1, self.between(0, 3))[0])

    def residual(self, shape: tuple[int, ...], depth: int) -> ResidualLayer:
        layers, after = self.chain(shape, depth + 1, self.between(0, 3))
        if after != shape and after[:-1] == shape[:-1]:
            layers.append(FCLayer(after[-1], shape[-1]))
        return ResidualLayer(*layers)

    def parallel(self, shape: tuple[int, ...], depth: int) -> ParallelLayer:
        branches = [self.chain(shape, depth + 1, self.between(0, 3))[0] for _ in range(self.between(1, 3))]
        bare = [branch[0] if len(branch) == 1 and self.between(0, 1) else branch for branch in branches]
        return ParallelLayer(*bare, merge=self.of(("concat", "add")))


LEAVES: list[Callable[[Draw, tuple[int, ...], int], Any]] = [
    Draw.conv,
    Draw.conv,
    Draw.pool,
    Draw.reshape,
    lambda d, shape, depth: FCLayer(shape[-1], d.between(1, 9), bias=bool(d.between(0, 1))),
    lambda d, shape, depth: ActivationLayer(d.of(list(activations.PAIRS))),
    lambda d, shape, depth: d.of((GlobalMaxPoolLayer, GlobalAvgPoolLayer))(),
    lambda d, shape, depth: UpsampleLayer(d.between(1, 3)),
    lambda d, shape, depth: d.of((BatchNormLayer, LayerNormLayer, SoftmaxLayer, FlattenLayer))(),
    lambda d, shape, depth: GroupNormLayer(d.of([g for g in (1, 2, 3) if shape[-1] % g == 0])),
    lambda d, shape, depth: ScaleLayer(float(d.rng.normal()), float(d.rng.normal())),
    lambda d, shape, depth: d.of((DropoutLayer(0.3), RandomAffineLayer(shift=1.0))),
]
COMPOSITES: list[Callable[[Draw, tuple[int, ...], int], Any]] = [Draw.sequential, Draw.residual, Draw.parallel]


def drawn(seed: int, dtype: str = "float64") -> tuple[Network, np.ndarray]:
    """A network and three samples for it. Its weights are the smaller the more inputs they add up."""
    draw = Draw(seed)
    axes = draw.between(0, 3)
    shape = (*draw.sizes(1, 12 if axes < 3 else 4, axes), draw.between(1, 7))
    layers, _ = draw.chain(shape, 0, draw.between(1, 8))
    x = draw.rng.standard_normal((3, *shape)).astype(dtype)
    network = touched(Network(layers, dtype=dtype, seed=1), x)
    for path, array in network.parameters.items():
        network.parameters[path] = array / np.sqrt(np.prod(array.shape[:-1]))
    return network, x
