"""Models of PyTorch loaded onto the GPU: they compute and learn there what they do on the CPU."""

from pathlib import Path

import numpy as np
import pytest

import portnn

pytest.importorskip("onnx", minversion="1.17", reason="onnx is not installed")
pytestmark = pytest.mark.gpu
FOLDER = Path(__file__).parents[1] / "support" / "recorded" / "onnx"


@pytest.mark.parametrize("name", ["lenet-script", "groupnorm-dynamo", "mlp-old"])
def test_models_are_loaded_onto_the_gpu(name, tmp_path):
    with np.load(FOLDER / "results.npz") as results:
        x = results[f"{name.split('-')[0]} x"]
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if x.ndim > 2 else x
    cpu, gpu = (portnn.onnx.load(FOLDER / f"{name}.onnx", backend=backend) for backend in ("cpu", "gpu"))
    assert gpu.backend.name == "gpu"
    for net in (cpu, gpu):
        net.use("mse", optimizer="adam")
        before = portnn.to_numpy(net.predict(x))
        net.fit(x, np.zeros_like(before), epochs=2, batch_size=3, shuffle=False, verbose=0)
    ours, expected = portnn.to_numpy(gpu.predict(x)), cpu.predict(x)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    portnn.onnx.export(gpu, tmp_path / "net.onnx")
    np.testing.assert_allclose(portnn.onnx.load(tmp_path / "net.onnx").predict(x), ours, rtol=1e-5, atol=1e-6)
