"""Whether CuPy works here: four steps, each of which may fail for its own reasons."""

import importlib
import importlib.metadata
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

from portnn.backend import STEPS, Availability

INSTALL = (
    'python -m pip install "cupy-cuda13x[ctk]" if nvidia-smi names driver 580 or newer, python -m pip install '
    '"cupy-cuda12x[ctk]" if it names an older one or you do not know'
)
OLDEST = 14  # the oldest major version of CuPy that is supported
WHEELS = ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x")  # all install one module, and overwrite each other
AFRESH = f"python -m pip uninstall -y {' '.join(WHEELS)}, then {INSTALL}"

# Statuses of cudaGetDeviceCount where it finds no usable device: the reason, the remedy.
NO_DEVICE = (
    "the NVIDIA driver sees no GPU",
    "nvidia-smi lists the GPUs; leave CUDA_VISIBLE_DEVICES unset or let it name one; start a container with --gpus all",
)
NO_DRIVER = (
    "no NVIDIA driver is loaded",
    "install the NVIDIA driver, 580 or newer if you can (on Ubuntu: sudo ubuntu-drivers install), restart, and see "
    "that nvidia-smi names it",
)
OLD_DRIVER = (
    "the NVIDIA driver is older than the CUDA this CuPy was built for",
    "update the driver to 580 or newer (nvidia-smi names the one you have), or take the build for older ones: "
    'python -m pip uninstall -y cupy-cuda13x && python -m pip install "cupy-cuda12x[ctk]"',
)
NO_LINKS = (
    "the links between the GPUs are not up",
    "sudo systemctl start nvidia-fabricmanager (its version must be exactly the driver's), then nvidia-smi",
)
TWO_DRIVERS = ("the driver was updated, but a part of the old one still runs", "restart the machine, then nvidia-smi")
NO_START = ("CUDA could not be started", "nvidia-smi must list a GPU: if it does not, install the NVIDIA driver again")
STATUS = {100: NO_DEVICE, 802: NO_LINKS, 803: TWO_DRIVERS}
INSUFFICIENT_DRIVER, OUT_OF_MEMORY = 35, 2  # further CUDA error codes


class _KnownError(Exception):
    """A step failed for a known reason; the arguments are the reason and the remedy."""


def probe() -> Availability:
    """Runs the steps and stops at the first that fails; never raises or warns."""
    checks: tuple[Callable[[], None], ...] = (_find_package, _import, _count_devices, _smoke_test)
    remedies = (INSTALL, AFRESH, NO_START[1], f"install CuPy together with NVRTC, CUDA's headers and cuBLAS: {AFRESH}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy warns of several builds: if they conflict, one of the steps fails
        for step, check, remedy in zip(STEPS, checks, remedies, strict=True):
            try:
                check()
            except _KnownError as known:
                return Availability("gpu", step, *known.args)
            except Exception as error:
                return Availability("gpu", step, _words(error), _several_builds() or remedy)
    return Availability("gpu")


def _find_package() -> None:
    if importlib.util.find_spec("cupy") is None:
        raise _KnownError("CuPy is not installed (ModuleNotFoundError: No module named 'cupy')", INSTALL)


def _import() -> None:
    cupy: Any = importlib.import_module("cupy")
    if int(cupy.__version__.partition(".")[0]) < OLDEST:
        raise _KnownError(f"CuPy {cupy.__version__} is installed, but {OLDEST} or newer is needed", AFRESH)
    if cupy.cuda.runtime.is_hip:
        raise _KnownError(
            "this CuPy is built for AMD's ROCm, but an NVIDIA GPU is needed",
            f"python -m pip uninstall the cupy-rocm package, then {INSTALL}",
        )


def _count_devices() -> None:
    runtime = importlib.import_module("cupy").cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except Exception as error:
        status = getattr(error, "status", 0)
        reason, remedy = STATUS.get(status, NO_START)
        if status == INSUFFICIENT_DRIVER:  # also returned where there is no driver
            reason, remedy = OLD_DRIVER if runtime.driverGetVersion() else NO_DRIVER
        raise _KnownError(f"{reason} ({_words(error)})", remedy) from error
    if count == 0:
        raise _KnownError(f"{NO_DEVICE[0]} (CUDA counts 0)", NO_DEVICE[1])


def _smoke_test() -> None:
    """Runs a kernel, which needs NVRTC and CUDA's headers, and a product, which needs cuBLAS."""
    cupy: Any = importlib.import_module("cupy")
    try:
        blas = importlib.import_module("portnn_cupy.blas")
        products = blas.Blas(blas.load_library())
        x = cupy.arange(6, dtype="float32").reshape(2, 3)
        answer = (products.matmul(x, x.T) + 1).get().tolist()
        products.close()
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "status", 0) == OUT_OF_MEMORY:
            remedy = "nvidia-smi lists the processes that use the GPU's memory: end one"
            raise _KnownError(f"the GPU's memory is full ({_words(error)})", remedy) from error
        raise
    if answer != [[6.0, 15.0], [15.0, 51.0]]:
        raise RuntimeError(f"the product of two small matrices was {answer}")


def _several_builds() -> str:
    """The remedy where several builds of CuPy are installed and overwrote each other; else an empty string."""
    found = []
    for name in WHEELS:
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(name)
    remedy = f"several builds of CuPy are installed: python -m pip uninstall -y {' '.join(found)}, then {INSTALL}"
    return remedy if len(found) > 1 else ""


def _words(error: BaseException) -> str:
    """An error in one line: type and text of its first cause."""
    error = error.__cause__ or error
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
