"""Networks whose convolutions run without patches in memory: as on the CPU, with fewer launches, to the same bits."""

import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import portnn
import software_gpu
from portnn import ActivationLayer, AvgPoolLayer, ConvLayer, FCLayer, FlattenLayer, MaxPoolLayer
from software_gpu import control

pytestmark = pytest.mark.gpu
needs_software = pytest.mark.skipif(not software_gpu.is_wanted(), reason="only a GPU in software tells or draws that")


def network(where, dtype="float64", kernels="auto"):
    layers = [
        ConvLayer((11, 11, 1), (3, 3), 4),
        ActivationLayer("relu"),
        MaxPoolLayer(2),
        ConvLayer((4, 4, 4), (2, 2), 6, padding="same", groups=2),
        ActivationLayer("tanh"),
        AvgPoolLayer(2),
        ConvLayer((2, 2, 6), (2, 2), 5, padding="same"),  # without an activation that is known
        FlattenLayer(),
        FCLayer(20, 3),
    ]
    net = portnn.Network(layers, backend=where, seed=3, dtype=dtype, kernels=kernels)
    net.use("softmax_cross_entropy", optimizer=portnn.SGD(0.05, momentum=0.9))
    return net


DATA = np.random.default_rng(1)
x, y = DATA.standard_normal((22, 11, 11, 1)), DATA.integers(0, 3, 22)


@pytest.mark.parametrize("up_to", [0, 32, math.inf])
def test_a_network_trains_as_on_the_cpu(backend, launches, up_to):
    backend.direct_up_to = up_to
    gpu, cpu = network(backend), network("cpu", kernels="portable")
    for epochs in (4, 3):
        ours, theirs = (net.fit(x, y, epochs=epochs, batch_size=8, shuffle=True, verbose=0) for net in (gpu, cpu))
        assert np.allclose(ours["error"], theirs["error"], rtol=1e-11, atol=0)
    for path, array in cpu.parameters.items():
        assert np.allclose(backend.to_numpy(gpu.parameters[path]), array, rtol=1e-9, atol=1e-12), path
    assert len(launches) == 7 * 3 - 4  # two eager steps for each size of batch
    assert np.allclose(gpu.predict(x), cpu.predict(x), rtol=1e-10)


LAYERS = {
    "a frozen convolution": lambda: [
        ConvLayer((6, 6, 2), (3, 3), 4),
        ActivationLayer("tanh"),
        AvgPoolLayer(2),
        ConvLayer((2, 2, 4), (2, 2), 3),
        ActivationLayer("relu"),
        FlattenLayer(),
        FCLayer(3, 2),
    ],
    "a convolution at the end": lambda: [
        ConvLayer((6, 6, 2), (2, 2), 3, stride=2),
        ActivationLayer("relu"),
        ConvLayer((3, 3, 3), (3, 3), 2),
        FlattenLayer(),
    ],
    "activation and loss at the end": lambda: [ConvLayer((6, 6, 2), (6, 6), 2), ActivationLayer("tanh"), FlattenLayer()],
    "an activation at the end": lambda: [FlattenLayer(), portnn.ReshapeLayer((36, 2)), ConvLayer((36, 2), (36,), 2),
        ActivationLayer("tanh")],
    "in a branch": lambda: [
        portnn.ResidualLayer(ConvLayer((6, 6, 2), (3, 3), 2, padding="same"), ActivationLayer("relu")),
        MaxPoolLayer(3),
        FlattenLayer(),
        FCLayer(8, 2),
    ],
}  # fmt: skip


@pytest.mark.parametrize("up_to", [0, 32])
@pytest.mark.parametrize("name", LAYERS)
def test_networks_of_other_kinds(backend, name, up_to):
    backend.direct_up_to = up_to
    nets = [portnn.Network(LAYERS[name](), backend=where, seed=2, dtype="float64") for where in (backend, "cpu")]
    images = DATA.standard_normal((12, 6, 6, 2))
    answers = DATA.standard_normal((12, *nets[1].predict(images).shape[1:]))
    for net in nets:
        net.layers[3 if "frozen" in name else 0].trainable = "frozen" not in name
        net.use("mse", optimizer="adam")
        net.fit(images, answers, epochs=3, batch_size=4, verbose=0)
    assert np.allclose(nets[0].history["error"], nets[1].history["error"], rtol=1e-10)
    for path, array in nets[1].parameters.items():
        assert np.allclose(backend.to_numpy(nets[0].parameters[path]), array, rtol=1e-8, atol=1e-11), path
    assert np.allclose(nets[0].predict(images), nets[1].predict(images), rtol=1e-9)


