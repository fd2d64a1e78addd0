"""Steps that are captured once and used again by the fits that follow."""

import gc
import weakref

import numpy as np
import pytest

import portnn
import portnn.sources
from portnn import SGD, ActivationLayer, Adam, BatchNormLayer, DropoutLayer, FCLayer, Layer, Network
from rows import Rows

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("error")]
RNG = np.random.default_rng(4)
X, Y = RNG.standard_normal((20, 5)), RNG.standard_normal((20, 3))
BATCH = 8  # and a last one of 4


@pytest.fixture
def captures(backend, monkeypatch):
    """The number of captures so far, as a list of that length."""
    backend.release()
    seen, capture = [], backend.driver.capture
    monkeypatch.setattr(backend.driver, "capture", lambda work: (seen.append(1), capture(work))[1])
    return seen


def network(where, optimizer=None, loss="mse"):
    layers = [FCLayer(5, 6), ActivationLayer("tanh"), BatchNormLayer(), DropoutLayer(0.2), FCLayer(6, 3)]
    net = Network(layers, backend=where, dtype="float64", seed=1)
    net.use(loss, optimizer=optimizer or Adam(0.01), metrics=["mean_absolute_error"])
    return net


WHERE, KERNELS = ("gpu", "cpu"), {"portable": "portable", "chunks of int32": "auto"}


def both(change=lambda net: None, fits=8, at=4, data=(X, Y), **options):
    """Networks on the GPU and the CPU after so many fits of an epoch, changed before one of them."""
    nets = [network(where) for where in ("gpu", "cpu")]
    for net in nets:
        for k in range(fits):
            if k == at:
                change(net)
            net.fit(*data, epochs=1, verbose=0, **{"batch_size": BATCH, "shuffle": True, **options})
    return nets


def agree(gpu, cpu):
    assert gpu.step == cpu.step
    for name, values in cpu.history.items():
        assert np.allclose(gpu.history[name], values, rtol=1e-9, equal_nan=True), name
    for path, expected in cpu.parameters.items():
        assert np.allclose(portnn.to_numpy(gpu.parameters[path]), expected, rtol=1e-8, atol=1e-11), path


def bytes_of(backend):
    """What the backend's arrays and graphs take, whatever else is on the device."""
    import cupy

    gc.collect()
    kept = sum(step.memory.total_bytes() for *_, steps in backend.kept.by_network.values() for step in steps.values())
    return cupy.get_default_memory_pool().used_bytes() + kept


def test_fifty_fits_are_one_capture_for_each_size_of_batch(backend, captures):
    gpu, used = network("gpu"), []
    cpu = network("cpu")
    for _ in range(50):
        gpu.fit(X, Y, epochs=1, batch_size=BATCH, shuffle=True, verbose=0)
        used.append(bytes_of(backend))
    cpu.fit(X, Y, epochs=50, batch_size=BATCH, shuffle=True, verbose=0)
    assert len(captures) == 2
    agree(gpu, cpu)
    assert max(used[5:]) <= used[5]


class Rates(portnn.Callback):
    """Changes the learning rate after each epoch, and reads nothing of the device."""

    def on_step_end(self, network, step):
        self.last = step

    def on_epoch_end(self, network, epoch, logs):
        network.learning_rate_factor = 0.5 + 0.5 / (1 + epoch)


WEIGHTS = np.linspace(0.5, 2, len(X))
WAYS = {  # options of each fit, and what is done before it
    "validation": (lambda: {"validation_data": (X[:7], Y[:7])}, lambda net, k: None),
    "a share for validation": (lambda: {"validation_split": 0.3}, lambda net, k: None),
    "weights": (lambda: {"sample_weight": WEIGHTS}, lambda net, k: None),
    "callbacks": (lambda: {"callbacks": [Rates()]}, lambda net, k: None),
    "another learning rate": (dict, lambda net, k: setattr(net.optimizer, "learning_rate", 0.01 / (1 + k))),
    "predictions": (dict, lambda net, k: (net.predict(X), net.evaluate(X, Y))),
    "r2": (dict, lambda net, k: None),
    "chunks": (dict, lambda net, k: None),
}


