"""The contracts of layers, activations, losses, metrics, schedules, optimizers and ops, on every array library."""

import inspect
import itertools
import math

import numpy as np
import pytest

import portnn
from cases import ACTIVATIONS, FUNCTIONS_ONLY, LAYERS, LOSSES, METRICS, OPS, OPTIMIZERS, SCHEDULES, missing
from portnn import activations, losses, metrics, ops
from portnn.ops.windows import window_plan

N = 4
layers = pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
every_kernel = pytest.mark.parametrize("kernels", ["auto", "portable"])


def draw(*shape, seed=0):
    """Random numbers that stay away from relu's kink at zero."""
    x = np.random.default_rng(seed).standard_normal(shape)
    return x + 0.1 * np.sign(x)


def build(case, backend, dtype="float64"):
    layer = case.make()
    layer.build(case.sample, backend, dtype, 7, "0")
    return layer


def passes(case, library, dtype="float64", seed=0):
    """A forward pass in training and a backward pass: Y, dE/dX, gradients and buffers, as NumPy arrays."""
    layer = build(case, library.backend, dtype)
    X = draw(N, *case.sample, seed=seed).astype(dtype)
    Y = layer.forward_propagation(library.array(X))
    D = draw(*Y.shape, seed=1).astype(dtype)
    dX = layer.backward_propagation(library.array(D))
    arrays = {"Y": Y, "dE/dX": dX, "Y in use": layer(library.array(X))}
    for part in layer.walk():
        arrays |= {f"dE/d{part.path}.{name}": g for name, g in part.gradients.items()}
        arrays |= {f"{part.path}.{name}": new for name, new in part.new_buffers.items()}
    return {name: library.numpy(a) for name, a in arrays.items()}


def test_the_table_is_complete():
    assert not missing(), f"no row in tests/support/cases.py: {sorted(missing())}"
    for table, given, known in (
        ("ACTIVATIONS", ACTIVATIONS, activations.PAIRS),
        ("LOSSES", {name.split(",")[0] for name in LOSSES} & set(losses.PAIRS), losses.PAIRS),
        ("METRICS", METRICS, metrics.METRICS),
        ("OPS", OPS, portnn.ops.Ops._fields),
    ):
        assert set(given) == set(known), f"{table} in tests/support/cases.py differs by {set(given) ^ set(known)}"


# -- derivatives ---------------------------------------------------------------------------------------------------------


def slope(f, x, direction, h=1e-6):
    """The central difference of f at x in a given direction."""
    return (f(x + h * direction) - f(x - h * direction)) / (2 * h)


@layers
def test_backward_is_the_derivative_of_forward(case):
    backend = portnn.get_backend("cpu")
    layer = build(case, backend)
    for part in layer.walk():
        for name, shape in part.shapes.items():
            part.assign(name, draw(*shape, seed=5))  # a bias of zero would hide mistakes
    X, D = draw(N, *case.sample), None
    Y = layer.forward_propagation(X)
    D = draw(*Y.shape, seed=1)  # E = sum(D * Y), so dE/dY = D
    dX = layer.backward_propagation(D)

    direction = draw(*X.shape, seed=2)
    numeric = slope(lambda x: np.sum(D * layer.forward_propagation(x)), X, direction)
    assert numeric == pytest.approx(np.sum(dX * direction), rel=1e-7, abs=1e-9)
    for part, name, W in [(p, name, W) for p in layer.walk() for name, W in p.parameters.items()]:
        direction, gradient = draw(*W.shape, seed=3), part.gradients[name]

        def error(w, part=part, name=name):
            part.parameters[name] = w
            return np.sum(D * layer.forward_propagation(X))

        assert slope(error, W, direction) == pytest.approx(np.sum(gradient * direction), rel=1e-7, abs=1e-8)
        part.parameters[name] = W
        assert gradient.shape == W.shape


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_prime_is_the_derivative(name):
    f, f_prime = activations.PAIRS[name]
    x = draw(50)
    assert np.allclose((f(x + 1e-6) - f(x - 1e-6)) / 2e-6, f_prime(x), rtol=1e-8, atol=1e-9)


