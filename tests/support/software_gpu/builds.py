"""What g++ compiles: the device, once, and every kernel, at its first use. Builds are kept in a folder."""

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from software_gpu import analysis

HERE = Path(__file__).parent
FOLDER = "PORTNN_SOFTWARE_GPU_CACHE"  # an environment variable: where builds are kept
DAYS = 14  # for which builds are kept that nobody uses
CUPYS_HEADERS = [
    f"cupy/{name}" for name in ("complex.cuh", "carray.cuh", "atomics.cuh", "float16.cuh", "math_constants.h")
]
# Without the errors that C++ has and CUDA has not; products and sums in one instruction, as NVRTC makes them; and a
# call in front of each access to memory, which is how the device sees them.
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-fno-gnu-unique", "-ffp-contract=fast", "-w", "-fpermissive"]
SEEN = ["-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0"]
DEVICE_FLAGS = ["-std=c++17", "-O2", "-ftree-vectorize", "-fPIC", "-Wall"]
# Its names are seen by all libraries of the process: C++'s own must not be among them, since NVRTC brings others.
ALONE = ["-static-libstdc++", "-static-libgcc", f"-Wl,--version-script={HERE / 'device' / 'exported.map'}"]
NAMES = ("libcuda.so.1", "libcublas.so.{major}", "libcublasLt.so.{major}")  # under which CuPy looks for libraries


def unavailable():
    """Why there can be no GPU in software here; None if there can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"it needs Linux on x86-64, this is {sys.platform} on {platform.machine()}"
    if importlib.util.find_spec("cupy") is None:
        return 'CuPy is not installed: python -m pip install -e ".[test,emulate]"'
    for program in ("g++", "nm"):
        if shutil.which(program) is None:
            return f"{program} is not on PATH: install g++"
    for what, names in (("NVRTC", "lib*/libnvrtc.so.*"), ("CUDA's headers", "include/driver_types.h")):
        if not cuda_files(names):
            return f'{what} is not installed: python -m pip install -e ".[test,emulate]"'
    return None


def cuda_files(pattern):
    """Files of CUDA's packages, or of CUDA itself."""
    spec = importlib.util.find_spec("nvidia")
    roots = [*(spec.submodule_search_locations if spec else []), "/usr/local"]
    return [path for root in roots for path in sorted(Path(root).glob(f"*/{pattern}"))]


@cache
def cupy_folder():
    return Path(importlib.util.find_spec("cupy").submodule_search_locations[0])


def headers():
    """Ours before CuPy's: where both have a file, ours is taken."""
    return [HERE / "cuda", cupy_folder() / "_core" / "include", cuda_files("include/driver_types.h")[0].parent]


def run(command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr[:4000]}")
    return done.stdout


@cache
def processor_flags():
    known = Path("/proc/cpuinfo").read_text()
    return [f"-m{name}" for name in ("fma", "avx2") if re.search(rf"\b{name}\b", known)]


def texts(*folders):
    """What is written in folders of this package."""
    paths = sorted(path for name in folders for path in (HERE / name).rglob("*") if path.is_file())
    return [str(path.relative_to(HERE)) + path.read_text() for path in paths]


@cache
def folder():
    """A folder for all kernels built by these sources, this compiler and this CuPy."""
    parts = [*texts("cuda"), Path(__file__).read_text(), Path(analysis.__file__).read_text()]
    parts += [run(["g++", "--version"]), str(processor_flags()), str(headers())]
    parts += [str(path) for path in cupy_folder().parent.glob("cupy*.dist-info")]
    return kept_folder(digest(*parts))


@cache
def device_folder():
    return kept_folder(digest(folder().name, *texts("device")))


def kept_folder(name):
    """A folder of that name among those that are kept; others that nobody used for long are removed."""
    kept = os.environ.get(FOLDER) or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "portnn-gpu"
    made = Path(kept) / name
    try:
        made.mkdir(parents=True, exist_ok=True)
        os.utime(made)
    except OSError:  # a home that cannot be written to
        made = Path(tempfile.gettempdir()) / f"portnn-gpu-{os.getuid()}" / made.name
        made.mkdir(parents=True, exist_ok=True)
        os.utime(made)
    remove_old(made)
    return made


