"""Arguments of kernels, checked: CUDA takes the bytes that it is given, whatever the kernel calls them."""

import ctypes

import numpy as np

from software_gpu import builds

MOST = 1024  # arguments of a kernel


def check_all(cupy):
    """Has every kernel of a ``cupy.RawModule``, and every ``cupy.RawKernel``, check its arguments when it is launched."""

    made, made_kernel = cupy.RawModule, cupy.RawKernel

    def raw_module(*arguments, **options):
        plain = not arguments and "code" in options and "name_expressions" not in options
        module = made(*arguments, **options)
        return Module(module, options["code"], options.get("options", ())) if plain else module

    def raw_kernel(code, name, options=(), *arguments, **others):
        return Alone(made_kernel(code, name, options, *arguments, **others), name, code, options)

    cupy.RawModule, cupy.RawKernel = raw_module, raw_kernel


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

    may_be_addresses = False

    def __init__(self, function, name, parameters):
        self.function, self.name, self.parameters = function, name, parameters

    def __call__(self, grid, block, arguments, **options):
        if len(arguments) != len(self.parameters):
            raise TypeError(f"kernel {self.name} takes {len(self.parameters)} arguments, not {len(arguments)}")
        for i, (argument, wanted) in enumerate(zip(arguments, self.parameters, strict=True)):
            if wanted not in (given := kinds(argument, self.may_be_addresses)):
                raise TypeError(f"kernel {self.name}: argument {i} is {given[0]}, it takes {wanted}")
        self.function(grid, block, arguments, **options)

    def __getattr__(self, name):
        return getattr(self.function, name)


class Alone(Kernel):
    """A ``cupy.RawKernel``, compiled at its first launch. An address may be any word: who wrote it has to know."""

    may_be_addresses = True

    def __init__(self, function, name, code, options):
        super().__init__(function, name, None)
        self.source = code, options

    def __call__(self, grid, block, arguments, **options):
        if self.parameters is None:
            self.parameters = types(*self.source, self.name)
        super().__call__(grid, block, arguments, **options)


def kinds(argument, may_be_address=False):
    """What an argument may be taken for: an array for the address of its numbers, 0 as a word for any address."""
    if isinstance(argument, np.generic):
        kind, is_word = argument.dtype.str[1:], argument.dtype == np.uint64
        return [kind, *(f"P{k}{n}" for k, n in PLACES if is_word and (may_be_address or argument == 0))]
    if isinstance(argument, np.ndarray):  # CuPy takes the bytes of a struct
        return [f"V{argument.nbytes}" if argument.dtype.names else "an array of the host"]
    if not hasattr(argument, "data"):
        # CuPy takes None for the address 0xffffffff, and a number of Python's for 64 bits, whatever the kernel takes.
        return [type(argument).__name__, *{int: ["i8", "u8"], float: ["f8"]}.get(type(argument), [])]
    kind = "P" + argument.dtype.str[1:]
    return [kind if argument.flags.c_contiguous else f"{kind}, with gaps"]


PLACES = [("f", 4), ("f", 8), ("i", 1), ("i", 4), ("i", 8), ("u", 1), ("u", 4), ("u", 8)]
