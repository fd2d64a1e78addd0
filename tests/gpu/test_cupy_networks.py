"""Whole networks on the GPU: the same results as on the CPU, and how many graph launches they take."""

import copy
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import pytest

import captured
import portnn
import software_gpu
from portnn.training.step import TrainStep
from portnn_cupy.graph import EagerStepWarning
from software_gpu import control

pytestmark = pytest.mark.gpu

# -- a whole network ---------------------------------------------------------------------------------------------------


def network(backend, kernels="portable"):
    layers = [
        portnn.ConvLayer((6, 6, 1), (3, 3), 2),
        portnn.ActivationLayer("tanh"),
        portnn.FlattenLayer(),
        portnn.FCLayer(32, 5),
        portnn.ActivationLayer("sigmoid"),
        portnn.FCLayer(5, 3),
    ]
    net = portnn.Network(layers, backend=backend, seed=3, kernels=kernels, dtype="float64")
    net.use("mse", optimizer=portnn.SGD(lambda k: 0.1 / (1 + k), momentum=0.9), metrics=["accuracy"])
    return net


@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_a_network_trains_as_on_the_cpu(backend, launches, kernels):
    """Full and smaller batches, shuffling, a schedule, momentum and two calls of fit: replays match the CPU's run."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((22, 6, 6, 1)), rng.standard_normal((22, 3))
    gpu, cpu = network(backend, kernels), network("cpu")
    for epochs in (5, 4):
        ours, theirs = (net.fit(x, y, epochs=epochs, batch_size=4, shuffle=True) for net in (gpu, cpu))
        for name in theirs:
            assert np.allclose(ours[name], theirs[name], rtol=1e-12, atol=0)
    for path, array in cpu.parameters.items():
        assert np.allclose(backend.to_numpy(gpu.parameters[path]), array, rtol=1e-12, atol=1e-15), path
    warm_ups = 4 if kernels == "auto" else 8  # of two sizes; portable steps are not kept for the second fit
    assert len(launches) == 9 * (5 + 1) - warm_ups
    assert np.allclose(gpu.predict(x), cpu.predict(x), rtol=1e-12)


def everything(where, kernels):
    return captured.everything(where, kernels, "float64", portnn.CosineDecay(0.01, 40))


@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_all_fused_functions_in_one_captured_step(backend, launches, kernels):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((22, 8, 8, 1)), rng.integers(0, 3, 22)
    gpu, cpu = everything(backend, kernels), everything("cpu", "portable")
    ours, theirs = (net.fit(x, y, epochs=4, batch_size=4, shuffle=True, verbose=0) for net in (gpu, cpu))
    for name in theirs:
        assert np.allclose(ours[name], theirs[name], rtol=1e-9, atol=0)
    for path, array in cpu.parameters.items():
        assert np.allclose(backend.to_numpy(gpu.parameters[path]), array, rtol=1e-7, atol=1e-10), path
    assert len(launches) == (4 * 5 - 2) + (4 - 2)
    assert np.allclose(gpu.predict(x), cpu.predict(x), rtol=1e-9)


def test_an_epoch_is_graph_launches_and_nothing_else(backend, monkeypatch):
    """After two eager steps and the capture, each step is one launch and runs no Python code of the train step."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 8, 8, 1)), rng.integers(0, 3, 20)
    net, seen = everything(backend, "auto"), []
    launch, capture, steps = backend.driver.launch, backend.driver.capture, TrainStep.__call__
    monkeypatch.setattr(backend.driver, "launch", lambda graph: (launch(graph), seen.append("launch"))[0])
    monkeypatch.setattr(backend.driver, "capture", lambda work: (seen.append("capture"), capture(work))[1])
    monkeypatch.setattr(TrainStep, "__call__", lambda self: (seen.append("step"), steps(self))[1])
    net.fit(x, y, epochs=3, batch_size=4, shuffle=True, verbose=0)
    assert seen == ["step", "step", "capture", "step"] + ["launch"] * (3 * 5 - 2)


