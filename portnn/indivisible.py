"""Setting many values by one call into C: a signal's handler runs between two instructions of Python, never within."""

from collections import deque
from collections.abc import Iterable
from operator import setitem
from typing import Any

Binding = tuple[Any, str, Any]  # home[key] = value


def set_all(bindings: Iterable[Binding]) -> None:
    """Sets ``home[key] = value`` for each (home, key, value): all of them or, if an exception comes first, none."""
    if columns := tuple(zip(*bindings, strict=True)):
        set_each(*columns)


def set_each(homes: Iterable[Any], keys: Iterable[Any], values: Iterable[Any]) -> None:
    """The same for homes, keys and values that are in lists of one length already."""
    deque(map(setitem, homes, keys, values), maxlen=0)
