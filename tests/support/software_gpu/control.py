"""The device's settings, its log and its faults."""

import ctypes
import os
from contextlib import contextmanager

from software_gpu import patching

MORE = 16  # bytes asked for beyond an array's end, which nobody may use


VARIABLE = "PORTNN_SOFTWARE_GPU_SETTINGS"  # of the environment: settings from the start on, as in "inexact=2,order=1"


class Settings(ctypes.Structure):
    """As in ``device/device.hpp``."""

    _fields_ = [(name, ctypes.c_int) for name in ("order", "inexact", "races", "poison")]


def device():
    return patching.libraries[0]


def set_from_environment():
    for setting in filter(None, os.environ.get(VARIABLE, "").split(",")):
        name, _, value = setting.partition("=")
        setattr(Settings.in_dll(device(), "software_settings"), name.strip(), int(value))


@contextmanager
def settings(**values):
    """Changes settings for a while: ``order`` (0: blocks and threads one after the other; else the seed of a drawn
    order), ``inexact`` (the most units in the last place by which functions are off, no more than CUDA's are), ``races``
    (whether accesses are compared between threads), ``poison`` (whether new memory is filled with NaN).
    """
    current = Settings.in_dll(device(), "software_settings")
    before = {name: getattr(current, name) for name in values}
    for name, value in values.items():
        setattr(current, name, int(value))
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(current, name, value)


def _lines(function, first):
    function.restype = ctypes.c_size_t
    size = function(first, None, 0) + 1
    text = ctypes.create_string_buffer(size)
    function(first, text, ctypes.c_size_t(size))
    return text.value.decode().splitlines()


@contextmanager
def log():
    """A list that holds, after the context, what the device was told to do in it, one line each."""
    lines = []
    device().software_keep_log(1)
    try:
        yield lines
    finally:
        lines += _lines(device().software_lines, 0)
        device().software_keep_log(0)


def faults():
    """What programs did wrong since this was last called: sentences."""
    if not patching.libraries:  # CuPy was not imported
        return []
    found = _lines(device().software_lines, 1)
    device().software_forget_faults()
    return found


def nodes(graph):
    """The names of the nodes of a captured graph (a ``cupy.cuda.Graph``), in the order of the capture."""
    return _lines(device().software_nodes, ctypes.c_void_p(graph.graph))


def watch_arrays(cupy):
    """Tells the device where each array ends: CuPy's pool hands out parts of what it allocated, in steps of 512 bytes."""
    array = device().software_array
    array.argtypes, array.restype = [ctypes.c_void_p, ctypes.c_size_t], None

    def watched(allocate):
        def allocate_watched(size):
            if size == 0:
                return allocate(size)
            pointer = allocate(size + MORE)
            array(pointer.ptr, size)
            return pointer

        return allocate_watched

    memory, using = cupy.cuda.memory, cupy.cuda.using_allocator
    cupy.cuda.set_allocator(watched(cupy.get_default_memory_pool().malloc))

    def using_allocator(allocator=None):
        return using(None if allocator is None else watched(allocator))

    cupy.cuda.using_allocator = memory.using_allocator = using_allocator