def _conv(shape, k, filters, pool, **options):
    return [portnn.ConvLayer(shape, (k, k), filters, **options), portnn.ActivationLayer("relu"), *pool]


def _fully(*sizes):
    layers = [(portnn.FCLayer(m, n), portnn.ActivationLayer("tanh")) for m, n in pairwise(sizes)]
    return [layer for pair in layers for layer in pair]


NETWORKS = {
    # the batch 1, products 8, bias and activation 3, the loss with what is behind it 1, chain rules 2, the optimizer 1
    "784-100-50-10": (_fully(784, 100, 50, 10), (784,), "mse", portnn.SGD(0.1), (16, 8, 16)),
    "784-512-256-10": (_fully(784, 512, 256, 10)[:-1], (784,), "softmax_cross_entropy", portnn.Adam(), (16, 8, 16)),
    "LeNet": (
        [
            *_conv((28, 28, 1), 5, 6, [portnn.AvgPoolLayer(2)], padding="same"),
            *_conv((14, 14, 6), 5, 16, [portnn.AvgPoolLayer(2)]),
            portnn.FlattenLayer(),
            *_fully(400, 120, 84, 10)[:-1],
        ],
        (28, 28, 1), "softmax_cross_entropy", portnn.SGD(0.1, momentum=0.9), (22, 9, 29),
    ),
    "the larger CNN": (
        [
            *_conv((28, 28, 1), 3, 32, []),
            *_conv((26, 26, 32), 3, 64, [portnn.MaxPoolLayer(2)]),
            portnn.FlattenLayer(),
            *_fully(12 * 12 * 64, 128, 10)[:-1],
        ],
        (28, 28, 1), "softmax_cross_entropy", portnn.SGD(0.1, momentum=0.9), (20, 8, 24),
    ),
}  # fmt: skip


@pytest.mark.skipif(not software_gpu.is_wanted(), reason="only a GPU in software tells the nodes of a graph")
@pytest.mark.parametrize("name", NETWORKS)
def test_how_many_launches_a_step_is(backend, monkeypatch, name):
    """The figures are in docs/gpu.md."""
    layers, shape, loss, optimizer, (launches, products, with_patches) = NETWORKS[name]
    graphs, capture = [], backend.driver.capture
    monkeypatch.setattr(backend.driver, "capture", lambda work: (graphs.append(capture(work)), graphs[-1])[1])
    y = np.zeros((6, 10)) if loss == "mse" else np.zeros(6, np.int64)
    for up_to in (0, 32):
        monkeypatch.setattr(backend, "direct_up_to", up_to)
        net = portnn.Network(copy.deepcopy(layers), seed=0, backend=backend)
        net.use(loss, optimizer=optimizer)
        net.fit(np.zeros((6, *shape)), y, epochs=1, batch_size=2, shuffle=True, verbose=0)
    before, after = map(control.nodes, graphs)
    assert (len(before), len(after)) == (with_patches, launches)
    assert sum("product" in node for node in after) == products


@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_without_capture_every_step_runs_call_by_call(backend, launches, kernels):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((22, 8, 8, 1)), rng.integers(0, 3, 22)
    eager = type(backend)(capture=False)
    histories = [everything(where, kernels).fit(x, y, epochs=3, batch_size=4, verbose=0) for where in (eager, "cpu")]
    assert np.allclose(histories[0]["error"], histories[1]["error"], rtol=1e-9)
    assert not launches
    assert eager != type(backend)()


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_the_note_names_the_layer_that_cannot_be_captured(backend, way):
    class Peeking(portnn.Layer):
        def forward(self, X, *, training=False):
            if way == "forward":
                float(self.xp.sum(X))
            self.output = X
            return X

        def backward(self, output_error, *, need_input_error=True):
            float(self.xp.sum(output_error))
            return output_error

    x, y = np.ones((12, 4)), np.zeros((12, 2))
    net = portnn.Network([portnn.FCLayer(4, 3), Peeking(), portnn.FCLayer(3, 2)], backend=backend, seed=1)
    net.use("mse")
    with pytest.warns(EagerStepWarning, match=r"slower: layer 1 \(Peeking\) cannot be captured: RuntimeError: .*D2H"):
        net.fit(x, y, epochs=3, batch_size=4, learning_rate=0.1, verbose=0)


