"""Takes files apart, changes them and reassembles them with a valid SHA-256, as an attacker could."""

import json
from hashlib import sha256

ZEROS = "0" * 64


def parts(data):
    """The header and its "portnn" metadata as dicts, and the bytes of the tensors."""
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n])
    return header, json.loads(header["__metadata__"]["portnn"]), data[8 + n :]


def raw(header, body):
    """A file with this header (str or bytes); the ZEROS that stand for its SHA-256 become the digest."""
    header = header.encode() if isinstance(header, str) else header
    data = len(header).to_bytes(8, "little") + header + body
    digest = sha256(data).hexdigest()
    return data.replace(b'"sha256":"' + ZEROS.encode() + b'"', f'"sha256":"{digest}"'.encode(), 1)


def forged(data, change=None, tensors=None, body=None, about=None):
    """``data`` with other contents: ``change(metadata)`` and ``tensors(header)`` modify their arguments in place,
    ``about`` is text that replaces the metadata, and ``body`` replaces the bytes of the tensors."""
    header, described, old = parts(data)
    if change is not None:
        change(described)
    header["__metadata__"] = {"portnn": json.dumps(described) if about is None else about, "sha256": ZEROS}
    if tensors is not None:
        tensors(header)
    return raw(json.dumps(header, separators=(",", ":")), old if body is None else body)


def with_tensor(name, dtype, shape, bytes_each):
    """A function that appends a tensor to a header; ``bytes_each`` is the size of one element."""

    def change(header):
        end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
        size = bytes_each
        for n in shape:
            size *= n
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}

    return change