@pytest.mark.parametrize("way", WAYS)
def test_fits_in_a_loop(backend, captures, monkeypatch, way):
    """As many captures as there are sizes of batches, and from then on no more memory, whatever comes with the fits."""
    monkeypatch.setattr(portnn.sources, "CHUNK", 2 * BATCH * X.itemsize * X.shape[1])  # two batches
    options, change = WAYS[way]
    nets, used = [network(where) for where in ("gpu", "cpu")], []
    data = (Rows(X), Rows(Y)) if way == "chunks" else (X, Y)
    for net in nets:
        if way == "r2":
            net.use("mse", optimizer=Adam(0.01), metrics=["r2"])
        for k in range(12):
            change(net, k)
            net.fit(*data, epochs=1, batch_size=BATCH, shuffle=True, verbose=0, **options())
            used += [bytes_of(backend)] if net is nets[0] else []
    assert len(captures) == 2
    agree(*nets)
    assert max(used[5:]) <= used[5]


def test_fits_with_weights_of_classes(backend, captures):
    nets = [network(where, loss="softmax_cross_entropy") for where in ("gpu", "cpu")]
    for net in nets:
        net.use("softmax_cross_entropy", optimizer=SGD(0.1), metrics=["accuracy"])
        for k in range(12):
            weights = "balanced" if k % 2 else {0: 1.0, 1: 2.0, 2: 0.5}
            net.fit(X, np.arange(20) % 3, epochs=1, batch_size=BATCH, class_weight=weights, verbose=0)
    assert len(captures) == 2
    agree(*nets)


def test_two_networks_in_turn(backend, captures):
    pairs, used = [[network(where, optimizer) for where in ("gpu", "cpu")] for optimizer in (SGD(0.1), Adam(0.01))], []
    for _ in range(12):
        for pair in pairs:
            for net in pair:
                net.fit(X, Y, epochs=1, batch_size=BATCH, shuffle=True, verbose=0)
        used.append(bytes_of(backend))
    assert len(captures) == 4
    for pair in pairs:
        agree(*pair)
    assert max(used[5:]) <= used[5]


@pytest.mark.parametrize("kind", ["portable", "chunks of int32"])
def test_steps_that_hold_something_of_their_fit_are_not_kept(backend, captures, monkeypatch, kind):
    """Portable steps look batches up by an array of the fit's; it is gone when the fit is over."""
    nets = [Network([FCLayer(5, 3)], backend=where, dtype="float64", seed=1, kernels=KERNELS[kind]) for where in WHERE]
    x = (10 * X).astype(np.int32)
    data = (Rows(x), Rows(Y)) if kind.startswith("chunks") else (x, Y)
    for net in nets:
        net.use("mse", optimizer=SGD(1e-3))
        for _ in range(2):
            net.fit(*data, epochs=4, batch_size=10, shuffle=True, verbose=0)
    assert len(captures) == 2
    assert not any(steps for *_, steps in backend.kept.by_network.values())
    agree(*nets)


def test_r2_of_other_targets(backend, captures):
    """The mean of the targets, which ``r2`` is computed with, is that of each fit."""
    nets = [network(where, SGD(0.01)) for where in ("gpu", "cpu")]
    for net in nets:
        net.use("mse", optimizer=SGD(0.01), metrics=["r2"])
        for k in range(6):
            net.fit(X, Y + 10.0 * k, epochs=1, batch_size=BATCH, verbose=0)
    assert len(captures) == 2
    agree(*nets)


def test_a_network_that_leaves_the_device_leaves_no_graphs(backend, captures):
    """Its graphs and their memory are given up at once; when it comes back its steps are captured anew."""
    gpu, cpu = network("gpu"), network("cpu")
    before = bytes_of(backend)
    for k in range(3):
        gpu.to("gpu")
        for net in (gpu, cpu):
            net.fit(X, Y, epochs=3, batch_size=BATCH, shuffle=True, verbose=0)
        assert len(captures) == 2 * (k + 1)
        assert backend.kept.by_network
        gpu.to("cpu")
        assert not backend.kept.by_network
        assert bytes_of(backend) <= before
        for net in (gpu, cpu):
            net.fit(X, Y, epochs=1, batch_size=BATCH, shuffle=True, verbose=0)
    agree(gpu, cpu)


