"""Settings of optimizers, schedules and losses are checked whenever they are set; schedules that fail."""

import copy
import math
import pickle

import numpy as np
import pytest

import portnn
from cases import SCHEDULES
from portnn import SGD, Adam, AdamW, CosineDecay, ExponentialDecay, OneCycle, RMSprop, StepDecay, WarmUp
from portnn.arguments import OPTIMIZERS
from portnn.checks import flag, number
from portnn.optimizers import rate_at
from portnn.settings import Fixed, Setting, WithSettings

# -- settings ----------------------------------------------------------------------------------------------------------

UNKNOWN = [
    (
        SGD,
        {"lr": 0.1},
        "SGD has no setting 'lr': it is called learning_rate here. Its settings are: learning_rate, weight_decay",
    ),
    (SGD, {"speed": 0.1}, "SGD has no setting 'speed'. Its settings are: learning_rate, weight_decay"),
    (SGD, {"momentm": 0.9}, "SGD has no setting 'momentm': did you mean 'momentum'"),
    (AdamW, {"beta_2": 0.9}, "AdamW has no setting 'beta_2': did you mean 'beta2'"),
    (portnn.AdaGrad, {"clipnorm": 1.0}, "AdaGrad has no setting 'clipnorm': did you mean 'clip_norm'"),
]


@pytest.mark.parametrize(("optimizer", "given", "words"), UNKNOWN, ids=lambda v: str(v) if isinstance(v, dict) else "")
def test_a_misspelt_argument_is_answered_with_the_right_one(optimizer, given, words):
    with pytest.raises(TypeError) as caught:
        optimizer(**given)
    assert words in str(caught.value)


def test_every_optimizer_takes_the_common_arguments():
    for optimizer in (SGD, portnn.AdaGrad, RMSprop, Adam, AdamW):
        made = optimizer(0.5, weight_decay=0.25, clip_norm=2.0, clip_value=3.0)
        assert (made.learning_rate, made.weight_decay, made.clip_norm, made.clip_value) == (0.5, 0.25, 2.0, 3.0)
    assert (AdamW().weight_decay, Adam().weight_decay, AdamW(beta1=0.5).beta1) == (0.01, 0.0, 0.5)


@pytest.mark.parametrize("kind", OPTIMIZERS.values())
def test_an_optimizer_shows_the_call_that_makes_it(kind):
    for optimizer in (kind(), kind(weight_decay=0.0), kind(weight_decay=0.01), kind(0.5, clip_norm=2.0)):
        assert vars(eval(repr(optimizer), dict(vars(portnn)))) == vars(optimizer), repr(optimizer)


BAD_SETTINGS = [
    (SGD(0.1), "learning_rate", [-1, float("nan"), "fast", None, 1j, [0.1], np.array([0.1]), SGD, np.True_]),
    (SGD(0.1, momentum=0.5), "momentum", [1.5, 1.0, -0.1, float("nan"), "no", None, True, np.True_, np.array([0.5]), 10**400]),
    (SGD(0.1, momentum=0.5), "nesterov", ["no", 1.5, None, float("nan"), 2, np.array([True])]),
    (SGD(0.1), "weight_decay", [-1e-9, float("inf"), "0", None, np.complex64(1)]),
    (SGD(0.1), "clip_norm", [0, -1, float("nan"), float("inf"), "1", False]),
    (SGD(0.1), "clip_value", [0.0, -1, float("nan"), "1"]),
    (Adam(), "beta1", [1.0, -0.1, float("nan"), "0.9", None]),
    (Adam(), "beta2", [1, float("inf"), b"1"]),
    (AdamW(), "epsilon", [-1e-8, float("nan"), None]),
    (RMSprop(), "decay", [1.0, float("nan"), "0.9"]),
    (StepDecay(1.0, 2, 0.5), "every", [0, 1.5, "2"]),
    (StepDecay(1.0, 2, 0.5), "factor", [0.0, -1, "x", float("nan")]),
    (ExponentialDecay(1.0, 0.5), "learning_rate", [-1.0, "x", None, lambda k: 0.1]),
    (CosineDecay(1.0, 5), "steps", [0, 2.5, None]),
    (WarmUp(1.0, 5), "schedule", [-1, "x", SGD]),
    (OneCycle(1.0, 5), "peak", [float("nan"), None, -1]),
    (portnn.Huber(), "delta", [0.0, -1, float("nan"), "x", np.True_]),
    (portnn.SoftmaxCrossEntropy(), "label_smoothing", [1.0, -0.1, float("nan"), "x"]),
]  # fmt: skip


@pytest.mark.parametrize(("thing", "name", "values"), BAD_SETTINGS)
def test_bad_settings_are_refused_whenever_they_are_set(thing, name, values):
    before = dict(vars(thing))
    for value in values:
        with pytest.raises((TypeError, ValueError), match=rf"^{name}\b.* must be"):
            setattr(thing, name, value)
        assert vars(thing) == before


