"""The C file that network.export writes: it needs no library, compiles without a warning, and computes what
``predict`` returns."""

import ctypes
import re
import subprocess

import numpy as np
import pytest

from c_files import SANITIZED, STRICT, cc, needs_cc, run, shared
from cases import ACTIVATIONS, OwnLayer
from drawn_networks import drawn, drawn_window
from leaving import ALL, DIGITS, NETWORKS, TOLERANCE, made, reader, samples
from pages import difference, touched
from portnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    Network,
    ResidualLayer,
    UpsampleLayer,
    __version__,
    activations,
)
from portnn.exchange.c.loops import LOOPS
from portnn.exchange.c.write import COMPOSITES, comment, identifier


def small(**options):
    return Network([FCLayer(3, 4), ActivationLayer("tanh"), FCLayer(4, 2)], seed=1, **options)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """What the library of all networks and ``predict`` return, by name and dtype."""
    cases = {(name, dtype): made(name, dtype) for name in ALL for dtype in TOLERANCE}
    functions = shared(tmp_path_factory.mktemp("c"), [network for network, _ in cases.values()])
    answers = {}
    for (key, (network, x)), predict in zip(cases.items(), functions, strict=True):
        expected = network.predict(x)
        answers[key] = predict(x, expected.shape[1:]), expected
    return answers


@needs_cc
@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ALL)
def test_it_computes_what_predict_returns(rows, name, dtype):
    found, expected = rows[name, dtype]
    assert difference(found, expected) < TOLERANCE[dtype]


def test_every_layer_is_known():
    from portnn import __all__

    assert {name for name in __all__ if name.endswith("Layer")} - {"Layer"} == {*LOOPS, *COMPOSITES}


@needs_cc
@pytest.mark.slow
def test_random_options(tmp_path):
    pairs = [drawn_window(seed) for seed in range(60)]
    for (network, x), predict in zip(pairs, shared(tmp_path, [network for network, _ in pairs]), strict=True):
        expected = network.predict(x)
        assert difference(predict(x, expected.shape[1:]), expected) < 1e-12, network


@needs_cc
@pytest.mark.slow
def test_drawn_networks(tmp_path):
    """Compiled with warnings that few ask for."""
    pairs = [drawn(seed) for seed in range(60)]
    functions = shared(tmp_path, [network for network, _ in pairs], "-Wshadow", "-Wconversion", "-Wdouble-promotion")
    for (network, x), predict in zip(pairs, functions, strict=True):
        expected = network.predict(x)
        assert difference(predict(x, expected.shape[1:]), expected) < 1e-12, network


@needs_cc
@pytest.mark.slow
def test_four_places_at_a_time(tmp_path):
    """Rows long enough for blocks of four, with all paddings, strides, dilations and groups."""
    rng, networks, x = np.random.default_rng(5), [], []
    for _ in range(60):
        axes, groups = int(rng.integers(1, 3)), int(rng.integers(1, 3))
        shape = (*(int(n) for n in rng.integers(9, 22, axes)), groups * int(rng.integers(1, 6)))
        padding = tuple(tuple(int(n) for n in rng.integers(0, 4, 2)) for _ in range(axes))
        kernel, stride = (tuple(int(n) for n in rng.integers(1, m, axes)) for m in (6, 3))
        dilation, filters = int(rng.integers(1, 3)), groups * int(rng.integers(1, 6))
        options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
        x.append(samples(shape, 2))
        layers = [ConvLayer(shape, kernel, filters, **options), FCLayer(filters, int(rng.integers(1, 6)))]
        networks.append(touched(Network(layers, dtype="float64"), x[-1]))
    for network, given, predict in zip(networks, x, shared(tmp_path, networks), strict=True):
        expected = network.predict(given)
        assert difference(predict(given, expected.shape[1:]), expected) < 1e-12, network


@needs_cc
def test_a_thousand_digits(tmp_path):
    pairs = [reader(name) for name in DIGITS]
    for (network, x), predict in zip(pairs, shared(tmp_path, [net for net, _ in pairs], "-O2"), strict=True):
        expected = network.predict(x)
        assert difference(predict(x, expected.shape[1:]), expected) < 1e-5


@needs_cc
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_activations_everywhere(dtype, tmp_path):
    x = np.array([[0.0, -0.0, 1e-9, 3.0, -3.0, 41.0, -41.0, 999.0, -1e4, 1e4, np.inf, -np.inf, np.nan]]).T
    x = np.concatenate([x, np.linspace(-9, 9, 73)[:, None]]).astype(dtype)
    networks = [Network([FCLayer(1, 1), ActivationLayer(name)], dtype=dtype) for name in ACTIVATIONS]
    for network in networks:
        network.layers[0].weights = [[1.0]]
    for name, predict in zip(ACTIVATIONS, shared(tmp_path, networks), strict=True):
        found, expected = predict(x, (1,)), getattr(activations, name)(x)
        limits = (2e-6, 1e-6) if dtype == "float32" else (1e-13, 1e-14)
        assert np.allclose(found, expected, *limits, equal_nan=True), name