def loss_data(case, n=N, classes=3):
    """Random targets and outputs for a loss."""
    rng = np.random.default_rng(3)
    y_true = case.targets(rng, n, classes)
    return y_true, 2.0 * rng.standard_normal((n, classes))


@pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES.keys())
def test_loss_prime_is_the_derivative(case):
    y_true, y_pred = loss_data(case)
    direction = draw(*y_pred.shape, seed=2)
    numeric = slope(lambda y: case.loss(y_true, y), y_pred, direction)
    assert numeric == pytest.approx(np.sum(case.prime(y_true, y_pred) * direction), rel=1e-8)


def test_the_slope_sees_a_wrong_derivative():
    assert slope(np.sin, 1.0, 1.0) == pytest.approx(np.cos(1.0))
    assert slope(np.sin, 1.0, 1.0) != pytest.approx(-np.cos(1.0))


# -- libraries -----------------------------------------------------------------------------------------------------------


@layers
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_layer_is_the_same_on_every_library(case, library, dtype):
    plain = portnn.get_backend(np)  # NumPy without fast versions
    reference = type(library)("reference", plain)
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    ours, expected = passes(case, library, dtype), passes(case, reference, dtype)
    assert ours.keys() == expected.keys()
    for name, array in ours.items():
        assert array.dtype == dtype, name
        assert array.shape == expected[name].shape, name
        largest = np.abs(expected[name]).max()
        assert np.abs(array - expected[name]).max() <= tolerance * max(1.0, largest) * 10, name


@layers
def test_layer_changes_no_input_and_no_parameter(case):
    layer = build(case, portnn.get_backend("cpu"))
    X = draw(N, *case.sample)
    before = X.copy()
    for part in layer.walk():
        for array in [*part.parameters.values(), *part.buffers.values()]:
            array.flags.writeable = False
    leaves = [
        (home, name, a) for part in layer.walk() for home in (part.parameters, part.buffers) for name, a in home.items()
    ]
    Y = layer.forward_propagation(X)
    D = draw(*Y.shape, seed=1)
    D_before = D.copy()
    layer.backward_propagation(D)
    assert np.array_equal(X, before)
    assert np.array_equal(D, D_before)
    assert all(home[name] is array for home, name, array in leaves)


@layers
def test_layer_takes_arrays_of_any_memory_order(case):
    backend = portnn.get_backend("cpu")
    X = draw(N, *case.sample)
    axes = tuple(range(X.ndim))
    for order in itertools.islice(itertools.permutations(axes), 6):
        layer, straight = build(case, backend), build(case, backend)
        shuffled = np.ascontiguousarray(X.transpose(order)).transpose(np.argsort(order))
        Y = layer.forward_propagation(shuffled)
        Y_straight = straight.forward_propagation(X)
        D = draw(*Y.shape, seed=1)
        D_shuffled = np.asfortranarray(D)
        assert np.allclose(Y, Y_straight, rtol=1e-13)
        assert np.allclose(layer.backward_propagation(D_shuffled), straight.backward_propagation(D), rtol=1e-13)


@layers
def test_layer_takes_arrays_with_gaps_and_backwards(case):
    backend = portnn.get_backend("cpu")
    layer, straight = build(case, backend), build(case, backend)
    wide = draw(2 * N, *case.sample, 2)
    X = wide[::-2, ..., 1]
    Y, Y_straight = layer.forward_propagation(X), straight.forward_propagation(X.copy())
    assert np.allclose(Y, Y_straight, rtol=1e-13)
    D = draw(2 * N, *Y.shape[1:], 2, seed=1)[::-2, ..., 0]
    assert np.allclose(layer.backward_propagation(D), straight.backward_propagation(D.copy()), rtol=1e-13, atol=1e-14)
    for part, other in zip(layer.walk(), straight.walk(), strict=True):
        for name, gradient in part.gradients.items():
            assert np.allclose(gradient, other.gradients[name], rtol=1e-12, atol=1e-13), name


