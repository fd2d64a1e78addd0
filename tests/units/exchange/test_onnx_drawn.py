"""Networks drawn at random, composites within each other, as ONNX models: run, and read back."""

import copy

import numpy as np
import pytest

import portnn
from drawn_networks import drawn
from onnx_models import is_slow, run, unnamed
from portnn import Network

onnx = pytest.importorskip("onnx", minversion="1.17", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SEEDS = [*range(60), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(60, 400))]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_drawn_network(seed, dtype, tmp_path):
    net, x = drawn(seed, dtype)
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    opset = 18 + seed % 4
    portnn.onnx.export(net, first, opset=opset)
    onnx.checker.check_model(onnx.load(first), full_check=True)
    if not is_slow(first, dtype):
        check(net, first, x.shape[1:], seed)
    back = portnn.onnx.load(first)
    portnn.onnx.export(back, second, opset=opset)
    assert unnamed(first.read_bytes()) == unnamed(second.read_bytes())
    assert error(back.predict(x), net.predict(x)) <= tolerance(net, x)


def check(net, path, sample, seed):
    rng = np.random.default_rng(seed)
    for n in (1, 7, 0):
        x = rng.standard_normal((n, *sample)).astype(net.dtype)
        found, expected = run(path, x), net.predict(x)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        assert n == 0 or error(found, expected) <= tolerance(net, x)


def error(found, expected):
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30)


def tolerance(net, x):
    """Of float32 more than 1e-5 for a network that magnifies roundings, as normalizing equal values does."""
    if net.dtype == "float64":
        return 1e-12
    exact = Network(copy.deepcopy(net.layers), dtype="float64").predict(x)
    return max(1e-5, 10.0 * error(net.predict(x), exact))
