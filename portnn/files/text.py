"""JSON as a file may hold it: no duplicate keys, no NaN, no huge numbers, limited in size and depth.

The limits bound the time and the memory that reading takes, whatever the file contains. They hold when a file is
written, too, so that every file that is written can be read.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from math import isfinite
from typing import Any, NoReturn

from portnn.files.errors import FileError

BYTES = 1 << 24
NUMBERS = 1 << 20  # values, counted by their commas
CONTAINERS = 1 << 17  # lists and objects
DEPTH = 100
DIGITS = 40  # of a whole number


def written(value: Any) -> str:
    """``value`` as JSON; ValueError if no file may hold so much."""
    import json

    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    if fault := too_much(text.encode()):
        what, advice, part = max(_parts(value), key=lambda part: len(json.dumps(part[2])))
        alone = too_much(json.dumps(part, separators=(",", ":")).encode())
        raise ValueError(f"a file cannot hold this: {what} {alone or f'is the largest part of what {fault}'}. {advice}")
    if fault := _too_deep(value):
        what, advice, _ = max(_parts(value), key=lambda part: len(list(_levels(part[2]))))
        raise ValueError(f"a file cannot hold this: {what} {fault}. {advice}")
    return text


def parsed(text: bytes, what: str) -> dict[str, Any]:
    """The JSON object in ``text``; FileError for anything else. ``what`` names it in errors."""
    import json

    if fault := too_much(text):
        raise FileError(f"{what} {fault}")
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_distinct,
            parse_constant=_refused,
            parse_float=_finite,
            parse_int=_short,
        )
    except RecursionError:
        raise FileError(f"{what} is nested too deeply") from None
    except (ValueError, FileError) as error:  # no UTF-8 and no JSON are ValueErrors
        raise FileError(f"{what} is not valid: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise FileError(f"{what} must be a JSON object, got {value!r:.40}")
    if fault := _too_deep(value):
        raise FileError(f"{what} {fault}")
    return value


def _parts(about: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """The parts of what is to be written, each with its name and with what to do if it is too large."""
    for key, value in about.items():
        if key == "layers":
            for i, entry in enumerate(value):
                yield f"layer {i} ({entry['class']})", "Put fewer layers into one another", entry
        elif key == "callbacks":
            for i, each in enumerate(value):
                advice = "state_dict must return less: many numbers belong in an array, and few levels are enough"
                yield f"the state of callback {i} ({each['class']})", advice, each["state"]
        elif key == "history":
            yield "net.history", "net.history has one value per epoch, and net.use(...) starts it afresh", value
        else:
            yield key, "It is made of the arguments of what the network consists of: give fewer", value


def too_much(text: bytes) -> str | None:
    """What there is too much of, in JSON; None if nothing."""
    if len(text) > BYTES:
        return f"has {len(text):,} bytes, more than {BYTES:,}"
    if text.count(b",") > NUMBERS:
        return f"has more than {NUMBERS:,} values"
    if text.count(b"[") + text.count(b"{") > CONTAINERS:
        return f"has more than {CONTAINERS:,} lists and objects"
    return None


def _too_deep(value: Any) -> str | None:
    """Whether lists and objects are nested too deeply; level by level, so that no depth is too much for this check."""
    depth = sum(1 for _ in islice(_levels(value), DEPTH + 1))
    return f"is nested more than {DEPTH} levels deep" if depth > DEPTH else None


def _levels(value: Any) -> Iterator[list[Any]]:
    """The lists and objects of each level, from the outermost to the innermost."""
    level = [value] if isinstance(value, (dict, list)) else []
    while level:
        yield level
        parts = [part.values() if isinstance(part, dict) else part for part in level]
        level = [inner for part in parts for inner in part if isinstance(inner, (dict, list))]


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise FileError(f"{twice!r:.60} occurs twice")
    return found


def _refused(constant: str) -> NoReturn:
    raise FileError(f"{constant} is no number")


def _finite(number: str) -> float:
    value = float(number)
    if not isfinite(value):
        raise FileError(f"the number {number:.40} is too large")
    return value


def _short(number: str) -> int:
    if len(number) > DIGITS:
        raise FileError(f"the number {number[:DIGITS]}... is too large")
    return int(number)
