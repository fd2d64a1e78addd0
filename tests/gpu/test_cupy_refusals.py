"""Steps that cannot be captured, and errors during a capture."""

import warnings
from contextlib import nullcontext

import numpy as np
import pytest

from captured import RATES, Pair, PlannedError, State, Step, eager, same
from portnn_cupy.graph import WARM_UPS, EagerStepWarning

pytestmark = pytest.mark.gpu

# -- what cannot be captured -------------------------------------------------------------------------------------------


def reads_on_the_host(step):
    if float(step.state.home["a"][0]) > 1e9:
        raise AssertionError


def raises_in_a_capture(step):
    if step.state.backend.stream.is_capturing():
        raise NotImplementedError("calling cuSOLVER API during stream capture is\n currently unsupported")


def uploads(step):
    step.state.array([1.0, 2.0])


def batched_product(step):
    xp, a = step.state.backend.xp, step.state.array(1.0)
    cube = xp.ones((2, 2, 2))
    xp.matmul(cube, cube * a)


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        (reads_on_the_host, "RuntimeError: .*D2H transfers are disallowed"),
        (
            raises_in_a_capture,
            "NotImplementedError: calling cuSOLVER API during stream capture is currently unsupported",
        ),
        (uploads, "RuntimeError: .*H2D transfers are disallowed"),
        (batched_product, r"NotImplementedError: the product of \(2, 2, 2\) float64"),
    ],
)
@pytest.mark.parametrize("broken", [False, True])
def test_a_step_that_cannot_be_captured_runs_eagerly(backend, launches, hook, words, broken, request):
    """No step is lost or repeated, the warning comes once, and the stream is no longer capturing."""
    if broken:
        request.getfixturevalue("broken_capture")
    expected = eager(backend, 7, rates=RATES)
    state = State(backend, rates=RATES)
    run = backend.compile(Step(state, hook=hook), state)
    for k in range(7):
        told = pytest.warns(EagerStepWarning, match=f"^training runs eagerly, which is slower: {words}")
        with told if k == WARM_UPS else nullcontext():
            run()
        same(state.values(), expected[k])
        assert not backend.stream.is_capturing()
    assert not launches


@pytest.fixture
def broken_capture(backend, monkeypatch):
    """CUDA reports only at the end that something invalidated the capture."""

    class Stream:
        def begin_capture(self):
            backend.stream.begin_capture()

        def end_capture(self):
            backend.stream.end_capture()
            raise RuntimeError("cudaErrorStreamCaptureInvalidated")

    monkeypatch.setattr(backend.driver, "stream", Stream())


def test_a_capture_that_cannot_be_ended(backend, broken_capture):
    expected = eager(backend, 5, rates=RATES)
    state = State(backend, rates=RATES)
    run = backend.compile(Step(state), state)
    run()
    run()
    with pytest.warns(EagerStepWarning, match="cudaErrorStreamCaptureInvalidated"):
        run()
    run()
    run()
    same(state.values(), expected[-1])


def test_the_note_as_an_error_loses_no_step(backend):
    """Under ``-W error`` the call that would have captured raises before its step; the next call runs that step."""
    expected = eager(backend, 4, rates=RATES)
    state = State(backend, rates=RATES)
    run = backend.compile(Step(state, hook=raises_in_a_capture), state)
    run()
    run()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(EagerStepWarning):
            run()
        same(state.values(), expected[1])
        for k in (2, 3):
            run()
            same(state.values(), expected[k])


def test_one_of_two_sizes_cannot_be_captured(backend, launches):
    expected, state = State(backend, rates=RATES), State(backend, rates=RATES)
    references = [Step(expected), Step(expected, scale=0.5)]
    runs = [
        backend.compile(Step(state, scale=s, hook=h), state)
        for s, h in ((1.0, lambda s: None), (0.5, raises_in_a_capture))
    ]
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        for epoch in range(6):
            for s in (expected, state):
                s.load([rate / (epoch + 1) for rate in RATES])
            for which in (0, 0, 1, 0, 1):
                expected.commit(references[which]())
                runs[which]()
                same(state.values(), expected.values())
    assert [note.category for note in notes] == [EagerStepWarning]
    assert launches