@needs_cc
def test_infinity_and_nan_among_the_weights(tmp_path):
    network, x = Network([FCLayer(3, 4)]), np.zeros((1, 3), np.float32)
    network.layers[0].bias = [[np.inf, -np.inf, np.nan, 1e-40]]
    (predict,) = shared(tmp_path, [network])
    assert np.array_equal(predict(x, (4,)), network.predict(x), equal_nan=True)
    cc(*STRICT, "n0.c", "n0_test.c", "-lm", "-o", "test", cwd=tmp_path)
    assert run("test", tmp_path).returncode == 0


# -- the test program --------------------------------------------------------------------------------------------------


@needs_cc
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_program_beside_it(dtype, tmp_path):
    """It passes under the sanitizers, and fails if a single weight is another."""
    network, _ = made("mixed", dtype)
    network.export(tmp_path / "net.c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.c", "net_test.c"]
    cc(*STRICT, *SANITIZED, "net.c", "net_test.c", "-lm", "-o", "test", cwd=tmp_path)
    done = run("test", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"4 samples, largest difference \S+, largest value \S+: passed\n", done.stdout)
    text = (tmp_path / "net.c").read_text()
    changed = re.sub(r"(bias_8_0\[7\] = \{.*\n +)", r"\g<1>1 + ", text)
    assert changed != text
    (tmp_path / "net.c").write_text(changed)
    cc(*STRICT, "net.c", "net_test.c", "-lm", "-o", "test", cwd=tmp_path)
    done = run("test", tmp_path)
    assert done.returncode == 1
    assert done.stdout.endswith("failed\n")


