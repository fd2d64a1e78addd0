"""Writes the table of docs/gpu.md that tells what each kernel of the GPU backend takes: registers, memory, spills.

    python tools/kernel_resources.py [LIBRARY ...]            (no GPU is needed)

LIBRARY is a file of NVRTC, libnvrtc.so.12 or later; without one, all that are installed are taken. The kernels are
compiled as CuPy compiles them, for each architecture by the first library that knows it, which stands above the table.
"""

import ctypes
import importlib
import re
import site
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "backends")]

from portnn_cupy import kernels  # noqa: E402

PAGE = ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- kernel resources: tools/kernel_resources.py -->", "<!-- end of kernel resources -->"
ARCHITECTURES = ("sm_70", "sm_75", "sm_80", "sm_86", "sm_89", "sm_90")
REALS = {"float32": "float", "float64": "double"}
OPTIONS = ("-std=c++14", "-ftz=true")  # CuPy adds the second


class Usage(NamedTuple):
    """What a kernel takes: registers of a thread, bytes of a block's shared memory, bytes of a thread's that spill."""

    registers: int
    shared: int
    spilled: int


def sources(real: str) -> dict[str, str]:
    """The sources of all kernels, by the module that has them."""
    found = {"kernels": kernels.source(real)}
    for path in sorted(Path(kernels.__file__).parent.glob("*.py")):
        if path.stem not in found and re.search(r"^def source\(head\b", path.read_text(), re.MULTILINE):
            module = importlib.import_module(f"portnn_cupy.{path.stem}")
            found[path.stem] = module.source(kernels.head(real))
    return found


# -- the compiler ------------------------------------------------------------------------------------------------------


class Nvrtc:
    """NVIDIA's compiler of kernels, called directly: CuPy can use the version alone that it was built for."""

    def __init__(self, path: Path):
        self.library = ctypes.CDLL(str(path))

    @cached_property
    def version(self) -> str:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        return f"{major.value}.{minor.value}"

    @cached_property
    def architectures(self) -> set[str]:
        n = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(n))
        found = (ctypes.c_int * n.value)()
        self._call("nvrtcGetSupportedArchs", found)
        return {f"sm_{number}" for number in found}

    def usage(self, source: str, architecture: str) -> dict[str, Usage]:
        """What each kernel of a source takes; RuntimeError, with the compiler's words, if it cannot be compiled."""
        program = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
        try:
            options = [f"-arch={architecture}", *OPTIONS, "--ptxas-options=-v"]
            given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            failed = self.library.nvrtcCompileProgram(program, len(options), given)
            words = self._log(program)
        finally:
            self._call("nvrtcDestroyProgram", ctypes.byref(program))
        if failed:
            raise RuntimeError(f"NVRTC {self.version}, {architecture}: {words}")
        return dict(read(words))

    def _log(self, program: ctypes.c_void_p) -> str:
        size = ctypes.c_size_t()
        self._call("nvrtcGetProgramLogSize", program, ctypes.byref(size))
        words = ctypes.create_string_buffer(size.value)
        self._call("nvrtcGetProgramLog", program, words)
        return words.value.decode()

    def _call(self, name: str, *arguments: object) -> None:
        if status := getattr(self.library, name)(*arguments):
            raise RuntimeError(f"{name} failed with status {status}")


def read(words: str) -> Iterator[tuple[str, Usage]]:
    """The kernels in what the assembler says, each with what it takes."""
    for part in words.split("Compiling entry function '")[1:]:
        stores, loads = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", part).groups()  # type: ignore[union-attr]
        registers = re.search(r"Used (\d+) registers", part).group(1)  # type: ignore[union-attr]
        shared = re.search(r"(\d+) bytes smem", part)
        yield part.partition("'")[0], Usage(int(registers), int(shared[1]) if shared else 0, int(stores) + int(loads))


def installed() -> list[Path]:
    """The libraries of NVRTC in this environment and of CUDA itself, one for each version."""
    folders = [Path(folder) / "nvidia" for folder in site.getsitepackages()]
    patterns = chain(
        *(folder.glob("*/lib/libnvrtc.so.*") for folder in folders),
        Path("/usr/local").glob("cuda*/lib64/libnvrtc.so.*"),
    )
    found = {path.resolve(): path for path in patterns if path.name.count(".") == 2}
    return sorted(found.values(), key=lambda path: -int(path.suffix[1:]))


def compilers(paths: Sequence[Path]) -> dict[str, Nvrtc]:
    """For each architecture the first library that knows it."""
    libraries = [Nvrtc(path) for path in paths]
    known = {name: next((one for one in libraries if name in one.architectures), None) for name in ARCHITECTURES}
    return {name: library for name, library in known.items() if library is not None}


# -- the page ----------------------------------------------------------------------------------------------------------

Usages = dict[str, dict[tuple[str, str], Usage]]  # by kernel: by architecture and dtype


def measure(by_architecture: dict[str, Nvrtc]) -> Usages:
    found: Usages = {}
    for architecture, nvrtc in by_architecture.items():
        for dtype, real in REALS.items():
            for source in sources(real).values():
                for kernel, usage in nvrtc.usage(source, architecture).items():
                    found.setdefault(kernel, {})[architecture, dtype] = usage
    return found


def table(found: Usages, by_architecture: dict[str, Nvrtc]) -> str:
    """The page's part: a row for each kernel, in each cell registers of float32 / float64."""
    by_version: dict[str, list[str]] = {}
    for architecture, nvrtc in by_architecture.items():
        by_version.setdefault(nvrtc.version, []).append(architecture)
    who = ", ".join(f"{', '.join(names)} by NVRTC {version}" for version, names in by_version.items())
    spilled = sorted({kernel for kernel, cells in found.items() for usage in cells.values() if usage.spilled})
    lines = [
        BEGIN,
        "",
        f"Registers of a thread, and bytes of a block's shared memory, float32 / float64. Compiled for {who}.",
        f"Registers are spilled by {', '.join(spilled)}." if spilled else "No kernel spills registers.",
        "",
        f"| kernel | {' | '.join(by_architecture)} | shared memory |",
        f"|---|{'---|' * len(by_architecture)}---|",
    ]
    for kernel in sorted(found):
        cells = found[kernel]
        registers = (" / ".join(str(cells[a, dtype].registers) for dtype in REALS) for a in by_architecture)
        shared = " / ".join(str(max(cells[a, dtype].shared for a in by_architecture)) for dtype in REALS)
        lines.append(f"| `{kernel}` | {' | '.join(registers)} | {'none' if shared == '0 / 0' else shared} |")
    return "\n".join([*lines, "", END])


def main(arguments: Sequence[str]) -> None:
    by_architecture = compilers([Path(path) for path in arguments] or installed())
    missing = [name for name in ARCHITECTURES if name not in by_architecture]
    if missing:
        raise SystemExit(
            f"no NVRTC here knows {', '.join(missing)}: pip install nvidia-cuda-nvrtc-cu12 somewhere, and name its "
            "nvidia/cuda_nvrtc/lib/libnvrtc.so.12 on the command line"
        )
    page = PAGE.read_text()
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + table(measure(by_architecture), by_architecture) + rest.split(END)[1])


if __name__ == "__main__":
    main(sys.argv[1:])
