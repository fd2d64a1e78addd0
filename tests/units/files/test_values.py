"""Values survive the conversion to JSON and back, and what JSON in a file may contain is limited."""

import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import portnn
from cases import ACTIVATIONS, LOSSES, OPTIMIZERS, SCHEDULES
from cases import LAYERS as CASES
from portnn import Huber, Network, StepDecay, WarmUp, tanh
from portnn.files import FileError, text
from portnn.files.registry import CLASSES, FUNCTIONS, LAYERS, Known
from portnn.files.values import decoded, encoded, state
from portnn.losses import PAIRS
from portnn.ops import is_ours

SCALARS = st.none() | st.booleans() | st.integers(-(2**100), 2**100) | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def alike(a, b):
    """Equal in value and type, including NaN and the sign of zero."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return a == b


@settings(deadline=None, max_examples=25)
@given(VALUES)
def test_values_come_back_as_they_were(value):
    written = text.written({"value": encoded(value, "it", {}), "state": state(value, "", {})})
    back = text.parsed(written.encode(), "it")
    assert alike(decoded(back["value"], Known()), value)
    assert alike(decoded(back["state"], Known(), {}), value)


def test_objects_and_functions_come_back():
    known = Known()
    for thing in (StepDecay(0.1, 3, 0.5), WarmUp(WarmUp(0.1, 2), 3), Huber(0.5)):
        assert repr(decoded(json.loads(json.dumps(encoded(thing, "it", {}))), known)) == repr(thing)
    assert decoded(encoded(tanh, "it", {}), known) is tanh


def test_numpys_numbers_become_pythons():
    for value in (np.float32(0.1), np.int64(3), np.bool_(True)):
        back = decoded(encoded(value, "it", {}), Known())
        assert back == value
        assert type(back) in (float, int, bool)


@settings(deadline=None)
@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10))
def test_what_is_no_value_is_a_file_error_or_plain(value):
    """Whatever JSON a file contains, decoding it raises no error other than FileError."""
    with contextlib.suppress(FileError):
        decoded(value, Known(), {})


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (b"{", "not valid"),
        (b"[1]", "must be a JSON object"),
        (b'{"a":1,"a":1}', "'a' occurs twice"),
        (b'{"a":{"b":NaN}}', "NaN is no number"),
        (b'{"a":[Infinity]}', "Infinity is no number"),
        (b'{"a":-1e999}', "too large"),
        (b'{"a":' + b"1" * 41 + b"}", "too large"),
        (b'{"a":"\xff"}', "not valid"),
        (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", "more than 100 levels deep"),
        (b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}", "nested"),
        (b'{"a":"' + b"," * ((1 << 20) + 1) + b'"}', "more than 1,048,576 values"),
        (b" " * ((1 << 24) + 1), "16,777,217 bytes"),
    ],
)
def test_json_that_is_refused(bad, match):
    with pytest.raises(FileError, match=match):
        text.parsed(bad, "it")


def test_what_could_not_be_read_is_not_written(tmp_path):
    net = Network(seed=1)
    net.use("mse")
    net.history["error"].extend([0.5] * (1 << 20))
    with pytest.raises(ValueError, match=r"more than 1,048,576 values. net.history has one value per epoch"):
        net.save(tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_the_registry_holds_no_more_than_it_should():
    """Layers except the base class, optimizers, schedules, losses and metrics; functions with their derivatives."""
    public = {name for name in portnn.__all__ if isinstance(getattr(portnn, name), type)}
    metrics = {name for name, made in vars(portnn.metrics).items() if isinstance(made, type)}
    assert set(LAYERS) | set(CLASSES) <= public - {"Layer", "Network", "History"} | metrics | {"Optimizer"}
    rows = {name.split(",")[0] for name in [*(case.name for case in CASES), *LOSSES, *OPTIMIZERS, *SCHEDULES]}
    assert {name for name in rows if name in public} <= set(LAYERS) | set(CLASSES)
    assert {f"{name}{end}" for name in [*ACTIVATIONS, *PAIRS] for end in ("", "_prime")} <= set(FUNCTIONS)
    foreign = {function.__name__ for pair in portnn.activations.FOREIGN.values() for function in pair}
    assert foreign < set(FUNCTIONS) <= set(portnn.__all__) | set(vars(portnn.metrics)) | foreign
    assert all(is_ours(thing) for thing in [*LAYERS.values(), *CLASSES.values(), *FUNCTIONS.values()])
