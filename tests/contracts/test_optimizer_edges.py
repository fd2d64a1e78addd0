"""Edge cases of optimizers: huge, tiny and non-finite numbers, step counts per parameter, arrays of any memory layout.

Every implementation is compared with the formulas in Python floats.
"""

import math
import warnings

import numpy as np
import pytest

import portnn
from cases import OPTIMIZERS
from portnn import SGD, AdaGrad, Adam, AdamW, ExponentialDecay, RMSprop, ops
from portnn.optimizers import Optimizer, rate_at
from portnn_numpy.backend import NumpyBackend

N = 8200  # large enough for the compiled loops
CPU = NumpyBackend()


class Implementation:
    """An implementation of ``update`` that takes and returns NumPy arrays."""

    def __init__(self, backend, kernels, places_on_device=False):
        self.backend, self.kernels, self.on_device = backend, kernels, places_on_device

    def update(self, optimizer, w, g, slots, hyper):
        there = self.backend.asarray
        if self.on_device:
            hyper = [there(np.array(h, w[0].dtype)) for h in hyper]
        update = ops.implementation(self.backend, self.kernels, type(optimizer).update)
        with self.backend.scope():
            given = {kind: list(map(there, arrays)) for kind, arrays in slots.items()}
            new, made = update(optimizer, list(map(there, w)), list(map(there, g)), given, hyper)
        home = self.backend.to_numpy
        return [home(a) for a in new], {kind: [home(a) for a in arrays] for kind, arrays in made.items()}

    def run(self, optimizer, values, gradients, steps, dtype="float32"):
        """Updates one parameter, whose first elements are ``values``, with the same gradient in every step."""
        w, g = ([spread(v, dtype)] for v in (values, gradients))
        slots = optimizer.slots(w)
        for k in range(steps):
            w, slots = self.update(optimizer, w, g, slots, optimizer.hyper(k))
        assert w[0].dtype == dtype
        return w[0][: len(values)], {kind: arrays[0][: len(values)] for kind, arrays in slots.items()}


def spread(values, dtype):
    x = np.zeros(N, dtype)
    x[: len(values)] = values
    return x


NAMES = ["portable", "NumPy", "compiled"]
GPU = [pytest.param(name, marks=pytest.mark.gpu) for name in ("gpu", "gpu, numbers on the device")]


@pytest.fixture(params=[*NAMES, *GPU])
def made(request):
    if request.param == "compiled":
        pytest.importorskip("numba", reason="Numba is not installed")
        return Implementation(CPU, "auto")
    if request.param.startswith("gpu"):
        return Implementation(portnn.get_backend("gpu"), "auto", "device" in request.param)
    return Implementation(NumpyBackend(compile=False), "portable" if request.param == "portable" else "auto")


@pytest.fixture(params=NAMES)
def on_host(request):
    if request.param == "compiled":
        pytest.importorskip("numba", reason="Numba is not installed")
        return Implementation(CPU, "auto")
    return Implementation(NumpyBackend(compile=False), "portable" if request.param == "portable" else "auto")


# -- the formulas, for one number --------------------------------------------------------------------------------------


def exactly(optimizer, w, g, steps):
    """The value of one parameter after ``steps`` updates with the same gradient, in Python floats."""
    v = m = s = 0.0
    for k in range(steps):
        lr, d = rate_at(optimizer.learning_rate, k), g
        if optimizer.weight_decay and not optimizer.decoupled:
            d += optimizer.weight_decay * w
        if isinstance(optimizer, Adam):
            b1, b2, t = optimizer.beta1, optimizer.beta2, k + 1
            m, v = b1 * m + (1 - b1) * d, b2 * v + (1 - b2) * d * d
            if optimizer.decoupled:
                w -= lr * optimizer.weight_decay * w
            root = math.sqrt(v / (1 - b2**t)) + optimizer.epsilon
            w -= lr * (m / (1 - b1**t)) / root if m else 0.0
        elif isinstance(optimizer, RMSprop):
            s = optimizer.decay * s + (1 - optimizer.decay) * d * d
            w -= lr * d / (math.sqrt(s) + optimizer.EPSILON)
        elif isinstance(optimizer, AdaGrad):
            s += d * d
            w -= lr * d / (math.sqrt(s) + optimizer.EPSILON)
        else:
            m = optimizer.momentum * m + d
            w -= lr * (d + optimizer.momentum * m if optimizer.nesterov else m)
    return w


