"""Files of earlier versions stay readable: one for each format, written once by tools/write_golden.py."""

import importlib.util

import numpy as np
import pytest

import portnn
from documents import ROOT
from portnn.files.filling import restore
from portnn.files.reading import FORMAT, read

GOLDEN = ROOT / "tests" / "support" / "golden"


def path(number):
    return GOLDEN / f"format{number}.portnn.safetensors"


def test_there_is_one_for_each_format():
    assert sorted(GOLDEN.glob("*.safetensors")) == [path(number) for number in range(1, FORMAT + 1)]


@pytest.mark.parametrize("number", range(1, FORMAT + 1))
def test_a_golden_file_is_read(number):
    found = read(path(number))
    ((name, state),) = found.callbacks
    assert name == "Golden"
    assert (state["list"], state["pair"]) == ([1, None, float("inf")], (0.5, "text"))
    assert (found.step, found.epoch, found.position, found.stop_training) == (9, 3, 2, False)
    assert found.counters["sum of error"] == 1.5
    net = portnn.load(path(number))
    assert np.allclose(net.predict(state["x"]), state["predicted"], rtol=1e-9, atol=1e-12)
    assert (net.step, net.epoch, net.seed, net.dtype) == (9, 3, 7, "float64")
    assert {name: len(values) for name, values in net.history.items()} == {"error": 3, "accuracy": 3}
    assert repr(net.optimizer) == (
        "Adam(WarmUp(CosineDecay(0.01, 100), 5), weight_decay=0.01, clip_norm=1.0, beta1=0.9, beta2=0.999, epsilon=1e-08)"
    )
    assert not net.layers[2].trainable
    net.fit(state["x"], state["y"], epochs=1, batch_size=4, verbose=0)


@pytest.mark.parametrize("number", range(1, FORMAT + 1))
def test_a_run_goes_on_from_a_golden_file(number):
    spec = importlib.util.spec_from_file_location("write_golden", ROOT / "tools" / "write_golden.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    net = tool.network()
    restore(net, read(path(number)))
    ((_, state),) = read(path(number)).callbacks
    assert np.allclose(net.predict(state["x"]), state["predicted"], rtol=1e-9, atol=1e-12)
    assert net.step == 9
