"""Choosing a backend, transfers between host and device, and what happens if a backend is missing."""

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import array_api_strict
import numpy as np
import pytest

import portnn
from array_libraries import DEVICE, strict_backend
from portnn import available_backends, backend_of, get_backend, to_device, to_numpy
from portnn.backend import BUILT_IN, ENTRY_POINTS, Availability, BackendUnavailableError, availability

ROOT = Path(__file__).parents[2]
REASON = Availability("gpu", "device count", "no CUDA device is visible", "nvidia-smi")


@pytest.fixture
def without_gpu(monkeypatch):
    """Pretends that this machine has no GPU."""
    monkeypatch.setattr("portnn.backend.finding._made", {})
    monkeypatch.setattr("portnn.backend.finding._missing", {"gpu": REASON})


def test_cpu_is_numpy_and_one_thing():
    cpu = get_backend("cpu")
    assert cpu.name == "cpu"
    assert get_backend("cpu") is cpu is get_backend(cpu)
    assert cpu.xp.exp is np.exp
    assert "cpu" in available_backends()


def test_the_namespace_adds_nothing_to_the_standard():
    standard = set(dir(array_api_strict)) | {"__name__", "__version__", "linalg", "fft"}
    assert set(vars(get_backend("cpu").xp)) <= standard
    assert {"dot", "load", "random"}.isdisjoint(vars(get_backend("cpu").xp))


@pytest.mark.parametrize(
    "shapes", [((3, 4), (4, 5)), ((3, 1), (1, 5)), ((1, 4), (4, 1)), ((4,), (4, 5)), ((2, 3, 4), (4, 5))]
)
def test_matmul_is_the_standards(shapes):
    a, b = (np.random.default_rng(0).standard_normal(shape) for shape in shapes)
    assert np.allclose(get_backend("cpu").xp.matmul(a, b), np.matmul(a, b), rtol=1e-13)


def test_a_namespace_with_a_device():
    strict = strict_backend()
    assert strict.name == "array_api_strict on array_api_strict.Device('device1')"
    assert strict == strict_backend()
    assert hash(strict) == hash(strict_backend())
    assert strict != get_backend(array_api_strict)
    assert strict.asarray([1.0]).device == DEVICE
    assert strict.implementation(portnn.losses.mse) is portnn.losses.mse


def test_the_gpu_that_is_not_there(without_gpu):
    assert available_backends() == ["cpu"]
    words = r"(?s)backend 'gpu' is not available: step 3 of 4 \(device count\) failed: no CUDA device is visible.*nvidia-smi"
    for ask in (lambda: get_backend("gpu"), lambda: portnn.Network(backend="gpu"), lambda: to_device([1], "gpu")):
        with pytest.raises(BackendUnavailableError, match=words) as caught:
            ask()
        assert isinstance(caught.value, RuntimeError)
        assert caught.value.availability is REASON
    net = portnn.Network([portnn.FCLayer(2, 2)])
    with pytest.raises(RuntimeError, match=words):
        net.to("gpu")
    assert net.backend.name == "cpu"


def test_info_says_the_same_words(without_gpu, capsys):
    from portnn.cli import main

    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "cpu: works" in out
    assert "gpu: not available" in out
    for words in ("3 of 4, device count", REASON.reason, REASON.remedy):
        assert words in out


def test_unknown_names_and_wrong_things():
    with pytest.raises(
        ValueError, match=r"unknown backend 'tpu'; known: 'cpu', 'gpu'.*get_backend\(namespace, device=...\)"
    ):
        get_backend("tpu")
    with pytest.raises(TypeError, match="got 5"):
        get_backend(5)
    with pytest.raises(TypeError, match=r"device=0 goes with an array API namespace"):
        get_backend("cpu", device=0)


def test_immutable_arrays_are_refused(monkeypatch):
    class Frozen(type(array_api_strict)):
        pass

    module = Frozen("frozen")
    module.asarray = array_api_strict.asarray

    def zeros(*args, **kwargs):
        x = np.zeros(1)
        x.flags.writeable = False
        return x

    monkeypatch.setattr(array_api_strict, "zeros", zeros)
    with pytest.raises(TypeError, match="cannot be written to"):
        get_backend(module)


def test_entry_points_say_what_the_table_says():
    installed = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    if not installed:
        pytest.skip("portnn is not installed: this checkout has no entry points")
    assert {name: installed[name] for name in BUILT_IN} == BUILT_IN


def test_others_may_add_a_name_but_not_replace_ours(monkeypatch):
    class Point:
        def __init__(self, name, value):
            self.name, self.value = name, value

    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: [Point("cpu", "evil"), Point("npu", "other_lib")]
    )
    known = portnn.backend.known_backends()
    assert known["cpu"] == "portnn_numpy"
    assert known["npu"] == "other_lib"
    with pytest.raises(RuntimeError, match=r"'npu' is not available.*other_lib"):
        get_backend("npu")


def test_a_bare_checkout_without_the_backends_folder(monkeypatch):
    monkeypatch.setattr("portnn.backend.finding._made", {})
    monkeypatch.setattr("portnn.backend.finding._missing", {})
    monkeypatch.setattr("portnn.backend.finding.BUILT_IN", {"cpu": "no_such_package"})
    with pytest.raises(RuntimeError, match=r"(?s)no_such_package.*PYTHONPATH=.:backends"):
        get_backend("cpu")


# -- transfer ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
def test_there_and_back(dtype, library):
    x = np.arange(6).reshape(2, 3).astype(dtype)
    there = to_device(x, library.backend)
    assert library.backend.owns(there)
    assert backend_of(there) == library.backend
    assert to_device(there, library.backend) is there
    back = to_numpy(there)
    assert back.dtype == dtype
    assert np.array_equal(back, x)


def test_lists_and_numbers_may_move_too():
    assert to_numpy([[1, 2]]).shape == (1, 2)
    assert to_device([1.5], strict_backend()).device == DEVICE
    assert to_numpy(to_device(to_device([1.5], strict_backend()), "cpu")) == [1.5]
    assert to_numpy(3.0).shape == ()


def test_what_is_no_array():
    with pytest.raises(TypeError, match=r"backend_of takes an array, got list.*to_device\(\[1, 2\], 'cpu'\)"):
        backend_of([1, 2])
    with pytest.raises(TypeError, match="must be real numbers"):
        to_device(["a"], "cpu")


def test_owns_is_about_library_and_device():
    strict, host = strict_backend(), get_backend(array_api_strict)
    assert strict.owns(strict.asarray([1.0]))
    assert not strict.owns(host.asarray([1.0]))
    assert not strict.owns(np.ones(1))
    assert not get_backend("cpu").owns(strict.asarray([1.0]))
    assert not get_backend("cpu").owns([1.0])


# -- import --------------------------------------------------------------------------------------------------------------


def python(*arguments, **options):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True, **options).stdout


def test_import_loads_neither_cupy_nor_a_backend():
    code = "import sys, portnn; print([m for m in sys.modules if m.split('.')[0] in ('cupy', 'portnn_numpy', 'portnn_cupy', 'pooch', 'array_api_compat')])"
    assert python("-c", code, cwd=ROOT).strip() == "[]"


def test_the_command_line():
    out = python("-m", "portnn", "info", cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'backends'}", "PATH": ""})
    assert out.startswith(f"portnn {portnn.__version__}, Python 3.")
    assert "cpu: works" in out
    assert "gpu: " in out


def test_availability_is_remembered(monkeypatch):
    first = availability("gpu")
    monkeypatch.setattr("portnn.backend.finding._module", lambda name: pytest.fail("asked twice"))
    assert availability("gpu") == first