def assert_exact(made, optimizer, values, gradients, steps, dtype="float32", tolerance=1e-5):
    found, slots = made.run(optimizer, values, gradients, steps, dtype)
    expected = [exactly(optimizer, w, g, steps) for w, g in zip(values, gradients, strict=True)]
    assert found == pytest.approx(expected, rel=tolerance, abs=1e-30)
    assert all(np.isfinite(a).all() for a in slots.values())


# -- extreme numbers ---------------------------------------------------------------------------------------------------

MIXED = [0.0, 1.0, -2.0, 0.5, 0.0]
LARGE = [1e20, -3e38, 1e18, 1.0, 0.0]
SQUARING = [Adam(0.1), AdamW(0.1), RMSprop(0.1), AdaGrad(0.1), Adam(0.1, beta1=0.0, beta2=0.0)]


@pytest.mark.parametrize("optimizer", SQUARING, ids=repr)
def test_squares_of_huge_gradients(made, optimizer):
    assert_exact(made, optimizer, MIXED, LARGE, 6)


@pytest.mark.parametrize("optimizer", SQUARING, ids=repr)
def test_squares_of_huge_gradients_in_float64(made, optimizer):
    """The square of 1e120 still fits into a float64; that of 1e160 does not."""
    assert_exact(made, optimizer, [0.0, 1.0], [1e120, -1e120], 3, "float64", 1e-12)
    far, _ = made.run(optimizer, [0.0, 1.0], [1e160, -1e300], 3, "float64")
    near, _ = made.run(optimizer, [0.0, 1.0], [1e10, -1e10], 3, "float64")
    assert far == pytest.approx(near, rel=1e-9)


def test_adagrad_sums_many_huge_squares(made):
    assert_exact(made, AdaGrad(0.1), [0.0, 0.0], [1e38, -1.0], 100, tolerance=1e-4)


@pytest.mark.parametrize("optimizer", SQUARING[:4], ids=repr)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_gradients_that_are_no_numbers_are_not_hidden(made, optimizer):
    found, _ = made.run(optimizer, [1.0, 1.0, 1.0, 1.0], [np.nan, np.inf, -np.inf, 1.0], 1)
    assert np.isnan(found).tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    "make", [Adam, lambda lr: AdamW(lr, weight_decay=0.0), RMSprop, AdaGrad, SGD, lambda lr: SGD(lr, momentum=0.9)]
)
def test_a_rate_that_underflows(made, make):
    """The last rates underflow: 1e-62 is zero in float32, and 1e-336 in float64."""
    for factor, dtype in ((0.0625, "float32"), (1.6e-7, "float64")):
        optimizer = make(ExponentialDecay(1e-3, factor))
        found, _ = made.run(optimizer, [1.0, 0.0, 0.5], [0.0, 0.0, 1.0], 50, dtype)
        assert found[:2].tolist() == [1.0, 0.0]
        assert found[2] == pytest.approx(exactly(optimizer, 0.5, 1.0, 50), rel=1e-5)


@pytest.mark.parametrize("make", [Adam, RMSprop, AdaGrad, SGD])
@pytest.mark.parametrize("rate", [0.0, 5e-324, 1e-310, 1e-40, 1e-20, 1e-13])
def test_single_tiny_rates(made, make, rate):
    assert_exact(made, make(rate), [0.0, 1.0, 1.0], [1.0, 0.0, -3.0], 3, "float64", 1e-6)
    found, _ = made.run(make(rate), [1.0, 1.0], [0.0, -3.0], 3)
    assert found.tolist() == [1.0, 1.0]


