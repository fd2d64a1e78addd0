"""Pictures of what nobody would choose to draw: huge and tiny numbers, names like formulas, narrow places, other styles."""

import io
import warnings

import numpy as np
import pytest

from pictures import digits, panels, texts, three_classes
from portnn import ConvLayer, FCLayer, Network, plot

pytestmark = pytest.mark.slow  # each draws pictures

matplotlib = pytest.importorskip("matplotlib")
LARGE = np.finfo(float).max / 1.01


def rendered(drawn):
    """The picture, after it was drawn without a warning."""
    figure = drawn if hasattr(drawn, "savefig") else drawn.figure
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO())
    return figure


def weighted(values, layer=None, sample=(9,)):
    net = Network([layer or FCLayer(9, 3)], dtype="float64", seed=0)
    net.predict(np.ones((1, *sample)))
    net.parameters["0.weights"] = np.broadcast_to(values, net.parameters["0.weights"].shape)
    return net


# -- numbers -----------------------------------------------------------------------------------------------------------

SIGNS = np.where(np.eye(9, 3) > 0.0, 1.0, -1.0)
VALUES = {
    "as large as can be, of both signs": SIGNS * LARGE,
    "large and all the same": 3e38,
    "as small as can be": 5e-324,
    "all the same but for the last digit": 1.0 + np.arange(27).reshape(9, 3) * 2.0**-52,
    "zeros": 0.0,
}


@pytest.mark.parametrize("name", VALUES)
def test_weights_of_any_size(name):
    net = weighted(VALUES[name])
    for drawn in (plot.weights(net.layers[0]), plot.filters(net.layers[0])):
        rendered(drawn)
    rendered(plot.activations(net, np.ones((2, 9)), layer=0))


def test_mean_and_deviation_are_those_of_the_weights_however_large():
    net = weighted(SIGNS * LARGE)
    mean, deviation = SIGNS.mean() * LARGE, SIGNS.std() * LARGE
    assert f"mean {mean:.2g} (dashed), standard deviation {deviation:.2g}" in texts(plot.weights(net.layers[0]))


@pytest.mark.parametrize("errors", [[1e308, 1e-308], [5e-324, 1e-300], [LARGE, LARGE / 2], [-LARGE, LARGE]])
def test_errors_of_any_size(errors):
    rendered(plot.history({"error": errors}))


@pytest.mark.parametrize("size", [5e-324, 1e-200, 1e200, LARGE])
def test_gradients_of_any_size(size):
    net = Network([FCLayer(4, 4), FCLayer(4, 4)], seed=0, dtype="float64")
    net.use("mse")
    net.fit(np.ones((2, 4)), np.ones((2, 4)), 1, 0.01, verbose=0)
    net.layers[0].gradients["weights"][...] = size
    ax = plot.gradients(net)
    rendered(ax)
    assert f"{size:.1e}" in texts(ax)


def test_images_whose_range_is_too_large_for_a_number():
    images = np.array([[[-LARGE, 0.0], [LARGE, LARGE]]])
    figure = plot.digits(images)
    rendered(figure)
    assert np.array_equal(panels(figure)[0].images[0].get_array(), [[0.0, 0.5], [1.0, 1.0]])


@pytest.mark.parametrize("weights", [1e308, np.nan, 0.0, -1e308])
def test_boundary_of_outputs_of_any_size(weights):
    net = Network([FCLayer(2, 1)], seed=0, dtype="float64")
    net.predict(np.ones((1, 2)))
    net.parameters["0.weights"] = np.full((2, 1), weights)
    _, x, y, _ = three_classes()
    rendered(plot.boundary(net, x, y % 2))


def test_boundary_of_samples_too_large_for_the_networks_numbers():
    net, x, y, _ = three_classes()
    rendered(plot.boundary(net, x * 1e300, y))


# -- names -------------------------------------------------------------------------------------------------------------


def test_names_are_no_formulas():
    names = ["$\\bad{$", "a $ b", "$x$"]
    figure = rendered(plot.confusion([0, 1, 2], [0, 1, 1], names=names))
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [name.replace("$", "\\$") for name in names]  # as matplotlib takes them
    rendered(plot.history({"error": [1.0, 0.5], "$\\bad{$": [1.0, 2.0]}))

    class Odd(FCLayer):
        def __repr__(self):
            return "$\\bad{$"

    net = weighted(1.0, Odd(9, 3))
    for drawn in (plot.weights(net.layers[0]), plot.filters(net.layers[0])):
        rendered(drawn)
    rendered(plot.activations(net, np.ones((2, 9)), layer=0))


def test_long_names_leave_room_for_the_picture():
    figure = rendered(plot.confusion([0, 1], [0, 1], names=["a" * 200, "b\n" * 200]))
    for label in figure.axes[0].get_yticklabels():
        assert len(label.get_text()) <= 24
        assert "\n" not in label.get_text()
    assert figure.axes[0].get_position().width > 0.4


