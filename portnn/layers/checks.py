"""Checks of what a layer is made with; each returns the value it accepts."""

from typing import Any


def size(what: str, value: Any) -> int:
    """A whole number, 1 or more."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{what} must be a whole number, got {value!r:.60} ({type(value).__name__})")
    if value.__index__() < 1:
        raise ValueError(f"{what} must be 1 or more, got {value}")
    return int(value.__index__())


def sizes(what: str, value: Any, axes: str) -> tuple[int, ...]:
    """A whole number for each of the axes named in ``axes``, such as ``"H, W, C"``."""
    names = axes.split(", ")
    if not isinstance(value, (tuple, list)) or len(value) != len(names):
        raise ValueError(f"{what} must be ({axes}), got {value!r:.60}")
    return tuple(size(f"{what}: {name}", v) for name, v in zip(names, value, strict=True))


def number(what: str, value: Any) -> float:
    """A finite real number, as a Python float: a NumPy scalar would promote float32 arrays."""
    try:
        x = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{what} must be a number, got {value!r:.60} ({type(value).__name__})") from None
    if x - x != 0.0:
        raise ValueError(f"{what} must be finite, got {value}")
    return x