def test_a_rate_of_zero_does_not_hide_nan(made):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for make in (Adam, RMSprop, AdaGrad, SGD):
            assert np.isnan(made.run(make(0.0), [1.0], [np.nan], 1)[0]).all(), make


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("epsilon", [0.0, 1e-60])
def test_without_epsilon_a_gradient_of_zero_moves_nothing(made, dtype, epsilon):
    for make in (Adam, AdamW):
        optimizer = make(0.1, epsilon=epsilon, weight_decay=0.0)
        assert_exact(made, optimizer, [1.0, 2.0, 3.0], [0.0, 1e-12, -1e10], 3, dtype)


def test_steps_of_tiny_gradients_stay_small(made):
    found, _ = made.run(Adam(0.1, epsilon=0.0), [0.0], [1e-30], 1)
    assert abs(found[0]) < 0.1


@pytest.mark.parametrize("beta1", [0.0, 0.9])
@pytest.mark.parametrize("beta2", [0.0, 0.999, 1 - 2**-53])
def test_betas_at_their_ends(made, beta1, beta2):
    if beta2 == 1 - 2**-53:  # 1 - beta2, the factor of the squared gradient, is 1e-16
        found, _ = made.run(Adam(0.1, beta1=beta1, beta2=beta2), [0.0], [2.0], 1, "float64")
        assert found[0] == pytest.approx(-0.1, rel=1e-6)
    else:
        assert_exact(made, Adam(0.1, beta1=beta1, beta2=beta2), MIXED, [1.0, -2.0, 3.0, 1e-3, 0.0], 4)


@pytest.mark.parametrize("make", [Adam, RMSprop, AdaGrad, AdamW])
def test_weight_decay_of_huge_weights(made, make):
    assert_exact(made, make(0.1, weight_decay=0.1), [1e25, -1e30, 1.0], [1.0, 2.0, 0.5], 2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e20, 3e38])
def test_the_norm_of_huge_gradients(made, size, dtype):
    found, _ = made.run(SGD(1.0, clip_norm=1.0), [0.0, 0.0, 0.0], [0.6 * size, -0.8 * size, 0.0], 1, dtype)
    assert found == pytest.approx([-0.6, 0.8, 0.0], rel=1e-5)


def test_the_norm_of_gradients_whose_norm_is_out_of_reach(made):
    """Each gradient fits into float32, but their norm does not."""
    found, _ = made.run(SGD(1.0, clip_norm=10.0), [0.0] * 4, [3e38] * 4, 1)
    assert found == pytest.approx([-5.0] * 4, rel=1e-5)


def test_a_limit_out_of_reach_is_no_limit(made):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for limits in (dict(clip_norm=1e300), dict(clip_value=1e300)):
            for g in (1.5, 1e15):
                assert made.run(SGD(1.0, **limits), [0.0, 0.0], [g, 0.0], 1)[0].tolist() == [-np.float32(g), 0.0]


def test_the_norm_of_nothing(made):
    assert made.run(SGD(1.0, clip_norm=1.0), [1.0], [0.0], 1)[0].tolist() == [1.0]
    optimizer = SGD(1.0, clip_norm=1.0)
    w = [np.zeros((0, 3), np.float32), np.ones(N, np.float32)]
    for g in ([w[0], 3 * w[1]], [w[0], np.zeros(N, np.float32)]):
        (empty, full), _ = made.update(optimizer, w, g, {}, optimizer.hyper(0))
        assert empty.shape == (0, 3)
        assert np.isfinite(full).all()
    (empty,), _ = made.update(optimizer, w[:1], w[:1], {}, optimizer.hyper(0))
    assert empty.shape == (0, 3)


