"""The Python file that network.export writes: it needs NumPy alone, and computes what ``predict`` returns."""

import ast
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from cases import ACTIVATIONS, OwnLayer
from drawn_networks import drawn, drawn_window
from leaving import ALL, DIGITS, TOLERANCE, made, python, reader, samples
from pages import difference
from portnn import (
    ActivationLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    Network,
    ResidualLayer,
    ScaleLayer,
    __version__,
    activations,
)
from portnn.exchange.numpy_file.write import CALLS, COMPOSITES


def small(**options):
    return Network([FCLayer(3, 4), ActivationLayer("tanh"), FCLayer(4, 2)], seed=1, **options)


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ALL)
def test_it_computes_what_predict_returns(name, dtype, tmp_path):
    network, x = made(name, dtype)
    predict = python(network, tmp_path)["predict"]
    found, expected = predict(x), network.predict(x)
    assert found.dtype == expected.dtype
    assert difference(found, expected) < TOLERANCE[dtype]
    assert predict(x[:0]).shape == expected[:0].shape
    assert difference(predict(x[1:2]), expected[1:2]) < TOLERANCE[dtype]


def test_every_layer_is_known():
    from portnn import __all__

    assert {name for name in __all__ if name.endswith("Layer")} - {"Layer"} == {*CALLS, *COMPOSITES}


def test_random_options(tmp_path):
    for seed in range(100):
        network, x = drawn_window(seed)
        assert difference(python(network, tmp_path)["predict"](x), network.predict(x)) < 1e-12, network


@pytest.mark.parametrize("seed", range(60))
def test_drawn_networks(seed, tmp_path):
    network, x = drawn(seed)
    predict, expected = python(network, tmp_path)["predict"], network.predict(x)
    assert difference(predict(x), expected) < 1e-12, network
    assert predict(x[:0]).shape == expected[:0].shape


@pytest.mark.parametrize("name", DIGITS)
def test_a_thousand_digits(name, tmp_path):
    network, x = reader(name)
    assert difference(python(network, tmp_path)["predict"](x), network.predict(x)) < 1e-5


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_everywhere(name, dtype, tmp_path):
    x = np.array([[0.0, -0.0, 1e-9, 3.0, -3.0, 41.0, -41.0, 999.0, -1e4, 1e4, np.inf, -np.inf, np.nan]]).T
    x = np.concatenate([x, np.linspace(-9, 9, 73)[:, None]]).astype(dtype)
    network = Network([FCLayer(1, 1), ActivationLayer(name)], dtype=dtype)
    network.layers[0].weights = [[1.0]]
    found, expected = python(network, tmp_path)["predict"](x), getattr(activations, name)(x)
    assert np.allclose(found, expected, *((2e-6, 1e-6) if dtype == "float32" else (1e-13, 1e-14)), equal_nan=True)


