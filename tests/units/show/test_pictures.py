"""What the pictures show, read from matplotlib's Axes."""

from itertools import pairwise

import numpy as np
import pytest

import portnn
from pictures import digits, panels, texts, three_classes, xor
from portnn import ActivationLayer, ConvLayer, FCLayer, Layer, Network, confusion_matrix, plot

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)


def drawn(picture):
    """The picture, after it was drawn: no warning, no error."""
    figure = picture if hasattr(picture, "savefig") else picture.figure
    figure.canvas.draw()
    return picture


# -- history -------------------------------------------------------------------------------------------------------------


def test_history_has_a_panel_for_each_quantity():
    history = three_classes()[3]
    figure = drawn(plot.history(history))
    assert [ax.get_ylabel() for ax in figure.axes] == ["error", "accuracy", "learning rate"]
    assert {ax.get_xlabel() for ax in figure.axes} == {"epoch"}
    training, validation = figure.axes[0].lines
    np.testing.assert_array_equal(training.get_xdata(), range(1, 9))
    np.testing.assert_allclose(training.get_ydata(), history["error"])
    np.testing.assert_array_equal(validation.get_xdata(), [2, 4, 6, 8])  # validation came every second epoch
    np.testing.assert_allclose(validation.get_ydata(), np.array(history["val_error"])[1::2])
    assert validation.get_linestyle() != training.get_linestyle(), "told apart by more than the colour"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["training", "validation"]
    rates = figure.axes[2].lines[0]
    np.testing.assert_allclose(rates.get_ydata(), history["learning_rate"])
    assert f"validation {history['val_accuracy'][-1]:.4g}" in figure.axes[1].get_title("left")


def test_history_is_logarithmic_where_the_error_spans_a_decade():
    assert plot.history({"error": [1.0, 0.3, 0.01]}).axes[0].get_yscale() == "log"
    assert plot.history({"error": [1.0, 0.3, 0.2]}).axes[0].get_yscale() == "linear"
    assert plot.history({"error": [1.0, 0.3, 0.0]}).axes[0].get_yscale() == "linear", "zero has no logarithm"
    assert plot.history({"error": [1.0, 0.0, -5.0]}).axes[0].get_yscale() == "linear"


def test_history_of_one_epoch_is_a_marker():
    (ax,) = drawn(plot.history({"error": [0.5]})).axes
    (line,) = ax.lines
    assert line.get_marker() == "o"
    assert ax.get_xlim() == (0.5, 1.5)


def test_history_leaves_out_what_is_not_finite():
    nan = float("nan")
    figure = drawn(plot.history({"error": [nan, 1.0, float("inf"), 0.5], "val_error": [nan] * 4, "r2": [nan] * 4}))
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [1.0, 0.5])
    assert figure.axes[1].get_title("left") == "no finite values"


def test_a_learning_rate_that_does_not_change_has_no_panel():
    assert len(plot.history({"error": [1.0, 0.5], "learning_rate": [0.1, 0.1]}).axes) == 1
    assert len(plot.history({"error": [1.0, 0.5], "learning_rate": [float("nan"), 0.1]}).axes) == 1
    assert len(plot.history({"error": [1.0, 0.5], "learning_rate": [0.2, 0.1]}).axes) == 2


# -- digits --------------------------------------------------------------------------------------------------------------


