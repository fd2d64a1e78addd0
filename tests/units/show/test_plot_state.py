"""Drawing without a window: no pyplot, no global state of matplotlib's, in one's own figures, shown by notebooks."""

import inspect
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pictures import digits, three_classes, xor
from portnn import plot

matplotlib = pytest.importorskip("matplotlib")
ROOT = Path(__file__).parents[3]
PNG = b"\x89PNG\r\n\x1a\n"

CALLS = {
    "history": lambda **place: plot.history(three_classes()[3], **place),
    "digits": lambda **place: plot.digits(digits()[1][:6], digits()[2][:6], **place),
    "confusion": lambda **place: plot.confusion([0, 1, 1], [0, 1, 0], **place),
    "filters": lambda **place: plot.filters(digits()[0].layers[2], **place),
    "activations": lambda **place: plot.activations(xor()[0], xor()[1], layer=1, **place),
    "boundary": lambda **place: plot.boundary(*three_classes()[:3], **place),
    "weights": lambda **place: plot.weights(xor()[0].layers[0], **place),
    "gradients": lambda **place: plot.gradients(xor()[0], **place),
}
ONE_AXES = {"confusion", "boundary", "gradients"}


def test_every_function_is_called_here_and_documented():
    assert set(CALLS) == set(plot.__all__)
    rows = dict(
        re.findall(r"^\| `plot\.(\w+)` \| `(\(.*?\))` \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    )
    found = {}
    for name in plot.__all__:
        function = getattr(plot, name)
        assert inspect.getdoc(function)
        bare = [p.replace(annotation=p.empty) for p in inspect.signature(function).parameters.values()]
        found[name] = str(inspect.Signature(bare))
        assert bare[-1].name == ("ax" if name in ONE_AXES else "fig")
    assert rows == found


@pytest.mark.parametrize("name", CALLS)
def test_a_picture_of_its_own_shows_itself_and_changes_nothing(name):
    CALLS[name]()  # the networks that it needs are trained
    before, pyplot = dict(dict.items(matplotlib.rcParams)), sys.modules.get("matplotlib.pyplot")
    drawn = CALLS[name]()
    assert drawn._repr_png_().startswith(PNG)
    assert sys.modules.get("matplotlib.pyplot") is pyplot, "pyplot was imported"
    assert dict(dict.items(matplotlib.rcParams)) == before
    if pyplot is not None:
        assert not pyplot.get_fignums()


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_in_ones_own_figure(name):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6))
    if name in ONE_AXES:
        ax = figure.subplots(1, 2)[1]
        assert CALLS[name](ax=ax) is ax
    else:
        assert CALLS[name](fig=figure) is figure
        (left, right) = Figure(figsize=(16, 6), layout="constrained").subfigures(1, 2)
        assert CALLS[name](fig=right) is right
        assert right.axes
        assert not left.axes
        figure = right.figure
    figure.savefig(os.devnull, format="png")


@pytest.mark.parametrize("name", CALLS)
def test_axes_and_figures_of_other_kinds_are_refused(name):
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots(1, 2)
    if name in ONE_AXES:
        with pytest.raises(TypeError, match=r"ax must be matplotlib Axes, .*: give fig\.subplots\(\)"):
            CALLS[name](ax=figure)
        with pytest.raises(TypeError, match=r"give one of them, axes\[0\]"):
            CALLS[name](ax=axes)
        with pytest.raises(TypeError, match="ax must be matplotlib Axes, got 3"):
            CALLS[name](ax=3)
    else:
        with pytest.raises(TypeError, match=r"fig must be a matplotlib Figure.*give ax\.figure"):
            CALLS[name](fig=axes[0])
        with pytest.raises(ValueError, match=r"fig has 2 axes already, .*give an empty figure"):
            CALLS[name](fig=figure)


def test_a_notebook_shows_axes_and_figures():
    formatters = pytest.importorskip("IPython.core.formatters")
    show = formatters.DisplayFormatter()
    for drawn in (plot.confusion([0, 1], [0, 1]), plot.history({"error": [1.0, 0.5]})):
        data, _ = show.format(drawn)
        assert data["image/png"].startswith(PNG)


