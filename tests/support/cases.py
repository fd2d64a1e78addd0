"""The table of cases: every public layer, activation, loss, optimizer, schedule, metric and op has at least one row."""

from collections.abc import Callable
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np

import portnn
from portnn import (
    SGD,
    ActivationLayer,
    AdaGrad,
    Adam,
    AdamW,
    AvgPoolLayer,
    BatchNormLayer,
    ConvLayer,
    CosineDecay,
    DropoutLayer,
    ExponentialDecay,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    GlobalMaxPoolLayer,
    GroupNormLayer,
    Huber,
    Layer,
    LayerNormLayer,
    MaxPoolLayer,
    OneCycle,
    ParallelLayer,
    RandomAffineLayer,
    ReshapeLayer,
    ResidualLayer,
    RMSprop,
    ScaleLayer,
    SequentialLayer,
    SoftmaxCrossEntropy,
    SoftmaxLayer,
    StepDecay,
    UpsampleLayer,
    WarmUp,
)


class Case(NamedTuple):
    """A function that makes a new layer, and the shape of one sample for it."""

    name: str
    make: Callable[[], Layer]
    sample: tuple[int, ...]


class OwnLayer(Layer):
    """A user's layer with only ``forward`` and ``backward``: Y = X * scale, with scale of shape (n,)."""

    def __init__(self, n: int):
        self.parameters["scale"] = [1.0 + 0.5 * i for i in range(n)]

    def config(self) -> dict[str, int]:
        return {"n": len(self.parameters["scale"])}

    def forward(self, X: Any) -> Any:
        return X * self.parameters["scale"]

    def backward(self, output_error: Any) -> Any:
        self.gradients["scale"] = self.xp.sum(output_error * self.input, axis=tuple(range(self.input.ndim - 1)))
        return output_error * self.parameters["scale"]


ACTIVATIONS = [
    "tanh",
    "sigmoid",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "gelu_tanh",
    "silu",
    "softplus",
    "softsign",
    "hard_sigmoid",
]
FUNCTIONS_ONLY = ["softmax", "log_softmax"]  # they act on a whole axis, so there is no ActivationLayer of them

