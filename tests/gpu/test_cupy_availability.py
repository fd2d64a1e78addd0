"""Every way in which the GPU backend can be unavailable: the step that failed, the reason and the remedy."""

import importlib.metadata
import importlib.util
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import portnn_cupy
from portnn.backend import Availability, BackendUnavailableError, get_backend

WHEEL_13, WHEEL_12 = 'python -m pip install "cupy-cuda13x[ctk]"', 'python -m pip install "cupy-cuda12x[ctk]"'


@pytest.fixture
def installed(monkeypatch):
    """Pretends that exactly these distributions are installed, and that ``cupy`` exists if there are any."""

    def install(*names):
        def distribution(name):
            if name not in names:
                raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "distribution", distribution)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if names else None)

    return install


class CUDARuntimeError(RuntimeError):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Array(np.ndarray):
    def get(self):
        return np.asarray(self)


@pytest.fixture
def cupy(monkeypatch, installed):
    """Puts as much of a CuPy in its place as the steps use; ``devices`` is a device count or an error to raise,
    ``product`` computes cuBLAS's products.
    """

    def make(devices=1, version="14.2.0", driver=13000, product=np.matmul):
        def count():
            if isinstance(devices, Exception):
                raise devices
            return devices

        runtime = SimpleNamespace(is_hip=False, getDeviceCount=count, driverGetVersion=lambda: driver)
        made = ModuleType("cupy")
        made.__version__, made.cuda = version, SimpleNamespace(runtime=runtime)
        made.arange = lambda *arguments, **options: np.arange(*arguments, **options).view(Array)
        made.blas = ModuleType("portnn_cupy.blas")
        made.blas.load_library = lambda: None
        made.blas.Blas = lambda library: SimpleNamespace(matmul=product, close=lambda: None)
        installed("cupy-cuda13x")
        monkeypatch.setitem(sys.modules, "cupy", made)
        monkeypatch.setitem(sys.modules, "portnn_cupy.blas", made.blas)
        return made

    return make


def failed(step, *words):
    """Probes, and checks that this step failed and that all of these words are in the reason or the remedy."""
    status = portnn_cupy.probe()
    assert isinstance(status, Availability)
    assert not status.ok
    assert (status.name, status.failed_step) == ("gpu", step)
    assert status.reason
    assert status.remedy
    assert "\n" not in status.reason + status.remedy
    for word in words:
        assert word in f"{status.reason} -> {status.remedy}"
    return status


def test_importing_the_package_imports_no_cupy():
    code = "import sys, portnn_cupy; print([m for m in sys.modules if m.partition('.')[0] in ('cupy', 'cuda')])"
    path = [*(str(p) for p in (portnn_cupy.__path__[0] + "/..", portnn_cupy.__path__[0] + "/../..")), *sys.path]
    run = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path}\n{code}"], capture_output=True, text=True
    )
    assert run.stdout.strip() == "[]", run.stderr


# -- package -----------------------------------------------------------------------------------------------------------


def test_no_package(installed):
    installed()
    status = failed("package", "CuPy is not installed", "ModuleNotFoundError", WHEEL_13, WHEEL_12, "580", "nvidia-smi")
    with pytest.raises(BackendUnavailableError, match=r"step 1 of 4 \(package\) failed: CuPy is not installed"):
        raise BackendUnavailableError(status)


def test_a_package_that_cannot_even_be_looked_for(monkeypatch):
    def find_spec(name):
        raise ValueError("cupy.__spec__ is None")

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    failed("package", "ValueError: cupy.__spec__ is None", WHEEL_13)


# -- import ------------------------------------------------------------------------------------------------------------


class Importer:
    """Finds ``cupy`` but fails to load it, with a given error and warning."""

    def __init__(self, error, warning=None):
        self.error, self.warning = error, warning

    def find_spec(self, name, path=None, target=None):
        return importlib.util.spec_from_loader(name, self) if name == "cupy" else None

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        if self.warning:
            warnings.warn(self.warning, UserWarning, stacklevel=1)
        raise self.error


@pytest.fixture
def broken_import(monkeypatch):
    def make(error, warning=None):
        monkeypatch.delitem(sys.modules, "cupy", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Importer(error, warning), *sys.meta_path])

    return make


def test_the_import_fails(broken_import):
    broken_import(ImportError("libcublas.so.12:\n   cannot open shared object file"))
    failed("import", "ImportError: libcublas.so.12: cannot open shared object file", "pip uninstall -y", WHEEL_12)


def test_the_import_tells_what_first_went_wrong(broken_import):
    error = ImportError("==========\nFailed to import CuPy.\n==========")
    error.__cause__ = OSError("libnvrtc.so.13 is missing")
    broken_import(error)
    assert failed("import").reason == "OSError: libnvrtc.so.13 is missing"


def test_two_wheels_beside_each_other(broken_import, installed):
    broken_import(RuntimeError("undefined symbol"), warning="multiple CuPy packages are installed")
    installed("cupy-cuda12x", "cupy-cuda13x")
    failed("import", "RuntimeError: undefined symbol", "pip uninstall -y cupy-cuda12x cupy-cuda13x", WHEEL_13)


def test_something_else_called_cupy(monkeypatch, installed):
    installed("cupy")
    monkeypatch.setitem(sys.modules, "cupy", ModuleType("cupy"))
    failed("import", "AttributeError", "pip uninstall -y")


