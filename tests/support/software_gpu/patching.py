"""CuPy made to call the device: CUDA's runtime is linked into CuPy's extension modules, and patched in memory."""

import ctypes
import importlib
import re
import struct

from software_gpu import builds

EXECUTABLE = 7  # to read, to write and to execute
JUMP = b"\x48\xb8", b"\xff\xe0"  # mov rax, ADDRESS; jmp rax
PAGE = 4096
libraries = []  # kept loaded
WHOLE = [  # CuPy's functions that start kernels of CUB and Thrust, which are machine code of GPUs
    "cub_device_reduce",
    "cub_device_reduce_get_workspace_size",
    "cub_device_segmented_reduce",
    "cub_device_segmented_reduce_get_workspace_size",
    "cub_device_scan",
    "cub_device_scan_get_workspace_size",
    "thrust_sort",
    "thrust_argsort",
]


def before_cupy():
    """Loads the device under the names of CUDA's libraries, and patches the runtime that CuPy is about to use."""
    device = builds.device()
    libraries.append(ctypes.CDLL(str(device), mode=ctypes.RTLD_GLOBAL))
    libraries.extend(ctypes.CDLL(str(device.parent / name), mode=ctypes.RTLD_GLOBAL) for name in builds.alike_names())
    runtime = builds.extension("cupy_backends/cuda/api/runtime")
    libraries.append(ctypes.CDLL(str(runtime)))
    patch(runtime)


def after_cupy(cupy):
    """The other modules with a runtime of their own, and the compiler of kernels."""
    for name in ("cupy/cuda/cub", "cupy/cuda/thrust"):
        importlib.import_module(name.replace("/", "."))
        patch(builds.extension(name))
    from cupy.cuda import compiler

    compiler._compile_module_with_cache = compiled_by_gxx


def unmangled(name):
    """The plain name of a C++ function, by the length that stands before it: _Z3sumPfi."""
    found = re.match(r"_Z(\d+)", name)
    return name[found.end() : found.end() + int(found.group(1))] if found and "." not in name else name


def patch(path):
    """Has each function of the runtime in an extension module, and of CUB and Thrust, jump to the device's."""
    device, libc = libraries[0], ctypes.CDLL(None)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with open("/proc/self/maps") as lines:
        base = next(int(line.partition("-")[0], 16) for line in lines if line.rstrip().endswith(str(path)))
    targets = {name: f"device_{name}" for name in builds.runtime_names()}
    targets |= {name: f"software_{name}" for name in WHOLE}
    for line in builds.run(["nm", path]).splitlines():
        address, kind, name = line.split() if line.count(" ") == 2 and not line.startswith(" ") else ("", "", "")
        name = unmangled(name)
        if kind not in ("t", "T") or name not in targets:
            continue
        place = base + int(address, 16)
        target = ctypes.cast(getattr(device, targets[name]), ctypes.c_void_p).value
        if libc.mprotect(place & -PAGE, 2 * PAGE, EXECUTABLE):
            raise RuntimeError("no GPU in software: this system lets no code be changed in memory")
        ctypes.memmove(place, JUMP[0] + struct.pack("<Q", target) + JUMP[1], 12)


def compiled_by_gxx(source, options=(), *, arch=None, name_expressions=None, log_stream=None, **others):
    """In the place of CuPy's compiler. What CuPy has not generated must be right for NVRTC, too, as CuPy calls it."""
    from cupy.cuda import compiler, function

    mapping = {}

    def nvrtc(expressions=None):
        found = compiler._compile_using_nvrtc_no_warning(
            source,
            (*options, "-ftz=true"),
            arch or compiler._get_arch(),
            "kernels.cu",
            expressions,
            log_stream,
            True,
            False,
            None,
        )
        return found[1] or {}

    if name_expressions:
        mapping = nvrtc(name_expressions)
    path = builds.library(source, options, mapping, nvrtc)
    module = function.Module()
    module.load(b"software kernels: " + str(path).encode() + b"\0")
    module._set_mapping(mapping)
    return module