@needs_cc
@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", ALL)
def test_every_program_under_the_sanitizers(name, dtype, tmp_path):
    made(name, dtype)[0].export(tmp_path / "net.c")
    cc(*STRICT, *SANITIZED, "-O1", "net.c", "net_test.c", "-lm", "-o", "test", cwd=tmp_path)
    done = run("test", tmp_path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_a_file_beside_it_that_is_somebody_elses(tmp_path):
    (tmp_path / "net_test.c").write_text("int main(void) { return 0; }\n")
    with pytest.raises(FileExistsError, match=r"writes this file beside net\.c, and portnn has not written it: move"):
        small().export(tmp_path / "net.c")
    assert [path.name for path in tmp_path.iterdir()] == ["net_test.c"]
    (tmp_path / "net_test.c").unlink()
    small().export(tmp_path / "net.c")
    before = (tmp_path / "net_test.c").read_bytes()
    small().export(tmp_path / "net.c")  # its own it writes over
    assert (tmp_path / "net_test.c").read_bytes() == before


def test_recorded_samples_leave_no_trace_in_the_network(tmp_path):
    network = small()
    network.export(tmp_path / "net.c")
    assert network._checked is None


# -- the text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_it_needs_nothing(name, tmp_path):
    """One header, no allocation, one public function; float only in float32, double only in float64."""
    for dtype, other in (("float32", "double"), ("float64", "float")):
        made(name, dtype)[0].export(tmp_path / "net.c")
        text = (tmp_path / "net.c").read_text(encoding="ascii")
        assert re.findall(r"^#.*", text, re.MULTILINE) == ["#include <math.h>"]
        code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
        assert not re.search(rf"\b({other}|malloc|calloc|alloca|printf)\b", code)
        public = [line for line in re.findall(r"^\w.*\)$", code, re.MULTILINE) if not line.startswith("static")]
        kind = "float" if dtype == "float32" else "double"
        assert public == [f"void net_predict(const {kind} *x, {kind} *y)"]


def test_two_buffers_are_enough_for_a_chain(tmp_path):
    made("LeNet", "float32")[0].export(tmp_path / "net.c")
    assert re.findall(r"^static float (buffer_\d)\[(\d+)\];", (tmp_path / "net.c").read_text(), re.MULTILINE) == [
        ("buffer_0", "4704"),
        ("buffer_1", "4704"),
    ]


def test_it_says_how_it_was_made_and_shows_the_shapes(tmp_path):
    network = small()
    network.export(tmp_path / "my-net.c")
    text = (tmp_path / "my-net.c").read_text()
    assert f"Written by portnn {__version__}" in text
    assert "/* 0  FCLayer(3, 4): (3,) -> (4,) */\n    layer_0(x, buffer_0);" in text
    assert "void my_net_predict(const float *x, float *y)\n{" in text
    network.export(tmp_path / "my-net.c")
    assert (tmp_path / "my-net.c").read_text() == text


@pytest.mark.parametrize(
    ("stem", "name"),
    [("net", "net"), ("my-net.v2", "my_net_v2"), ("3d", "net_3d"), ("_x", "net_x"), ("né t", "n__t"), ("__", "net")],
)
def test_names(stem, name):
    assert identifier(stem) == name


@needs_cc
@pytest.mark.parametrize("name", ["float.c", "2f.c", "int.c", "tanhf.c", "layer_0.c", "my net.c", "-c.c", "net.C"])
def test_the_command_that_it_names(name, tmp_path):
    """Also for files whose names mean something in C or to a shell."""
    Network([FCLayer(3, 2)], dtype="float64").export(tmp_path / name)
    text = (tmp_path / name).read_text()
    assert text.startswith(f"/* {name}: ")
    (command,) = re.findall(r"^ +(cc -std=c99 .*) \*/$", text, re.MULTILINE)
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("passed\n")


def test_more_weights_than_a_compiler_takes(tmp_path, monkeypatch):
    monkeypatch.setattr("portnn.exchange.c.write.MOST_BYTES", 100)
    with pytest.raises(ValueError, match="104 bytes of weights, a file may hold 100 at most"):
        small().export(tmp_path / "net.c")
    assert list(tmp_path.iterdir()) == []


def test_more_values_than_loops_count(tmp_path):
    network = Network([ConvLayer((2, 2, 1), (1, 1), 1), UpsampleLayer(30_000)])
    words = (
        r"layer 1 \(UpsampleLayer\(30000\)\) returns 3,600,000,000 numbers, of shape \(60000, 60000, 1\): loops in C"
    )
    with pytest.raises(ValueError, match=words):
        network.export(tmp_path / "net.c")
    assert list(tmp_path.iterdir()) == []


def test_networks_on_other_backends(library, tmp_path):
    network = Network([ConvLayer((5, 5, 2), (3, 3), 4), BatchNormLayer(), FlattenLayer(), FCLayer(36, 2)], seed=1)
    network.export(tmp_path / "net.c")
    here = (tmp_path / "net.c").read_bytes()
    network.to(library.backend).export(tmp_path / "net.c")
    assert (tmp_path / "net.c").read_bytes() == here


@needs_cc
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_weights_are_exact(dtype, tmp_path):
    """Each number is read by C to the same bits: random bits, the smallest, the largest, zero below zero."""
    size = np.dtype(dtype).itemsize
    limits = np.finfo(dtype)
    named = [
        0.0,
        -0.0,
        limits.smallest_subnormal,
        -limits.smallest_subnormal,
        limits.tiny,
        limits.max,
        limits.min,
        1e22,
    ]
    drawn_bits = np.random.default_rng(0).integers(0, 256, 200 * size, dtype=np.uint8).view(dtype)
    values = np.concatenate([np.array(named, dtype), drawn_bits[np.isfinite(drawn_bits)]])
    network = Network([FCLayer(1, values.size)], dtype=dtype)
    network.layers[0].weights, network.layers[0].bias = np.zeros((1, values.size)), values[None]
    network.export(tmp_path / "net.c")
    kind = "float" if dtype == "float32" else "double"
    with (tmp_path / "net.c").open("a") as file:
        file.write(f"const {kind} *values(void);\nconst {kind} *values(void)\n{{\n    return bias_0;\n}}\n")
    cc(*STRICT, "-shared", "-fPIC", "-o", "net.so", "net.c", "-lm", cwd=tmp_path)
    function = ctypes.CDLL(str(tmp_path / "net.so")).values
    function.restype = ctypes.POINTER(ctypes.c_float if dtype == "float32" else ctypes.c_double)
    assert np.ctypeslib.as_array(function(), values.shape).tobytes() == values.tobytes()


EVIL = "*/ int evil; /* ??/\n\\"


@needs_cc
def test_a_layer_and_a_file_that_call_themselves_evil(tmp_path, monkeypatch):
    assert "*/" not in comment(EVIL)
    assert "\n" not in comment(EVIL)
    monkeypatch.setattr(FCLayer, "__repr__", lambda self: EVIL)
    name = "a*b ??.c"
    small().export(tmp_path / name)
    cc(*STRICT, name, "a*b ??_test.c", "-lm", "-o", "test", cwd=tmp_path)
    assert run("test", tmp_path).returncode == 0


def test_all_layers_without_a_counterpart_are_listed(tmp_path):
    network = Network([FCLayer(3, 2), OwnLayer(2), ResidualLayer(OwnLayer(2))])
    with pytest.raises(ValueError, match="the file has no C for 2 of the network's layers") as caught:
        network.export(tmp_path / "net.c")
    assert str(caught.value).splitlines()[1:] == ["  layer 1 OwnLayer", "  layer 2.0 OwnLayer"]
    assert list(tmp_path.iterdir()) == []