def test_many_classes_keep_some_of_their_names():
    y = np.arange(300)
    ax = plot.confusion(y, y, names=[f"class-{i}" for i in y])
    assert [label.get_text() for label in ax.get_xticklabels()][:3] == ["class-0", "class-10", "class-20"]
    rendered(ax)


def test_boundary_of_many_classes_has_no_legend():
    ax = plot.boundary(Network([FCLayer(2, 300)], seed=0), three_classes()[1], np.arange(90) * 3)
    assert ax.get_legend() is None
    assert "90 classes" in ax.get_title(loc="left")
    rendered(ax)


# -- narrow places -----------------------------------------------------------------------------------------------------


def overlapping(figure):
    """Pairs of titles and labels of panels that lie on each other."""
    rendered(figure)  # which lays it out
    found = [t for ax in panels(figure) for t in (ax.title, ax._left_title, ax.yaxis.label) if t.get_text()]
    boxes = [(title.get_text(), title.get_window_extent()) for title in found]
    return [(a, b) for i, (a, one) in enumerate(boxes) for b, other in boxes[i + 1 :] if one.overlaps(other)]


@pytest.mark.parametrize("size", [(5, 3), (4, 6), (12, 2.5), (3.2, 3.2)])
def test_titles_of_curves_do_not_overlap(size):
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    part, _ = figure.subfigures(2, 1, height_ratios=(3, 1))
    plot.history(three_classes()[3], fig=part)
    assert overlapping(figure) == []
    assert len(panels(figure)) == 3


@pytest.mark.parametrize("size", [(5, 6), (4, 2), (2.5, 9)])
@pytest.mark.parametrize("kind", ["digits", "activations"])
def test_titles_of_images_do_not_overlap(kind, size):
    from matplotlib.figure import Figure

    net, x, y, _ = digits()
    figure = Figure(figsize=size, layout="constrained")
    if kind == "digits":
        plot.digits(x[:40], y[:40], (y[:40] + 1) % 10, fig=figure)
    else:
        plot.activations(net, x[:3], layer=2, fig=figure)
    assert overlapping(figure) == []


# -- styles and axes ---------------------------------------------------------------------------------------------------


def test_other_styles_turn_no_image_and_hide_no_mark():
    settings = {
        "image.origin": "lower",
        "image.aspect": "auto",
        "axes.grid": True,
        "axes.spines.left": False,
        "axes.spines.top": False,
    }
    net, x, y, _ = digits()
    with matplotlib.rc_context(settings):
        figures = [
            plot.digits(x[:4], y[:4], (y[:4] + 1) % 10),
            plot.confusion(y, y).figure,
            plot.filters(net.layers[2]),
            plot.activations(net, x[:2], layer=2),
            plot.weights(net.layers[6]),
        ]
        for figure in figures:
            rendered(figure)
            for ax in (ax for ax in panels(figure) if ax.images):
                assert ax.get_ylim()[0] > ax.get_ylim()[1], "upside down"
                assert not any(line.get_visible() for line in (*ax.get_xgridlines(), *ax.get_ygridlines()))
        frames = panels(figures[0])[0].spines.values()
        assert all(spine.get_visible() for spine in frames)
        assert panels(figures[0])[0].get_aspect() == 1.0


@pytest.mark.parametrize("projection", ["polar", "3d"])
def test_axes_that_are_not_flat_are_refused(projection):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.add_subplot(projection=projection)
    with pytest.raises(ValueError, match=f"ax must be flat Axes with two straight axes, got {projection} ones"):
        plot.confusion([0, 1], [0, 1], ax=figure.axes[0])


def test_axes_without_a_figure_are_refused():
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    ax.remove()
    with pytest.raises(ValueError, match="ax was removed from its figure"):
        plot.confusion([0, 1], [0, 1], ax=ax)


def test_what_is_refused_draws_nothing():
    from matplotlib.figure import Figure

    net, x, y, _ = three_classes()
    ax = Figure().add_subplot()
    with pytest.raises(ValueError, match="y holds the class 9, but the network tells 3 classes apart"):
        plot.boundary(net, x, y + 7, ax=ax)
    with pytest.raises(ValueError, match=r"its own shape is \(90, 2\)"):  # the samples', not that of our grid
        plot.boundary(Network([FCLayer(3, 3)], seed=0), x, y, ax=ax)
    assert not ax.has_data()
    assert len(ax.figure.axes) == 1


def test_filters_of_a_wide_kernel_fit_a_narrow_figure():
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3, 3))
    plot.filters(weighted(1.0, ConvLayer((9, 9, 4), (3, 3), 8), (9, 9, 4)).layers[0], fig=figure)
    assert len(panels(figure)) == 8
    rendered(figure)
