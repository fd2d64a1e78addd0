"""After a fit that ended within an epoch, another fit starts the next epoch; only ``resume`` finishes the old one."""

import copy
import pickle

import numpy as np
import pytest

import portnn
from portnn import Callback, Checkpoint, FCLayer, Layer, Network, random

X = np.arange(12.0, dtype=np.float32).reshape(12, 1)


class Notes(Layer):
    """Records the samples of each step."""

    def __init__(self):
        self.seen = []

    def forward(self, X, *, training=False):
        if training:
            self.seen.append([int(x) for x in X[:, 0]])
        return X

    def backward(self, output_error):
        return output_error


class Ends(Callback):
    """Ends the fit after a given step, by stopping or by an interrupt."""

    def __init__(self, step, how):
        self.step, self.how = step, how

    def on_step_end(self, network, step):
        if step == self.step:
            if self.how == "stop":
                network.stop_training = True
            else:
                raise KeyboardInterrupt


def network():
    net = Network([Notes(), FCLayer(1, 1)], seed=3)
    net.use("mse")
    return net


def train(net, epochs=1, **options):
    net.layers[0].seen = []
    net.fit(X, X, epochs=epochs, learning_rate=1e-3, batch_size=4, shuffle=True, verbose=0, **options)
    return [sample for batch in net.layers[0].seen for sample in batch]


def order(epoch):
    return random.permutation(3, epoch, 12).tolist()


@pytest.mark.parametrize("how", ["stop", "interrupt"])
def test_the_next_fit_begins_the_next_epoch(how):
    net = network()
    if how == "stop":
        assert train(net, callbacks=[Ends(2, how)]) == order(0)[:8]
    else:
        with pytest.raises(KeyboardInterrupt):
            train(net, callbacks=[Ends(2, how)])
    assert (net.step, net.epoch, net.history["error"]) == (2, 0, [])
    copies = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for each in (net, *copies):
        assert train(each, 2) == order(1) + order(2)
        assert (each.step, each.epoch, len(each.history["error"])) == (8, 3, 2)


def test_an_epoch_of_which_no_step_was_made_is_still_to_come():
    class Fails(Callback):
        def on_epoch_begin(self, network, epoch):
            raise ZeroDivisionError

    net = network()
    with pytest.raises(ZeroDivisionError):
        train(net, callbacks=[Fails()])
    assert train(net, epochs=0) == []
    assert train(net) == order(0)


def test_the_epoch_that_is_set_is_the_next_one():
    net = network()
    train(net, callbacks=[Ends(2, "stop")])
    net.epoch = 5
    assert train(net) == order(5)
    train(net, callbacks=[Ends(6, "stop")])
    net.use("mse")
    assert train(net) == order(0)


def test_a_file_holds_it_too(tmp_path):
    net = network()
    train(net, callbacks=[Ends(2, "stop"), Checkpoint(tmp_path / "run", unit="step")])
    net.save(tmp_path / "net")
    for path in ("run", "net"):
        loaded = portnn.load(tmp_path / path, layers=[Notes])
        assert train(loaded) == order(1)
        assert loaded.epoch == 2


def test_resume_goes_on_within_it(tmp_path):
    net = network()
    with pytest.raises(KeyboardInterrupt):
        train(net, callbacks=[Checkpoint(tmp_path / "run", unit="step"), Ends(3, "interrupt")])
    again = network()
    assert train(
        again, 2, callbacks=[Checkpoint(tmp_path / "run", unit="step"), Ends(0, "")], resume=tmp_path / "run"
    ) == (order(0)[8:] + order(1))
    assert (again.step, again.epoch) == (6, 2)
