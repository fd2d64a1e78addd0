"""ONNX models of networks on the GPU: the file is the one that the same network writes on the CPU."""

import numpy as np
import pytest

import portnn
from cases import LAYERS
from portnn import Network, to_numpy

pytest.importorskip("onnx", minversion="1.17", reason="onnx is not installed")
pytestmark = pytest.mark.gpu
NAMES = """FCLayer, rows|ConvLayer, same|ConvLayer, 1-D|ActivationLayer, gelu|MaxPoolLayer|BatchNormLayer, images|LayerNormLayer
|GroupNormLayer|ScaleLayer|UpsampleLayer|ResidualLayer|ParallelLayer, inception""".replace("\n", "").split("|")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", [case for case in LAYERS if case.name in NAMES], ids=lambda case: case.name)
def test_the_file_does_not_depend_on_the_device(backend, case, dtype, tmp_path):
    path = tmp_path / "net.onnx"
    net = Network([case.make()], dtype=dtype, seed=2)
    x = np.random.default_rng(3).standard_normal((3, *case.sample)).astype(dtype)
    expected = net.predict(x)
    net.export(path)
    written = path.read_bytes()
    loaded = portnn.onnx.load(path, backend="gpu")
    found = to_numpy(loaded.predict(x))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=scale * (1e-5 if dtype == "float32" else 1e-12))
    net.to("gpu")
    portnn.onnx.export(net, path, input_shape=case.sample)
    assert path.read_bytes() == written