@layers
def test_layer_takes_no_samples(case, library):
    layer = build(case, library.backend)
    X = library.array(np.zeros((0, *case.sample)))
    Y = layer.forward_propagation(X)
    assert Y.shape[0] == 0
    assert layer.backward_propagation(library.array(np.zeros(Y.shape))).shape == X.shape
    for part in layer.walk():
        for name, gradient in part.gradients.items():
            assert not library.numpy(gradient).any(), name


@layers
def test_a_batch_is_its_samples_one_by_one(case):
    layer = build(case, portnn.get_backend("cpu"))
    X = draw(N, *case.sample)
    together = layer(X)
    alone = np.concatenate([layer(X[i : i + 1]) for i in range(N)])
    assert np.allclose(together, alone, rtol=1e-13)


@layers
def test_output_shape_is_known_beforehand(case):
    layer = build(case, portnn.get_backend("cpu"))
    Y = layer(draw(N, *case.sample))
    assert layer.output_shape(case.sample) in (None, Y.shape[1:])
    if not case.name.startswith("OwnLayer"):
        assert layer.output_shape(case.sample) == Y.shape[1:]


@layers
def test_backward_without_need_of_the_input_error(case):
    layer, whole = (build(case, portnn.get_backend("cpu")) for _ in range(2))
    X = draw(N, *case.sample)
    D = draw(*layer.forward_propagation(X).shape, seed=1)
    whole.forward_propagation(X)
    whole.backward_propagation(D)
    assert layer.backward_propagation(D, need_input_error=False) is None
    for part, other in zip(whole.walk(), layer.walk(), strict=True):
        for name, gradient in part.gradients.items():
            assert np.array_equal(other.gradients[name], gradient)


@layers
def test_backward_before_forward_says_so(case):
    layer = build(case, portnn.get_backend("cpu"))
    if case.name.startswith("OwnLayer"):
        pytest.skip("a user's layer makes its own checks")
    layer(draw(N, *case.sample))  # in inference nothing is kept
    with pytest.raises(RuntimeError, match=r"forward_propagation\(X\) first"):
        layer.backward_propagation(np.zeros(1))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_on_every_library(name, library):
    for function in activations.PAIRS[name]:
        x = draw(3, 4).astype(np.float32)
        y = library.numpy(function(library.array(x)))
        assert y.dtype == np.float32
        close = 1e-5 if library.name == "cupy" else 1e-6  # CUDA's tanh and exp have errors of up to 2 ulp
        assert np.allclose(y, function(x.astype(np.float64)), rtol=close)
        assert np.isfinite(library.numpy(function(library.array(np.array([-1e4, 0.0, 1e4], np.float32))))).all()
        assert function(library.array(np.zeros((0, 3)))).shape == (0, 3)


@pytest.mark.parametrize("name", FUNCTIONS_ONLY)
def test_functions_of_an_axis_on_every_library(name, library):
    function = getattr(activations, name)
    x = draw(3, 2, 4).astype(np.float32)
    y = library.numpy(function(library.array(x)))
    assert y.dtype == np.float32
    assert np.allclose(y, function(x.astype(np.float64)), rtol=1e-5)
    extreme = library.numpy(function(library.array(np.array([[-1e4, 0.0, 1e4], [1e4, 1e4, -1e4]], np.float32))))
    assert np.isfinite(extreme).all()
    shares = extreme if name == "softmax" else np.exp(extreme)
    assert np.allclose(shares.sum(axis=-1), 1.0)