@needs_software
def test_no_patches_and_no_pass_for_bias_or_pooling(backend, monkeypatch):
    graphs, capture = [], backend.driver.capture
    monkeypatch.setattr(backend.driver, "capture", lambda work: (graphs.append(capture(work)), graphs[-1])[1])
    net = network(backend)
    backend.direct_up_to = 0
    net.fit(x[:16], y[:16], epochs=2, batch_size=8, verbose=0)
    backend.direct_up_to = 32  # the step is captured anew
    net.fit(x[:16], y[:16], epochs=2, batch_size=8, verbose=0)
    before, after = map(control.nodes, graphs)
    assert [name for name in after if "convolve" in name] == ["convolve"] * 3 + [
        "convolve_gradient", "convolve", "convolve_gradients", "convolve", "convolve_gradients"
    ]  # fmt: skip
    spared = {"patches", "fold", "biased_pooled", "sum_chained"}
    assert not spared & set(after)
    assert spared <= set(before)
    assert not any("convolve" in name for name in before)
    assert len(after) < len(before)


def test_portable_kernels_are_not_these(backend, kernels):
    net = network(backend, kernels="portable")
    net.fit(x[:8], y[:8], epochs=1, batch_size=8, verbose=0)
    net.predict(x[:8])
    assert set(kernels) <= {"copy_all"}  # the new leaves into their buffers


@needs_software
def test_two_runs_give_the_same_bits(backend):
    """A second run in another order of blocks, by another graph."""
    found = []
    for order in (0, 4):
        with control.settings(order=order):
            net = network(backend, dtype="float32")
            net.fit(x, y, epochs=3, batch_size=8, shuffle=True, verbose=0)
            found.append({path: backend.to_numpy(w) for path, w in net.parameters.items()})
    assert all(np.array_equal(w, found[1][path]) for path, w in found[0].items())


def test_what_a_joined_step_leaves_in_the_pooling_layer(backend):
    """Input, output and maxima are those of a pass of its own, so its backward pass can be called by itself."""
    net = network(backend)
    net.fit(x[:8], y[:8], epochs=1, batch_size=8, verbose=0)
    pool = net.layers[2]
    D = backend.asarray(np.random.default_rng(0).standard_normal(pool.output.shape))
    joined = backend.to_numpy(pool.backward_propagation(D))
    assert np.array_equal(backend.to_numpy(pool.output), backend.to_numpy(pool(pool.input)))
    pool.forward_propagation(pool.input)
    assert np.array_equal(joined, backend.to_numpy(pool.backward_propagation(D)))


def test_the_benchmark_that_compares_the_two_ways(backend, monkeypatch, capsys):
    """It runs each pass by graphs, both ways; its figures mean nothing on a GPU in software."""
    path = Path(__file__).parents[2] / "benchmarks" / "direct_convolutions.py"
    sizes = [
        "--batch",
        "2",
        "--image",
        "6",
        "--kernel",
        "3",
        "--channels",
        "2",
        "--filters",
        "3",
        "40",
        "--rounds",
        "2",
    ]
    monkeypatch.setattr("sys.argv", [str(path), *sizes])
    monkeypatch.setattr("sys.path", list(sys.path))
    runpy.run_path(str(path), run_name="__main__")
    _, head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("| kernel | channels | filters | pass |")
    assert [row.split("|")[3:6] for row in rows] == [
        [f" {filters} ", f" {name} ", f" {formula} "]
        for filters, name, formula in [
            (3, "Y", 2.6), (3, "dE/dW", 2.6), (3, "dE/dX", 1.9), (40, "Y", 12.4), (40, "dE/dW", 12.4), (40, "dE/dX", 2.0)
        ]
    ]  # fmt: skip
    assert backend.direct_up_to == 32
