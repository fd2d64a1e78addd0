"""Arguments, settings and states as JSON, and back, without loss.

Numbers, texts, True, False and None stand for themselves, a JSON list for a tuple. Everything else is an object with
a key that says what it is:

    {"list": [...]}  {"dict": {...}}  {"float": "nan"}                  what JSON cannot tell apart, or does not have
    {"class": "StepDecay", "arguments": {...}}                          an object that is made anew
    {"function": "tanh"}  {"given": "my_loss"}                          one of portnn's functions; the caller's own
    {"array": "best/0.weights"}                                         a tensor of the file
"""

from math import isfinite
from typing import Any

import numpy as np

from portnn.backend import is_array
from portnn.files.arguments import arguments_of, tells_arguments
from portnn.files.errors import FileError
from portnn.files.registry import CLASSES, FUNCTIONS, Known
from portnn.functions import is_same, name_of
from portnn.layers import Layer
from portnn.ops import is_ours
from portnn.transfer import to_numpy

Uses = dict[str, tuple[Any, str]]  # by name: what a description names, and where it does
NOT_FINITE = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


def encoded(value: Any, what: str, uses: Uses) -> Any:
    """``value`` as JSON; TypeError for what no file can hold. ``what`` names it in errors.

    ``uses`` gathers what the description names, since one name can stand for one thing only.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.generic):
        return encoded(value.item(), what, uses)
    if isinstance(value, int):
        if value.bit_length() > 128:
            raise TypeError(f"{what} is too large a number for a file: {value.bit_length()} bits")
        return int(value)
    if isinstance(value, float):
        return float(value) if isfinite(value) else {"float": str(float(value))}
    if isinstance(value, tuple) and not callable(value):
        return [encoded(part, what, uses) for part in value]
    if isinstance(value, list):
        return {"list": [encoded(part, what, uses) for part in value]}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{what} has keys that are no texts: {list(value)!r:.60}")
        return {"dict": {key: encoded(part, f"{what}[{key!r}]", uses) for key, part in value.items()}}
    if isinstance(value, Layer):
        raise TypeError(f"{what} is a layer: a layer takes those in it one by one, def __init__(self, *layers)")
    if is_array(value):
        raise TypeError(f"{what} is an array: keep arrays in the layer's parameters or buffers, which a file holds")
    return thing(value, what, uses)


def thing(value: Any, what: str, uses: Uses) -> dict[str, Any]:
    """An object or a function, as JSON: how it is made, or by which name the caller gives it again."""
    made, name = type(value), name_of(value)
    if FUNCTIONS.get(name) is value:
        return {"function": name}
    if isinstance(value, (type, set, bytes, complex)):
        raise TypeError(f"{what} cannot be saved: {value!r:.60}")
    if hasattr(value, "__name__") or not tells_arguments(value):
        note_use(name, value, what, uses)
        return {"given": name}
    if CLASSES.get(made.__name__, made) is not made or (is_ours(made) and made not in CLASSES.values()):
        raise TypeError(f"{what} is of class {made.__name__}, a name that portnn itself uses: rename yours")
    note_use(made.__name__, made, what, uses)
    arguments = {key: encoded(part, f"{key} of {what}", uses) for key, part in arguments_of(value).items()}
    return {"class": made.__name__, "arguments": arguments}


def note_use(name: str, used: Any, what: str, uses: Uses) -> None:
    """Notes that a description names a class, function or object; TypeError if it names another one likewise."""
    before, where = uses.setdefault(name, (used, what))
    if not is_same(before, used):
        raise TypeError(
            f"{where} and {what} are two different things called {name}, of which a file could name only one: load "
            "finds classes, functions and objects by their names, so give them different ones"
        )


def state(value: Any, place: str, arrays: dict[str, np.ndarray]) -> Any:
    """A callback's state, as JSON; its arrays go into ``arrays``, under their place in the state."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: state(part, f"{place}/{key}" if place else key, arrays) for key, part in value.items()}}
    if isinstance(value, (list, tuple)):
        parts = [state(part, f"{place}/{i}", arrays) for i, part in enumerate(value)]
        return {"list": parts} if isinstance(value, list) else parts
    if value is None or isinstance(value, (bool, int, float, str, np.generic)):
        return encoded(value, f"the state {place!r} of a callback", {})
    if is_array(value):
        while place in arrays:  # {"a/b": ...} and {"a": {"b": ...}}
            place += "'"
        arrays[place] = to_numpy(value)
        return {"array": place}
    raise TypeError(f"{place!r} of a callback's state must be a JSON value or an array, got {value!r:.60}")


def decoded(value: Any, known: Known, arrays: dict[str, np.ndarray] | None = None) -> Any:
    """What ``encoded`` or ``state`` were given; FileError for what neither writes."""

    def inner(part: Any) -> Any:
        return decoded(part, known, arrays)

    if isinstance(value, list):
        return tuple(map(inner, value))
    if not isinstance(value, dict):
        return value
    match value:
        case {"list": list(parts), **rest} if not rest:
            return list(map(inner, parts))
        case {"dict": dict(parts), **rest} if not rest:
            return {key: inner(part) for key, part in parts.items()}
        case {"float": str(name), **rest} if not rest and name in NOT_FINITE:
            return NOT_FINITE[name]
        case {"function": str(name), **rest} if not rest and name in FUNCTIONS:
            return FUNCTIONS[name]
        case {"given": str(name), **rest} if not rest and name in known.given:
            return known.given[name]
        case {"array": str(name), **rest} if not rest and arrays is not None and name in arrays:
            return arrays[name]
        case {"class": str(name), "arguments": dict(arguments), **rest} if not rest and name in known.classes:
            return known.make(known.classes[name], {key: inner(part) for key, part in arguments.items()})
    raise FileError(f"the file holds {value!r:.80}, which is no value that portnn writes")
