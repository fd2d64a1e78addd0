"""Networks on a real GPU. Without one, every test here is skipped with the reason."""

import gc
import threading

import numpy as np
import pytest

import portnn
import software_gpu
from captured import everything
from documents import run

pytestmark = pytest.mark.gpu


# -- networks ----------------------------------------------------------------------------------------------------------


def test_xor(backend):
    """The article's network on the GPU and the CPU: its error decreases, and both runs agree."""
    x, y = (
        np.array([[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]]], np.float64),
        np.array([[[0]], [[1]], [[1]], [[0]]], np.float64),
    )
    outputs, errors = [], []
    for where in ("gpu", "cpu"):
        net = portnn.Network(backend=where, seed=1, dtype="float64")
        net.add(portnn.FCLayer(2, 3))
        net.add(portnn.ActivationLayer("tanh"))
        net.add(portnn.FCLayer(3, 1))
        net.add(portnn.ActivationLayer("tanh"))
        net.use("mse")
        history = net.fit(x, y, epochs=200, learning_rate=0.1)
        errors.append(history["error"])
        outputs.append(np.asarray(net.predict(x)))
    assert np.allclose(*errors, rtol=1e-9)
    assert np.allclose(*outputs, rtol=1e-9)
    assert errors[0][-1] < errors[0][0]


@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_a_convolutional_network(backend, kernels):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((22, 8, 8, 2)), rng.standard_normal((22, 3))
    histories = []
    for where in ("gpu", "cpu"):
        layers = [
            portnn.ConvLayer((8, 8, 2), (3, 3), 4),
            portnn.ActivationLayer("relu"),
            portnn.FlattenLayer(),
            portnn.FCLayer(144, 3),
        ]
        net = portnn.Network(layers, backend=where, seed=2, kernels=kernels, dtype="float64")
        net.use("mse", optimizer=portnn.SGD(0.05, momentum=0.9), metrics=["accuracy"])
        histories.append(net.fit(x, y, epochs=5, batch_size=4, shuffle=True))
    for name in histories[0]:
        assert np.allclose(histories[0][name], histories[1][name], rtol=1e-9)


def test_a_network_moved_to_the_gpu_and_back(backend):
    net = portnn.Network([portnn.FCLayer(3, 2)], seed=0)
    x = np.ones((4, 3), np.float32)
    expected = net.predict(x)
    assert np.allclose(net.to("gpu").predict(x), expected, rtol=1e-5)
    assert np.allclose(net.to("cpu").predict(x), expected, rtol=1e-5)


def test_what_it_says_of_itself(backend):
    said = backend.describe()
    assert "NVIDIA" in said["device"]
    assert said["library"].startswith("CuPy ")
    assert said["memory"].endswith("GiB free")


# -- steps as graphs ---------------------------------------------------------------------------------------------------


IMAGES = np.random.default_rng(0).standard_normal((70, 8, 8, 1))
LABELS = np.random.default_rng(1).integers(0, 3, 70)


@pytest.mark.filterwarnings("error")  # a step that cannot be captured emits a warning
@pytest.mark.parametrize("kernels", ["auto", "portable"])
def test_captured_and_eager_and_portable_runs_have_one_loss_curve(backend, kernels):
    places = {"captured": backend, "eager": type(backend)(capture=False), "NumPy": "cpu"}
    for dtype, limit in (("float32", 1e-4), ("float64", 1e-9)):
        curves = {
            name: everything(where, "portable" if name == "NumPy" else kernels, dtype).fit(
                IMAGES, LABELS, epochs=4, batch_size=16, shuffle=True, verbose=0
            )["error"]
            for name, where in places.items()
        }
        for name in ("captured", "eager"):
            assert np.allclose(curves[name], curves["NumPy"], rtol=limit), name


def test_the_same_seed_on_both_devices(backend):
    """The initial weights are bitwise equal; after an epoch with float64, tanh and SGD they agree to 1e-9."""
    nets = []
    for where in ("gpu", "cpu"):
        net = portnn.Network(backend=where, seed=7, dtype="float64")
        for layer in (portnn.FCLayer(64, 40), portnn.ActivationLayer("tanh"), portnn.FCLayer(40, 3)):
            net.add(layer)
        net.use("mse", optimizer=portnn.SGD(0.1))
        nets.append(net)
    gpu, cpu = nets
    for path, w in cpu.parameters.items():
        assert np.array_equal(backend.to_numpy(gpu.parameters[path]), w)
    x, y = IMAGES.reshape(70, 64), np.eye(3)[LABELS]
    for net in nets:
        net.fit(x, y, epochs=1, batch_size=8, shuffle=True, verbose=0)
    for path, w in cpu.parameters.items():
        assert np.abs(backend.to_numpy(gpu.parameters[path]) - w).max() < 1e-9


