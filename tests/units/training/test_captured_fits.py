"""Callbacks, divergence and resume with captured steps: the same results as on the CPU, and no host reads in a step."""

import numpy as np
import pytest

import runs
from portnn import SGD, Callback, Checkpoint, FCLayer, Network, get_backend
from portnn.training import DivergedError
from portnn_cupy.graph import EagerStepWarning
from replay import ReplayBackend


@pytest.fixture(params=["replay", pytest.param("gpu", marks=pytest.mark.gpu)])
def captured(request):
    """A function that returns a backend that captures steps."""
    return ReplayBackend if request.param == "replay" else lambda: get_backend("gpu")


class PlantedError(Exception):
    pass


class Fails(Callback):
    def __init__(self, at=None):
        self.at = at

    def on_step_end(self, network, step):
        if step == self.at:
            raise PlantedError


def network(where, seed=1):
    return runs.network(where, seed, dtype="float64", kernels="portable")


def close(a, b):
    """Whether two runs on different backends ended in the same state, up to rounding."""
    arrays = all(np.allclose(a[0][name], b[0][name], rtol=1e-9, atol=1e-11) for name in b[0])
    histories = all(np.allclose(a[2][name], b[2][name], rtol=1e-9, equal_nan=True) for name in b[2])
    return a[0].keys() == b[0].keys() and a[1] == b[1] and a[2].keys() == b[2].keys() and arrays and histories


def folder(tmp_path, name):
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_a_whole_run(captured, tmp_path):
    """With validation, early stopping, rate reduction on plateaus, a log and a checkpoint in every step."""
    nets = network("cpu"), network(captured())
    for net, name in zip(nets, "ab", strict=True):
        runs.train(net, runs.callbacks(folder(tmp_path, name)), epochs=8)
    assert close(*map(runs.come_to, nets[::-1]))


@pytest.mark.parametrize("unit", ["step", "epoch"])
@pytest.mark.parametrize("step", [8, *(pytest.param(n, marks=pytest.mark.slow) for n in (10, 13, 15, 21))])
def test_resume(captured, unit, step, tmp_path):
    """A resumed run is bitwise equal to an uninterrupted one on the same backend, in a new network."""
    whole, net = network(captured()), network(captured(), seed=7)
    history = runs.train(whole, [*runs.callbacks(folder(tmp_path, "a"), unit), Fails()], epochs=4)
    here = folder(tmp_path, "b")
    with pytest.raises(PlantedError):
        runs.train(network(captured()), [*runs.callbacks(here, unit), Fails(step)], epochs=4)
    again = runs.train(net, [*runs.callbacks(here, unit), Fails()], epochs=4, resume=here / "run")
    assert again == history
    assert runs.equal(runs.come_to(net), runs.come_to(whole))
    assert (here / "log.csv").read_bytes() == (tmp_path / "a" / "log.csv").read_bytes()


def test_a_file_goes_from_one_backend_to_another(captured, tmp_path):
    whole, net = network("cpu"), network("cpu", seed=7)
    runs.train(whole, [*runs.callbacks(folder(tmp_path, "a")), Fails()], epochs=4)
    here = folder(tmp_path, "b")
    with pytest.raises(PlantedError):
        runs.train(network(captured()), [*runs.callbacks(here), Fails(17)], epochs=4)
    with pytest.warns(UserWarning, match="backend"):
        runs.train(net, [*runs.callbacks(here), Fails()], epochs=4, resume=here / "run")
    assert close(runs.come_to(net), runs.come_to(whole))


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_divergence_is_undone(captured, epoch):
    def rate(k):
        return 1e200 if k == 4 * epoch + 1 else 0.01

    begun = {}

    class Keeps(Callback):
        def on_epoch_begin(self, network, number):
            begun[number] = runs.come_to(network)

    nets = []
    for where in ("cpu", captured()):
        net = Network([FCLayer(3, 4), FCLayer(4, 2)], backend=where, dtype="float64", seed=1, kernels="portable")
        net.use("mse", optimizer=SGD(rate, momentum=0.9))
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((8, 3)), rng.standard_normal((8, 2))
        with pytest.raises(DivergedError, match=rf"epoch {epoch + 1}, at step \d of 4"):
            net.fit(x, y, epochs=4, batch_size=2, shuffle=True, verbose=0, callbacks=[Keeps()])
        now, then = runs.come_to(net), begun[epoch + 1]
        assert all(np.array_equal(now[0][name], array) for name, array in then[0].items())
        assert epoch or not any(array.any() for name, array in now[0].items() if "velocity" in name)
        assert now[1][:2] == then[1][:2] == (4 * epoch, epoch)
        nets.append(net)
    assert close(*map(runs.come_to, nets[::-1]))


def test_after_a_divergence_it_trains_on(captured):
    nets = []
    for where in ("cpu", captured()):
        net = Network([FCLayer(3, 4), FCLayer(4, 2)], backend=where, dtype="float64", seed=1, kernels="portable")
        net.use("mse", optimizer=SGD(lambda k: 1e200 if k == 5 else 0.01, momentum=0.9))
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((8, 3)), rng.standard_normal((8, 2))
        with pytest.raises(DivergedError):
            net.fit(x, y, epochs=4, batch_size=2, verbose=0)
        net.optimizer.learning_rate = 0.01
        net.fit(x, y, epochs=2, batch_size=2, verbose=0)
        nets.append(net)
    assert close(*map(runs.come_to, nets[::-1]))


def test_callbacks_look_on_between_captured_steps(captured):
    x, y = runs.data()

    class Looks(Callback):
        def on_step_end(self, network, step):
            network.predict(x[:3])
            network.evaluate(x, y)
            {**network.parameters, **network.slots["mean"]}

    nets = network(captured()), network(captured())
    histories = runs.train(nets[0], [Looks()]), runs.train(nets[1])
    assert histories[0] == histories[1]
    assert runs.equal(*map(runs.come_to, nets))


def test_gradients_of_a_captured_step_cannot_be_read(captured):
    class Reads(Callback):
        def on_step_end(self, network, step):
            network.gradients  # noqa: B018

    net = network(captured())
    with pytest.raises(RuntimeError, match="reads_gradients = True"):
        runs.train(net, [Reads()])
    assert net.step == 1


@pytest.mark.gpu
def test_gradients_of_eager_steps_can():
    seen = []

    class Reads(Callback):
        reads_gradients = True

        def on_step_end(self, network, step):
            seen.append({path: network.backend.to_numpy(g) for path, g in network.gradients.items()})

    nets = network("cpu"), network("gpu")
    runs.train(nets[0], [Reads()], epochs=1)
    expected, seen[:] = list(seen), []
    with pytest.warns(EagerStepWarning, match="reads the gradients"):
        runs.train(nets[1], [Reads()], epochs=1)
    for a, b in zip(expected, seen, strict=True):
        assert all(np.allclose(a[path], b[path], rtol=1e-9, atol=1e-12) for path in a)
    assert close(*map(runs.come_to, nets[::-1]))


def test_stops_and_checkpoints_between_the_sizes_of_batches(captured, tmp_path):
    """There are two graphs, one for full batches and one for the last batch."""
    expected = network("cpu")
    net = network(captured())
    for each, name in ((expected, "a"), (net, "b")):
        runs.train(each, [Checkpoint(tmp_path / name, unit="step")], epochs=3, batch_size=10)
    assert close(runs.come_to(net), runs.come_to(expected))
