"""Layers, functions, optimizers and schedules, with random shapes and options, compared with PyTorch if installed."""

from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

import parity
import portnn
from cases import ACTIVATIONS, FUNCTIONS_ONLY, LOSSES, OPTIMIZERS, SCHEDULES
from portnn import (
    ActivationLayer,
    AvgPoolLayer,
    BatchNormLayer,
    ConvLayer,
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
    activations,
    optimizers,
)

pytest.importorskip("torch", reason="PyTorch is not installed: the recorded values are compared instead")
import pytorch_twin

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
drawn = partial(settings, max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
numbers = st.integers
dtypes = st.sampled_from(sorted(TOLERANCE))
kernels = st.sampled_from(["auto", "portable"])
seeds = numbers(0, 10_000)


@st.composite
def per_axis(draw, axes, least, most):
    """One number, or one per axis."""
    one = draw(numbers(least, most))
    return draw(st.sampled_from([one, tuple(draw(numbers(least, most)) for _ in range(axes))]))


@st.composite
def paddings(draw, axes, most):
    pair = st.tuples(numbers(0, most), numbers(0, most))
    each = st.one_of(numbers(0, most), pair)
    return draw(st.one_of(st.sampled_from(["valid", "same"]), numbers(0, most), st.tuples(*[each] * axes)))


@st.composite
def convolutions(draw):
    axes = draw(st.sampled_from([1, 2, 2]))
    groups = draw(numbers(1, 3))
    shape = (*(draw(numbers(1, 9)) for _ in range(axes)), groups * draw(numbers(1, 3)))
    kernel = tuple(draw(numbers(1, 4)) for _ in range(axes))
    options = dict(
        stride=draw(per_axis(axes, 1, 3)),
        padding=draw(paddings(axes, 3)),
        dilation=draw(per_axis(axes, 1, 3)),
        groups=groups,
        bias=draw(st.booleans()),
    )
    return partial(ConvLayer, shape, kernel, groups * draw(numbers(1, 3)), **options), shape


@st.composite
def poolings(draw):
    axes = draw(st.sampled_from([1, 2, 2]))
    shape = (*(draw(numbers(1, 9)) for _ in range(axes)), draw(numbers(1, 4)))
    kind = draw(st.sampled_from([MaxPoolLayer, AvgPoolLayer]))
    options = dict(stride=draw(st.one_of(st.none(), per_axis(axes, 1, 3))), padding=draw(paddings(axes, 2)))
    window = tuple(draw(numbers(1, 4)) for _ in range(axes))
    return partial(kind, window, **options), shape


@st.composite
def others(draw):
    axes = draw(numbers(1, 2))
    groups = draw(numbers(1, 3))
    channels = groups * draw(numbers(3, 4))  # normalizing only two values would always give -1 and 1
    image = (*(draw(numbers(1, 5)) for _ in range(axes)), channels)
    width = draw(numbers(1, 5))
    makers = [
        lambda: FCLayer(channels, width),
        FlattenLayer,
        lambda: ReshapeLayer((int(np.prod(image)), 1)),
        GlobalAvgPoolLayer,
        GlobalMaxPoolLayer,
        lambda: UpsampleLayer(2),
        lambda: ScaleLayer(draw(st.floats(-3.0, 3.0)), draw(st.floats(-3.0, 3.0))),
        lambda: SequentialLayer(FCLayer(channels, width), SoftmaxLayer()),
        lambda: BatchNormLayer(momentum=0.2, epsilon=1e-4),
        LayerNormLayer,
        lambda: GroupNormLayer(groups),
        SoftmaxLayer,
        lambda: ResidualLayer(FCLayer(channels, width), ActivationLayer("tanh"), FCLayer(width, channels)),
        lambda: ParallelLayer([], [FCLayer(channels, width), SoftmaxLayer()]),
    ]
    if axes == 2:
        amounts = dict(
            shift=draw(st.floats(0.0, 3.0)), rotate=draw(st.floats(0.0, 180.0)), scale=draw(st.floats(0.0, 0.9))
        )
        makers += [lambda: RandomAffineLayer(**amounts)] * 3
    return draw(st.sampled_from(makers)), image


def compare(make, sample, dtype, kernels, seed, n):
    try:
        layer = make()
    except ValueError as error:  # a kernel larger than its image, or padding as wide as the window
        if "does not fit" not in str(error) and "as wide as the window" not in str(error):
            raise
        reject()
    try:
        layer.output_shape(sample)
    except ValueError as error:
        if "does not fit" not in str(error):
            raise
        reject()
    layer = parity.built(layer, sample, dtype, kernels)
    X = parity.draw(n, *sample, seed=seed).astype(dtype)
    D = parity.draw(*layer(X).shape, seed=seed + 1).astype(dtype)
    ours = parity.results(layer, X, D)
    exact = {path: array.astype(np.float64) for path, array in parity.parameters(layer).items()}
    theirs = pytorch_twin.reference(layer, X.astype(np.float64), D.astype(np.float64), exact)
    assert parity.difference(ours, theirs) <= TOLERANCE[dtype]
    assert layer.output_shape(sample) == ours["Y"].shape[1:]


@drawn(max_examples=150)
@given(convolutions(), dtypes, kernels, seeds, numbers(1, 3))
def test_convolution(layer, dtype, kernels, seed, n):
    compare(*layer, dtype, kernels, seed, n)


@drawn(max_examples=150)
@given(poolings(), dtypes, kernels, seeds, numbers(1, 3))
def test_pooling(layer, dtype, kernels, seed, n):
    compare(*layer, dtype, kernels, seed, n)


@drawn(max_examples=150)
@given(others(), dtypes, kernels, seeds, numbers(3, 5))
def test_other_layers(layer, dtype, kernels, seed, n):
    compare(*layer, dtype, kernels, seed, n)


@pytest.mark.parametrize("name", ACTIVATIONS + FUNCTIONS_ONLY)
@drawn(max_examples=20)
@given(st.lists(numbers(1, 5), min_size=1, max_size=4), dtypes, seeds, st.sampled_from([0.1, 1.0, 10.0, 1e4]))
def test_activation(name, shape, dtype, seed, scale):
    x = (scale * parity.draw(*shape, seed=seed)).astype(dtype)
    t = pytorch_twin.tensor(x.astype(np.float64), True)
    y = pytorch_twin.ACTIVATIONS[name](t)
    y.sum().backward()
    theirs = {"y": y.detach().numpy(), "prime": t.grad.numpy()}
    if name in FUNCTIONS_ONLY:
        assert parity.difference({"y": getattr(activations, name)(x)}, {"y": theirs["y"]}) <= TOLERANCE[dtype]
        return
    f, prime = activations.PAIRS[name]
    limit = TOLERANCE[dtype]
    for ours, array in ((f(x), theirs["y"]), (prime(x), theirs["prime"])):
        assert np.abs(ours.astype(np.float64) - array).max() <= limit * max(1.0, np.abs(array).max())


@pytest.mark.parametrize("name", LOSSES)
@drawn(max_examples=20)
@given(numbers(1, 6), numbers(2, 6), dtypes, seeds, st.sampled_from([0.1, 1.0, 30.0]))
def test_loss(name, n, classes, dtype, seed, scale):
    rng = np.random.default_rng(seed)
    case = LOSSES[name]
    y_true, y_pred = case.targets(rng, n, classes), (scale * rng.standard_normal((n, classes))).astype(dtype)
    theirs = pytorch_twin.loss_reference(name, y_true, y_pred.astype(np.float64))
    y_true = y_true if y_true.dtype.kind == "i" else y_true.astype(dtype)
    ours = {"E": np.asarray(case.loss(y_true, y_pred)), "dE/dY": case.prime(y_true, y_pred)}
    floor = 1.0 if dtype == "float32" else 1e-3  # a loss near zero is a difference of larger numbers
    for what, array in theirs.items():
        apart = np.abs(ours[what].astype(np.float64) - array).max()
        assert apart <= TOLERANCE[dtype] * max(floor, np.abs(array).max()), what


DRAWN = ["SGD", "AdaGrad", "RMSprop", "Adam", "AdamW"]


def test_every_optimizer_is_drawn():
    lacking = {name.split(",")[0] for name in OPTIMIZERS} - set(DRAWN)
    assert not lacking, f"add {sorted(lacking)} to DRAWN, and their settings to descents()"


@st.composite
def descents(draw):
    small = st.floats(0.0, 0.5)
    options = dict(
        weight_decay=draw(small),
        clip_norm=draw(st.one_of(st.none(), st.floats(0.1, 3.0))),
        clip_value=draw(st.one_of(st.none(), st.floats(0.05, 2.0))),
    )
    share = st.floats(0.1, 0.99)
    name = draw(st.sampled_from(DRAWN))
    if name == "SGD":
        momentum = draw(st.one_of(st.just(0.0), share))
        options |= dict(momentum=momentum, nesterov=momentum > 0.0 and draw(st.booleans()))
    elif name == "RMSprop":
        options["decay"] = draw(share)
    elif name.startswith("Adam"):
        options |= dict(beta1=draw(share), beta2=draw(share), epsilon=draw(st.sampled_from([1e-8, 1e-4])))
    rate = draw(st.one_of(st.floats(1e-4, 0.5), st.sampled_from([make() for make in SCHEDULES.values()])))
    return getattr(optimizers, name)(rate, **options)


@drawn(max_examples=120)
@given(descents(), kernels, seeds)
def test_optimizer(ours, kernels, seed):
    rng = np.random.default_rng(seed)
    shapes = [(3, 2), (4,), (2, 1, 3)]
    weights = [rng.standard_normal(shape) for shape in shapes]
    gradients = [[rng.standard_normal(shape) for shape in shapes] for _ in range(20)]
    steps = pytorch_twin.descend(ours, weights, gradients)
    update = portnn.ops.implementation(portnn.get_backend("cpu"), kernels, type(ours).update)
    slots = ours.slots(weights)
    for k in range(20):
        weights, slots = update(ours, weights, gradients[k], slots, ours.hyper(k))
        for w, theirs in zip(weights, steps[k], strict=True):
            assert np.abs(w - theirs).max() <= 1e-10 * max(1.0, np.abs(theirs).max())


@pytest.mark.parametrize(
    "make",
    [
        lambda rate, steps, factor: portnn.StepDecay(rate, steps, factor),
        lambda rate, steps, factor: portnn.ExponentialDecay(rate, factor),
        lambda rate, steps, factor: portnn.CosineDecay(rate, steps),
        lambda rate, steps, factor: portnn.OneCycle(rate, steps),
        lambda rate, steps, factor: portnn.WarmUp(portnn.CosineDecay(rate, steps), 1 + steps // 3),
        lambda rate, steps, factor: portnn.WarmUp(portnn.ExponentialDecay(rate, factor), steps),
    ],
)
@pytest.mark.filterwarnings("ignore")  # PyTorch's chained schedulers emit warnings of their own
@drawn(max_examples=30)
@given(st.floats(1e-4, 1.0), numbers(2, 40), st.floats(0.1, 0.99))
def test_schedule(make, rate, steps, factor):
    ours = make(rate, steps, factor)
    theirs = pytorch_twin.rates(ours, steps)
    assert np.abs([ours(k) for k in range(steps)] - np.array(theirs)).max() <= 1e-12
