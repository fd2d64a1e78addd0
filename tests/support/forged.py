"""Files taken apart, changed and put together again, with a right SHA-256: as an attacker could make them."""

import json
from hashlib import sha256

ZEROS = "0" * 64


def parts(data):
    """The header as a dict, the metadata "portnn" as a dict, and the tensors' bytes."""
    n = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + n])
    return header, json.loads(header["__metadata__"]["portnn"]), data[8 + n :]


def raw(header, body):
    """A file with that header, a text or bytes; every ZEROS in it becomes the digest."""
    header = header.encode() if isinstance(header, str) else header
    data = len(header).to_bytes(8, "little") + header + body
    digest = sha256(data).hexdigest()
    return data.replace(b'"sha256":"' + ZEROS.encode() + b'"', f'"sha256":"{digest}"'.encode(), 1)


def forged(data, change=None, tensors=None, body=None, about=None):
    """``data`` with other contents: ``change(about)`` and ``tensors(header)`` change those in place; ``about`` is a
    text in place of the metadata, ``body`` other bytes of the tensors."""
    header, described, old = parts(data)
    if change is not None:
        change(described)
    header["__metadata__"] = {"portnn": json.dumps(described) if about is None else about, "sha256": ZEROS}
    if tensors is not None:
        tensors(header)
    return raw(json.dumps(header, separators=(",", ":")), old if body is None else body)


def with_tensor(name, dtype, shape, bytes_each):
    """A change that appends a tensor to a header, and the number of bytes to be appended."""

    def change(header):
        end = max((entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"), default=0)
        size = bytes_each
        for n in shape:
            size *= n
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}

    return change
