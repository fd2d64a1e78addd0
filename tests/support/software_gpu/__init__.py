"""A CUDA device in software: the real CuPy wheel runs on it, on a machine without a GPU.

``install()`` before CuPy is imported, or the environment variable ``PORTNN_SOFTWARE_GPU=1`` with pytest, or with any
program that has ``site/`` of this folder on its ``PYTHONPATH``. What takes part:

- ``device/``: the device, in C++. Memory in which each array's end is known, streams, captures, graphs, cuBLAS's
  products; kernels run thread by thread.
- ``cuda/``: what CUDA's C++ has and C++ has not. ``builds.py`` compiles each kernel with it by g++, with a call in front
  of each access to memory, and keeps what it built.
- ``patching.py``: CuPy contains CUDA's runtime; its functions are made to jump to the device's.
- ``analysis.py``: kernels that need no thread of their own, and those whose threads wait for each other.
- ``control.py``: settings of the device, its log, its faults. ``arguments.py``: the types of kernels' arguments.

What it does not show: threads and streams that really run at once; the kernels of cuBLAS, CUB and Thrust, in whose places
are plain ones (of CUB: reductions and sums along an array, of Thrust: sorting); TF32; speed.
"""

import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from software_gpu.builds import unavailable

__all__ = ["SITE", "VARIABLE", "install", "is_wanted", "unavailable"]
VARIABLE = "PORTNN_SOFTWARE_GPU"
SITE = Path(__file__).parent / "site"  # on the PYTHONPATH of a program, it brings the device there


def is_wanted():
    return os.environ.get(VARIABLE, "") not in ("", "0")


def install():
    """From now on ``import cupy`` brings a CuPy on the software device; RuntimeError where it cannot be built."""
    if any(isinstance(finder, Finder) for finder in sys.meta_path):
        return
    if "cupy" in sys.modules:
        raise RuntimeError("CuPy was imported before the software device was installed")
    if reason := unavailable():
        raise RuntimeError(f"no GPU in software: {reason}")
    os.environ[VARIABLE] = "1"  # for processes that this one starts
    sys.meta_path.insert(0, Finder())


class Finder:
    """Finds CuPy as always, and has the device ready before it is loaded."""

    def find_spec(self, name, path=None, target=None):
        if name != "cupy":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None:
            spec.loader.exec_module = around(spec.loader.exec_module)
        return spec


def around(load):
    def exec_module(module):
        from software_gpu import arguments, control, patching

        patching.before_cupy()
        control.set_from_environment()
        load(module)
        patching.after_cupy(module)
        control.watch_arrays(module)
        arguments.check_all(module)

    return exec_module
