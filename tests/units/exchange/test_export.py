"""network.export: which files it writes, and what it refuses."""

import copy
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest

import portnn
from cases import ACTIVATIONS, OwnLayer
from pages import NODE, WITHOUT_NODE, computed, difference, exported, scripts
from portnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    Layer,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    RandomAffineLayer,
    ReshapeLayer,
    ResidualLayer,
    ScaleLayer,
    SequentialLayer,
    SoftmaxLayer,
    UpsampleLayer,
)
from portnn.exchange.page.assemble import asset
from portnn.exchange.page.forward import CALLS, COMPOSITES
from portnn.exchange.samples import most, sample_shape

needs_node = pytest.mark.skipif(NODE is None, reason=WITHOUT_NODE)


def small(**options):
    return Network([FCLayer(3, 4), ActivationLayer("tanh"), FCLayer(4, 2)], seed=1, **options)


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
@pytest.mark.parametrize("name", ["page.html", "page.HTML", "a page.v2.html"])
def test_a_page_is_one_file(tmp_path, kind, name):
    assert small().export(kind(tmp_path / name)) is None
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes().startswith(b"<!doctype html>\n")


def test_the_same_network_gives_the_same_bytes(tmp_path):
    network = small()
    first = exported(network, tmp_path)
    assert exported(network, tmp_path) == first
    assert exported(copy.deepcopy(network), tmp_path) == first
    network.save(tmp_path / "net.portnn.safetensors")
    assert exported(portnn.load(tmp_path / "net.portnn.safetensors"), tmp_path) == first


def test_a_page_refers_to_nothing_else(tmp_path):
    text = exported(small(), tmp_path)
    for word in ("http:", "https:", "//cdn", " src=", "@import", "url(", "fetch(", "XMLHttpRequest", "import("):
        assert word not in text.replace("xmlns='http://www.w3.org/2000/svg'", ""), word
    assert "default-src 'none'" in text


def test_it_says_how_it_was_made(tmp_path):
    network = small()
    text = exported(network, tmp_path)
    assert f"portnn {portnn.__version__}" in text
    assert "export(&quot;page.html&quot;)" in text
    assert "Trained" not in text
    network.use("mse", optimizer="adam")
    network.fit(np.ones((4, 3)), np.ones((4, 2)), epochs=2, batch_size=2, verbose=0)
    text = exported(network, tmp_path)
    assert "Trained for 2 epochs, 4 steps, with the loss <code>mse</code> by <code>Adam(" in text
    assert f"At its end: error {network.history['error'][-1]:.4g}." in text


EVIL = "</script><script>alert(1)</script><!--<b>\u2028&"


def test_names_of_users_are_escaped(tmp_path):
    def loss(y_true, y_pred):
        return ((y_true - y_pred) ** 2).mean()

    def prime(y_true, y_pred):
        return 2 * (y_pred - y_true) / y_true.size

    def metric(y_true, y_pred):
        return y_pred[:, 0]

    loss.__name__ = metric.__name__ = EVIL
    network = small()
    network.use(loss, prime, metrics=[metric])
    network.fit(np.ones((2, 3)), np.ones((2, 2)), epochs=1, learning_rate=0.1, verbose=0)
    text = exported(network, tmp_path)
    assert len(scripts(text)) == 3
    assert "alert(1)</script>" not in text
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in text


def test_a_layer_that_calls_itself_evil(tmp_path, monkeypatch):
    """What layers say of themselves stands in a comment and in data: it can leave neither."""
    monkeypatch.setattr(FCLayer, "__repr__", lambda self: EVIL + "\nalert(2); //")
    text = exported(small(), tmp_path)
    assert len(scripts(text)) == 3
    assert "\nalert(2)" not in text
    assert "\u2028" not in text
    assert "<!--<b>" not in text


