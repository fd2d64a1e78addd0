"""Exported C files: compiled, and called from here."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

CC = shutil.which("cc")
needs_cc = pytest.mark.skipif(CC is None, reason="there is no C compiler, cc, on the path")
STRICT = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
SANITIZED = ["-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def cc(*arguments, cwd):
    done = subprocess.run([CC, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[:3000]


def run(program, cwd):
    return subprocess.run([f"./{program}"], cwd=cwd, capture_output=True, text=True, timeout=120)


def shared(folder, networks, *options):
    """All networks, compiled by one call into one library; a function for a batch of samples each."""
    for i, network in enumerate(networks):
        network.export(folder / f"n{i}.c")
    files = [f"n{i}.c" for i in range(len(networks))]
    cc(*STRICT, *options, "-shared", "-fPIC", "-o", "all.so", *files, "-lm", cwd=folder)
    library = ctypes.CDLL(str(folder / "all.so"))
    return [batch(getattr(library, f"n{i}_predict"), network) for i, network in enumerate(networks)]


def batch(function, network):
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p], None

    def predict(x, shape):
        x = np.ascontiguousarray(x, network.dtype)
        y = np.full((len(x), *shape), np.nan, network.dtype)
        for given, result in zip(x, y, strict=True):
            function(given.ctypes.data, result.ctypes.data)
        return y

    return predict
