"""Checks of arguments, and of what layers' methods return; each returns the value that it accepts."""

import inspect
import operator
import os
from collections.abc import Callable, Iterable
from string import Formatter
from typing import Any

MOST_AXES = 32  # of an array, in every version of NumPy


def signature_of(function: Any) -> inspect.Signature:
    """What a function or class takes: to check what it would be called with, and to say it in errors.

    Fast versions and layers' options are never found by it, but for ``training`` and ``need_input_error`` of a layer.
    """
    return inspect.signature(function)


def misfit(fault: str, advice: str = "") -> ValueError:
    """The error for a sample that does not fit a layer: ``fault``, and how to change the layer.

    Both are attributes too, for callers that know that it is not the layer that must change.
    """
    error = ValueError(f"{fault}: {advice}" if advice else fault)
    error.__dict__.update(fault=fault, advice=advice)
    return error


def within(place: str, error: ValueError) -> ValueError:
    """The error of an inner layer, with its place in front."""
    return misfit(f"{place}{getattr(error, 'fault', error)}", getattr(error, "advice", ""))


def whole(what: str, value: Any) -> int:
    """A whole number, as a Python int; NumPy integers and 0-d integer arrays are accepted, True and 2.0 are not."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    is_float = hasattr(value, "is_integer") and not isinstance(value, (bool, type)) and value.is_integer()
    raise TypeError(
        f"{what} must be a whole number, got {value!r:.60} ({type(value).__name__})"
        + (f": write int({value!r:.60}), or {int(value)}" if is_float else "")
    )


def size(what: str, value: Any, least: int = 1, bits: int = 40) -> int:
    """A whole number, ``least`` or more, and 2**bits at most: no array has an axis of more."""
    n = whole(what, value)
    if n < least:
        raise ValueError(f"{what} must be {least} or more, got {shown(n)}")
    if n > 1 << bits:
        raise ValueError(f"{what} must be 2**{bits} at most, got {shown(n)}")
    return n


def shown(n: int) -> str:
    """A whole number in an error message; Python refuses to print more than a few thousand digits."""
    return str(n) if abs(n) < 1 << 200 else f"a number of {n.bit_length()} bits"


def sizes(what: str, value: Any, axes: str) -> tuple[int, ...]:
    """A whole number for each of the axes named in ``axes``, such as ``"H, W, C"``."""
    names = axes.split(", ")
    if not isinstance(value, (tuple, list)) or len(value) != len(names):
        raise ValueError(f"{what} must be ({axes}), got {value!r:.60}")
    return tuple(size(f"{what}: {name}", v) for name, v in zip(names, value, strict=True))


def shape(what: str, value: Any) -> tuple[int, ...]:
    """The shape of one sample: whole numbers, 1 or more, without the axis of samples."""
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{what} must be the shape of one sample, such as (28, 28, 1), got {value!r:.60}")
    if len(value) > MOST_AXES:
        raise ValueError(f"{what} must have at most {MOST_AXES} axes, as arrays have, got {len(value):,}")
    return tuple(size(f"{what}: axis {i}", n) for i, n in enumerate(value))


def number(what: str, value: Any) -> float:
    """A finite real number, as a Python float: a NumPy scalar would promote float32 arrays."""
    found = real(what, value, "a number")
    if found - found != 0.0:
        raise ValueError(f"{what} must be finite, got {value!r:.60}")
    return found


def positive(what: str, value: Any) -> float:
    """A finite number of more than 0."""
    found = number(what, value)
    if found <= 0.0:
        raise ValueError(f"{what} must be more than 0, got {value}")
    return found


def in_range(least: float, limit: float | None = None) -> Callable[[str, Any], float]:
    """A check for numbers in [least, limit); without a limit, for finite ones."""
    where = f"in [{least:g}, {limit:g})" if limit is not None else f"{least:g} or more, and finite"

    def check(what: str, value: Any) -> float:
        found = real(what, value, f"a number {where}", where)
        if not least <= found < (float("inf") if limit is None else limit):
            raise ValueError(f"{what} must be {where}, got {value!r:.60}")
        return found

    return check


def real(what: str, value: Any, wanted: str, where: str = "finite") -> float:
    """A real number as a Python float; NaN and infinity are left to the caller."""
    is_number = hasattr(value, "__float__") or hasattr(value, "__index__")  # float() takes strings and buffers too
    if not is_number or isinstance(value, (str, bytes, bool, type)):
        raise TypeError(f"{what} must be {wanted}, got {value!r:.60} ({type(value).__name__})")
    shape, kind = _shape(value), _kind(value)
    if shape != ():
        raise TypeError(f"{what} must be {wanted}, got an array of shape {shape}")
    if kind and not any(name in kind for name in ("int", "float")):
        raise TypeError(f"{what} must be {wanted}, got {value!r:.60}, of dtype {kind}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{what} must be {where}, got a number too large for a float") from None
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} must be {wanted}, got {value!r:.60} ({error})") from None


def _kind(value: Any) -> str:
    """The name of an array's dtype; empty for other things."""
    return str(getattr(value, "dtype", ""))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))


