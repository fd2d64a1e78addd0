"""Settings: attributes that are checked whenever they are set, so that code that reads them can trust them.

    class Ridge(WithSettings):
        strength = Setting(number)            # ridge.strength = "high" is a TypeError at any time
        size = Fixed(size)                    # set once, by __init__

A setting is stored in the object's ``__dict__`` under its own name: reading it costs no call, and copies and
pickles contain it.
"""

from collections.abc import Callable
from typing import Any


class Setting:
    """An attribute that is set to what ``check(name, value)`` returns; the check raises for a bad value.

    ``beside(thing, value)`` raises where a value contradicts the other settings of the same object; while the
    object is being created some of those are missing from ``vars(thing)``.
    """

    name: str

    def __init__(
        self,
        check: Callable[[str, Any], Any] | None = None,
        *,
        beside: Callable[[Any, Any], None] | None = None,
    ):
        self.check, self.beside = check, beside

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    # No __get__: Python then finds the value in the object's __dict__ by itself, without a call.

    def __set__(self, thing: Any, value: Any) -> None:
        if self.check is not None:
            value = self.check(self.name, value)
        if self.beside is not None:
            self.beside(thing, value)
        vars(thing)[self.name] = value

    def __delete__(self, thing: Any) -> None:
        raise TypeError(f"{self.name} of {type(thing).__name__} cannot be deleted: set it to another value")


class Fixed(Setting):
    """A setting that cannot change after the object was created, since other arrays depend on it."""

    def __set__(self, thing: Any, value: Any) -> None:
        if self.name in vars(thing):
            if vars(thing)[self.name] == value:
                return
            made = type(thing).__name__
            raise ValueError(f"{self.name} of {made} is fixed when it is created: create another one, {made}(...)")
        super().__set__(thing, value)


class WithSettings:
    """A base for classes with settings: on portnn's own classes, setting a misspelt name is an error.

    A user's class that derives from one of them may have any attributes.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        made = type(self)
        if not hasattr(made, name) and made.__module__.startswith("portnn."):
            raise TypeError(_unknown(made, name))
        super().__setattr__(name, value)


def missing(thing: Any) -> list[str]:
    """The settings that were never set: the ``__init__`` of the object's class did not call ``super().__init__``."""
    names = (key for base in type(thing).__mro__ for key, value in vars(base).items() if isinstance(value, Setting))
    return [name for name in names if name not in vars(thing) and isinstance(getattr(type(thing), name), Setting)]


def _unknown(made: type, name: str) -> str:
    from difflib import get_close_matches  # here: it is slow to import

    known = [key for base in reversed(made.__mro__) for key, value in vars(base).items() if isinstance(value, Setting)]
    close = get_close_matches(name, known, 1)
    guess = f": did you mean {close[0]!r}?" if close else "."
    return f"{made.__name__} has no setting {name!r}{guess} Its settings are: {', '.join(dict.fromkeys(known))}"


# -- checks: each takes the name and the value, and returns the value to store -----------------------------------------


def number(what: str, value: Any) -> float:
    """A finite real number, as a Python float: a NumPy scalar would promote float32 arrays."""
    found = real(what, value, "a number")
    if found - found != 0.0:
        raise ValueError(f"{what} must be finite, got {value!r:.60}")
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


def flag(what: str, value: Any) -> bool:
    """True or False, or 1 or 0; a string such as "no" is refused, since it would count as true."""
    is_flag = isinstance(value, bool) or ("bool" in _kind(value) and _shape(value) == ())
    if not is_flag and not (hasattr(value, "__index__") and _shape(value) == () and value.__index__() in (0, 1)):
        raise TypeError(f"{what} must be True or False, got {value!r:.60}")
    return bool(value)


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
    """The name of an array's dtype; empty for other objects."""
    return str(getattr(value, "dtype", ""))


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))
