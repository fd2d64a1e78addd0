"""The SHA-256 of a file, which is kept in the file: it is computed with its own 64 digits as zeros."""

import re
from collections.abc import Iterable

DIGITS = 64
ZEROS = "0" * DIGITS
_PLACE = re.compile(rb'"sha256":"([0-9a-f]{64})"')  # within a text of the header its quotes would be escaped


def place(head: bytes) -> int | None:
    """Where the 64 digits begin, in the first bytes of a file, up to the end of its header; None if they are not there
    exactly once."""
    found = list(_PLACE.finditer(head))
    return found[0].start(1) if len(found) == 1 else None


def of(head: bytes, at: int, rest: Iterable[bytes | bytearray | memoryview]) -> str:
    """The digest of a file that begins with ``head``, whose digits are at ``at``, and goes on with ``rest``."""
    from hashlib import sha256

    found = sha256(head[:at] + ZEROS.encode() + head[at + DIGITS :])
    for part in rest:
        found.update(part)
    return found.hexdigest()