def test_settings_are_kept_as_pythons_own():
    sgd = SGD(np.float32(0.5), momentum=np.float64(0.9))
    for value in (np.float32(0.25), np.int64(0), np.array(0.5), np.float16(0.5), 0):
        sgd.momentum = value
        assert type(sgd.momentum) is float
        assert sgd.momentum == value
    for name in ("learning_rate", "weight_decay", "clip_norm", "clip_value"):
        setattr(sgd, name, np.array(2, np.int8))
        assert type(getattr(sgd, name)) is float
    sgd.clip_norm = None
    sgd.momentum = 0.9
    for value in (np.True_, True, 1, np.int64(1), np.array(True)):
        sgd.nesterov = value
        assert sgd.nesterov is True
        sgd.nesterov = False
    assert repr(sgd) == "SGD(2.0, weight_decay=2.0, clip_value=2.0, momentum=0.9)"
    w = [np.ones(3, np.float32)]
    assert sgd.update(w, w, sgd.slots(w), sgd.hyper(0))[0][0].dtype == np.float32


def test_nesterov_and_momentum_go_together():
    sgd = SGD(0.1)
    with pytest.raises(ValueError, match="nesterov=True needs a momentum"):
        sgd.nesterov = True
    sgd.momentum = 0.9
    sgd.nesterov = True
    with pytest.raises(ValueError, match="momentum must be more than 0 with nesterov=True: set nesterov to False"):
        sgd.momentum = 0.0
    assert (sgd.momentum, sgd.nesterov) == (0.9, True)
    sgd.nesterov = False
    sgd.momentum = 0.0


@pytest.mark.parametrize(
    ("thing", "name", "words"),
    [
        (
            SGD(0.1),
            "momentom",
            r"SGD has no setting 'momentom': did you mean 'momentum'\? Its settings are: learning_rate, ",
        ),
        (AdamW(), "beta_1", r"AdamW has no setting 'beta_1': did you mean 'beta1'"),
        (
            Adam(),
            "lr",
            r"Adam has no setting 'lr': it is called learning_rate here\. Its settings are: .*beta1, beta2, epsilon",
        ),
        (OneCycle(0.1, 5), "step", r"OneCycle has no setting 'step': did you mean 'steps'"),
        (portnn.Huber(), "detla", r"did you mean 'delta'"),
        (portnn.SoftmaxCrossEntropy(), "smoothing", r"SoftmaxCrossEntropy has no setting 'smoothing'.*label_smoothing"),
    ],
)
def test_misspelt_settings(thing, name, words):
    with pytest.raises(TypeError, match=words):
        setattr(thing, name, 0.5)
    assert not hasattr(thing, name)


class Mine(SGD):
    def __init__(self, **options):
        super().__init__(0.1, **options)
        self.steps = 0


def test_a_users_own_optimizer_may_have_attributes():
    mine = Mine()
    mine.anything = "x"
    with pytest.raises(ValueError, match="momentum must be"):
        mine.momentum = 2.0


def test_settings_cannot_be_deleted():
    with pytest.raises(TypeError, match="momentum of SGD cannot be deleted"):
        del SGD(0.1).momentum


@pytest.mark.parametrize(
    "thing", [SGD(0.1, momentum=0.9, nesterov=True), AdamW(0.1), OneCycle(0.1, 5), portnn.Huber(2.0)]
)
def test_settings_in_copies_and_pickles(thing):
    for other in (copy.copy(thing), copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))):
        assert repr(other) == repr(thing)
        assert vars(other) == vars(thing)
        with pytest.raises((TypeError, ValueError)):
            setattr(other, next(iter(vars(other))), "x")


class Box(WithSettings):
    size: int = Fixed(number)
    label = Fixed()
    open: bool = Setting(flag)

    def __init__(self, size, open=False):
        self.size, self.open = size, open


def test_fixed_settings_are_set_once():
    box = Box(2)
    for other in (box, copy.deepcopy(box), pickle.loads(pickle.dumps(box))):
        with pytest.raises(
            ValueError, match=r"size of Box is fixed when it is created: create another one, Box\(\.\.\.\)"
        ):
            other.size = 3
        other.size = 2  # the value that it already has
        other.open = True
    with pytest.raises(TypeError, match="size must be a number"):
        Box("x")


# -- schedules ---------------------------------------------------------------------------------------------------------

RATES = [0.3, 0.2]
KEYED = {0: 0.3, 1: 0.2}