LAYERS = [
    Case("FCLayer", lambda: FCLayer(5, 3), (5,)),
    Case("FCLayer, rows", lambda: FCLayer(5, 3), (1, 5)),
    Case("FCLayer, images", lambda: FCLayer(2, 3), (3, 4, 2)),
    Case("FCLayer, no bias", lambda: FCLayer(4, 1, bias=False), (4,)),
    Case("ConvLayer", lambda: ConvLayer((6, 5, 3), (3, 2), 4), (6, 5, 3)),
    Case("ConvLayer, one pixel", lambda: ConvLayer((3, 3, 1), (3, 3), 2), (3, 3, 1)),
    Case("ConvLayer, no bias", lambda: ConvLayer((4, 4, 2), (1, 1), 3, bias=False), (4, 4, 2)),
    Case("ConvLayer, stride", lambda: ConvLayer((7, 6, 2), (3, 2), 3, stride=(2, 3)), (7, 6, 2)),
    Case("ConvLayer, same", lambda: ConvLayer((5, 4, 2), (3, 2), 3, padding="same"), (5, 4, 2)),
    Case("ConvLayer, same, stride", lambda: ConvLayer((5, 4, 1), (4, 3), 2, padding="same", stride=2), (5, 4, 1)),
    Case("ConvLayer, pairs", lambda: ConvLayer((4, 3, 2), (3, 3), 2, padding=((0, 2), (1, 3))), (4, 3, 2)),
    Case("ConvLayer, dilation", lambda: ConvLayer((7, 6, 2), (3, 2), 2, dilation=(2, 3)), (7, 6, 2)),
    Case("ConvLayer, groups", lambda: ConvLayer((4, 4, 6), (2, 3), 9, groups=3, padding=1), (4, 4, 6)),
    Case("ConvLayer, depthwise", lambda: ConvLayer((4, 4, 3), (3, 3), 6, groups=3, stride=2), (4, 4, 3)),
    Case("ConvLayer, 1-D", lambda: ConvLayer((9, 2), (3,), 4, stride=2, padding=1, dilation=2), (9, 2)),
    *(
        Case(f"ActivationLayer, {name}", lambda name=name: ActivationLayer(name), sample)
        for name, sample in zip(ACTIVATIONS, cycle([(4,), (2, 3), (3, 2, 2)]), strict=False)
    ),
    Case("FlattenLayer", lambda: FlattenLayer(), (3, 2, 2)),
    Case("ReshapeLayer", lambda: ReshapeLayer((2, 3, 2)), (12,)),
    Case("ScaleLayer", lambda: ScaleLayer(1 / 255, offset=-0.5), (3, 2)),
    Case("MaxPoolLayer", lambda: MaxPoolLayer(2), (4, 6, 3)),
    Case("MaxPoolLayer, overlapping", lambda: MaxPoolLayer((3, 2), stride=(2, 1), padding=((1, 0), (0, 1))), (5, 4, 2)),
    Case("MaxPoolLayer, same", lambda: MaxPoolLayer(3, stride=2, padding="same"), (5, 6, 2)),
    Case("MaxPoolLayer, 1-D", lambda: MaxPoolLayer(3), (7, 2)),
    Case("AvgPoolLayer", lambda: AvgPoolLayer(2), (4, 6, 3)),
    Case("AvgPoolLayer, overlapping", lambda: AvgPoolLayer((3, 2), stride=(2, 1), padding=((1, 0), (0, 1))), (5, 4, 2)),
    Case("AvgPoolLayer, same", lambda: AvgPoolLayer(3, stride=2, padding="same"), (5, 6, 2)),
    Case("AvgPoolLayer, 1-D", lambda: AvgPoolLayer((2,), stride=1), (5, 3)),
    Case("GlobalAvgPoolLayer", lambda: GlobalAvgPoolLayer(), (3, 4, 2)),
    Case("GlobalAvgPoolLayer, 1-D", lambda: GlobalAvgPoolLayer(), (5, 2)),
    Case("GlobalMaxPoolLayer", lambda: GlobalMaxPoolLayer(), (3, 4, 2)),
    Case("GlobalMaxPoolLayer, 1-D", lambda: GlobalMaxPoolLayer(), (5, 2)),
    Case("UpsampleLayer", lambda: UpsampleLayer(2), (3, 2, 2)),
    Case("UpsampleLayer, axes", lambda: UpsampleLayer((1, 3)), (2, 3, 2)),
    Case("UpsampleLayer, 1-D", lambda: UpsampleLayer(3), (4, 2)),
    Case("DropoutLayer", lambda: DropoutLayer(0.4), (3, 5)),
    Case("DropoutLayer, none", lambda: DropoutLayer(0.0), (4,)),
    Case("RandomAffineLayer", lambda: RandomAffineLayer(shift=1.5, rotate=20.0, scale=0.2), (6, 5, 2)),
    Case("RandomAffineLayer, upside down", lambda: RandomAffineLayer(rotate=180.0, scale=0.9), (5, 7, 1)),
    Case("RandomAffineLayer, none", lambda: RandomAffineLayer(), (3, 4, 2)),
    Case("BatchNormLayer", lambda: BatchNormLayer(), (5,)),
    Case("BatchNormLayer, images", lambda: BatchNormLayer(momentum=0.3, epsilon=1e-3), (3, 2, 4)),
    Case("LayerNormLayer", lambda: LayerNormLayer(), (5,)),
    Case("LayerNormLayer, images", lambda: LayerNormLayer(), (3, 2, 4)),
    Case("GroupNormLayer", lambda: GroupNormLayer(2), (3, 2, 4)),
    Case("GroupNormLayer, rows", lambda: GroupNormLayer(2), (6,)),
    Case("SoftmaxLayer", lambda: SoftmaxLayer(), (5,)),
    Case("SoftmaxLayer, images", lambda: SoftmaxLayer(), (2, 2, 3)),
    Case("SequentialLayer", lambda: SequentialLayer(FCLayer(4, 6), ActivationLayer("tanh"), LayerNormLayer()), (4,)),
    Case("SequentialLayer, none", lambda: SequentialLayer(), (3, 2)),
    Case("ResidualLayer", lambda: ResidualLayer(FCLayer(4, 6), ActivationLayer("tanh"), FCLayer(6, 4)), (4,)),
    Case(
        "ResidualLayer, images",
        lambda: ResidualLayer(
            # the gradient of a bias before batch normalization is only rounding noise
            ConvLayer((4, 4, 2), (3, 3), 2, padding="same", bias=False),
            BatchNormLayer(),
            OwnLayer(2),
        ),
        (4, 4, 2),
    ),
    Case("ParallelLayer", lambda: ParallelLayer(FCLayer(4, 2), [FCLayer(4, 3), ActivationLayer("tanh")], []), (4,)),
    Case(
        "ParallelLayer, add", lambda: ParallelLayer([FCLayer(4, 3), LayerNormLayer()], FCLayer(4, 3), merge="add"), (4,)
    ),
    Case(
        "ParallelLayer, inception",
        lambda: ParallelLayer(
            ConvLayer((4, 4, 3), (1, 1), 2),
            [ConvLayer((4, 4, 3), (1, 1), 1), ConvLayer((4, 4, 1), (3, 3), 2, padding="same")],
            [MaxPoolLayer(3, stride=1, padding="same"), ResidualLayer(BatchNormLayer())],
        ),
        (4, 4, 3),
    ),
    Case("OwnLayer", lambda: OwnLayer(4), (4,)),
]


class LossCase(NamedTuple):
    """A loss with its derivative, and a function that draws targets for outputs of shape (n, classes)."""

    loss: Any
    prime: Any
    targets: Callable[[np.random.Generator, int, int], np.ndarray]
    given: Any  # the argument for use()


def _numbers(rng, n, c):
    return rng.standard_normal((n, c))


def _labels(rng, n, c):
    return rng.integers(0, c, n)


def _one_hot(rng, n, c):
    return np.eye(c)[rng.integers(0, c, n)]


def _shares(rng, n, c):
    x = rng.random((n, c))
    return x / x.sum(axis=-1, keepdims=True)