@every_kernel
@pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES.keys())
def test_loss_on_every_library(case, kernels, library):
    loss, prime = (ops.implementation(library.backend, kernels, f) for f in (case.loss, case.prime))
    y_true, y_pred = loss_data(case)
    if y_true.dtype == np.float64:
        y_true = y_true.astype(np.float32)
    y_pred = y_pred.astype(np.float32)
    a, b = library.array(y_true), library.array(y_pred)
    exact = (y_true if y_true.dtype.kind == "i" else y_true.astype(float)), y_pred.astype(float)
    assert tuple(loss(a, b).shape) == ()
    assert library.numpy(loss(a, b)).dtype == np.float32
    assert library.numpy(loss(a, b)) == pytest.approx(case.loss(*exact), rel=1e-5)
    gradient = library.numpy(prime(a, b))
    assert gradient.dtype == np.float32
    assert np.allclose(gradient, case.prime(*exact), rtol=1e-4, atol=1e-6)
    if kernels == "portable":  # one row per sample, (N, 1, C), gives the same; fast versions always get equal shapes
        rows = library.array(y_pred[:, None, :])
        assert np.array_equal(library.numpy(prime(a, rows))[:, 0], gradient)
    # huge logits
    huge = library.array(np.array([[-1e4, 0.0, 1e4]] * N, np.float32))
    assert np.isfinite(library.numpy(loss(a, huge)))
    assert np.isfinite(library.numpy(prime(a, huge))).all()


@pytest.mark.parametrize("case", [c for n, c in LOSSES.items() if c.targets(np.random.default_rng(0), 2, 3).ndim == 2])
def test_loss_never_broadcasts(case):
    for function in (case.loss, case.prime):
        with pytest.raises(ValueError, match=r"y_true has shape \(4,\) but y_pred has \(4, 3\).*to_categorical"):
            function(np.zeros(4), np.zeros((4, 3)))


@pytest.mark.parametrize("name", METRICS)
def test_metric_on_every_library(name, library):
    """One value per sample, or sums over batches, the same on every library; also the variants for certain losses."""
    y_true, y_pred = METRICS[name](np.random.default_rng(3), 40, 5), draw(40, 5).astype(np.float32)
    for metric in {metrics.find(name, loss) for loss, _ in losses.PAIRS.values()}:
        if metrics.is_object(metric):
            arrays = [(library.array(y_true[part]), library.array(y_pred[part])) for part in (slice(7), slice(7, 40))]
            sums = sum(library.numpy(metric.sums(*both)).astype(float) for both in arrays)
            assert np.allclose(sums, metric.sums(y_true, y_pred), rtol=1e-6)
            assert type(metric.value(sums)) is float
            continue
        values = library.numpy(metric(library.array(y_true), library.array(y_pred)))
        assert values.shape == (40,), "one value per sample"
        assert values.dtype == np.float32, "the dtype of y_pred"
        assert np.allclose(values, metric(y_true, y_pred.astype(float)), rtol=1e-6)
        alone = library.numpy(metric(library.array(y_true[:1]), library.array(y_pred[:1])))
        assert np.allclose(values[:1], alone)
        assert metric(library.array(y_true[:0]), library.array(y_pred[:0])).shape == (0,)


@pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_schedule_gives_finite_floats(make):
    schedule = make()
    rates = [schedule(k) for k in range(40)]
    assert all(type(rate) is float and 0.0 <= rate <= 0.1 + 1e-15 for rate in rates)
    assert len(set(rates)) > 2
    assert eval(repr(schedule), vars(portnn))(7) == schedule(7)