@pytest.mark.filterwarnings("error")
def test_an_epoch_is_graph_launches_and_nothing_else(backend, monkeypatch):
    seen = []
    launch, step = backend.driver.launch, portnn.training.step.TrainStep.__call__
    monkeypatch.setattr(backend.driver, "launch", lambda graph: (launch(graph), seen.append("launch"))[0])
    monkeypatch.setattr(portnn.training.step.TrainStep, "__call__", lambda self: (seen.append("step"), step(self))[1])
    everything("gpu").fit(IMAGES[:64], LABELS[:64], epochs=5, batch_size=16, verbose=0)
    assert seen == ["step"] * 3 + ["launch"] * (5 * 4 - 2)  # two warm-ups and the capture


def test_out_of_memory_names_a_batch_size_and_the_network_goes_on(backend, cupy):
    _, total = backend.device.mem_info

    class Greedy(portnn.Layer):
        def forward(self, X, *, training=False):
            if X.shape[0] > 8:
                cupy.empty(2 * total, np.uint8)
            self.output = X
            return X

        def backward(self, output_error, *, need_input_error=True):
            return output_error

    net = portnn.Network([portnn.FCLayer(64, 3), Greedy()], backend="gpu", seed=1)
    net.use("mse", optimizer=portnn.SGD(0.1))
    x, y = IMAGES.reshape(70, 64), np.eye(3)[LABELS]
    with pytest.raises(RuntimeError, match="try batch_size=8"):
        net.fit(x[:64], y[:64], epochs=1, batch_size=16, verbose=0)
    net.fit(x[:64], y[:64], epochs=1, batch_size=8, verbose=0)


def test_two_networks_at_once(backend):
    """Two threads, each with its own network, get the same errors as a run alone."""
    alone = everything("gpu").fit(IMAGES, LABELS, epochs=5, batch_size=16, verbose=0)["error"]
    found = []

    def work():
        found.append(everything("gpu").fit(IMAGES, LABELS, epochs=5, batch_size=16, verbose=0)["error"])

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone, alone]


def test_a_thousand_fits_take_no_more_memory_than_a_hundred(backend, cupy):
    """What CuPy's pool and the graphs have: how much of the device is free, other processes change as well."""
    many = 100 if software_gpu.is_wanted() else 1000
    net = portnn.Network([portnn.FCLayer(64, 30), portnn.ActivationLayer("tanh"), portnn.FCLayer(30, 3)], backend="gpu")
    net.use("mse", optimizer=portnn.SGD(0.01))
    x, y = portnn.to_device(IMAGES.reshape(70, 64), "gpu"), portnn.to_device(np.eye(3)[LABELS], "gpu")
    taken = []
    for k in range(many):
        net.fit(x, y, epochs=1, batch_size=10, verbose=0)
        if k in (many // 10 - 1, many - 1):
            gc.collect()
            pools = [cupy.get_default_memory_pool(), *backend.driver.retired]
            pools += [step.memory for *_, steps in backend.kept.by_network.values() for step in steps.values()]
            taken.append(sum(pool.total_bytes() for pool in pools))
    assert taken[1] <= taken[0]


def test_the_same_step_twice_gives_the_same_bits(backend):
    runs = [everything("gpu") for _ in range(2)]
    for net in runs:
        net.fit(IMAGES, LABELS, epochs=3, batch_size=16, shuffle=True, verbose=0)
    for path, w in runs[0].parameters.items():
        assert np.array_equal(backend.to_numpy(w), backend.to_numpy(runs[1].parameters[path])), path


def test_memory_is_reported_and_released(backend, cupy):
    gc.collect()
    backend.release()
    before = backend.memory()
    array = cupy.empty(64 << 20, np.uint8)
    assert backend.memory()["used"] >= before["used"] + (64 << 20)
    del array
    backend.release()
    assert backend.memory()["used"] <= before["used"] + (1 << 20)
    assert backend.memory()["kept"] <= before["kept"] + (1 << 20)


def test_an_array_that_somebody_holds_keeps_its_values(backend):
    net = everything("gpu")
    net.fit(IMAGES, LABELS, epochs=1, batch_size=16, verbose=0)
    held = dict(net.parameters)
    before = {path: backend.to_numpy(w).copy() for path, w in held.items()}
    net.fit(IMAGES, LABELS, epochs=1, batch_size=16, verbose=0)
    assert all(np.array_equal(backend.to_numpy(held[path]), w) for path, w in before.items())


def test_the_example_with_own_layers_warns_of_nothing():
    """Steps with a layer that updates itself are not captured: the example says so itself."""
    done = run("examples/own_layer.py", "--backend", "gpu", "--epochs", "5", warnings="error::UserWarning")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("error=") == 2
