"""CUDA kernels compiled with the host's C compiler and launched over host arrays.

The kernel source is C except for a few CUDA names, which are emulated here. A launch runs its threads one after the
other, so the tests cover the arithmetic and the distribution of work over threads, but no concurrency.
"""

import ctypes
import re
import shutil
import subprocess
import tempfile
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

COMPILER = next((found for found in map(shutil.which, ("gcc", "cc", "clang")) if found), None)
REASON = "no C compiler (gcc, cc or clang) on PATH: the kernels cannot be run on the host"
HARNESS = r"""
#include <math.h>
struct place { unsigned int x, y; };
static struct place blockIdx, blockDim, threadIdx, gridDim;
static unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
#define KERNEL
#define INSIDE static
#define CALLED static
void stand_at(unsigned blocks, unsigned threads, unsigned block, unsigned row, unsigned thread)
{
    gridDim.x = blocks, blockDim.x = threads, blockIdx.x = block, blockIdx.y = row, threadIdx.x = thread;
}
"""
THREADS = (1, 1)  # the blocks, and the threads per block, of an emulated launch
C_TYPES = {
    np.dtype(np.int32): ctypes.c_int,
    np.dtype(np.int64): ctypes.c_longlong,
    np.dtype(np.uint64): ctypes.c_ulonglong,
    np.dtype(np.float32): ctypes.c_float,
    np.dtype(np.float64): ctypes.c_double,
}


@cache
def library(source):
    """The kernels of a source, compiled once per test run."""
    folder = Path(tempfile.mkdtemp(prefix="portnn-kernels-"))
    (folder / "kernels.c").write_text(HARNESS + source)
    # -ffp-contract=off: a fused multiply-add would round differently from NumPy
    command = f"{COMPILER} -shared -fPIC -O2 -ffp-contract=off -Wall -Werror kernels.c -o kernels.so -lm"
    done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(folder / "kernels.so"))
    shutil.rmtree(folder)
    return loaded


class Module:
    """Replaces ``cupy.RawModule``. ``threads``: see THREADS; they apply to each row of the grid."""

    def __init__(self, code, options=(), threads=None):
        self.code, self.library, self.threads = code, library(code), threads or THREADS

    def get_function(self, name):
        return Kernel(self, name)


class Kernel:
    """Called like CuPy's kernels, with the grid, the block and the arguments."""

    def __init__(self, module, name):
        self.module, self.function, self.types = module, getattr(module.library, name), parameters(module.code, name)
        self.function.restype = None

    def check(self, arguments):
        """CUDA copies the bytes of arguments, so each must have exactly the type in the kernel's signature."""
        assert len(arguments) == len(self.types), (self.function.__name__, len(arguments), len(self.types))
        for argument, (dtype, is_pointer) in zip(arguments, self.types, strict=True):
            assert argument is not None  # CuPy would not pass None as a null pointer
            if not (is_pointer and type(argument) is np.uint64 and argument == 0):
                assert isinstance(argument, np.ndarray) == is_pointer, (self.function.__name__, argument)
                assert argument.dtype == dtype, (self.function.__name__, argument.dtype, dtype)

    def __call__(self, grid, block, arguments):
        self.check(arguments)
        passed = [as_c(a) for a in arguments]
        blocks, threads = self.module.threads
        for row, b, t in product(range(grid[1] if len(grid) > 1 else 1), range(blocks), range(threads)):
            self.module.library.stand_at(blocks, threads, b, row, t)
            self.function(*passed)


@cache
def parameters(source, name):
    """(dtype, whether it is a pointer) for each parameter of a kernel, parsed from its source."""
    window = re.search(r"#define WINDOW ((?:.*\\\n)*.*)", source)
    head = re.search(rf"KERNEL void {name}\((.*?)\)\s*\{{", source, re.DOTALL).group(1)
    head = head.replace("WINDOW", window.group(1).replace("\\\n", " "))
    real = np.float32 if "typedef float real" in source else np.float64
    dtypes = {"number": np.int64, "word": np.uint64, "int": np.int32, "real": real, "double": np.float64}
    dtypes |= {"byte": np.uint8, "unsigned": np.uint32}
    return [(dtypes[p.replace("const", "").split()[0]], "*" in p) for p in head.split(",")]


def as_c(argument):
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        return ctypes.c_void_p(argument.__array_interface__["data"][0])
    return C_TYPES[argument.dtype](argument)