def test_to_the_same_device_keeps_the_graphs(backend, captures):
    net = network("gpu")
    for _ in range(5):
        net.to("gpu").fit(X, Y, epochs=1, batch_size=BATCH, verbose=0)
    assert len(captures) == 2


def test_the_last_sizes_of_batches_are_kept(backend, captures):
    from portnn_cupy.kept import SIZES

    net = Network([FCLayer(5, 3)], backend="gpu", seed=0)
    net.use("mse", optimizer=SGD(0.1))
    data = [(X[:rows], Y[:rows]) for rows in range(2 * SIZES, 0, -1)]
    for some in (data[:SIZES], data[SIZES:]):
        net.fit(lambda some=some: some, epochs=3, verbose=0)
    assert len(captures) == 2 * SIZES
    (steps,) = [steps for *_, steps in backend.kept.by_network.values()]
    assert list(steps) == list(range(SIZES, 0, -1))


def test_other_samples_are_found(backend, captures):
    nets = [network(where) for where in ("gpu", "cpu")]
    for net in nets:
        for k in range(6):
            net.fit(X + k, Y * k, epochs=1, batch_size=BATCH, shuffle=True, verbose=0)
    assert len(captures) == 2
    agree(*nets)


def test_the_samples_are_not_kept(backend, captures, cupy):
    net = Network([FCLayer(500, 3)], backend="gpu", seed=0)
    net.use("mse", optimizer=SGD(1e-3))
    gc.collect()
    before = cupy.get_default_memory_pool().used_bytes()
    net.fit(np.ones((4000, 500), np.float32), np.ones((4000, 3), np.float32), epochs=1, batch_size=1000, verbose=0)
    assert len(captures) == 1
    gc.collect()
    assert cupy.get_default_memory_pool().used_bytes() < before + 1_000_000  # of 8,000,000 that the samples take