# -- what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["net.pyc", "net.h", "net.docx", "net", "net.html.gz", ".html", "net.portnn.safetensors"]
)
def test_other_endings(tmp_path, name):
    words = (
        r'what the path\'s ending says, "net\.html" \(a page to try the network in a browser\), "net\.onnx" .*; got '
    )
    with pytest.raises(ValueError, match=words):
        small().export(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_to_load_again_is_saved(tmp_path):
    with pytest.raises(ValueError, match=r"net\.save\(path\) writes a file to load again"):
        small().export(tmp_path / "net.safetensors")


@pytest.mark.parametrize("path", [None, 3, 2.5, ["page.html"]])
def test_what_is_no_path(path):
    with pytest.raises(TypeError, match="path must be a file's path, got"):
        small().export(path)


def test_a_folder_and_no_folder(tmp_path):
    (tmp_path / "old.html").mkdir()
    with pytest.raises(IsADirectoryError, match="there is a folder of this name"):
        small().export(tmp_path / "old.html")
    with pytest.raises(FileNotFoundError, match="there is no such folder; create it first"):
        small().export(tmp_path / "none" / "page.html")


def test_an_error_leaves_the_old_page(tmp_path):
    path = tmp_path / "page.html"
    small().export(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="layer 1 OwnLayer"):
        Network([FCLayer(3, 4), OwnLayer(4)]).export(path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


def test_no_layers(tmp_path):
    with pytest.raises(RuntimeError, match=r"no layers: add them first, net\.add"):
        Network().export(tmp_path / "page.html")


def test_parameters_that_do_not_exist_yet(tmp_path):
    network = Network([MaxPoolLayer(2), BatchNormLayer()])
    with pytest.raises(
        RuntimeError, match=r"layer 1 \(BatchNormLayer\(\)\) .* on the first batch: call fit or predict"
    ):
        network.export(tmp_path / "page.html")
    network.predict(np.zeros((1, 4, 4, 2)))
    network.export(tmp_path / "page.html")


class Derived(FCLayer):
    """Derived from a layer of ours: what it changes, nobody knows."""


class Article(Layer):
    def __init__(self):
        self.weights = np.ones(2)

    def forward_propagation(self, input):
        return input * self.weights

    def backward_propagation(self, output_error, learning_rate):
        return output_error * self.weights


def square(x):
    return x * x


def square_prime(x):
    return 2 * x


def test_all_layers_without_a_counterpart_are_listed(tmp_path):
    network = Network(
        [
            FCLayer(3, 2),
            OwnLayer(2),
            ResidualLayer(FCLayer(2, 2), ActivationLayer(square, square_prime)),
            ParallelLayer([Derived(2, 2)], []),
            Article(),
        ]
    )
    with pytest.raises(ValueError, match="no JavaScript for 4 of the network's layers") as caught:
        network.export(tmp_path / "page.html")
    assert str(caught.value).splitlines()[1:] == [
        "  layer 1 OwnLayer",
        "  layer 2.1 ActivationLayer with the function square",
        "  layer 3.0.0 Derived",
        "  layer 4 Article",
    ]


def test_more_weights_than_a_page_may_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("portnn.exchange.page.forward.MOST_BYTES", 100)
    with pytest.raises(ValueError, match="104 bytes of weights, a page may hold 100 at most"):
        small().export(tmp_path / "page.html")


def test_a_layer_that_lost_its_weights(tmp_path):
    network = small()
    network.layers[0].parameters["weights"] = np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match="has shape"):
        network.export(tmp_path / "page.html")


def test_every_layer_has_a_counterpart():
    """And every activation a function of its name."""
    layers = {name for name in portnn.__all__ if name.endswith("Layer")} - {"Layer"}
    assert layers - {*CALLS, *COMPOSITES} == set()
    written = set(re.findall(r"^function (\w+)\(", asset("layers.js"), re.MULTILINE))
    assert set(ACTIVATIONS) - written == set()


# -- networks in all states ----------------------------------------------------------------------------------------------


def test_while_another_thread_trains(tmp_path):
    """The page is that of one moment between two steps."""
    network = small()
    network.use("mse")
    inside, go_on = threading.Event(), threading.Event()

    class Wait(portnn.Callback):
        def on_step_end(self, network, step):
            inside.set()
            go_on.wait(30)

    data = np.ones((8, 3)), np.zeros((8, 2))
    options = dict(epochs=1, learning_rate=0.1, verbose=0, callbacks=[Wait()])
    training = threading.Thread(target=network.fit, args=data, kwargs=options)
    training.start()
    try:
        assert inside.wait(30)
        text = exported(network, tmp_path)
    finally:
        go_on.set()
        training.join()
    assert "1 step," in text
    assert exported(network, tmp_path) != text


@needs_node
def test_layers_that_were_changed_have_new_paths(tmp_path):
    network = small()
    network.layers.insert(0, ScaleLayer(2.0))
    network.layers[1].trainable = False
    x = np.ones((2, 3))
    ((found),) = computed([(exported(network, tmp_path), x)])
    assert difference([y for y, _ in found], network.predict(x)) < 1e-6


def test_networks_on_other_backends(library, tmp_path):
    """The page of a network is the same wherever it is."""
    network = Network([ConvLayer((5, 5, 2), (3, 3), 4), BatchNormLayer(), FlattenLayer(), FCLayer(36, 2)], seed=1)
    expected = exported(network, tmp_path)
    assert exported(network.to(library.backend), tmp_path) == expected


# -- what a network takes ------------------------------------------------------------------------------------------------

SHAPES = {
    (784,): [FCLayer(784, 10)],
    (28, 28): [ReshapeLayer((28, 28, 1)), ConvLayer((28, 28, 1), (3, 3), 2), FlattenLayer()],
    (28, 28, 1): [ConvLayer((28, 28, 1), (3, 3), 2)],
    (3,): [ScaleLayer(2.0), DropoutLayer(0.1), ActivationLayer("tanh"), FCLayer(3, 2)],
    (5, 4, 3): [RandomAffineLayer(), ResidualLayer(ActivationLayer("relu")), ConvLayer((5, 4, 3), (2, 2), 1)],
    (6, 2): [SequentialLayer(SequentialLayer(), ConvLayer((6, 2), (3,), 1))],
    (4,): [ParallelLayer([FCLayer(4, 2)], FCLayer(4, 3)), ActivationLayer("relu")],
    (12,): [ReshapeLayer((2, 6)), SoftmaxLayer()],
    (4, 2, 1): [UpsampleLayer(2), ConvLayer((8, 4, 1), (2, 2), 1)],
    (7,): [FlattenLayer(), FCLayer(7, 1)],
}


@pytest.mark.parametrize(("shape", "layers"), SHAPES.items(), ids=str)
def test_the_shape_that_layers_say(shape, layers, tmp_path):
    network = Network(copy.deepcopy(layers))
    assert sample_shape(network) == shape
    network.export(tmp_path / "page.html")


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1)])
def test_mnists_shape_where_layers_take_many(shape):
    network = Network([FlattenLayer(), FCLayer(784, 10)])
    network.predict(np.zeros((2, *shape)))
    assert sample_shape(network) == (28, 28)
    network = Network([ScaleLayer(1 / 255), FlattenLayer(), FCLayer(784, 10)])
    assert sample_shape(network) == (784,)
    network.predict(np.zeros((2, 28, 28)))
    assert sample_shape(network) == (784,)
    assert sample_shape(Network([MaxPoolLayer(2), FlattenLayer(), FCLayer(196, 10)])) == (28, 28, 1)


