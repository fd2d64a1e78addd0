"""EarlyStopping restores all weights of the best epoch, including attributes of layers written as in the article."""

import numpy as np
import pytest

from portnn import Callback, Checkpoint, EarlyStopping, FCLayer, Layer, Network, SequentialLayer

BEST = 2
CURVE = [1.0, 0.5, 2.0, 3.0, 4.0, 5.0]  # the metric's value in each epoch


class Article(Layer):
    """Assigns new weights, or updates the old ones in place."""

    def __init__(self, in_place=False):
        self.W, self.momentum, self.in_place = np.eye(3) * 0.5, np.zeros((3, 3)), in_place

    def config(self):
        return {"in_place": self.in_place}

    def forward_propagation(self, input):
        self.seen = input
        return input @ self.W

    def backward_propagation(self, output_error, learning_rate):
        input_error = output_error @ self.W.T
        self.momentum = 0.5 * self.momentum + self.seen.T @ output_error
        if self.in_place:
            self.W -= learning_rate * self.momentum
        else:
            self.W = self.W - learning_rate * self.momentum
        return input_error


class Record(Callback):
    def __init__(self):
        self.seen = []

    def on_epoch_end(self, network, epoch, logs):
        self.seen.append(arrays(network))


def arrays(network):
    layers = list(network.walk())
    return [np.array(a) for layer in layers for a in (getattr(layer, "W", None), getattr(layer, "weights", None))]


def fit(network, *calls, epochs=6, **options):
    def curve(y_true, y_pred):
        return np.full(len(y_pred), CURVE[network.epoch], y_pred.dtype)

    x = np.random.default_rng(0).standard_normal((12, 3))
    network.use("mse", metrics=[curve])
    network.fit(x, x[:, :1], epochs, 0.05, verbose=0, callbacks=calls, **options)


def made(in_place):
    return Network([Article(in_place), SequentialLayer(Article(in_place)), FCLayer(3, 1)], seed=1)


def same(a, b):
    return all(np.array_equal(*pair) for pair in zip(a, b, strict=True) if pair[0].dtype != object)


@pytest.mark.parametrize("in_place", [False, True])
def test_all_weights_are_those_of_the_best_epoch(in_place):
    record, net = Record(), made(in_place)
    fit(net, record, EarlyStopping("curve", mode="min", patience=3))
    now = arrays(net)
    assert len(record.seen) == BEST + 3
    assert same(now, record.seen[BEST - 1])
    assert not same(now, record.seen[BEST])


def test_after_a_resume(tmp_path):
    def calls():
        return [EarlyStopping("curve", mode="min", patience=9), Checkpoint(tmp_path / "run")]

    record, net = Record(), made(True)
    fit(net, record, EarlyStopping("curve", mode="min", patience=9))
    fit(made(True), *calls(), epochs=3)
    again = made(True)
    fit(again, *calls(), resume=tmp_path / "run")
    assert same(arrays(again), record.seen[BEST - 1])
    assert same(arrays(net), record.seen[BEST - 1])