def test_an_old_cupy(cupy):
    cupy(version="13.6.0")
    failed("import", "CuPy 13.6.0", "14 or newer", "pip uninstall -y cupy", WHEEL_13)


def test_a_cupy_for_amd(cupy):
    cupy().cuda.runtime.is_hip = True
    failed("import", "ROCm", "NVIDIA", WHEEL_13)


# -- device count ------------------------------------------------------------------------------------------------------

INSUFFICIENT = CUDARuntimeError(35, "cudaErrorInsufficientDriver: CUDA driver version is insufficient")


def test_no_driver(cupy):
    cupy(INSUFFICIENT, driver=0)
    failed("device count", "no NVIDIA driver", "CUDARuntimeError: cudaErrorInsufficientDriver", "install", "nvidia-smi")


def test_an_old_driver(cupy):
    cupy(INSUFFICIENT, driver=12040)
    failed(
        "device count",
        "driver is older",
        "cudaErrorInsufficientDriver",
        "580",
        "pip uninstall -y cupy-cuda13x",
        WHEEL_12,
    )


def test_no_device(cupy):
    cupy(CUDARuntimeError(100, "cudaErrorNoDevice: no CUDA-capable device is detected"))
    failed("device count", "sees no GPU", "cudaErrorNoDevice", "CUDA_VISIBLE_DEVICES", "nvidia-smi", "--gpus all")


def test_a_count_of_zero(cupy):
    cupy(0)
    failed("device count", "sees no GPU", "CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (802, ["links between the GPUs", "nvidia-fabricmanager"]),
        (803, ["driver was updated", "restart"]),
        (999, ["could not be started", "nvidia-smi"]),
    ],
)
def test_other_answers_of_the_driver(cupy, status, words):
    cupy(CUDARuntimeError(status, "cudaErrorOfSomeKind: some words"))
    failed("device count", "CUDARuntimeError: cudaErrorOfSomeKind: some words", *words)


def test_an_error_without_a_status(cupy):
    cupy(OSError("no such library"))
    failed("device count", "OSError: no such library", "nvidia-smi")


# -- smoke test --------------------------------------------------------------------------------------------------------


def test_no_nvrtc(cupy, monkeypatch):
    def arange(*args, **kwargs):
        raise RuntimeError("CuPy failed to load libnvrtc.so.13: OSError: cannot open shared object file")

    monkeypatch.setattr(cupy(), "arange", arange)
    failed("smoke test", "RuntimeError: CuPy failed to load libnvrtc.so.13", "NVRTC", "headers", "cuBLAS", WHEEL_13)


def test_no_cublas(cupy, monkeypatch):
    def load_library():
        raise RuntimeError("cuBLAS was not found: libcublas.so.13: cannot open shared object file")

    monkeypatch.setattr(cupy().blas, "load_library", load_library)
    failed("smoke test", "RuntimeError: cuBLAS was not found", "cuBLAS", WHEEL_12)


def test_a_cublas_that_fails(cupy):
    def product(a, b):
        raise RuntimeError("cuBLAS failed to create: CUBLAS_STATUS_ARCH_MISMATCH (8)")

    cupy(product=product)
    failed("smoke test", "RuntimeError: cuBLAS failed to create: CUBLAS_STATUS_ARCH_MISMATCH (8)", WHEEL_13)


def test_a_wrong_product(cupy):
    cupy(product=lambda a, b: a)
    failed("smoke test", "was [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]")


@pytest.mark.parametrize(
    "error", [MemoryError("Out of memory allocating 512 bytes"), CUDARuntimeError(2, "out of memory")]
)
def test_a_full_gpu(cupy, monkeypatch, error):
    def arange(*args, **kwargs):
        raise error

    monkeypatch.setattr(cupy(), "arange", arange)
    failed("smoke test", "memory is full", str(error), "nvidia-smi lists the processes")


# -- success -----------------------------------------------------------------------------------------------------------


def test_all_steps_pass(cupy):
    cupy()
    assert portnn_cupy.probe() == Availability("gpu")


@pytest.mark.gpu
def test_all_steps_pass_on_a_gpu(backend):
    assert portnn_cupy.probe() == Availability("gpu")


def test_the_probe_warns_of_nothing(cupy, monkeypatch):
    runtime = cupy().cuda.runtime
    count = runtime.getDeviceCount

    def noisy():
        warnings.warn("multiple CuPy packages are installed", UserWarning, stacklevel=1)
        return count()

    monkeypatch.setattr(runtime, "getDeviceCount", noisy)
    assert portnn_cupy.probe().ok


@pytest.mark.gpu
def test_create_makes_the_backend(backend):
    assert type(backend).__name__ == "CupyBackend"
    assert backend.name == "gpu"
    assert get_backend("gpu") is backend


FOLDERS = ["tests/gpu", "tests/backends", "tests/units/datasets"]  # files of the others import it


@pytest.mark.slow
def test_the_gpu_tests_need_no_other_array_library():
    """A machine with a GPU may have no more than pytest, NumPy and CuPy."""
    code = "import sys, pytest; sys.modules['array_api_strict'] = None; sys.exit(pytest.main(sys.argv[1:]))"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, "--collect-only", "-q", "-p", "no:cacheprovider", *FOLDERS]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
