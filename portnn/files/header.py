"""The header of a file in the safetensors format, checked against the file's size before anything else is read.

8 bytes     the length of the header, little-endian
header      JSON: {"__metadata__": {"portnn": ..., "sha256": ...}, NAME: {"dtype", "shape", "data_offsets"}, ...}
the rest    the tensors' bytes, without gaps
"""

from math import prod
from typing import Any, NamedTuple

from portnn._typing import Shape
from portnn.checks import MOST_AXES
from portnn.files import text
from portnn.files.errors import FileError

# The dtypes that a tensor may have: by the format's name, NumPy's name and the bytes of one number.
DTYPES = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U64": ("uint64", 8),
    "U32": ("uint32", 4),
    "U16": ("uint16", 2),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}
OTHERS = DTYPES | {"BF16": ("bfloat16", 2)}  # those that a tensor of another program's file may have
MOST = 1 << 60  # bytes, and numbers along an axis


class Tensor(NamedTuple):
    """What a header says of a tensor: its dtype by NumPy's name, its shape, and where its bytes begin and end."""

    dtype: str
    shape: Shape
    begin: int
    end: int


class Header(NamedTuple):
    """A checked header: the tensors by name, the two texts of the metadata, and the header's own bytes."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    raw: bytes


def length(start: bytes, size: int) -> int:
    """The length of the header, from the first 8 bytes of a file of ``size`` bytes."""
    if size < 8 or len(start) < 8:
        raise FileError(f"the file has {size} bytes, too few for a file in the safetensors format: it was cut off")
    n = int.from_bytes(start[:8], "little")
    if n > text.BYTES:
        raise FileError(
            f"the header would have {n:,} bytes, more than {text.BYTES:,}: this is no file in the safetensors format "
            "that portnn wrote, or it is damaged"
        )
    if n > size - 8:
        raise FileError(f"the header has {n:,} bytes, but the file only {size - 8:,}: it was cut off, or is damaged")
    return n


def parsed(raw: bytes, size: int) -> Header:
    """The header in ``raw``, of a file of ``size`` bytes; FileError unless its tensors fill the rest exactly."""
    entries = text.parsed(raw, "the header of the file")
    metadata = entries.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FileError(_FOREIGN)
    if not {"portnn", "sha256"} <= set(metadata):
        raise FileError(_FOREIGN)
    return Header(_tensors(entries, size - 8 - len(raw), DTYPES), metadata, raw)


def of_another_program(raw: bytes, size: int) -> Header:
    """The header in ``raw`` of a file that another program wrote: checked as above, with any metadata or none."""
    entries = text.parsed(raw, "the header of the file")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FileError(f"__metadata__ of the header is {metadata!r:.80}, expected texts by name")
    return Header(_tensors(entries, size - 8 - len(raw), OTHERS), metadata, raw)


_FOREIGN = (
    "the file is in the safetensors format, but no network of portnn is in it: its metadata lack portnn and sha256. To "
    "take weights that PyTorch wrote, call portnn.torch.load_state_dict(net, path); from another program's file, read "
    "it with safetensors.numpy.load_file(path) and call net.parameters.update({path: array, ...})"
)


def _tensors(entries: dict[str, Any], size: int, dtypes: dict[str, tuple[str, int]]) -> dict[str, Tensor]:
    tensors = {name: _tensor(name, entry, dtypes) for name, entry in entries.items()}
    _check_places(tensors, size)
    return tensors


def _tensor(name: str, entry: Any, dtypes: dict[str, tuple[str, int]]) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FileError(f"tensor {name!r:.80} of the header has no dtype, shape and data_offsets, but {entry!r:.80}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in dtypes:
        raise FileError(f"tensor {name!r:.80} has dtype {dtype!r:.40}, expected one of {', '.join(dtypes)}")
    if not _are_sizes(shape) or len(shape) > MOST_AXES:
        raise FileError(f"tensor {name!r:.80} has shape {shape!r:.80}, expected at most {MOST_AXES} whole numbers")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise FileError(f"tensor {name!r:.80} has data_offsets {offsets!r:.80}, expected two whole numbers")
    (begin, end), (kind, bytes_each) = offsets, dtypes[dtype]
    size = prod(shape) * bytes_each
    if end - begin != size:
        raise FileError(
            f"tensor {name!r:.80} of shape {tuple(shape)!r:.80} and dtype {dtype} has {size:,} bytes, but its place in "
            f"the file {end - begin:,}"
        )
    return Tensor(kind, tuple(shape), begin, end)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n <= MOST for n in value)


def _check_places(tensors: dict[str, Tensor], size: int) -> None:
    """The tensors must follow each other without gap and overlap, up to the end of the file."""
    at, before = 0, "the header"
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if tensor.begin != at:
            kind = "overlaps" if tensor.begin < at else "leaves a gap behind"
            raise FileError(f"tensor {name!r:.80} begins at byte {tensor.begin:,}, which {kind} {before!r:.80}")
        at, before = tensor.end, name
    if at != size:
        kind = "was cut off" if size < at else "has something behind its tensors"
        raise FileError(f"the tensors have {at:,} bytes, but the file has room for {size:,}: it {kind}, or is damaged")