def test_pictures_are_pickled_as_other_figures_are():
    drawn = pickle.loads(pickle.dumps(plot.history({"error": [1.0, 0.5]})))
    np.testing.assert_array_equal(drawn.axes[0].lines[0].get_ydata(), [1.0, 0.5])


SCRIPT = """
import sys, warnings
warnings.simplefilter("error")
import portnn
assert "matplotlib" not in sys.modules and "portnn.show" not in sys.modules
from portnn import plot
assert portnn.plot is plot and "matplotlib" not in sys.modules
import matplotlib
before = dict(dict.items(matplotlib.rcParams))  # reading "backend" would choose one
net = portnn.Network([portnn.FCLayer(2, 3), portnn.FCLayer(3, 1)], seed=1)
net.use("mse")
x, y = [[0.0, 1.0], [1.0, 0.0]], [[1.0], [0.0]]
history = net.fit(x, y, epochs=2, learning_rate=0.1, verbose=0)
for name, drawn in {
    "history": plot.history(history), "digits": plot.digits([[[0.0, 1.0], [1.0, 0.0]]]),
    "confusion": plot.confusion([0, 1], [1, 1]), "boundary": plot.boundary(net, x, y),
    "weights": plot.weights(net.layers[0]), "gradients": plot.gradients(net),
    "activations": plot.activations(net, x, layer=0),
}.items():
    getattr(drawn, "figure", drawn).savefig(sys.argv[1] + "/" + name + ".png")
assert dict(dict.items(matplotlib.rcParams)) == before
assert "matplotlib.pyplot" not in sys.modules and "tkinter" not in sys.modules
"""


def plain_environment(tmp_path):
    """No display, no backend chosen, no settings of the user's."""
    paths = [str(ROOT), str(ROOT / "backends")]
    return {"PYTHONPATH": os.pathsep.join(paths), "HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path / "mpl")}


@pytest.mark.slow
def test_without_display_or_backend(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], env=plain_environment(tmp_path), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    written = sorted(tmp_path.glob("*.png"))
    assert len(written) == 7
    assert all(path.read_bytes().startswith(PNG) for path in written)


def test_a_missing_matplotlib_is_an_error_that_says_how_to_install_it(tmp_path):
    blocked = (
        "import sys\nsys.modules['matplotlib'] = None\nfrom portnn import plot\n"
        "try:\n    plot.history({'error': [1.0]})\nexcept ImportError as error:\n    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", blocked], env=plain_environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert "python -m pip install matplotlib" in run.stdout


def test_a_backend_that_is_none_is_an_error_that_names_the_variable(tmp_path):
    """Matplotlib itself cannot be imported then."""
    script = (
        "from portnn import plot\ntry:\n    plot.confusion([0], [0])\nexcept ValueError as error:\n    print(error)\n"
    )
    env = {**plain_environment(tmp_path), "MPLBACKEND": "nonsense"}
    run = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert "'nonsense' is not a valid value" in run.stdout
    assert "MPLBACKEND" in run.stdout
    assert "remove the variable" in run.stdout


def test_arrays_of_another_library_are_brought_to_the_host():
    from array_libraries import strict_backend
    from portnn import FCLayer, Network

    backend = strict_backend()
    net = Network([FCLayer(2, 4), FCLayer(4, 2)], seed=1, backend=backend)
    net.use("softmax_cross_entropy")
    x, y = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32), np.array([0, 1])
    history = net.fit(x, y, epochs=1, learning_rate=0.1, verbose=0)
    there = backend.asarray(x), backend.asarray(y)
    assert plot.boundary(net, *there).get_title("left") == plot.boundary(net, x, y).get_title("left")
    assert plot.confusion(there[1], net.predict(there[0])).texts
    images = plot.digits(backend.asarray(np.ones((2, 4, 4), np.float32)), there[1])
    assert [ax.get_title() for ax in images.axes] == ["0", "1"]
    for drawn in (plot.history(history), plot.weights(net.layers[0]), plot.activations(net, there[0], layer=0)):
        assert drawn.axes
    assert len(plot.gradients(net).patches) == 4
    assert plot.filters(net.layers[1]).axes