def test_a_reason_known_beforehand(backend, launches):
    """The state is rebound, the counters stay on the host, and there is one warning."""
    expected = eager(backend, 5, rates=RATES)
    state = State(backend, rates=RATES, eager_reason="layer 2 (MyLayer) is written as in the article")
    with pytest.warns(EagerStepWarning, match=r"slower: layer 2 \(MyLayer\) is written as in the article$") as notes:
        run = backend.compile(Step(state), state)
    for k in range(5):
        before = state.home["a"]
        run()
        assert state.home["a"] is not before
        same(state.values(), expected[k])
    assert len(notes) == 1
    assert state.home["step"] == 5
    assert type(state.home["step"]) is int
    assert not launches


@pytest.mark.parametrize("misfit", [lambda a: a.astype(np.float32), lambda a: a[:1]])
@pytest.mark.parametrize("when", [1, 2, 3])
def test_a_leaf_that_changes_its_kind(backend, misfit, when):
    """The leaf is rebound, as on NumPy; steps then run eagerly, with a warning."""
    state = Pair(backend)
    runs = iter(range(1, 100))

    def step():
        a = state.home["a"] * 2
        return [misfit(a) if next(runs) == when else a, state.home["b"] + 1]

    run = backend.compile(step, state)
    for _ in range(when - 1):
        run()
    with pytest.warns(EagerStepWarning, match=r"'a' was \(dtype\('float64'\), \(2,\)\), and the step made it"):
        run()
    assert float(state.home["a"][0]) == 2.0**when
    assert state.home["b"].tolist() == [3.0 + when, 4.0 + when]
    run()
    assert state.home["b"].tolist() == [4.0 + when, 5.0 + when]


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", [1, 2])
def test_an_error_in_a_warm_up_changes_nothing(backend, when):
    state = State(backend, rates=RATES)
    expected = eager(backend, 6, rates=RATES)

    def fail(step):
        if step.runs == when:
            raise PlannedError

    run = backend.compile(Step(state, hook=fail), state)
    for _ in range(when - 1):
        run()
    before = state.values()
    with pytest.raises(PlannedError):
        run()
    same(state.values(), before)
    for k in range(when - 1, 6):
        run()
        same(state.values(), expected[k])


def test_an_error_in_capture_and_step_alike(backend):
    """The capture fails, and then the eager step too: the state stays as it was after the step before."""
    state = State(backend, rates=RATES)
    broken = []

    def fail(step):
        if broken:
            raise PlannedError("in both")

    run = backend.compile(Step(state, hook=fail), state)
    run()
    run()
    before = state.values()
    broken.append(True)
    with pytest.warns(EagerStepWarning, match="PlannedError: in both"), pytest.raises(PlannedError):
        run()
    same(state.values(), before)
    broken.clear()
    run()
    same(state.values(), eager(backend, 3, rates=RATES)[-1])


def test_a_keyboard_interrupt_in_the_capture_ends_it(backend):
    state = State(backend, rates=RATES)

    def interrupt(step):
        if backend.stream.is_capturing() and step.runs == 3:
            raise KeyboardInterrupt

    run = backend.compile(Step(state, hook=interrupt), state)
    run()
    run()
    before = state.values()
    with pytest.raises(KeyboardInterrupt):
        run()
    assert not backend.stream.is_capturing()
    same(state.values(), before)
    run()  # captures now
    same(state.values(), eager(backend, 3, rates=RATES)[-1])


def test_a_layer_that_binds_its_own(backend):
    """Whatever a step rebinds itself is undone: only what it returns counts."""
    expected = eager(backend, 5, rates=RATES)
    state = State(backend, rates=RATES)

    def rebind(step):
        step.state.home["a"] = step.state.home["a"] * 1000.0

    run = backend.compile(Step(state, hook=rebind), state)
    for k in range(5):
        run()
        same(state.values(), expected[k])