def test_the_shape_that_was_predicted_last(tmp_path):
    network = Network([MaxPoolLayer(2), GlobalAvgPoolLayer(), FCLayer(3, 2)])
    with pytest.raises(ValueError, match=r"MaxPoolLayer\(2\) takes several: .* or call predict once before"):
        network.export(tmp_path / "page.html")
    network.predict(np.zeros((1, 6, 8, 3)))
    assert sample_shape(network) == (6, 8, 3)
    assert sample_shape(Network([FCLayer(28, 3), FlattenLayer(), FCLayer(84, 1)])) == (28, 28)
    network = Network([FCLayer(2, 3), FlattenLayer(), FCLayer(15, 1)])
    network.predict(np.zeros((1, 5, 2)))
    assert sample_shape(network) == (5, 2)


@pytest.mark.parametrize(
    ("expected", "layers"),
    [
        (1.0, [FCLayer(784, 10)]),
        (255.0, [ScaleLayer(1 / 255), FCLayer(784, 10)]),
        (255.0, [ReshapeLayer((784,)), SequentialLayer(ScaleLayer(1 / 128, offset=-1.0), FCLayer(784, 10))]),
        (255.0, [SequentialLayer(), RandomAffineLayer(), ScaleLayer(0.01), ConvLayer((28, 28, 1), (3, 3), 1)]),
        (1.0, [ScaleLayer(2.0, offset=-1.0), FCLayer(784, 10)]),
        (1.0, [FCLayer(784, 10), ScaleLayer(1 / 255)]),
        (1.0, [SequentialLayer()]),
    ],
)
def test_the_range_of_pixels(expected, layers, tmp_path):
    assert most(Network(layers).layers) == expected


@pytest.mark.parametrize("top", [1.0, 255.0])
def test_batch_normalization_knows_the_range_of_pixels(top):
    network = Network([ReshapeLayer((28, 28, 1)), BatchNormLayer(), FlattenLayer(), FCLayer(784, 2)])
    assert most(network.layers) == 1.0
    network.use("mse")
    x = np.random.default_rng(0).random((32, 28, 28)) * top
    network.fit(x, np.zeros((32, 2)), epochs=2, learning_rate=1e-3, batch_size=8, verbose=0)
    assert most(network.layers) == top