@pytest.mark.parametrize(
    ("schedule", "step", "kind", "words"),
    [
        (
            RATES.__getitem__,
            2,
            ValueError,
            r"gave nothing for step 2 \(IndexError: .*\): it must answer for every step",
        ),
        (
            KEYED.__getitem__,
            5,
            ValueError,
            r"gave nothing for step 5 \(KeyError: 5\).*rates\[min\(k, len\(rates\) - 1\)\]",
        ),
        (lambda k: next(iter(())), 3, ValueError, r"gave nothing for step 3 \(StopIteration\): it must answer"),
        (lambda k: 1 / (k - 4), 4, ValueError, "gave no finite number for step 4: division by zero"),
        (lambda k: math.exp(k), 10**4, ValueError, "gave no finite number for step 10000"),
        (lambda k: None, 1, TypeError, "gave None for step 1: learning_rate must be a number"),
        (
            lambda k: np.ones(2),
            1,
            TypeError,
            r"for step 1: learning_rate must be a number, got an array of shape \(2,\)",
        ),
        (lambda k: 1j, 1, TypeError, r"gave 1j for step 1: learning_rate must be a number"),
        (lambda k: np.complex128(1), 1, TypeError, r"for step 1: learning_rate must be a number"),
        (lambda k: True, 1, TypeError, "gave True for step 1: learning_rate must be a number"),
        (lambda k: float("nan"), 1, ValueError, "gave nan for step 1: learning_rate must be finite"),
        (lambda k: -0.5, 1, ValueError, "gave -0.5 for step 1: learning_rate must be finite and not negative"),
        (lambda: 0.1, 1, TypeError, "the schedule failed at step 1: .*takes 0 positional arguments"),
        (lambda k: b"\xff".decode(), 1, ValueError, "the schedule failed at step 1: 'utf-8' codec"),
        (WarmUp(RATES.__getitem__, 2), 4, ValueError, "failed at step 4: the schedule gave nothing for step 2"),
    ],
)
def test_schedules_that_do_not_answer(schedule, step, kind, words):
    for optimizer in (SGD(schedule), Adam(schedule)):
        with pytest.raises(kind, match=words):
            optimizer.hyper(step)


def test_other_errors_of_a_schedule_say_the_step():
    with pytest.raises(AttributeError) as caught:
        rate_at(lambda k: k.rate, 6)
    assert caught.value.__notes__ == ["The schedule was asked for step 6."]


@pytest.mark.parametrize("rate", [np.float32(0.5), np.array(0.5), 1, np.int32(1)])
def test_rates_of_schedules_are_pythons_floats(rate):
    assert type(rate_at(lambda k: rate, 0)) is float


EVERY = [
    lambda rate, n: StepDecay(rate, n, 0.5),
    lambda rate, n: ExponentialDecay(rate, 0.5),
    lambda rate, n: ExponentialDecay(rate, 1.0),
    lambda rate, n: CosineDecay(rate, n),
    lambda rate, n: WarmUp(rate, n),
    lambda rate, n: WarmUp(CosineDecay(rate, n), n),
    lambda rate, n: OneCycle(rate, n),
]


def test_every_schedule_is_among_them():
    known = {type(make()).__name__ for make in SCHEDULES.values()}
    among = {type(make(0.1, 2)).__name__ for make in EVERY}
    assert known == among, f"EVERY and the table of cases differ by {known ^ among}"


@pytest.mark.parametrize("rate", [0.0, 5e-324, 1e-308, 0.1, 1e308, 1.7e308])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 10**9, 2**40])
@pytest.mark.parametrize("make", EVERY)
def test_schedules_are_finite_everywhere(make, n, rate):
    schedule = make(rate, n)
    for k in (0, 1, 2, n - 1, n, n + 1, 10**9, 10**18, 10**400):
        found = rate_at(schedule, k)
        assert 0.0 <= found <= rate * (1 + 1e-15)


def test_schedules_are_right_far_out():
    assert ExponentialDecay(1e-3, 0.5)(10**9) == 0.0
    assert ExponentialDecay(0.0, 2.0)(5000) == 0.0
    assert ExponentialDecay(1e-300, 10.0)(310) == pytest.approx(1e10, rel=1e-12)
    assert ExponentialDecay(1e300, 0.5)(1100) == pytest.approx(1e300 * 2.0**-600 * 2.0**-500, rel=1e-12)
    assert StepDecay(0.0, 1, 10.0)(10**6) == 0.0
    assert OneCycle(1.0, 1)(0) == OneCycle(1.0, 1)(10**9) == pytest.approx(1 / 250_000)
    assert OneCycle(1.0, 10)(10**9) == pytest.approx(1 / 250_000)
    assert CosineDecay(1.0, 1)(0) == 1.0
    assert CosineDecay(1.0, 1)(10**9) == 0.0
    assert WarmUp(0.7, 1)(0) == 0.7
    assert all(WarmUp(rate, n)(n - 1) == rate for rate in (0.1, 0.7, 1e308) for n in (1, 3, 7, 10))
