"""What is specific to the NumPy backend: reshapes for any memory layout, large arrays, the BLAS kernels it reports."""

import numpy as np
import pytest

import portnn
from portnn import get_backend
from portnn_numpy import blas


@pytest.mark.parametrize("n", [1, 2, 64])
def test_images_and_rows_keep_their_values_when_reshaped(n):
    """Whatever their memory layout."""
    cpu = get_backend("cpu").xp
    images = np.random.default_rng(0).standard_normal((n, 16, 16, 12))
    rows = images.reshape(n, -1)
    fastest = np.ascontiguousarray(images.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    for x in (images, fastest, np.asfortranarray(images)):
        assert np.array_equal(cpu.reshape(x, rows.shape), rows)
    for x in (rows, np.asfortranarray(rows)):
        assert np.array_equal(cpu.reshape(x, images.shape), images)
    assert np.array_equal(cpu.reshape(rows, (-1, 3)), images.reshape(-1, 3))


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "gelu"])
def test_large_arrays_give_what_small_ones_give(name):
    cpu = get_backend("cpu")
    layer = portnn.ActivationLayer(name)
    layer.build((300, 700), cpu, "float64", 0, "0")
    x, d = np.random.default_rng(0).standard_normal((2, 2, 300, 700))
    whole = layer.forward_propagation(x), layer.backward_propagation(d)
    mixed = layer.forward_propagation(np.asfortranarray(x)), layer.backward_propagation(d)
    rows = [
        (layer.forward_propagation(x[:, i : i + 1]), layer.backward_propagation(d[:, i : i + 1]))
        for i in range(0, 300, 60)
    ]
    for k in range(2):
        assert np.allclose(mixed[k], whole[k], rtol=1e-13)
        for i, row in zip(range(0, 300, 60), rows, strict=True):
            assert np.allclose(row[k], whole[k][:, i : i + 1], rtol=1e-13)


def test_large_convolution_and_pooling_equal_the_portable_ones():
    x = np.random.default_rng(0).standard_normal((64, 20, 20, 3)).round(1)
    results = []
    for choice in ("auto", "portable"):
        layers = [portnn.ConvLayer((20, 20, 3), (3, 3), 8, padding=1), portnn.MaxPoolLayer(2), portnn.AvgPoolLayer(2)]
        net = portnn.Network(
            [*layers, portnn.FlattenLayer(), portnn.FCLayer(200, 2)], kernels=choice, dtype="float64", seed=0
        )
        net.use("mse")
        net.fit(x, np.ones((64, 2)), epochs=2, learning_rate=0.1, batch_size=64, verbose=0)
        results.append(net.parameters)
    for path, w in results[0].items():
        assert np.allclose(w, results[1][path], rtol=1e-9, atol=1e-12), path


@pytest.mark.parametrize(
    ("active", "flags", "better"),
    [
        ("Haswell", {"avx2", "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}, "SkylakeX"),
        ("Zen", {"avx2", "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}, "SkylakeX"),
        ("SkylakeX", {"avx2", "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}, None),
        ("Haswell", {"avx2", "avx512f"}, None),
        ("Haswell", set(), None),
        (None, {"avx512f"}, None),
    ],
)
def test_the_better_kernels_are_named(active, flags, better):
    assert blas.better_core(active, flags) == better


def test_info_tells_of_kernels_threads_and_memory():
    about = get_backend("cpu").describe()
    assert about["freed memory"]
    if blas.core() is not None:
        assert about["OpenBLAS"].startswith(f"{blas.core()} kernels, {blas.threads()} threads")
