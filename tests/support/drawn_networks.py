"""Networks drawn at random: any layers in any order with any options, composites within each other.

Every test of what must hold of any network takes its networks from here: ``drawn`` for whole ones, ``drawn_window`` for
one convolution or pooling layer, and ``Drawer`` for layers without weights. Every layer fits by construction.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from cases import ACTIVATIONS
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
    Layer,
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
)

Shape = tuple[int, ...]
DEEPEST = 3  # composites within composites
MOST = 3000  # values of a sample between two layers
MOST_WEIGHTS = 4000  # of a layer that leads a branch back to the shape of another


class Drawer:
    """Draws layers from a seed. Those for samples of a shape come with the shape behind them.

    ``also`` are functions that make further layers that keep the shape they are given, such as a user's own.
    """

    def __init__(self, seed: Any, *, also: tuple[Callable[[Shape], Layer], ...] = ()):
        self.rng, self.also = np.random.default_rng(seed), also

    def network(self) -> tuple[list[Layer], Shape]:
        """Layers, and the shape of a sample for them: a row, or an image of one axis to three."""
        sample = self.sample(self.between(0, 3))
        return self.chain(sample, self.between(1, 8))[0], sample

    def window_alone(self) -> tuple[list[Layer], Shape]:
        """A convolution or pooling layer, and the shape of a sample for it."""
        sample = self.sample(self.between(1, 3))
        return [self.bounded([self.window], sample, 0)[0]], sample

    # -- numbers -------------------------------------------------------------------------------------------------------

    def between(self, least: int, most: int) -> int:
        return int(self.rng.integers(least, most + 1))

    def of(self, *choices: Any) -> Any:
        return choices[self.between(0, len(choices) - 1)]

    def sizes(self, least: int, most: int, axes: int) -> Shape:
        return tuple(self.between(least, most) for _ in range(axes))

    def divisor(self, *numbers: int) -> int:
        return self.of(*(n for n in range(1, min(numbers) + 1) if not any(number % n for number in numbers)))

    def one_or_each(self, least: int, most: int, axes: int) -> Any:
        """One number for all axes, or one for each."""
        return self.of(self.between(least, most), self.sizes(least, most, axes))

    def sample(self, axes: int) -> Shape:
        image = (self.of(1, *self.sizes(1, 4 if axes == 3 else 12, 4)) for _ in range(axes))
        return (*image, self.between(1, 7))

    # -- chains --------------------------------------------------------------------------------------------------------

    def chain(self, shape: Shape, n: int, depth: int = 0) -> tuple[list[Layer], Shape]:
        layers = []
        for _ in range(n):
            layer, shape = self.layer(shape, depth)
            layers.append(layer)
        return layers, shape

    def layer(self, shape: Shape, depth: int) -> tuple[Layer, Shape]:
        kinds: list[Callable[[Shape, int], Layer]] = [self.alike, self.alike, self.alike, self.connected, self.reshaped]
        kinds += [self.window, self.window, self.resized] if len(shape) > 1 else []
        kinds += [self.sequential, self.residual, self.parallel] if depth < DEEPEST else []
        return self.bounded(kinds, shape, depth)

    def bounded(self, kinds: list[Callable[[Shape, int], Layer]], shape: Shape, depth: int) -> tuple[Layer, Shape]:
        """A layer of one of the kinds, drawn until not too much comes out."""
        while True:
            layer = self.of(*kinds)(shape, depth)
            after = layer.output_shape(shape)
            if prod(after) <= MOST:
                return layer, after

    def alike(self, shape: Shape, depth: int) -> Layer:
        """A layer that keeps the shape."""
        epsilon = self.of(1e-5, 1e-3, float(self.rng.uniform(0.01, 1.0)))
        makers = [
            *[lambda: ActivationLayer(self.of(*ACTIVATIONS))] * 3,
            lambda: ScaleLayer(self.of(-1.0, 1.0, 1 / 3, float(self.rng.normal())), self.of(0.0, self.rng.normal())),
            lambda: BatchNormLayer(momentum=float(self.rng.uniform()), epsilon=epsilon),
            lambda: LayerNormLayer(epsilon=epsilon),
            lambda: GroupNormLayer(self.divisor(shape[-1]), epsilon=epsilon),
            SoftmaxLayer,
            lambda: DropoutLayer(self.of(0.3, 0.5)),
            *(lambda make=make: make(shape) for make in self.also),
        ]
        if len(shape) == 3:
            makers.append(lambda: RandomAffineLayer(shift=self.of(0.0, 1.0), rotate=self.of(0.0, 9.0), scale=0.1))
        return self.of(*makers)()

    def connected(self, shape: Shape, depth: int) -> Layer:
        return FCLayer(shape[-1], self.of(min(shape[-1], 30), self.between(1, 9)), bias=self.of(True, True, False))

    def reshaped(self, shape: Shape, depth: int) -> Layer:
        n = prod(shape)
        a = self.divisor(n)
        b = self.divisor(n // a)
        c = self.divisor(n // a // b)
        targets = (n,), (1, n), (a, n // a), (a, b, n // a // b), (a, b, c, n // a // b // c)
        return self.of(FlattenLayer(), FlattenLayer(), *map(ReshapeLayer, targets))

    # -- windows -------------------------------------------------------------------------------------------------------

    def window(self, shape: Shape, depth: int) -> Layer:
        return self.of(self.conv, self.pool)(shape) if len(shape) < 4 else self.pool(shape)

    def conv(self, shape: Shape) -> ConvLayer:
        *image, channels = shape
        groups = self.of(1, channels, self.divisor(channels))
        kernel, dilation = self.sizes(1, 4, len(image)), self.one_or_each(1, 3, len(image))
        apart = (dilation,) * len(image) if isinstance(dilation, int) else dilation
        reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, apart, strict=True))
        return ConvLayer(
            shape,
            kernel,
            groups * self.between(1, 4),
            stride=self.one_or_each(1, 3, len(image)),
            padding=self.padding(image, reach, [5] * len(image)),
            dilation=dilation,
            groups=groups,
            bias=self.of(True, False),
        )

    def pool(self, shape: Shape) -> Layer:
        image = shape[:-1]
        window = self.sizes(1, 4, len(image))
        stride = self.of(None, self.one_or_each(1, 3, len(image)))
        padding = self.padding(image, window, [n - 1 for n in window])
        return self.of(MaxPoolLayer, AvgPoolLayer)(window, stride=stride, padding=padding)

    def padding(self, image: Any, reach: Shape, most: list[int]) -> Any:
        """Of every kind, wide enough that windows of that reach fit on the image."""
        sides = []
        for n, r, m in zip(image, reach, most, strict=True):
            before = self.between(0, m)
            sides.append((before, max(self.between(0, m), r - n - before)))
        number = max(-(-(r - n) // 2) for n, r in zip(image, reach, strict=True))
        kinds = ["same", tuple(sides), tuple(self.of(pair, max(pair)) for pair in sides)]
        kinds += ["valid"] if number <= 0 else []
        kinds += [self.between(max(number, 0), min(most))] if number <= min(most) else []
        return self.of(*kinds)

    def resized(self, shape: Shape, depth: int) -> Layer:
        up = UpsampleLayer(self.one_or_each(1, 3, len(shape) - 1))
        return self.of(up, GlobalAvgPoolLayer(), GlobalMaxPoolLayer())

    # -- composites ----------------------------------------------------------------------------------------------------

    def sequential(self, shape: Shape, depth: int) -> Layer:
        return SequentialLayer(*self.chain(shape, self.between(0, 3), depth + 1)[0])

    def residual(self, shape: Shape, depth: int) -> Layer:
        return ResidualLayer(*self.leading(shape, shape, self.between(1, 3), depth))

    def parallel(self, shape: Shape, depth: int) -> Layer:
        merge, branches, goal = self.of("concat", "add"), [], shape
        for k in range(self.between(1, 3)):
            if k == 0:
                layers, goal = self.chain(shape, self.between(0, 3), depth + 1)
            else:
                width = goal[-1] if merge == "add" else self.between(1, 6)
                layers = self.leading(shape, (*goal[:-1], width), self.between(0, 2), depth)
            branches.append(layers[0] if len(layers) == 1 and self.of(True, False) else layers)
        return ParallelLayer(*branches, merge=merge)

    def leading(self, shape: Shape, goal: Shape, n: int, depth: int) -> list[Layer]:
        """n layers from one shape on, and those that lead to the other."""
        layers, after = self.chain(shape, n, depth + 1)
        if after == goal:
            return layers
        if after[:-1] == goal[:-1]:
            return [*layers, FCLayer(after[-1], goal[-1])]
        if prod(after) == prod(goal):
            return [*layers, ReshapeLayer(goal)]
        if len(after) > 1 and prod(after) * prod(goal) > MOST_WEIGHTS:
            layers, after = [*layers, self.of(GlobalAvgPoolLayer, GlobalMaxPoolLayer)()], after[-1:]
        elif len(after) > 1:
            layers, after = [*layers, FlattenLayer()], (prod(after),)
        if after[0] * prod(goal) <= MOST_WEIGHTS:
            return [*layers, FCLayer(after[0], prod(goal)), ReshapeLayer(goal)]
        # one number of the row for the whole image, repeated along each axis, then the channels
        small = (*(1 for _ in goal[:-1]), after[0])
        return [*layers, ReshapeLayer(small), UpsampleLayer(goal[:-1]), FCLayer(after[0], goal[-1])]


def drawn(seed: int, dtype: str = "float64") -> tuple[Network, np.ndarray]:
    """A network with weights, and three samples for it; in float32 the same, rounded."""
    drawer = Drawer(seed)
    return _weighted(*drawer.network(), drawer, dtype)


def drawn_window(seed: int, dtype: str = "float64") -> tuple[Network, np.ndarray]:
    """A network of one convolution or pooling layer with weights, and three samples for it."""
    drawer = Drawer(seed)
    return _weighted(*drawer.window_alone(), drawer, dtype)


def _weighted(layers: list[Layer], shape: Shape, drawer: Drawer, dtype: str) -> tuple[Network, np.ndarray]:
    """Weights are the smaller the more inputs they add up, so that no tanh or softmax is at its end."""
    x = drawer.rng.standard_normal((3, *shape), np.float32).astype(dtype)
    network = touched(Network(layers, dtype=dtype, seed=1), x)
    for path, array in network.parameters.items():
        network.parameters[path] = array / np.sqrt(np.prod(array.shape[:-1]))
    return network, x