def remove_old(used):
    """Removes the folders beside this one that no process has used for ``DAYS``, by the time of the folder itself."""
    for other in used.parent.iterdir():
        if other != used and re.fullmatch("[0-9a-f]{24}", other.name) and time.time() - mtime(other) > DAYS * 86400:
            shutil.rmtree(other, ignore_errors=True)


def mtime(path):
    """When it was last changed; now, if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def digest(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def made(path, make):
    """The file, made under another name first: another process may need it now, or be making it."""
    if not path.exists():
        partial = path.with_name(f"{os.getpid()}-{path.name}")
        make(partial)
        partial.replace(path)
    return path


# -- the device --------------------------------------------------------------------------------------------------------


def symbols(library, *options):
    """(type, name) of the symbols of a library; versions of names are left out."""
    lines = (line.split() for line in run(["nm", *options, library]).splitlines())
    return [(words[-2], words[-1].partition("@")[0]) for words in lines if len(words) >= 2]


def extension(name):
    """An extension module of CuPy, as a file."""
    (path,) = cupy_folder().parent.glob(f"{name}.cpython*.so")
    return path


@cache
def runtime_names():
    """The functions of CUDA's runtime that are linked into CuPy."""
    found = symbols(extension("cupy_backends/cuda/api/runtime"))
    return sorted({name for kind, name in found if kind in "tT" and re.match(r"cuda[A-Z]", name)})


def lacking(objects):
    """The source of what the device has not: functions that name themselves and fail."""
    known = {name for path in objects for _, name in symbols(path, "--defined-only")}
    needed = symbols(extension("cupy_backends/cuda/libs/cublas"), "-D", "--undefined-only")
    products = [name for _, name in needed if name.startswith("cublas") and name not in known]
    calls = [name for name in runtime_names() if f"device_{name}" not in known]
    lines = ['#include "device.hpp"', "int lacking(const char *name);"]
    lines += [f'EXPORT int device_{name}() {{ return lacking("{name}"); }}' for name in calls]
    lines += [f'EXPORT int {name}() {{ return lacking("{name}"), 15; }}' for name in products]
    return "\n".join(lines) + "\n"


@cache
def device():
    """The device's library, and beside it those under whose names CuPy looks for it."""
    where = device_folder()

    def make(target):
        with tempfile.TemporaryDirectory(dir=where) as temporary:
            rest, objects = Path(temporary) / "lacking.cpp", []
            command = ["g++", *DEVICE_FLAGS, *processor_flags(), *(f"-I{p}" for p in (HERE / "device", *headers()))]
            commands = []
            for source in sorted((HERE / "device").glob("*.cpp")):
                objects.append(Path(temporary) / f"{source.stem}.o")
                commands.append([*command, "-c", source, "-o", objects[-1]])
            together(commands)
            rest.write_text(lacking(objects))
            run([*command, "-shared", *ALONE, *objects, rest, "-o", target, "-ldl", "-lm"])

    library = made(where / "libsoftware_gpu.so", make)
    for name in alike_names():
        made(where / name, lambda target, name=name: alias(target, name, where))
    return library


def alike_names():
    """CuPy's extension modules say which version of cuBLAS they want."""
    wanted = run(["nm", "-D", "--undefined-only", extension("cupy_backends/cuda/libs/cublas")])
    major = re.search(r"libcublas\.so\.(\d+)", wanted).group(1)
    return [name.format(major=major) for name in NAMES]


def alias(target, name, where):
    """A library of that name with nothing in it but a need for the device."""
    options = ["-shared", "-nodefaultlibs", "-Wl,--no-as-needed", f"-Wl,-soname,{name}", f"-Wl,-rpath,{where}"]
    run(["g++", *options, "-x", "c++", "/dev/null", f"-L{where}", "-l:libsoftware_gpu.so", "-o", target])


