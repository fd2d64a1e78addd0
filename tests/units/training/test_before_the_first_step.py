"""Callbacks that change layers during a fit, and files that cannot be written, are errors as early as possible."""

import re

import numpy as np
import pytest

from portnn import SGD, Callback, Checkpoint, CSVLogger, FCLayer, JSONLogger, Layer, Network, SequentialLayer, load
from states import leaves, same


def network(*layers):
    net = Network([*layers, SequentialLayer(FCLayer(3, 3)), FCLayer(3, 3)], seed=1)
    net.use("mse", optimizer=SGD(0.01, momentum=0.9))
    return net


def fit(net, *calls, epochs=3, **options):
    x = np.random.default_rng(0).standard_normal((12, 3))
    return net.fit(x, x, epochs=epochs, batch_size=4, callbacks=calls, verbose=0, **options)


# -- layers ----------------------------------------------------------------------------------------------------------------

CHANGES = {
    "appended": lambda net: net.layers.append(FCLayer(3, 3)),
    "replaced": lambda net: net.layers.__setitem__(1, FCLayer(3, 3)),
    "removed": lambda net: net.layers.pop(),
    "none left": lambda net: net.layers.clear(),
    "inside": lambda net: net.layers[0].layers.__setitem__(0, FCLayer(3, 3)),
    "another list": lambda net: setattr(net, "layers", [FCLayer(3, 3)]),
    "no list": lambda net: setattr(net, "layers", None),
}


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize(
    ("hook", "steps"), [("on_fit_begin", 0), ("on_epoch_begin", 0), ("on_step_end", 1), ("on_epoch_end", 3)]
)
def test_layers_that_a_callback_changes(hook, steps, change, tmp_path):
    def act(self, network, *given):
        CHANGES[change](network)

    calls, net = type("Changes", (Callback,), {hook: act}), network()
    if change == "inside":
        net.layers[0].layers = list(net.layers[0].layers)
        net._arrange()
    with pytest.raises(RuntimeError, match="the layers were changed within fit: change them before, or after"):
        fit(net, calls(), Checkpoint(tmp_path / "run"))
    assert net.step == steps
    assert not (tmp_path / "run").exists()


# -- files -----------------------------------------------------------------------------------------------------------------


class Gain(Layer):
    """A layer with an argument but without ``config``."""

    def __init__(self, k):
        self.k = k

    def forward(self, X):
        return self.k * X

    def backward(self, D):
        return self.k * D


def refused(net, call, kind, match):
    before = leaves(net)
    with pytest.raises(kind, match=match):
        fit(net, call, epochs=100)
    assert (net.step, net.epoch) == (0, 0)
    assert same(leaves(net), before)


MAKERS = {
    "by epoch": Checkpoint,
    "seldom": lambda path: Checkpoint(path, every=100),
    "by step": lambda path: Checkpoint(path, unit="step"),
    "the best": lambda path: Checkpoint(path, monitor="error"),
    "CSV": CSVLogger,
    "JSON": JSONLogger,
}


@pytest.mark.parametrize("make", list(MAKERS))
def test_a_folder_that_is_missing_or_in_the_way(make, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("mine")
    make = MAKERS[make]
    refused(network(), make(tmp_path / "none" / "run"), FileNotFoundError, "there is no such folder; create it first")
    refused(network(), make(tmp_path / "there"), IsADirectoryError, "there is a folder of this name")
    refused(network(), make(tmp_path / "file" / "run"), FileNotFoundError, "there is no such folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]
    assert (tmp_path / "file").read_text() == "mine"


def test_folders_with_numbers_may_be_created_within_the_fit(tmp_path):
    class Creates(Callback):
        def on_epoch_begin(self, network, epoch):
            (tmp_path / str(epoch)).mkdir()

    fit(network(), Creates(), Checkpoint(tmp_path / "{epoch}" / "run"))
    assert load(tmp_path / "3" / "run").epoch == 3
    refused(network(), Checkpoint(tmp_path / "none" / "{epoch}"), FileNotFoundError, "there is no such folder")


def test_a_network_that_no_file_can_hold(tmp_path):
    net = network(Gain(2.0))
    refused(net, Checkpoint(tmp_path / "run", every=100), TypeError, re.escape("layer 0 cannot be saved: Gain"))
    fit(net, CSVLogger(tmp_path / "log"))
    assert net.step == 9