def _pair(name):
    return portnn.losses.PAIRS[name]


_HUBER, _SMOOTH = Huber(0.7), SoftmaxCrossEntropy(label_smoothing=0.1)
LOSSES = {
    "mse": LossCase(*_pair("mse"), _numbers, "mse"),
    "mae": LossCase(*_pair("mae"), _numbers, "mae"),
    "Huber": LossCase(_HUBER, _HUBER.prime, _numbers, _HUBER),
    "hinge": LossCase(*_pair("hinge"), lambda rng, n, c: rng.choice([-1.0, 1.0], (n, c)), "hinge"),
    "binary_cross_entropy": LossCase(
        *_pair("binary_cross_entropy"), lambda rng, n, c: rng.random((n, c)), "binary_cross_entropy"
    ),
    "softmax_cross_entropy": LossCase(*_pair("softmax_cross_entropy"), _labels, "softmax_cross_entropy"),
    "softmax_cross_entropy, one-hot": LossCase(*_pair("softmax_cross_entropy"), _one_hot, "softmax_cross_entropy"),
    "softmax_cross_entropy, shares": LossCase(*_pair("softmax_cross_entropy"), _shares, "softmax_cross_entropy"),
    "SoftmaxCrossEntropy": LossCase(_SMOOTH, _SMOOTH.prime, _labels, _SMOOTH),
    "SoftmaxCrossEntropy, shares": LossCase(_SMOOTH, _SMOOTH.prime, _shares, _SMOOTH),
}

EXTRAS = dict(weight_decay=0.1, clip_norm=0.5, clip_value=0.3)
OPTIMIZERS = {
    "SGD": lambda: SGD(0.1),
    "SGD, schedule": lambda: SGD(lambda k: 0.1 / (1 + k)),
    "SGD, momentum": lambda: SGD(0.1, momentum=0.9),
    "SGD, nesterov": lambda: SGD(lambda k: 0.1 * 0.5**k, momentum=0.9, nesterov=True),
    "SGD, decay and clipping": lambda: SGD(0.1, momentum=0.9, **EXTRAS),
    "AdaGrad": lambda: AdaGrad(),
    "AdaGrad, decay and clipping": lambda: AdaGrad(0.1, **EXTRAS),
    "RMSprop": lambda: RMSprop(),
    "RMSprop, decay and clipping": lambda: RMSprop(0.05, decay=0.9, **EXTRAS),
    "Adam": lambda: Adam(),
    "Adam, decay and clipping": lambda: Adam(0.05, beta1=0.8, beta2=0.99, epsilon=1e-6, **EXTRAS),
    "AdamW": lambda: AdamW(),
    "AdamW, decay and clipping": lambda: AdamW(lambda k: 0.05 * 0.9**k, **EXTRAS),
}
SCHEDULES = {
    "StepDecay": lambda: StepDecay(0.1, 3, 0.5),
    "ExponentialDecay": lambda: ExponentialDecay(0.1, 0.9),
    "CosineDecay": lambda: CosineDecay(0.1, 12),
    "WarmUp": lambda: WarmUp(CosineDecay(0.1, 12), 5),
    "WarmUp, number": lambda: WarmUp(0.1, 4),
    "OneCycle": lambda: OneCycle(0.1, 20),
}
METRICS = dict.fromkeys(  # functions that draw targets, as for losses
    ["accuracy", "top_5", "precision", "recall", "f1", "mean_absolute_error", "r2"], _one_hot
)
OPS = [
    "patches",
    "fold",
    "images",
    "columns",
    "max_pool",
    "max_pool_backward",
    "avg_pool",
    "avg_pool_backward",
    "biased",
    "total",
    "affine",
    "rows",
    "column_sums",
    "scaled",
    "scaled_backward",
    "normalize",
    "normalize_backward",
    "one_hot",
    "erf",
    "convolution",
    "convolution_gradient",
    "convolution_backward",
    "dropout",
    "random_maps",
    "resample",
    "resample_backward",
]

# Public names that need no row, because they compute nothing that has a derivative or a fast version.
OTHERS = {
    "History",
    "Layer",
    "Network",
    "available_backends",
    "backend_of",
    "get_backend",
    "gradcheck",
    "load",
    "load_mnist",
    "to_categorical",
    "to_device",
    "to_numpy",
    "compare_backends",
    # callbacks, and metrics, whose contracts are in test_metrics.py
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "JSONLogger",
    "ReduceLROnPlateau",
    "TimeLimit",
    "TopK",
    "accuracy",
    "confusion_matrix",
    "f1",
    "mean_absolute_error",
    "precision",
    "r2",
    "recall",
}


def missing() -> set[str]:
    """Public names that should have a row but have none."""
    names = [case.name for case in LAYERS] + [*LOSSES, *OPTIMIZERS, *SCHEDULES]
    rows = {name.split(",")[0] for name in names} | set(FUNCTIONS_ONLY)
    functions = {*ACTIVATIONS, *(name for name in portnn.losses.PAIRS if name in rows)}
    return set(portnn.__all__) - OTHERS - rows - functions - {f"{name}_prime" for name in functions}
