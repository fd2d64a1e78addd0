"""Arguments of kernels, checked: CUDA takes the bytes that it is given, whatever the kernel calls them."""

import ctypes

import numpy as np

from software_gpu import builds

MOST = 1024  # arguments of a kernel


def check_all(cupy):
    """Has every kernel of a ``cupy.RawModule`` check its arguments before it is launched."""

    made = cupy.RawModule

    def raw_module(*arguments, **options):
        plain = not arguments and "code" in options and "name_expressions" not in options
        module = made(*arguments, **options)
        return Module(module, options["code"], options.get("options", ())) if plain else module

    cupy.RawModule = raw_module


class Module:
    def __init__(self, module, code, options):
        self.module, self.code, self.options = module, code, options

    def get_function(self, name):
        return Kernel(self.module.get_function(name), name, types(self.code, self.options, name))

    def __getattr__(self, name):
        return getattr(self.module, name)


def types(code, options, name):
    """The types of a kernel's parameters, as ``on_the_host.hpp`` names them; of a struct its size as well: V1024."""
    found, sizes = (ctypes.c_char_p * MOST)(), (ctypes.c_size_t * MOST)()
    library = ctypes.CDLL(str(builds.library(code, options, None, lambda: None)))
    getattr(library, f"software_sizes_{name}")(sizes)
    kinds = (found[i].decode() for i in range(getattr(library, f"software_types_{name}")(found)))
    return [f"V{size}" if kind == "V" else kind for kind, size in zip(kinds, sizes, strict=False)]


class Kernel:
    """Called as CuPy's kernels are: with the grid, the block, and the arguments."""

    def __init__(self, function, name, parameters):
        self.function, self.name, self.parameters = function, name, parameters

    def __call__(self, grid, block, arguments, **options):
        if len(arguments) != len(self.parameters):
            raise TypeError(f"kernel {self.name} takes {len(self.parameters)} arguments, not {len(arguments)}")
        for i, (argument, wanted) in enumerate(zip(arguments, self.parameters, strict=True)):
            if wanted not in (given := kinds(argument)):
                raise TypeError(f"kernel {self.name}: argument {i} is {given[0]}, it takes {wanted}")
        self.function(grid, block, arguments, **options)

    def __getattr__(self, name):
        return getattr(self.function, name)


def kinds(argument):
    """What an argument may be taken for: an array for the address of its numbers, 0 as a word for any address."""
    if isinstance(argument, np.generic):
        kind = argument.dtype.str[1:]
        return [kind, *(f"P{k}{n}" for k, n in PLACES if argument.dtype == np.uint64 and argument == 0)]
    if isinstance(argument, np.ndarray):  # CuPy takes the bytes of a struct
        return [f"V{argument.nbytes}" if argument.dtype.names else "an array of the host"]
    if not hasattr(argument, "data"):
        return [type(argument).__name__]  # CuPy takes None for the address 0xffffffff, and any int for 64 bits
    kind = "P" + argument.dtype.str[1:]
    return [kind if argument.flags.c_contiguous else f"{kind}, with gaps"]


PLACES = [("f", 4), ("f", 8), ("i", 1), ("i", 4), ("i", 8), ("u", 1), ("u", 4), ("u", 8)]