def test_it_runs_alone(tmp_path):
    network = small()
    network.export(tmp_path / "net.py")
    x = samples((3,), 2).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    done = run("net.py", "x.npy", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    printed = np.array([line.split() for line in done.stdout.splitlines()], np.float32)
    assert difference(printed, network.predict(x)) < 1e-6
    done = run("net.py", "x.npy", "y.npy", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert np.array_equal(np.load(tmp_path / "y.npy"), printed)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_numbers_are_printed_whole(dtype, tmp_path):
    network, x = made("LeNet", dtype)
    predict = python(network, tmp_path)["predict"]
    np.save(tmp_path / "x.npy", x)
    done = run("net.py", "x.npy", cwd=tmp_path)
    printed = np.array([line.split() for line in done.stdout.splitlines()], dtype)
    assert np.array_equal(printed, predict(x))


def test_what_it_says_of_wrong_calls(tmp_path):
    small().export(tmp_path / "net.py")
    np.save(tmp_path / "x.npy", np.zeros((2, 5)))
    done = run("net.py", "x.npy", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "x must be a batch of samples, (N, ..., 3), got shape (2, 5)\n"
    done = run("net.py", "none.npy", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    done = run("net.py", cwd=tmp_path)
    assert done.returncode == 2
    assert "python net.py x.npy" in done.stdout
    assert run("net.py", "--help", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("layers", "wrong", "said"),
    [
        ([FCLayer(3, 4)], (3,), r"\(N, \.\.\., 3\), got shape \(3,\)"),
        ([ConvLayer((4, 4, 2), (3, 3), 1)], (4, 4, 2), r"\(N, 4, 4, 2\), got shape \(4, 4, 2\)"),
        ([ConvLayer((4, 4, 2), (3, 3), 1)], (5, 4, 5, 2), r"\(N, 4, 4, 2\), got shape"),
        ([FlattenLayer(), FCLayer(12, 3)], (2, 3, 5), r"\(N, \.\.\.\), of 12 values each, got shape \(2, 3, 5\)"),
    ],
)
def test_other_shapes_are_refused(layers, wrong, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        python(Network(layers), tmp_path)["predict"](np.zeros(wrong))


def test_shapes_that_predict_takes(tmp_path):
    """Rows of the article, and images or rows where the first layer gives them a shape."""
    network = small()
    predict = python(network, tmp_path)["predict"]
    for shape in ((5, 3), (5, 1, 3), (5, 2, 2, 3)):
        assert np.allclose(predict(np.ones(shape)), network.predict(np.ones(shape)), atol=1e-6)
    network, _ = made("LeNet", "float32")
    predict = python(network, tmp_path)["predict"]
    for shape in ((2, 28, 28), (2, 784), (2, 28, 28, 1), (2, 1, 784)):
        assert difference(predict(np.ones(shape)), network.predict(np.ones(shape))) < 1e-5


@pytest.mark.parametrize("name", ["LeNet", "mixed", "autoencoder", "ActivationLayer, gelu"])
def test_it_is_python_as_others_write_it(name, tmp_path):
    """It imports NumPy and two modules of Python's, and a linter with its default rules finds nothing."""
    network, _ = made(name, "float32")
    network.export(tmp_path / "net.py")
    tree = ast.parse((tmp_path / "net.py").read_text(encoding="ascii"))
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert imported == (["base64"] if network.parameters else []) + ["sys", "numpy"]
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    unused = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} - called
    assert not unused
    if find_spec("ruff") is None:
        pytest.skip("ruff is not installed: pip install -e '.[dev]'")
    done = run("-m", "ruff", "check", "--isolated", "--no-cache", "net.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(find_spec("ruff") is None, reason="ruff is not installed: pip install -e '.[dev]'")
def test_a_linter_finds_nothing_in_drawn_networks(tmp_path):
    """Also in the source for PyTorch: no line too long, nothing unused, imports in order."""
    for seed in range(60):
        network, _ = drawn(seed)
        network.export(tmp_path / f"net{seed}.py")
        (tmp_path / f"torch{seed}.py").write_text(network.to_source("torch"))
    options = ["--isolated", "--no-cache", "--line-length=120", "--select=E,W,F,I,B"]
    done = run("-m", "ruff", "check", *options, ".", cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_it_says_how_it_was_made_and_shows_the_shapes(tmp_path):
    made("LeNet", "float32")[0].export(tmp_path / "net.py")
    text = (tmp_path / "net.py").read_text()
    assert f"Written by portnn {__version__}" in text
    assert "    # 3  ConvLayer((28, 28, 1), (5, 5), 6, padding='same'): (28, 28, 1) -> (28, 28, 6)\n" in text
    assert '    x = convolution(x, WEIGHTS["3.weights"], WEIGHTS["3.bias"], padding=((2, 2), (2, 2)))\n' in text


def test_the_same_bytes_twice(tmp_path):
    network = small()
    network.export(tmp_path / "net.py")
    first = (tmp_path / "net.py").read_bytes()
    network.export(tmp_path / "other.py")
    assert (tmp_path / "other.py").read_bytes() == first


EVIL = '"""\n\'\'\'\nraise SystemExit("caught")\r#\u2028\\'


def test_a_layer_that_calls_itself_evil(tmp_path, monkeypatch):
    monkeypatch.setattr(FCLayer, "__repr__", lambda self: EVIL)
    network, x = small(), np.ones((2, 3))
    assert difference(python(network, tmp_path)["predict"](x), network.predict(x)) < 1e-6


def test_infinity_and_nan_among_the_weights(tmp_path):
    network, x = Network([FCLayer(3, 4)]), np.zeros((1, 3), np.float32)
    network.layers[0].bias = [[np.inf, -np.inf, np.nan, 1e-40]]
    assert np.array_equal(python(network, tmp_path)["predict"](x), network.predict(x), equal_nan=True)


def test_all_layers_without_a_counterpart_are_listed(tmp_path):
    def square(x):
        return x * x

    network = Network([FCLayer(3, 2), OwnLayer(2), ResidualLayer(ActivationLayer(square, square)), ScaleLayer(2.0)])
    with pytest.raises(ValueError, match="the file has no NumPy for 2 of the network's layers") as caught:
        network.export(tmp_path / "net.py")
    listed = ["  layer 1 OwnLayer", "  layer 2.0 ActivationLayer with the function square"]
    assert str(caught.value).splitlines()[1:] == listed
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_the_old_file(tmp_path):
    (tmp_path / "net.py").write_text("old")
    with pytest.raises(ValueError, match="OwnLayer"):
        Network([OwnLayer(4)]).export(tmp_path / "net.py")
    assert (tmp_path / "net.py").read_text() == "old"


def test_networks_on_other_backends(library, tmp_path):
    network = Network([ConvLayer((5, 5, 2), (3, 3), 4), FlattenLayer(), FCLayer(36, 2)], seed=1)
    network.export(tmp_path / "here.py")
    network.to(library.backend).export(tmp_path / "there.py")
    assert (tmp_path / "here.py").read_bytes() == (tmp_path / "there.py").read_bytes()