def test_wrong_digits_are_marked_by_words_and_frame():
    net, x, y, _ = digits()
    outputs = net.predict(x)
    figure = drawn(plot.digits(x, y, outputs))
    guesses = outputs.argmax(1)
    shown = panels(figure)
    assert len(shown) == 40
    for ax, guess, true in zip(shown, guesses, y, strict=False):
        assert ax.get_title() == (str(true) if guess == true else f"{guess}, not {true}")
        assert (ax.spines["left"].get_linewidth() > 2) == (guess != true)
    wrong = int((guesses != y)[:40].sum())
    assert figure.get_suptitle() == f"the first 40 of 100, {wrong} of these 40 wrong"
    np.testing.assert_allclose(shown[3].images[0].get_array(), x[3] / 255)


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (RNG.random((3, 5, 4)), (5, 4)),
        (RNG.random((3, 5, 4, 1)), (5, 4)),
        (RNG.random((3, 5, 4, 3)), (5, 4, 3)),
        (RNG.random((3, 784)), (28, 28)),
        (RNG.random((3, 1, 784)), (28, 28)),
        (RNG.random(784), (28, 28)),
        (RNG.random((28, 28)), (28, 28)),
        (RNG.integers(0, 256, (2, 8, 8), dtype=np.uint8), (8, 8)),
        (RNG.integers(0, 256, (2, 8, 8, 3)), (8, 8, 3)),
        (RNG.standard_normal((2, 8, 8)) * 9, (8, 8)),
        (RNG.random((2, 4, 4)).tolist(), (4, 4)),
        (np.full((2, 4, 4), np.nan), (4, 4)),
        (np.zeros((2, 4, 4), bool), (4, 4)),
    ],
    ids=lambda value: str(np.shape(value)) if np.ndim(value) > 1 else None,
)
def test_images_of_many_kinds(images, shape):
    shown = panels(drawn(plot.digits(images)))
    pixels = shown[0].images[0].get_array()
    assert pixels.shape == shape
    assert 0.0 <= pixels.min() <= pixels.max() <= 1.0


def test_classes_of_digits_may_be_rows():
    images = RNG.random((2, 1, 784))  # as the article's networks take and give them
    figure = plot.digits(images, [[[0, 1]], [[1, 0]]], [[[0.2, 0.9]], [[0.1, 0.3]]])
    assert [ax.get_title() for ax in panels(figure)] == ["1", "1, not 0"]
    assert "class as predicted" in texts(plot.digits(images, predicted=[4, 2]))


# -- confusion -----------------------------------------------------------------------------------------------------------


def luminance(colour):
    from matplotlib.colors import to_rgb

    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_confusion_shows_counts_and_percentages_of_rows():
    net, x, y, _ = digits()
    ax = drawn(plot.confusion(y, net.predict(x)))
    counts = confusion_matrix(y, net.predict(x))
    written = {tuple(map(int, text.get_position()[::-1])): text for text in ax.texts}
    assert len(written) == 100
    image = ax.images[0]
    for (i, j), text in written.items():
        count, *share = text.get_text().split("\n")
        assert count == str(counts[i, j])
        if counts[i, j]:
            assert float(share[0].strip("<> %")) == pytest.approx(100 * counts[i, j] / counts[i].sum(), abs=0.5)
        behind, letters = luminance(image.cmap(image.norm(image.get_array()[i, j]))[:3]), luminance(text.get_color())
        assert (max(behind, letters) + 0.05) / (min(behind, letters) + 0.05) >= 4.5, "WCAG's contrast of text"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    right = int(np.trace(counts))
    assert ax.get_title("left") == f"{right} of 100 right ({right} %)"


def test_confusion_with_names_and_empty_rows():
    ax = drawn(plot.confusion([0, 0, 2], [0, 2, 2], names=["cat", "dog", "a very long name"]))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "a very long name"]
    assert [text.get_text() for text in ax.texts] == ["1\n50 %", "0", "1\n50 %", "0", "0", "0", "0", "0", "1\n100 %"]


def test_percentages_do_not_round_to_certainty():
    ax = plot.confusion([0] * 999 + [1], [0] * 998 + [1, 1])
    assert ax.texts[0].get_text() == "998\n99.9 %"
    assert ax.texts[1].get_text() == "1\n0.1 %"


def test_confusion_of_many_classes_has_no_text():
    numbers = np.arange(60)
    ax = drawn(plot.confusion(numbers, numbers[::-1]))
    assert not ax.texts
    assert ax.get_title("left") == "0 of 60 right (0 %)"


# -- boundary ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_boundary_of_xor(dtype):
    net, x, y, _ = xor(dtype)
    ax = drawn(plot.boundary(net, x, y))
    assert ax.get_title("left") == "4 of 4 samples right"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["class 0", "class 1"]
    assert len({line.get_marker() for line in ax.lines}) == 2, "told apart by more than the colour"
    (line,) = [c for c in ax.collections if hasattr(c, "levels")]
    assert list(line.levels) == [0.5]
    corner = next(path.vertices for path in line.get_paths())[::40]
    np.testing.assert_allclose(net.predict(corner.reshape(-1, 1, 2).astype(dtype)).ravel(), 0.5, atol=0.05)


