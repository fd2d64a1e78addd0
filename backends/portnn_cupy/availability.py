"""Whether CuPy works here: four steps, each of which fails in its own way."""

import importlib
import importlib.util
import warnings
from importlib.metadata import distributions
from typing import Any

from portnn.backend import Availability

INSTALL = 'pip install "portnn[gpu13]" (NVIDIA driver 580 or newer), or pip install "portnn[gpu12]" (older drivers)'

# What cudaGetDeviceCount says, by CUDA's number of the error.
COUNT_ERRORS = {
    35: (
        "the NVIDIA driver is missing, or older than this CuPy needs",
        "nvidia-smi (shows the driver's version; without it, install NVIDIA's driver). Drivers before 580 need "
        'pip uninstall cupy-cuda13x, then pip install "portnn[gpu12]"',
    ),
    100: ("the driver sees no CUDA device", "nvidia-smi -L (lists the devices); check CUDA_VISIBLE_DEVICES"),
    802: (
        "the fabric between the GPUs is not ready",
        "systemctl status nvidia-fabricmanager (it must run, in the driver's version, on machines with NVSwitch)",
    ),
}


def probe() -> Availability:
    """Goes through the steps and stops at the first that fails; never raises, and warns of nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CuPy warns on import of several wheels: the reason below says so
            return _package() or _import() or _device_count() or _smoke_test() or Availability("gpu")
    except Exception as error:  # a fault of the probe itself must not take a CPU program down
        return Availability("gpu", "smoke test", _words(error), INSTALL)


def _package() -> Availability | None:
    if importlib.util.find_spec("cupy") is None:
        return Availability("gpu", "package", "CuPy is not installed", INSTALL)
    return None


def _import() -> Availability | None:
    try:
        importlib.import_module("cupy")
    except Exception as error:  # ImportError mostly; broken installations raise others too
        wheels = _cupy_wheels()
        if len(wheels) > 1:
            remedy = f"pip uninstall {' '.join(wheels)}, then {INSTALL}"
            return Availability("gpu", "import", f"several CuPy wheels are installed ({', '.join(wheels)}); {_words(error)}", remedy)
        return Availability("gpu", "import", _words(error), f"pip uninstall {' '.join(wheels) or 'cupy'}, then {INSTALL}")
    return None


def _device_count() -> Availability | None:
    cupy: Any = importlib.import_module("cupy")
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        reason, remedy = COUNT_ERRORS.get(getattr(error, "status", -1), ("the CUDA runtime did not answer", "nvidia-smi"))
        return Availability("gpu", "device count", f"{reason}; {_words(error)}", remedy)
    if count == 0:
        reason, remedy = COUNT_ERRORS[100]
        return Availability("gpu", "device count", reason, remedy)
    return None


def _smoke_test() -> Availability | None:
    cupy: Any = importlib.import_module("cupy")
    try:
        from portnn_cupy.blas import Blas

        x = cupy.arange(4, dtype=cupy.float32).reshape(2, 2)  # a kernel compiled on the spot needs NVRTC and headers,
        product = Blas(cupy.cuda.get_current_stream()).matmul(x + 1, x)  # and a product needs cuBLAS
        right = product.get().tolist() == [[4.0, 7.0], [8.0, 15.0]]
    except Exception as error:
        return Availability("gpu", "smoke test", f"a first kernel and product failed; {_words(error)}", INSTALL)
    if not right:
        return Availability("gpu", "smoke test", f"a first product came out wrong: {product.get().tolist()}", INSTALL)
    return None


def _cupy_wheels() -> list[str]:
    names = {str(d.metadata["Name"]) for d in distributions()}
    return sorted(name for name in names if name == "cupy" or name.startswith("cupy-cuda"))


def _words(error: Exception) -> str:
    """An error in one line: its type and what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
