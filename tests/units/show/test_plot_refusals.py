"""What the functions of ``portnn.plot`` say about input that cannot be drawn."""

import numpy as np
import pytest

from pictures import digits, three_classes, xor
from portnn import BatchNormLayer, ConvLayer, FCLayer, FlattenLayer, Network, ScaleLayer, plot

pytest.importorskip("matplotlib")
IMAGES, POINTS = np.zeros((4, 6, 6)), np.zeros((3, 2))
FRESH = Network([FCLayer(2, 3), FCLayer(3, 2)], seed=1)

REFUSED = [
    (lambda: plot.history(xor()[0]), TypeError, "plot.history takes a history: write net.history, got Network"),
    (lambda: plot.history([1.0]), TypeError, r"takes a history, what fit returns, got \[1.0\]"),
    (lambda: plot.history({}), ValueError, "holds no epochs yet: call net.fit"),
    (lambda: plot.history({"error": []}), ValueError, "holds no epochs yet"),
    (lambda: plot.history(FRESH.history), ValueError, "holds no epochs yet"),
    (lambda: plot.history({"error": 1.0}), ValueError, "must hold one number for each epoch"),
    (lambda: plot.history({"error": ["a"]}), TypeError, r"history\['error'\] must be real numbers"),
    (lambda: plot.digits(np.zeros((4, 6, 6, 2))), ValueError, r"of 2 channels show one, images\[\.\.\., 0\]"),
    (lambda: plot.digits(np.zeros((16, 16))), ValueError, r"one image or 16 rows: write images\[None\] for one"),
    (lambda: plot.digits(np.zeros((0, 6, 6))), ValueError, r"images have shape \(0, 6, 6\), expected"),
    (lambda: plot.digits([]), ValueError, r"images have shape \(0,\)"),
    (lambda: plot.digits(3), ValueError, r"images have shape \(\)"),
    (lambda: plot.digits("seven"), TypeError, "images must be real numbers"),
    (lambda: plot.digits(IMAGES, [1, 2]), ValueError, "there are 4 images, but 2 true classes: give as many"),
    (lambda: plot.digits(IMAGES, predicted=[1] * 5), ValueError, "there are 4 images, but 5 predicted classes"),
    (lambda: plot.digits(IMAGES, [1, 2, 3, -1]), ValueError, r"true\[3\] is -1, but class numbers are whole"),
    (lambda: plot.confusion([0, 1], [0]), ValueError, "y_true holds 2 targets, y_pred 1 predictions"),
    (lambda: plot.confusion([0, 1], [0, 1], names=["a"]), ValueError, "there are 2 classes, but 1 names"),
    (lambda: plot.confusion([0, 1], [0, 1], names="ab"), TypeError, "names must be a list of names"),
    (lambda: plot.filters(FlattenLayer()), TypeError, r"shows a ConvLayer, .*got FlattenLayer\(\): plot.weights"),
    (lambda: plot.filters(digits()[0]), TypeError, r"takes a layer, got Network.*write net.layers\[0\], one of its 7"),
    (lambda: plot.filters(ConvLayer), TypeError, r"takes a layer, .*: write ConvLayer\(\.\.\.\)"),
    (lambda: plot.filters(ConvLayer((4, 4, 1), (2, 2), 2)), RuntimeError, "weights does not exist yet"),
    (lambda: plot.filters(FRESH.layers[1]), ValueError, "has 3 inputs, which are no square image: plot.weights"),
    (lambda: plot.weights(ScaleLayer(2.0)), ValueError, r"ScaleLayer\(2\) has no parameters"),
    (lambda: plot.weights(FCLayer(2, 3)), RuntimeError, "weights does not exist yet"),
    (lambda: plot.weights(BatchNormLayer()), RuntimeError, "weights does not exist yet"),
    (lambda: plot.weights(np.zeros(3)), TypeError, "plot.weights takes a layer"),
    (lambda: plot.activations(FRESH, POINTS, layer=2), ValueError, "layer=2, but the network has layers 0 to 1"),
    (lambda: plot.activations(FRESH, POINTS, layer="2"), ValueError, "no layer '2'.*the paths are 0, 1"),
    (lambda: plot.activations(FRESH, POINTS, layer=1.0), TypeError, "layer must be a whole number"),
    (lambda: plot.activations(FRESH, POINTS, layer=FCLayer(2, 3)), ValueError, "is no layer of this network"),
    (lambda: plot.activations(FRESH, POINTS[:, :1], layer=0), ValueError, "x"),
    (lambda: plot.activations(FRESH, POINTS[:0], layer=0), ValueError, "x holds no samples"),
    (lambda: plot.activations(FRESH, 3, layer=0), TypeError, "takes samples in an array or a list"),
    (lambda: plot.activations(FRESH.layers[0], POINTS, layer=0), TypeError, "plot.activations takes a Network"),
    (lambda: plot.activations(Network(), POINTS, layer=0), ValueError, "the network has no layers"),
    (lambda: plot.boundary(FRESH, np.zeros((3, 4)), [0, 1, 1]), ValueError, r"samples of two numbers.*got shape \(3, 4\)"),
    (lambda: plot.boundary(FRESH, POINTS, [0, 1]), ValueError, "x holds 3 samples, y has shape"),
    (lambda: plot.boundary(FRESH, POINTS, [0, 1, 2]), ValueError, "y holds the class 2, but .* tells 2 classes apart"),
    (lambda: plot.boundary(FRESH, POINTS, [0, -2, 1]), ValueError, "y holds negative numbers"),
    (lambda: plot.boundary(FRESH, POINTS * np.nan, [0, 1, 1]), ValueError, "x holds NaN or infinity"),
    (lambda: plot.boundary(Network, POINTS, [0, 1, 1]), TypeError, "takes a Network"),
    (lambda: plot.gradients(FRESH), RuntimeError, "has no gradients yet: .*call net.fit"),
    (lambda: plot.gradients({}), TypeError, "plot.gradients takes a Network"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), REFUSED, ids=[str(row[2])[:40] for row in REFUSED])
def test_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_one_image_with_its_classes():
    (ax,) = plot.digits(np.zeros((28, 28)), 7, 3).axes
    assert ax.get_title() == "3, not 7"


@pytest.mark.parametrize("name", ["predicted", "true"])
def test_bad_classes_are_named_as_the_argument_is(name):
    with pytest.raises(ValueError, match=f"{name}.1. is 2.5"):
        plot.digits(IMAGES, **{name: [1, 2.5, 3, 4]})


def test_frozen_and_new_layers_have_no_gradient_but_a_bar():
    net, *_ = three_classes()
    assert len(plot.gradients(net).texts) == 4