@every_kernel
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_optimizer_on_every_library(make, kernels, library):
    optimizer, plain = make(), make()
    update = ops.implementation(library.backend, kernels, type(optimizer).update)
    w = [draw(3, 2).astype(np.float32), draw(4, seed=1).astype(np.float32)]
    a, b = [library.array(x) for x in w], w
    slots_a, slots_b = optimizer.slots(a), plain.slots(b)
    for k in range(4):
        g = [draw(3, 2, seed=k + 2).astype(np.float32), draw(4, seed=k + 9).astype(np.float32)]
        slots_a = {kind: [library.array(library.numpy(x)) for x in arrays] for kind, arrays in slots_a.items()}
        assert all(type(number) is float for number in optimizer.hyper(k))
        a, slots_a = update(optimizer, a, [library.array(x) for x in g], slots_a, optimizer.hyper(k))
        b, slots_b = plain.update(b, g, slots_b, plain.hyper(k))
    for mine, theirs in zip(a, b, strict=True):
        assert library.numpy(mine).dtype == np.float32
        # a fused kernel may round a multiply-add only once
        assert np.allclose(library.numpy(mine), theirs, rtol=1e-6, atol=3e-6 if library.name == "cupy" else 1e-8)


@pytest.mark.parametrize("pair", activations.CHAINS, ids=lambda pair: pair[0].__name__)
def test_the_chain_rule_from_y_equals_the_one_from_x(pair):
    f, prime = pair
    chain = activations.CHAINS[pair]
    fast = portnn.get_backend("cpu").implementation(chain)
    x, d = 3.0 * draw(5, 1, 7), draw(5, 1, 7, seed=1)
    x.flags.writeable = d.flags.writeable = False
    y = f(x)
    y.flags.writeable = False
    for found in (fast(y, d), chain(y, d)):
        assert np.allclose(found, prime(x) * d, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_fast_optimizers_equal_the_portable_ones(make):
    results = []
    for kernels in ("auto", "portable"):
        optimizer = make()
        update = portnn.ops.implementation(portnn.get_backend("cpu"), kernels, type(optimizer).update)
        w = [draw(3, 2), draw(4, seed=1)]
        slots = optimizer.slots(w)
        for k in range(4):
            g = [draw(3, 2, seed=k + 2), draw(4, seed=k + 9)]
            g_before = [x.copy() for x in g]
            w, slots = update(optimizer, w, g, slots, optimizer.hyper(k))
            assert all(np.array_equal(x, y) for x, y in zip(g, g_before, strict=True))
        results.append(w + [x for kind in slots.values() for x in kind])
    assert all(np.allclose(a, b, rtol=1e-12, atol=1e-15) for a, b in zip(*results, strict=True))


# -- ops -----------------------------------------------------------------------------------------------------------------

PLANS = [
    (window_plan((6, 5), (3, 2)), 3, 1),
    (window_plan((4, 4), (4, 4)), 1, 1),
    (window_plan((3, 7), (1, 1)), 2, 2),
    (window_plan((5,), (3,)), 2, 1),
    (window_plan((7, 6), (3, 2), 2, ((1, 0), (0, 3)), (1, 2)), 6, 3),
    (window_plan((5, 4), (3, 3), 2, "same"), 4, 2),
]
plans = pytest.mark.parametrize(("plan", "channels", "groups"), PLANS)


@plans
def test_patches_and_fold_are_adjoint(plan, channels, groups, library):
    table = portnn.ops.bind(library.backend, "auto")
    x = draw(N, *plan.image, channels)
    parts = table.patches(library.array(x), plan, groups)
    others = [draw(*p.shape, seed=k) for k, p in enumerate(parts)]
    left = sum(np.sum(library.numpy(p) * q) for p, q in zip(parts, others, strict=True))
    back = library.numpy(table.fold([library.array(q) for q in others], plan))
    assert left == pytest.approx(np.sum(x * back), rel=1e-12)


@plans
def test_fast_convolution_equals_the_portable_one(plan, channels, groups):
    backend = portnn.get_backend("cpu")
    fast, portable = (portnn.ops.bind(backend, kernels) for kernels in ("auto", "portable"))
    assert all(getattr(fast, name) is not getattr(portable, name) for name in ("patches", "fold", "images", "columns"))
    x = draw(N, *plan.image, channels).astype(np.float32)
    W = draw(5, len(plan.windows) * channels // groups, seed=1).astype(np.float32)
    results = []
    for table in (fast, portable):
        y = table.images(np.concatenate([W @ p for p in table.patches(x, plan, groups)]), plan)
        D = table.columns(y, plan)
        back = table.fold([W.T @ D[5 * g : 5 * g + 5] for g in range(groups)], plan)
        assert y.dtype == back.dtype == np.float32
        results.append((y, back))
    for a, b in zip(*results, strict=True):
        assert np.allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("plan", "channels"),
    [
        (window_plan((6, 5), (3, 2)), 3),
        (window_plan((4, 4), (4, 4)), 1),
        (window_plan((3, 7), (1, 1)), 2),
        (window_plan((5,), (3,), 1, 2), 2),
        (window_plan((7, 6), (3, 2), 2, ((1, 0), (0, 1))), 6),
        (window_plan((5, 4), (3, 3), 2, "same"), 4),
    ],
)
def test_fast_pooling_equals_the_portable_one(plan, channels):
    backend = portnn.get_backend("cpu")
    fast, portable = (portnn.ops.bind(backend, kernels) for kernels in ("auto", "portable"))
    x = draw(N, *plan.image, channels).round(1)  # rounded, so that windows contain ties
    results = []
    for table in (fast, portable):
        largest, mean = table.max_pool(x, plan), table.avg_pool(x, plan)
        D = draw(*largest.shape, seed=1)
        results.append((largest, mean, table.max_pool_backward(x, largest, D, plan), table.avg_pool_backward(D, plan)))
    for a, b in zip(*results, strict=True):
        assert np.allclose(a, b, rtol=1e-13, atol=1e-14)
    largest, _, given, _ = results[0]
    assert given.sum() == pytest.approx(
        draw(*largest.shape, seed=1).sum()
    )  # each window's error goes to exactly one pixel


def test_erf(library):
    x = np.concatenate([np.linspace(-7, 7, 2001), [0.0, 0.46875, -0.46875, 4.0, -4.0, 1e4, -1e4]])
    expected = np.array([math.erf(v) for v in x])
    table = portnn.ops.bind(library.backend, "auto")
    assert np.abs(library.numpy(table.erf(library.array(x))) - expected).max() < 1e-14
    near = table.erf(library.array(x.astype(np.float32)))
    assert library.numpy(near).dtype == np.float32
    assert np.abs(library.numpy(near) - expected).max() < 5e-7


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_one_hot(library, dtype):
    table = portnn.ops.bind(library.backend, "auto")
    labels = [2, 0] if dtype == "uint8" else [2, 0, 299]
    rows = table.one_hot(library.array(np.array(labels, dtype)), 300, library.backend.xp.float32)
    expected = np.eye(300, dtype=np.float32)[labels]
    assert np.array_equal(library.numpy(rows), expected)
    assert library.numpy(rows).dtype == np.float32


CPU = portnn.get_backend("cpu")
FUNCTIONS = [
    function
    for module in (activations, losses)
    for name, function in vars(module).items()
    if inspect.isfunction(function) and not name.startswith("_") and not name.endswith("_chain")
    if CPU.implementation(inspect.unwrap(function)) is not inspect.unwrap(function)
]


def test_there_are_fast_functions_to_compare():
    assert {f.__name__ for f in FUNCTIONS} >= {"tanh", "relu", "mse", "mse_prime", "softmax_cross_entropy"}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f"{f.__module__}.{f.__name__}")
@pytest.mark.parametrize("shape", [(1, 1), (3, 1, 4), (2, 3, 4, 5), (1, 10)])
def test_fast_functions_equal_the_portable_ones(function, shape):
    arrays = [draw(*shape, seed=k) for k in range(2 if function.__module__ == "portnn.losses" else 1)]
    assert np.allclose(ops.implementation(CPU, "auto", function)(*arrays), function(*arrays), rtol=1e-13)