def test_boundary_of_several_classes():
    net, x, y, _ = three_classes()
    right = (net.predict(x).argmax(1) == y).sum()
    one_hot = portnn.to_categorical(y)
    for targets in (y, y[:, None], one_hot):
        ax = drawn(plot.boundary(net, x, targets))
        assert ax.get_title("left") == f"{right} of 90 samples right"
        words = [text.get_text() for text in ax.get_legend().get_texts()]
        assert words == ["class 0", "class 1", "class 2", "wrong"]
        assert len(ax.lines[-1].get_xdata()) == 90 - right


@pytest.mark.parametrize(
    ("loss", "low", "middle"), [("hinge", -1, 0.0), ("binary_cross_entropy", 0, 0.0), ("mse", -1, 0.0)]
)
def test_boundary_of_one_output(loss, low, middle):
    x = RNG.standard_normal((40, 2))
    y = np.where(x[:, :1] > 0, 1, low)
    net = Network([FCLayer(2, 1)], seed=1)
    net.use(loss, optimizer=portnn.Adam(0.1))
    net.fit(x, y, epochs=20, batch_size=8, verbose=0)
    ax = drawn(plot.boundary(net, x, y))
    right = int(((net.predict(x) > middle) == (y > 0)).sum())
    assert right > 35
    assert ax.get_title("left") == f"{right} of 40 samples right"
    assert f"class {low}" in texts(ax)


# -- filters, weights, activations, gradients ----------------------------------------------------------------------------


def test_filters_of_a_convolution():
    layer = digits()[0].layers[2]
    W = portnn.to_numpy(layer.weights)
    shown = panels(drawn(plot.filters(layer)))
    assert len(shown) == 4
    for i, ax in enumerate(shown):
        np.testing.assert_array_equal(ax.images[0].get_array(), W[:, :, 0, i])
        low, high = ax.images[0].get_clim()
        assert low == -high == -np.abs(W).max(), "zero is in the middle of the colours"


def test_filters_of_several_channels_and_one_dimension():
    layer = ConvLayer((8, 8, 20), (3, 2), 40)
    Network([layer], seed=1)
    figure = drawn(plot.filters(layer))
    assert len(panels(figure)) == 16
    assert "the first 16 of 40 filters, the first 8 of 20 channels" in figure.get_suptitle()
    kernels = panels(figure)[1].images
    np.testing.assert_array_equal(kernels[5].get_array(), layer.weights[:, :, 5, 1])
    ends = [image.get_extent()[:2] for image in kernels]
    assert all(right < left for (_, right), (left, _) in pairwise(ends)), "side by side, apart"
    one = ConvLayer((9, 2), (3,), 4)
    Network([one], seed=1)
    shown = panels(drawn(plot.filters(one)))
    np.testing.assert_array_equal(shown[1].images[0].get_array(), one.weights[:, :, 1].T)
    full = FCLayer(9, 2)
    Network([full], seed=1)
    np.testing.assert_array_equal(panels(plot.filters(full))[1].images[0].get_array(), full.weights[:, 1].reshape(3, 3))


def test_weights_of_a_layer():
    layer = xor()[0].layers[0]
    figure = drawn(plot.weights(layer))
    matrix, histogram, bias, _ = panels(figure)
    np.testing.assert_allclose(matrix.images[0].get_array(), layer.weights)
    assert matrix.images[0].norm.vmin == -matrix.images[0].norm.vmax
    assert (matrix.get_xlabel(), matrix.get_ylabel()) == ("output", "input")
    assert sum(bar.get_height() for bar in histogram.patches) == 6
    np.testing.assert_allclose(bias.lines[-1].get_ydata(), layer.bias[0])
    inside = panels(plot.weights(digits()[0].layers[4]))
    assert [ax.get_title("left") for ax in inside[::2]] == [
        "0.weights (3, 3, 4, 4)", "0.bias (4,)", "1.weights (4,)", "1.bias (4,)",
    ]  # fmt: skip


