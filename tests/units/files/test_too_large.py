"""What is too large for a file is named in the error, and nothing is written."""

import numpy as np
import pytest

from portnn import SGD, Callback, Checkpoint, FCLayer, Network, SequentialLayer
from portnn.files import text
from portnn.files.writing import write


def network(*layers):
    net = Network([*layers, FCLayer(2, 2)], seed=1)
    net.use("mse", optimizer=SGD(0.1))
    return net


def deep(levels):
    layer = FCLayer(2, 2)
    for _ in range(levels):
        layer = SequentialLayer(layer)
    return layer


def test_layers_in_layers(tmp_path):
    match = r"cannot hold this: layer 1 \(SequentialLayer\) is nested more than 100 levels deep. Put fewer layers"
    with pytest.raises(ValueError, match=match):
        network(FCLayer(2, 2), deep(60)).save(tmp_path / "net")
    network(deep(45)).save(tmp_path / "net")


def nested(levels):
    state = []
    for _ in range(levels):
        state = [state]
    return {"state": state}


def itself():
    state = []
    state.append(state)
    return {"state": state}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "kind", "match"),
    [
        (
            lambda: {"curve": [0.5] * 1_100_000},
            ValueError,
            "the state of callback 1 .Big. has more than 1,048,576 values",
        ),
        (lambda: nested(60), ValueError, "the state of callback 1 .Big. is nested more than 100 levels deep"),
        (lambda: nested(5000), TypeError, "the state of callback 1 .Big. holds itself, or too many levels"),
        (itself, TypeError, "the state of callback 1 .Big. holds itself"),
    ],
    ids=["many", "deep", "deeper", "itself"],
)
def test_states_of_callbacks(state, kind, match, tmp_path):
    class Big(Callback):
        def state_dict(self):
            return state()

    calls = [Checkpoint(tmp_path / "run"), Big()]
    with pytest.raises(kind, match=match):
        network().fit(np.ones((2, 2)), np.ones((2, 2)), epochs=1, verbose=0, callbacks=calls)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_several_parts_that_are_too_large_together(tmp_path):
    net = network()
    net.history["error"].extend([0.5] * 600_000)
    states = [("Mine", {"curve": [0] * 500_000})]
    with pytest.raises(ValueError, match=r"net.history is the largest part of what has more than 1,048,576 values"):
        write(net, tmp_path / "net", callbacks=states)


def test_a_header_that_could_not_be_read_is_not_written(tmp_path, monkeypatch):
    """The header contains the metadata, and also the names and offsets of the arrays."""
    net, sizes = network(), []
    too_much = text.too_much
    monkeypatch.setattr(text, "too_much", lambda part: sizes.append(len(part)) or too_much(part))
    net.save(tmp_path / "net")
    (tmp_path / "net").unlink()
    assert len(sizes) == 2
    monkeypatch.setattr(text, "BYTES", sizes[0])
    with pytest.raises(ValueError, match="with its 2 arrays, the header has"):
        net.save(tmp_path / "net")
    assert list(tmp_path.iterdir()) == []
