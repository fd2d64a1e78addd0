"""The OpenBLAS that NumPy has loaded: its number of threads, its products of matrices, and the kernels that it chose.

NumPy's wheels contain kernels for a few kinds of processor only. On an unknown one OpenBLAS falls back to older
kernels, and the environment variable OPENBLAS_CORETYPE, set before Python starts, can choose better ones. A library
must not set it behind its user's back: ``python -m portnn info`` says what to set.
"""

import ctypes
import platform
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

# The wheels' OpenBLAS has its own symbol names; a system's may have 64-bit integers or not.
PREFIXES_AND_SUFFIXES = (("scipy_", "64_"), ("", "64_"), ("", ""))
AVX512 = {"avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"}  # the instructions that the SkylakeX kernels use
OLDER = {"haswell", "zen", "sandybridge", "nehalem", "prescott"}


def threads() -> int | None:
    """The number of threads that OpenBLAS uses now; None where NumPy uses another library."""
    ask = _routine("openblas_get_num_threads")
    return None if ask is None else int(ask())


def set_threads(n: int) -> None:
    """Sets the number of threads that OpenBLAS uses, in the whole process."""
    if (tell := _routine("openblas_set_num_threads")) is not None:
        tell(n)


@cache
def product_address(kind: str) -> int:
    """The address of OpenBLAS's ``cblas_sgemm`` ("f") or ``cblas_dgemm`` ("d") with 64-bit integers; 0 if none."""
    routine = _routine("cblas_sgemm" if kind == "f" else "cblas_dgemm", long=True)
    return 0 if routine is None else ctypes.cast(routine, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


@cache
def can_be_told() -> bool:
    """Whether compiled code can set BLAS to one thread, and call its products from threads of its own."""
    return _routine("openblas_set_num_threads") is not None and bool(product_address("f"))


def core() -> str | None:
    """The kind of processor whose kernels are active, such as ``"Haswell"``; None where it is not known."""
    ask = _routine("openblas_get_corename")
    if ask is None:
        return None
    ask.restype = ctypes.c_char_p  # type: ignore[attr-defined]
    name = ask()
    return name.decode() if isinstance(name, bytes) else None


def better_core(active: str | None, flags: set[str]) -> str | None:
    """The OPENBLAS_CORETYPE to set where the processor supports faster kernels than the active ones; else None."""
    if active is not None and active.lower() in OLDER and flags >= AVX512:
        return "SkylakeX"
    return None


def processor_flags(path: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The processor's feature flags, by Linux's names; empty on other systems."""
    return set(_about_processor("flags", path).split())


def processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name, as Linux tells it; elsewhere that of its architecture."""
    return _about_processor("model name", path) or platform.machine()


def _about_processor(name: str, path: Path) -> str:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


@cache
def _routine(name: str, long: bool = False) -> Callable[..., Any] | None:
    """A function of the library by its name; ``long``: only one whose integers have 64 bits."""
    try:
        extension = import_module("numpy._core._multiarray_umath")
        library = ctypes.CDLL(extension.__file__)  # with the libraries that it depends on
    except (ImportError, OSError):
        return None
    names = (prefix + name + suffix for prefix, suffix in PREFIXES_AND_SUFFIXES if suffix or not long)
    return next((getattr(library, full) for full in names if hasattr(library, full)), None)