def together(commands):
    """Runs commands on all cores at once."""
    started = [subprocess.Popen(list(map(str, c)), stderr=subprocess.PIPE, text=True) for c in commands]
    for command, process in zip(commands, started, strict=True):
        _, words = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}\n{words[:4000]}")


# -- kernels -----------------------------------------------------------------------------------------------------------

KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?(\w+)\s*\(")
DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:__align__\(\d+\)\s+)?([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;")
SHARED = '__attribute__((section("software_shared")))'


def is_cupys(source):
    """Whether CuPy generated it: it needs its headers."""
    return "cupy/carray.cuh" in source


def compile_flags():
    return [*FLAGS, *SEEN, *processor_flags(), *(f"-I{path}" for path in headers())]


def all_headers():
    """What every kernel needs, compiled once."""

    def make(target):
        lines = [
            '#include "on_the_host.hpp"',
            *(f"#include <{name}>" for name in CUPYS_HEADERS),
            '#include "inexact.hpp"',
        ]
        text = folder() / "headers.hpp"
        text.write_text("\n".join(lines) + "\n")
        run(["g++", *compile_flags(), "-x", "c++-header", text, "-o", target])

    made(folder() / "headers.hpp.gch", make)
    return folder() / "headers.hpp"


def library(source, options, name_expressions, check):
    """A library with the kernels of a CUDA source. ``check(source)`` is called where it is not CuPy's and is new."""
    options = tuple(option for option in options if option.startswith(("-D", "-I")))
    key = digest(source, *options, *(name_expressions or {}))

    def make(target):
        if not is_cupys(source):
            check()
        text = target.with_suffix(".cpp")
        text.write_text(wrapped(source, options, name_expressions or {}))
        try:
            run(
                [
                    "g++",
                    *compile_flags(),
                    *options,
                    "-shared",
                    "-nodefaultlibs",
                    "-include",
                    all_headers(),
                    text,
                    "-o",
                    target,
                    "-lc",
                    "-lm",
                    "-lgcc",  # products of complex numbers
                ]
            )
        finally:
            text.unlink()

    return made(folder() / f"{key}.so", make)


def wrapped(source, options, name_expressions):
    """The source, and for each kernel a function that calls it with an array of addresses of its arguments."""
    own, text = not is_cupys(source), source
    if own:  # kernels may be made by macros
        command = ["g++", "-E", "-P", "-x", "c++", *options, "-"]
        text = subprocess.run(command, input=source, capture_output=True, text=True).stdout or source
    kernels = {name: name for name in dict.fromkeys(KERNEL.findall(text))}
    if name_expressions:
        kernels = {lowered: name for name, lowered in name_expressions.items()}
    # That of a template's instances is in sections of other names.
    has_shared = "__shared__" in DYNAMIC.sub("", source) and own and not re.search(r"\btemplate\b", source)
    lines = [
        f"#define SHARED_SECTION {SHARED if has_shared else ''}",
        DYNAMIC.sub(r"\1 *\2 = (\1 *)software_dynamic_shared();", source),
        f'extern "C" int software_flushes = {int(is_single(source))};',
    ]
    bodies = analysis.functions(text)
    for symbol, kernel in kernels.items():
        waits, alone = analysis.about(re.match(r"\w+", kernel).group(), bodies)
        lines.append(f"SOFTWARE_KERNEL({symbol}, ({kernel}), {int(waits)}, {int(alone)})")
    if has_shared:
        lines += [
            "extern char __start_software_shared[], __stop_software_shared[];",
            'extern "C" char *software_shared_low = __start_software_shared;',
            'extern "C" char *software_shared_high = __stop_software_shared;',
        ]
    return "\n".join(lines) + "\n"


def is_single(source):
    """Whether it computes in float32, whose denormals are flushed (CuPy's option -ftz)."""
    return "typedef float real" in source or "double" not in source