def test_an_array_that_somebody_holds_keeps_its_values(backend):
    """A graph writes into its own buffers, never into arrays that were taken out of the network before a fit."""
    x, y = np.random.default_rng(0).standard_normal((22, 8, 8, 1)), np.arange(22) % 3
    net = everything(backend, "auto")
    for _ in range(3):
        held = dict(net.parameters)
        before = {path: np.array(backend.to_numpy(w)) for path, w in held.items()}
        net.fit(x, y, epochs=2, batch_size=4, verbose=0)
        assert all(np.array_equal(backend.to_numpy(held[path]), w) for path, w in before.items())
        assert not np.array_equal(backend.to_numpy(net.parameters["10.weights"]), before["10.weights"])


def test_out_of_memory_names_a_batch_size(backend, cupy):
    from portnn_cupy.backend import GpuOutOfMemoryError

    class Greedy(portnn.Layer):
        def forward(self, X, *, training=False):
            if X.shape[0] > 2:
                raise cupy.cuda.memory.OutOfMemoryError(7_340_032, 512, 0)
            return X

        def backward(self, output_error, *, need_input_error=True):
            return output_error

    x, y = np.ones((12, 4)), np.zeros((12, 2))
    net = portnn.Network([portnn.FCLayer(4, 3), Greedy(), portnn.FCLayer(3, 2)], backend=backend, seed=1)
    net.use("mse")
    before = {path: backend.to_numpy(w) for path, w in net.parameters.items()}
    with pytest.raises(GpuOutOfMemoryError, match="as it was after the last whole step: try batch_size=4"):
        net.fit(x, y, epochs=1, batch_size=8, learning_rate=0.1, verbose=0)
    with pytest.raises(GpuOutOfMemoryError, match="try a smaller batch_size"):
        net.predict(x)
    assert all(np.array_equal(backend.to_numpy(net.parameters[path]), w) for path, w in before.items())
    net.fit(x, y, epochs=1, batch_size=2, learning_rate=0.1, verbose=0)


def test_a_network_with_a_layer_of_the_users_that_synchronizes(backend):
    class Peeking(portnn.Layer):
        def forward(self, X, *, training=False):
            return X * (2.0 if float(self.xp.sum(X)) > 0.0 else 1.0)

        def backward(self, output_error, *, need_input_error=True):
            return output_error

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((12, 4)), rng.standard_normal((12, 2))
    made = []
    for where in (backend, "cpu"):
        net = portnn.Network(
            [portnn.FCLayer(4, 3), Peeking(), portnn.FCLayer(3, 2)], backend=where, seed=1, dtype="float64"
        )
        net.use("mse")
        told = nullcontext() if where == "cpu" else pytest.warns(EagerStepWarning, match="D2H")
        with told:
            net.fit(x, y, epochs=3, batch_size=4, learning_rate=0.1, verbose=0)
        made.append(net.predict(x))
    assert np.allclose(*made, rtol=1e-12)


def test_a_network_of_the_articles_layers(backend):
    class Double(portnn.Layer):
        def __init__(self):
            self.weights = np.array([2.0])

        def forward_propagation(self, input):
            self.input = input
            return input * self.weights

        def backward_propagation(self, output_error, learning_rate):
            gradient = self.xp.sum(output_error * self.input)
            error = output_error * self.weights
            self.weights = self.weights - learning_rate * gradient
            return error

    x, y = np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([[1.0], [0.5]])
    made = []
    for where in (backend, "cpu"):
        net = portnn.Network([portnn.FCLayer(2, 1), Double()], backend=where, seed=1, dtype="float64")
        net.use("mse")
        told = (
            nullcontext() if where == "cpu" else pytest.warns(EagerStepWarning, match=r"layer 1 \(Double\) is written")
        )
        with told:
            net.fit(x, y, epochs=4, learning_rate=0.05, verbose=0)
        made.append(net.predict(x))
    assert np.allclose(*made, rtol=1e-12)