def test_activations_are_those_of_the_layer():
    net, x, _, _ = digits()
    after_relu = net.layers[2](net.layers[1](net.layers[0](x[:2])))
    after_relu = np.maximum(portnn.to_numpy(after_relu), 0)
    for layer in (3, "3", net.layers[3], -4):
        figure = drawn(plot.activations(net, x[:2], layer=layer))
        shown = panels(figure)
        assert len(shown) == 2 * 5
        np.testing.assert_allclose(shown[0].images[0].get_array(), x[0] / 255)
        np.testing.assert_allclose(shown[7].images[0].get_array(), after_relu[1, ..., 1], rtol=1e-5)
    inside = panels(plot.activations(net, x[:1], layer="4.0"))
    X = net.layers[3](after_relu[:1])
    np.testing.assert_allclose(
        inside[1].images[0].get_array(), portnn.to_numpy(net.layers[4].layers[0](X))[0, ..., 0], rtol=1e-5, atol=1e-6
    )
    (ax, *_) = panels(plot.activations(net, x[:5], layer=6))
    np.testing.assert_allclose(ax.images[0].get_array(), net.predict(x[:5]), rtol=1e-5, atol=1e-5)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("unit", "sample")


class Doubling(Layer):
    """A layer as in the article."""

    def forward_propagation(self, input):
        return 2.0 * input

    def backward_propagation(self, output_error, learning_rate):
        return 2.0 * output_error


def test_activations_of_articles_layers_and_of_sequences():
    net = Network([FCLayer(3, 2), Doubling()], seed=1)
    (ax, *_) = panels(drawn(plot.activations(net, np.eye(3), layer=1)))
    np.testing.assert_allclose(ax.images[0].get_array(), 2 * portnn.to_numpy(net.layers[0](np.eye(3))), rtol=1e-6)
    sequences = Network([ConvLayer((6, 2), (3,), 4)], seed=1)
    (ax, *_) = panels(drawn(plot.activations(sequences, RNG.random((1, 6, 2)), layer=0)))
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.images[0].get_array().shape) == ("position", "channel", (4, 4))


def test_drawing_leaves_the_network_as_it_was():
    net, x, *_ = digits()
    before = {path: array.copy() for path, array in net.parameters.items()}
    inside = [set(vars(layer)) for layer in net.walk()]
    step, buffers = net.step, {name: value.copy() for name, value in net.layers[4].layers[1].buffers.items()}
    plot.activations(net, x[:2], layer="4.1")
    plot.gradients(net)
    plot.weights(net.layers[6])
    assert [set(vars(layer)) for layer in net.walk()] == inside
    assert net.step == step
    for path, array in before.items():
        np.testing.assert_array_equal(net.parameters[path], array)
    for name, array in buffers.items():
        np.testing.assert_array_equal(net.layers[4].layers[1].buffers[name], array)


def test_gradients_are_root_mean_squares_by_layer():
    net = digits()[0]
    ax = drawn(plot.gradients(net))
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[0] == "2.weights  (ConvLayer)"
    assert labels[-1] == "6.bias  (FCLayer)"
    assert ax.get_xscale() == "log"
    assert ax.yaxis_inverted(), "the first layer is on top"
    for bar, gradient, text in zip(ax.patches, net.gradients.values(), ax.texts, strict=True):
        size = np.sqrt(np.mean(np.float64(gradient) ** 2))
        assert bar.get_x() + bar.get_width() == pytest.approx(size)
        assert text.get_text() == f"{size:.1e}"


def test_gradients_that_are_zero_absent_or_not_finite_are_written():
    net = Network([FCLayer(2, 2), ActivationLayer("relu"), FCLayer(2, 1), FCLayer(1, 1), FCLayer(1, 1)], seed=1)
    net.use("mse", optimizer="sgd")
    net.layers[2].trainable = False
    net.fit(-np.ones((4, 2)), np.ones((4, 1)), epochs=1, verbose=0)
    net.layers[0].gradients["weights"] = np.zeros((2, 2), np.float32)
    net.layers[3].gradients["bias"] = np.array([[np.nan]], np.float32)
    words = [text.get_text() for text in drawn(plot.gradients(net)).texts]
    assert words[0] == "zero"
    assert words[2:4] == ["no gradient", "no gradient"]
    assert words[5] == "not finite"