def branch(what: str, layers: Any) -> list[Any]:
    """Layers run in order, as a list."""
    for layer in layers:
        if isinstance(layer, (list, tuple)):
            raise TypeError(f"{what} takes layers, got a list: write them one by one, or give them after a *")
        if isinstance(layer, type) or not hasattr(layer, "updates_itself"):
            example = f"{layer.__name__}(...)" if isinstance(layer, type) else "FCLayer(4, 4)"
            raise TypeError(f"{what} takes Layer objects, such as {example}, got {layer!r:.60}")
    if len({id(layer) for layer in layers}) < len(layers):
        raise ValueError(f"{what} was given one layer twice: create two; each keeps the state of one place")
    return list(layers)


def remembered(state: Any, **kinds: tuple[type, ...]) -> None:
    """Checks what a callback is to remember: a dict with at least these keys, of these types; no number below 0."""
    if not isinstance(state, dict):
        raise TypeError(f"the state must be a dict, got {state!r:.60}")
    for name, types in kinds.items():
        if name not in state:
            raise ValueError(f"the state lacks {name}: it holds {', '.join(state) or 'nothing'!s:.80}")
        value, known = state[name], " or ".join(kind.__name__ for kind in types)
        if type(value) not in types or (type(value) is int and value < 0):
            raise TypeError(f"{name} must be {known}{', 0 or more' * (int in types)}, got {value!r:.60}")


def texts(what: str, value: Any) -> list[str]:
    """A list of texts."""
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise TypeError(f"{what} must be a list of texts, got {value!r:.60}")
    return list(value)


def path(what: str, value: Any) -> str:
    """A file's path, as text or as an object such as ``pathlib.Path``."""
    try:
        found = os.fsdecode(value)
    except TypeError:
        raise TypeError(f"{what} must be a file's path, got {value!r:.60}") from None
    if "\0" in found:
        raise ValueError(
            f"{what} must be a file's path, which holds no null characters, got {value!r:.60}: if this is the content "
            "of a file, give the path instead"
        )
    return found


def template(what: str, path: str) -> list[tuple[str, str | None, str]]:
    """The parts of a path that may contain {epoch} and {step}: what stands before each, its name, and its format.

    The last part may have no name. ValueError for any other braces.
    """
    try:
        parts = list(Formatter().parse(path))
        path.format(epoch=1, step=1)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"{what} may contain {{epoch}} and {{step}} only, got {path!r:.120}: {error!r}") from None
    for before, name, form, conversion in parts:
        if set("{}") & set(before + (form or "")) or conversion or name not in (None, "epoch", "step"):
            raise ValueError(
                f"{what} may contain {{epoch}} and {{step}} only, such as run-{{epoch:03}}, and no other braces, got "
                f"{path!r:.120}"
            )
    return [(before, name, form or "") for before, name, form, _ in parts]