def test_the_norm_of_gradients_that_are_no_numbers(made):
    """As in PyTorch: an infinite gradient becomes NaN and the others zero; one NaN makes all of them NaN."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        infinite, _ = made.run(SGD(1.0, clip_norm=1.0), [1.0, 1.0], [np.inf, 1.0], 1)
        nan, _ = made.run(SGD(1.0, clip_norm=1.0), [1.0, 1.0], [np.nan, 1.0], 1)
    assert np.isnan(infinite).tolist() == [True, False]
    assert infinite[1] == 1.0
    assert np.isnan(nan).all()


def test_small_norms_are_left_alone(made):
    for g in (0.5, 1e-30):
        assert made.run(SGD(1.0, clip_norm=1.0), [0.0, 0.0], [g, 0.0], 1)[0].tolist() == [-np.float32(g), 0.0]


def test_clipped_values(made):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found, _ = made.run(SGD(1.0, clip_value=2.0), [0.0] * 5, [3e38, -np.inf, 1.5, np.nan, -2.5], 1)
    assert found[[0, 1, 2, 4]].tolist() == [-2.0, 2.0, -1.5, 2.0]
    assert np.isnan(found[3])


ALL = [
    SGD(0.1),
    SGD(0.1, momentum=0.9),
    SGD(0.1, momentum=0.9, nesterov=True, weight_decay=1e-30),
    SGD(0.1, clip_norm=1.0),
    SGD(0.1, clip_value=1.0),
    AdaGrad(0.1),
    RMSprop(0.1, clip_norm=1e-30),
    Adam(0.1),
    AdamW(1e-40, weight_decay=1e-5),
    *(make() for make in OPTIMIZERS.values()),
]


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_underflow_is_no_error(on_host, optimizer):
    with np.errstate(all="raise"):
        on_host.run(optimizer, [1.0, 1e-38, 1e-30], [1e-30, 1e-38, 1e-25], 3)


# -- step counts per parameter -----------------------------------------------------------------------------------------


def test_numbers_of_equal_counts_are_three():
    adam = Adam(lambda k: 0.1 / (1 + k))
    assert adam.hyper(4) == adam.hyper(4, [4, 4, 4]) == adam.hyper(4, []) == adam.hyper(4, None)
    assert adam.hyper(7, [2, 2]) == (0.1 / 8, 0.1 / 8 / (1 - 0.9**3), 1 / math.sqrt(1 - 0.999**3))
    assert all(type(h) is float for h in adam.hyper(7, [2, 3]))


def test_numbers_of_each_parameter():
    adam = Adam(0.1)
    pair = lambda t: [0.1 / (1 - 0.9**t), 1 / math.sqrt(1 - 0.999**t)]  # noqa: E731
    assert adam.hyper(9, [9, 0, 3]) == (0.1, *pair(10), *pair(1), *pair(4))


def test_who_uses_counts():
    assert [kind.uses_counts for kind in (Optimizer, SGD, AdaGrad, RMSprop, Adam, AdamW)] == [False] * 4 + [True] * 2
    assert SGD(0.1).hyper(3, [1, 2]) == (0.1,)


def test_counts_of_numpys_own_kind():
    numbers = Adam(0.1).hyper(np.int64(3), np.array([1, 2]))
    assert numbers == Adam(0.1).hyper(3, [1, 2])
    assert all(type(h) is float for h in numbers)


def test_a_users_hyper_without_counts_is_told_none():
    class Plain(Adam):
        def hyper(self, step):
            return super().hyper(step)

    class Counting(Adam):
        def hyper(self, step, counts=None):
            return super().hyper(step, counts)

    class Same(Adam):
        pass

    assert [kind.uses_counts for kind in (Plain, Counting, Same)] == [False, True, True]


@pytest.mark.parametrize("size", [5, N])
@pytest.mark.parametrize("optimizer", [Adam(0.1), AdamW(0.1, weight_decay=0.1, clip_value=0.5)], ids=repr)
def test_each_parameter_by_its_own_count(made, optimizer, size):
    rng = np.random.default_rng(0)
    w = [rng.standard_normal(size).astype(np.float32) for _ in range(3)]
    slots = optimizer.slots(w)
    alone = [([a], {kind: [arrays[i]] for kind, arrays in slots.items()}) for i, a in enumerate(w)]
    for k in range(4):
        g = [rng.standard_normal(size).astype(np.float32) for _ in w]
        counts = [k + 7, k, k]
        w, slots = made.update(optimizer, w, g, slots, optimizer.hyper(k, counts))
        for i, (one, its) in enumerate(alone):
            alone[i] = made.update(optimizer, one, g[i : i + 1], its, optimizer.hyper(k, counts[i : i + 1]))
    for i, (one, its) in enumerate(alone):
        assert np.array_equal(w[i], one[0])
        assert all(np.array_equal(slots[kind][i], its[kind][0]) for kind in its)


def test_numbers_for_another_number_of_parameters(made):
    adam, w = Adam(0.1), [np.ones(N, np.float32)] * 2
    with pytest.raises(ValueError, match=r"Adam takes 3 numbers, or 5 for 2 parameters.*got 7: take those of hyper"):
        made.update(adam, w, w, adam.slots(w), adam.hyper(0, [0, 1, 2]))


# -- arrays that do not fit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(100, 90), (2, 3)])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_arrays_that_do_not_fit_are_refused(made, make, shape):
    optimizer = make()
    w = [np.ones(shape, np.float32)]
    wrong = [
        np.ones(s, np.float32) for s in (shape[1:], (1, *shape), (shape[0], 1), shape[::-1], (shape[0] - 1, shape[1]))
    ]
    wrong.append(np.ones(shape, np.float64))
    for bad in wrong:
        with pytest.raises(ValueError, match=r"gradients\[0\] has shape .* and dtype .*, but its parameter \("):
            made.update(optimizer, w, [bad], optimizer.slots(w), optimizer.hyper(0))
        for kind in optimizer.slots(w):
            with pytest.raises(ValueError, match=rf"slots\['{kind}'\]\[0\] has shape .*, but its parameter \("):
                made.update(optimizer, w, w, optimizer.slots(w) | {kind: [bad]}, optimizer.hyper(0))
    with pytest.raises(ValueError, match="gradients holds 2 arrays for 1 parameters"):
        made.update(optimizer, w, [*w, *w], optimizer.slots(w), optimizer.hyper(0))
    for kind in optimizer.slots(w):
        with pytest.raises(ValueError, match=rf"remembers .*'{kind}'.* of each parameter.*make them with slots"):
            made.update(optimizer, w, w, {}, optimizer.hyper(0))


def test_something_that_is_no_array_is_refused(on_host):
    update, w = ops.implementation(on_host.backend, on_host.kernels, SGD.update), [np.ones(N, np.float32)]
    for bad in (None, 1.0, [1.0] * N):
        with pytest.raises(TypeError, match=r"gradients\[0\] must be an array like its parameter, got"):
            update(SGD(0.1), w, [bad], {}, (0.1,))


def test_slots_are_taken_by_name(made):
    adam, w = Adam(0.1), [np.ones(N, np.float32)]
    slots = {"mean": [np.full(N, 2.0, np.float32)], "square": [np.full(N, 3.0, np.float32)]}
    turned = dict(reversed(slots.items()))
    a, b = (made.update(adam, w, w, s, adam.hyper(5)) for s in (slots, turned))
    assert np.array_equal(a[0][0], b[0][0])
    assert all(np.array_equal(a[1][kind][0], b[1][kind][0]) for kind in slots)


def test_without_momentum_what_is_remembered_stays(made):
    w, velocity = [np.ones(N, np.float32)], [np.full(N, 5.0, np.float32)]
    new, slots = made.update(SGD(0.1), w, w, {"velocity": velocity}, (0.1,))
    assert np.array_equal(new[0], w[0] - np.float32(0.1))
    assert np.array_equal(slots["velocity"][0], velocity[0])


def layouts(x):
    offset = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    offset[...] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    gaps = np.repeat(x, 2, axis=-1)[..., ::2]
    return [np.asfortranarray(x), offset, read_only, gaps, np.flip(np.flip(x).copy()), x.view(np.memmap)]


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "shape", [(3, 4), *(pytest.param(shape, marks=pytest.mark.slow) for shape in [(100, 90), (5, 1, 40, 45), (N,)])]
)
@pytest.mark.parametrize("optimizer", [*ALL, Adam(0.1, weight_decay=0.1, clip_norm=1.0)], ids=repr)
def test_the_same_bits_whatever_the_order(made, optimizer, shape, dtype):
    rng = np.random.default_rng(3)
    w, g = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    slots = {kind: [np.abs(rng.standard_normal(shape)).astype(dtype)] for kind in optimizer.slots([w])}
    expected, remembered = made.update(optimizer, [w], [g], slots, optimizer.hyper(3))
    arrays = {"w": w, "g": g, **{kind: a for kind, (a,) in slots.items()}}
    laid_out = {name: layouts(a) for name, a in arrays.items()}
    for which in (*arrays, "all"):
        for i in range(len(laid_out["w"])):
            laid = {name: laid_out[name][i] if which in (name, "all") else a for name, a in arrays.items()}
            given = {kind: [laid[kind]] for kind in slots}
            held = [laid["w"], laid["g"]]
            before = [a.tobytes() for a in held]
            new, made_slots = made.update(optimizer, held[:1], held[1:], given, optimizer.hyper(3))
            assert new[0].tobytes() == expected[0].tobytes(), (which, i)
            assert [a.tobytes() for a in held] == before
            for kind in slots:
                assert made_slots[kind][0].tobytes() == remembered[kind][0].tobytes(), (which, kind, i)
            if made.kernels != "portable":
                assert all(a[0].flags.c_contiguous for a in (new, *made_slots.values())), (which, i)


@pytest.mark.parametrize("optimizer", ALL, ids=repr)
def test_parameters_without_axes(on_host, optimizer):
    w, g = [np.array(1.0, np.float32), np.ones(3, np.float32)], [np.array(0.5, np.float32), np.full(3, 0.5, np.float32)]
    slots = optimizer.slots(w)
    for k in range(3):
        w, slots = on_host.update(optimizer, w, g, slots, optimizer.hyper(k))
    assert w[0].shape == ()
    assert w[0] == pytest.approx(w[1][0], rel=1e-6)


@pytest.mark.parametrize("size", [5, 9000])
@pytest.mark.parametrize("optimizer", [Adam(0.1), AdamW(0.1), RMSprop(0.1), AdaGrad(0.1)], ids=repr)
def test_gradients_at_the_bound_and_nan_beside_huge_ones(optimizer, size):
    """Near the bound the squares are finite, so nothing overflows; and a NaN must not hide huge values beside it."""
    for values in ([1.2e19, -1.8e19, 1.0], [np.nan, 1e17, 1.0], [np.nan, 1.5e19, np.inf], [3e19, 1e-3, -1.2e19]):
        g = np.zeros(size, np.float32)
        g[:3] = values
        w = np.ones(size, np.float32)
        found = []
        for kernels in ("auto", "portable"):
            update = ops.implementation(CPU, kernels, type(optimizer).update)
            with CPU.scope():
                new, slots = update(optimizer, [w.copy()], [g.copy()], optimizer.slots([w]), optimizer.hyper(0))
            found.append({"w": new[0], **{kind: arrays[0] for kind, arrays in slots.items()}})
        for kind, expected in found[1].items():
            assert np.allclose(found[0][kind], expected, rtol=1e-5, atol=1e-7, equal_nan=True), (values, kind)
