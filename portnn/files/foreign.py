"""Reading tensors from a safetensors file that another program wrote, with the checks that portnn's own files get.

There is no digest in such a file. The rest is checked as in our own: header and places against the file's size before
anything is read, no gaps, no overlaps, no duplicate names. Nothing in it is executed.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from portnn import checks
from portnn._typing import Shape
from portnn.files import header
from portnn.files.errors import FileError
from portnn.files.reading import naming

NOT_SAFETENSORS = {  # endings of other files with arrays, and how to take them
    ".npz": "this is a file of numpy.savez: give what is in it, dict(numpy.load(path))",
    ".json": "this is an index, or the settings, of a model in several files: read each with "
    "safetensors.numpy.load_file(path), and give all of them as one dict",
}
PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
ZIP = b"PK\x03\x04"  # how torch.save's files begin: a zip archive that holds a pickle
_ADVICE = (
    "which runs whatever code is written in it when it is read, so portnn reads none. Where PyTorch is installed, "
    'write the weights to a safetensors file: safetensors.torch.save_file(model.state_dict(), "net.safetensors")'
)


class Tensors:
    """An open file whose header has been checked, and whose tensors are yet to be read."""

    def __init__(self, file: Any, size: int):
        start = file.read(8)
        if start.startswith(ZIP) or _is_pickle(start, size):
            raise FileError(f"this is a file of torch.save or of pickle, {_ADVICE}")
        raw = file.read(header.length(start, size))
        self.header = header.of_another_program(raw, size)
        self.file, self.begin = file, len(start) + len(raw)

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each tensor, in the file's order, which is none of the module's."""
        return {name: tensor.shape for name, tensor in self.header.tensors.items()}

    @property
    def dtypes(self) -> dict[str, str]:
        """The dtype of each tensor, as it is stored."""
        return {name: tensor.dtype for name, tensor in self.header.tensors.items()}

    def read(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Some of the tensors; those of bfloat16, which NumPy does not have, as float32 of the same values."""
        found = {}
        for name in names:
            tensor = self.header.tensors[name]
            data = bytearray(tensor.end - tensor.begin)
            self.file.seek(self.begin + tensor.begin)
            if self.file.readinto(data) != len(data):
                raise FileError("the file was changed while it was read: read it again")
            stored = "uint16" if tensor.dtype == "bfloat16" else tensor.dtype
            array = np.ndarray(tensor.shape, np.dtype(stored).newbyteorder("<"), data).astype(stored, copy=False)
            found[name] = widened(array) if tensor.dtype == "bfloat16" else array
        return found


def _is_pickle(start: bytes, size: int) -> bool:
    """Whether a file begins as a pickle does, with 0x80 and its protocol, and not with the length of a header."""
    return (
        start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5") and int.from_bytes(start, "little") > size
    )


def widened(bits: np.ndarray) -> np.ndarray:
    """bfloat16 numbers, given as their 16 bits, as float32: these are the upper half of its bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


@contextmanager
def opened(path: Any) -> Iterator[Tensors]:
    """The file at ``path``, checked; errors within name the file. OSError where there is no such file."""
    path = checks.path("path", path)
    about = os.stat(path)
    with naming(path):
        if not stat.S_ISREG(about.st_mode):
            raise FileError(f"this is {'a folder' if stat.S_ISDIR(about.st_mode) else 'no ordinary file'}")
        if told := next((told for ending, told in NOT_SAFETENSORS.items() if path.lower().endswith(ending)), None):
            raise FileError(told)
        if path.lower().endswith(PICKLED):
            raise FileError(f"by its name this is a file of torch.save or of pickle, {_ADVICE}")
        with open(path, "rb") as file:
            yield Tensors(file, os.fstat(file.fileno()).st_size)