def flag(what: str, value: Any) -> bool:
    """True or False of Python or NumPy, or 1 or 0; a string such as "no" is refused, since it would count as true."""
    if value is True or value is False:
        return bool(value)
    try:
        one = hasattr(value, "item") and tuple(getattr(value, "shape", ())) == ()
        number = value.item() if one else value  # a NumPy bool, or a 0-d array
        known = isinstance(number, (bool, int)) and number in (0, 1)
    except (TypeError, ValueError):  # more than one element
        known = False
    if not known:
        raise TypeError(f"{what} must be True or False, got {value!r:.60} ({type(value).__name__})")
    return bool(number)


def level(what: str, value: Any, most: int) -> int:
    """True or False, or a whole number from 0 to ``most``."""
    if isinstance(value, str):  # such as "auto"
        raise TypeError(f"{what} must be True, False or a number from 0 to {most}, got {value!r:.60}")
    try:
        number = int(flag(what, value))
    except TypeError:
        number = whole(what, value)
    if not 0 <= number <= most:
        raise ValueError(f"{what} must be from 0 to {most}, got {shown(number)}")
    return number


def answer(
    layer: Any, method: str, value: Any, shape: tuple[int, ...] | None = None, samples: int | None = None
) -> Any:
    """What a layer's method returned: an array of the backend and dtype, with that shape or number of samples."""
    name = f"{type(layer).__name__}.{method}"
    if value is None:
        raise TypeError(f"{name} returned None: it must return an array (is a return missing?)")
    if not layer.backend.owns(value):
        kind = f"{type(value).__module__}.{type(value).__name__}"
        raise TypeError(
            f"{name} returned {kind}, but must return an array of backend {layer.backend.name!r}: use self.xp"
        )
    if value.dtype != layer.device_dtype:
        raise TypeError(
            f"{name} returned {value.dtype}, but the network computes in {layer.dtype}: NumPy scalars and other "
            "arrays promote; write numbers as Python floats, or cast with self.xp.astype(Y, X.dtype)"
        )
    if shape is not None and tuple(value.shape) != tuple(shape):
        raise ValueError(f"{name} returned shape {tuple(value.shape)}, but must return {tuple(shape)}")
    if samples is not None and (value.ndim == 0 or value.shape[0] != samples):
        raise ValueError(
            f"{name} returned shape {tuple(value.shape)} for {samples} samples: the first axis counts them"
        )
    return value


def gradients(layer: Any) -> None:
    """The gradients that a backward pass set: each must have its parameter's name, shape and dtype."""
    for name, gradient in layer.gradients.items():
        if name not in layer.parameters:
            known = ", ".join(layer.parameters) or "none"
            raise ValueError(f"{type(layer).__name__} set gradients[{name!r}], but its parameters are: {known}")
        answer(layer, f"gradients[{name!r}]", gradient, shape=layer.parameters[name].shape)


class BadValueError(ValueError):
    """A wrong value in an array: the message has its place between ``before`` and ``after``."""

    def __init__(self, before: str, place: Iterable[int], after: str):
        self.before, self.place, self.after = before, tuple(int(i) for i in place), after
        super().__init__(before, self.place, after)

    def __str__(self) -> str:
        return f"{self.before}[{', '.join(map(str, self.place))}]{self.after}"

    def of_row(self, row: int) -> "BadValueError":
        """The same, where the rows were taken from other data, of which the one at this place has that number."""
        return BadValueError(self.before, (row, *self.place[1:]), self.after)

    def in_batch(self, number: int) -> "BadValueError":
        return self.within(f"in batch {number} of the iterable")

    def within(self, what: str) -> "BadValueError":
        """The same, where the array is a part of something else."""
        return BadValueError(f"{what}, {self.before}", self.place, self.after)
