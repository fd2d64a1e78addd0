"""Layers, losses, optimizers and schedules reject invalid arguments with a clear message."""

import numpy as np
import pytest

import portnn
from portnn import (
    SGD,
    Adam,
    AvgPoolLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    GroupNormLayer,
    Huber,
    LayerNormLayer,
    MaxPoolLayer,
    Network,
    OneCycle,
    ParallelLayer,
    ReshapeLayer,
    ResidualLayer,
    SoftmaxCrossEntropy,
    StepDecay,
    UpsampleLayer,
)

REFUSED = [
    (
        lambda: FCLayer(3, 2, bias=False).__setattr__("bias", np.ones((1, 2))),
        r"FCLayer\(3, 2, bias=False\) has no bias",
    ),
    (lambda: (lambda layer: ResidualLayer(layer, layer))(FCLayer(2, 2)), r"ResidualLayer was given one layer twice"),
    (lambda: DropoutLayer(1 - 1e-12), r"rate must be in \[0, 1\)"),
    (lambda: FCLayer(10**30, 2), r"input_size must be 2\*\*40 at most"),
    (lambda: ConvLayer((4, 4, 1), (2, 2), 1, padding=10**9), r"padding must be 2\*\*20 at most"),
    (lambda: SGD(0.1, momentum=10**400), r"momentum must be in \[0, 1\), got a number too large"),
    (lambda: Network([FCLayer(2, 2)]).use("huber"), r"unknown loss 'huber'.*Huber\(\)"),
    (lambda: UpsampleLayer(2)(np.ones(2)), r"takes images \(H, W, C\) or sequences \(L, C\)"),
    (lambda: GlobalAvgPoolLayer()(np.ones((2, 0, 4, 2))), r"needs axes to pool over"),
    (lambda: ConvLayer((4, 4, 3), (3, 3), 4, groups=2), r"groups=2 does not divide the 3 channels"),
    (lambda: ConvLayer((4, 4, 4), (3, 3), 3, groups=2), r"groups=2 does not divide the 3 filters"),
    (lambda: ConvLayer((4, 4, 3), (5, 3), 4), r"kernel of 5 x 3 does not fit on an image of 4 x 4.*padding='same'"),
    (lambda: ConvLayer((4, 4, 3), (3, 3), 4, dilation=2), r"spread to 5 x 5 by dilation, does not fit"),
    (lambda: ConvLayer((4, 4, 3), (3, 3), 4, padding="full"), r"padding must be 'valid', 'same', a number.*got 'full'"),
    (lambda: ConvLayer((4, 4, 3), (3, 3), 4, padding=(1, 2, 3)), r"for each of 2 axes.*got \(1, 2, 3\)"),
    (lambda: ConvLayer((4, 4, 3), (3, 3), 4, padding=-1), r"padding must be 0 or more, got -1"),
    (lambda: ConvLayer((4, 4, 3), (3, 3), 4, stride=0), r"stride must be 1 or more, got 0"),
    (lambda: ConvLayer((4, 4, 3), (3, 3), 4, stride=(1, 2, 3)), r"stride must be a number, or one for each of 2 axes"),
    (lambda: MaxPoolLayer(0), r"window must be 1 or more, got 0"),
    (lambda: MaxPoolLayer(2, padding=2), r"padding=2 is as wide as the window of 2"),
    (lambda: AvgPoolLayer((2, 3), padding=((0, 0), (0, 3))), r"as wide as the window of 2 x 3"),
    (
        lambda: Network([ConvLayer((4, 4, 1), (1, 1), 1), MaxPoolLayer(5)]),
        r"layer 1: MaxPoolLayer\(5\), for a sample of shape \(4, 4, 1\).*kernel of 5 x 5 does not fit",
    ),
    (lambda: Network([ConvLayer((4, 4, 1), (1, 1), 1), MaxPoolLayer((2,))]), r"window of 1 axes, but the image has 2"),
    (lambda: DropoutLayer(1.0), r"rate must be in \[0, 1\).*got 1"),
    (lambda: DropoutLayer(-0.1), r"rate must be in \[0, 1\)"),
    (lambda: BatchNormLayer(momentum=2), r"momentum must be in \[0, 1\]"),
    (lambda: LayerNormLayer(epsilon=0), r"epsilon must be more than 0"),
    (lambda: Network([FCLayer(4, 5), GroupNormLayer(2)]), r"groups=2 does not divide the 5 channels"),
    (lambda: ReshapeLayer(()), r"shape must have at least one axis"),
    (
        lambda: Network([ConvLayer((2, 2, 1), (1, 1), 3), ReshapeLayer((5, 2))]),
        r"makes samples of 10 values, but.*\(2, 2, 3\), 12 values",
    ),
    (
        lambda: Network([ConvLayer((4, 4, 1), (3, 3), 1), ConvLayer((4, 4, 1), (3, 3), 1)]),
        r"layer 1: .*takes images of shape \(4, 4, 1\).*comes in with shape \(2, 2, 1\): make it ConvLayer\(\(2, 2, 1\)",
    ),
    (
        lambda: Network([FlattenLayer(), ResidualLayer(FCLayer(3, 4))]).predict(np.zeros((2, 3))),
        r"layer 1: ResidualLayer adds.*\(3,\) and goes out with shape \(4,\)",
    ),
    (
        lambda: Network([FCLayer(2, 3), ResidualLayer(FCLayer(4, 3))]),
        r"layer 1: in ResidualLayer, layer 0: FCLayer\(4, 3\) takes 4",
    ),
    (
        lambda: Network([FCLayer(2, 3), ParallelLayer([], [FCLayer(4, 3)])]),
        r"in ParallelLayer, branch 1, layer 0: FCLayer\(4, 3\)",
    ),
    (
        lambda: Network([ConvLayer((4, 4, 1), (1, 1), 1), ParallelLayer([], MaxPoolLayer(2))]),
        r"\(4, 4, 1\) and \(2, 2, 1\).*all axes but the last",
    ),
    (
        lambda: Network([ConvLayer((4, 4, 1), (1, 1), 1), GlobalAvgPoolLayer(), GlobalAvgPoolLayer()]),
        r"shape \(1,\): it needs axes to pool over",
    ),
    (lambda: ParallelLayer(FCLayer(2, 2), merge="mean"), r"merge must be 'concat' or 'add', got 'mean'"),
    (lambda: ParallelLayer(), r"needs at least one branch"),
    (lambda: ResidualLayer(), r"needs at least one layer"),
    (lambda: UpsampleLayer(0), r"factor must be 1 or more"),
    (lambda: StepDecay(0.1, 0, 0.5), r"every must be 1 or more"),
    (lambda: OneCycle(0.1, 0), r"steps must be 1 or more"),
    (lambda: SGD(0.1, weight_decay=-1), r"weight_decay must be 0 or more"),
    (lambda: Adam(beta1=1.0), r"beta1 must be in \[0, 1\)"),
    (lambda: Adam(clip_norm=0), r"clip_norm must be more than 0, or None"),
    (lambda: Huber(0), r"delta must be more than 0"),
    (lambda: SoftmaxCrossEntropy(1.0), r"label_smoothing must be in \[0, 1\)"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED)
def test_refused(make, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResidualLayer([FCLayer(2, 2)]), r"ResidualLayer takes layers, got a list"),
        (lambda: ResidualLayer(FCLayer), r"takes Layer objects, such as FCLayer\(\.\.\.\)"),
        (lambda: ParallelLayer("relu"), r"takes Layer objects, such as FCLayer\(4, 4\), got 'relu'"),
        (lambda: ParallelLayer([[FCLayer(2, 2)]]), r"a branch of ParallelLayer takes layers, got a list"),
        (lambda: DropoutLayer("0.5"), r"rate must be a number"),
        (lambda: FCLayer(2, 2, bias="no"), r"bias must be True or False, got 'no'"),
        (lambda: portnn.mse([1, 2], np.ones(2)), r"a loss compares two arrays.*got list, ndarray"),
        (lambda: MaxPoolLayer(2.0), r"window must be a whole number"),
        (lambda: ConvLayer((4, 4, 1), (2, 2), 1, stride=1.5), r"stride must be a whole number"),
        (lambda: Adam("fast"), r"learning_rate must be a number"),
        (lambda: OneCycle("0.1", 10), r"peak must be a number"),
        (lambda: Huber("1"), r"delta must be a number"),
        (lambda: Network([FCLayer(2, 2)]).use(Huber), r"got the class Huber: write Huber\(\)"),
        (lambda: SGD(OneCycle), r"got the class OneCycle: write OneCycle\(\.\.\.\)"),
    ],
)
def test_refused_as_of_the_wrong_type(make, message):
    with pytest.raises(TypeError, match=message):
        make()
