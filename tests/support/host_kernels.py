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
#include <stddef.h>
#include <stdlib.h>
#include <ucontext.h>
struct place { unsigned int x, y; };
static struct place blockIdx, blockDim, threadIdx, gridDim;
__attribute__((unused)) static unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
#define KERNEL
#define INSIDE static
#define SHARED static
#define __threadfence()
#define MOST 256
/* The threads of a block as coroutines: each runs to the next barrier in its turn. */
static ucontext_t whole, each[MOST];
static int at, done[MOST];
static void (*body)(void **);
static void **given;
void __syncthreads(void) { swapcontext(&each[at], &whole); }
unsigned atomicAdd(unsigned *place, unsigned more) { unsigned old = *place; *place += more; return old; }
static void begin(void) { body(given); done[at] = 1; swapcontext(&each[at], &whole); }
void play(void (*kernel)(void **), void **arguments, unsigned blocks, unsigned threads)
{
    static char *stacks;
    if (!stacks) stacks = malloc((size_t)MOST << 16);
    body = kernel, given = arguments, gridDim.x = blocks, blockDim.x = threads, blockIdx.y = 0;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
        for (unsigned i = 0; i < threads; ++i) {
            getcontext(&each[i]);
            each[i].uc_stack.ss_sp = stacks + ((size_t)i << 16), each[i].uc_stack.ss_size = 1 << 16;
            each[i].uc_link = 0, done[i] = 0;
            makecontext(&each[i], begin, 0);
        }
        for (unsigned left = threads; left;)
            for (unsigned i = 0; i < threads; ++i)
                if (!done[i]) {
                    at = i, threadIdx.x = i;
                    swapcontext(&whole, &each[i]);
                    left -= done[i];
                }
    }
}
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
    (folder / "kernels.c").write_text(HARNESS + source + _entries(source))
    # -ffp-contract=off: a product and a sum in one instruction would round otherwise than NumPy does
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
            assert argument is not None  # CuPy makes another address than zero of it
            if dtype is None:  # a struct, passed as its bytes
                assert argument.dtype.names, self.function.__name__
                continue
            if not (is_pointer and type(argument) is np.uint64 and argument == 0):
                assert isinstance(argument, np.ndarray) == is_pointer, (self.function.__name__, argument)
                assert argument.dtype == dtype, (self.function.__name__, argument.dtype, dtype)

    def __call__(self, grid, block, arguments):
        self.check(arguments)
        passed = [as_c(a) for a in arguments]
        if "__syncthreads" in self.module.code:
            places = (ctypes.c_void_p * len(passed))(*(ctypes.addressof(a) for a in passed))
            entry = getattr(self.module.library, f"enter_{self.function.__name__}")
            self.module.library.play(entry, places, grid[0], block[0])
            return
        blocks, threads = self.module.threads
        for row, b, t in product(range(grid[1] if len(grid) > 1 else 1), range(blocks), range(threads)):
            self.module.library.stand_at(blocks, threads, b, row, t)
            self.function(*passed)


def _entries(source):
    """For kernels whose threads wait for one another: functions that take the places of all arguments."""
    entries = ""
    for name in re.findall(r"KERNEL void (\w+)\(", source) if "__syncthreads" in source else ():
        types = [p.rpartition("*" if "*" in p else " ")[0] + "*" * ("*" in p) for p in written(source, name)]
        passed = ", ".join(f"*({kind} *)p[{i}]" for i, kind in enumerate(types))
        entries += f"void enter_{name}(void **p) {{ {name}({passed}); }}\n"
    return entries


def written(source, name):
    """The parameters of a kernel as they are written, with macros replaced."""
    head = re.search(rf"KERNEL void {name}\((.*?)\)\s*\{{", source, re.DOTALL).group(1)
    for macro in ("WINDOW", "TILES", "COUNTERS"):
        if macro in head:
            meant = re.search(rf"#define {macro} ((?:.*\\\n)*.*)", source).group(1)
            head = head.replace(macro, meant.replace("\\\n", " "))
    return [" ".join(p.split()) for p in head.split(",")]


@cache
def parameters(source, name):
    """(dtype, is it a pointer) for each parameter of a kernel, read from its source."""
    real = np.float32 if "typedef float real" in source else np.float64
    dtypes = {"number": np.int64, "word": np.uint64, "int": np.int32, "real": real, "double": np.float64}
    dtypes |= {"byte": np.uint8, "unsigned": np.uint32}
    return [(dtypes.get(p.replace("const", "").split()[0]), "*" in p) for p in written(source, name)]


def as_c(argument):
    if isinstance(argument, np.ndarray) and argument.dtype.names:
        words = ctypes.c_ulonglong * (argument.nbytes // 8)
        return type("Struct", (ctypes.Structure,), {"_fields_": [("words", words)]}).from_buffer_copy(argument)
    if isinstance(argument, np.ndarray):
        assert argument.flags.c_contiguous
        return ctypes.c_void_p(argument.__array_interface__["data"][0])
    return C_TYPES[argument.dtype](argument)