CHANGES = {
    "the optimizer": lambda net: setattr(net.optimizer, "beta1", 0.5),
    "another optimizer": lambda net: net.use("mse", optimizer=SGD(0.1, momentum=0.9), metrics=["mean_absolute_error"]),
    "the loss": lambda net: net.use("mae", optimizer=Adam(0.01), metrics=["mean_absolute_error"]),
    "a frozen layer": lambda net: setattr(net.layers[0], "trainable", False),
    "a setting": lambda net: setattr(net.layers[2], "momentum", 0.5),
    "a rate": lambda net: setattr(net.layers[3], "rate", 0.5),
    "layers": lambda net: net.layers.insert(2, ActivationLayer("relu")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_step_that_computes_something_else_is_captured_anew(backend, captures, change):
    gpu, cpu = both(CHANGES[change])
    assert len(captures) == 4
    agree(gpu, cpu)


UNCHANGED = {
    "the learning rate": lambda net: setattr(net.optimizer, "learning_rate", 0.1),
    "a schedule": lambda net: setattr(net.optimizer, "learning_rate", lambda k: 0.1 / (1 + k)),
    "weights": lambda net: setattr(net.layers[0], "weights", np.full((5, 6), 0.1)),
    "a learning rate of the network's": lambda net: setattr(net, "learning_rate_factor", 0.5),
    "nothing": lambda net: None,
}


@pytest.mark.parametrize("change", UNCHANGED)
def test_what_a_step_reads_from_the_device_needs_no_capture(backend, captures, change):
    gpu, cpu = both(UNCHANGED[change])
    assert len(captures) == 2
    agree(gpu, cpu)


def test_predict_and_evaluate_between_fits(backend, captures):
    def change(net):
        net.predict(X)
        net.evaluate(X, Y)

    agree(*both(change))
    assert len(captures) == 2


@pytest.mark.parametrize("shuffle", [False, True])
def test_fewer_samples_need_no_capture_more_do(backend, captures, shuffle):
    gpu, cpu = (network(where) for where in ("gpu", "cpu"))
    seen = []
    for net in (gpu, cpu):
        for rows in (20, 20, 20, 12, 20, 12, 28, 28, 28):
            x, y = np.tile(X, (2, 1))[:rows], np.tile(Y, (2, 1))[:rows]
            net.fit(x, y, epochs=1, batch_size=BATCH, shuffle=shuffle, verbose=0)
            seen.append(len(captures))
    assert seen[:9] == [0, 1, 2, 2, 2, 2, 3, 3, 4]
    agree(gpu, cpu)


def test_other_sizes_of_batches_are_captured_anew(backend, captures):
    gpu, cpu = (network(where) for where in ("gpu", "cpu"))
    for net in (gpu, cpu):
        for batch, rows in ((8, 20), (8, 20), (5, 20), (5, 20), (8, 16), (8, 16)):
            net.fit(X[:rows], Y[:rows], epochs=2, batch_size=batch, verbose=0)
    agree(gpu, cpu)


def test_arrays_that_somebody_holds_keep_their_values(backend, captures):
    net = network("gpu")
    for _ in range(4):
        net.fit(X, Y, epochs=1, batch_size=BATCH, verbose=0)
    held = {**net.parameters, **net.slots["mean"]}
    then = {path: backend.to_numpy(array).copy() for path, array in held.items()}
    net.fit(X, Y, epochs=1, batch_size=BATCH, verbose=0)
    assert all(np.array_equal(backend.to_numpy(array), then[path]) for path, array in held.items())


def test_a_users_layer_may_read_anything(backend, captures):
    class Own(Layer):
        factor = 1.0

        def forward(self, X):
            return X * self.factor

        def backward(self, output_error):
            return output_error * self.factor

    own = Own()
    net = Network([FCLayer(5, 3), own], backend="gpu", seed=0)
    net.use("mse", optimizer=SGD(0.1))
    for _ in range(2):
        net.fit(X, Y, epochs=5, batch_size=10, verbose=0)
    assert len(captures) == 2


def test_a_network_that_is_gone_leaves_nothing(backend, captures):
    net = network("gpu")
    net.fit(X, Y, epochs=3, batch_size=BATCH, verbose=0)
    assert backend.kept.by_network
    here = weakref.ref(net)
    del net
    gc.collect()
    assert here() is None
    assert not backend.kept.by_network


def test_few_networks_have_their_steps_kept(backend, captures):
    from portnn_cupy.kept import NETWORKS

    nets = [network("gpu") for _ in range(NETWORKS + 2)]
    for net in nets:
        net.fit(X, Y, epochs=3, batch_size=BATCH, verbose=0)
    assert len(backend.kept.by_network) == NETWORKS
    backend.release()
    assert not backend.kept.by_network


def test_steps_that_take_much_memory_are_not_kept(backend, captures, monkeypatch):
    from portnn_cupy import backend as module

    monkeypatch.setattr(module, "SHARE", 1 << 60)
    network("gpu").fit(X, Y, epochs=3, batch_size=BATCH, verbose=0)
    assert not backend.kept.by_network


def test_a_fit_that_fails_leaves_steps_that_can_be_used(backend, captures):
    class Stop(portnn.Callback):
        def on_step_end(self, network, step):
            if step == 14:
                raise KeyError("planned")

    gpu, cpu = (network(where) for where in ("gpu", "cpu"))
    for net in (gpu, cpu):
        net.fit(X, Y, epochs=4, batch_size=BATCH, verbose=0)
        with pytest.raises(KeyError):
            net.fit(X, Y, epochs=1, batch_size=BATCH, verbose=0, callbacks=[Stop()])
        net.fit(X, Y, epochs=1, batch_size=BATCH, verbose=0)
    assert len(captures) == 2
    agree(gpu, cpu)
