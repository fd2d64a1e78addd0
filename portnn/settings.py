"""Settings: attributes that are checked whenever they are set, so that code can rely on their values.

    class Ridge(WithSettings):
        strength = Setting(number)            # ridge.strength = "high" is a TypeError at any time
        size = Fixed(size)                    # set once, by __init__

A setting is stored in the object's ``__dict__`` under its own name: reading it costs no call, and copies and
pickles contain it.
"""

from collections.abc import Callable
from typing import Any

from portnn import habits, names


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
    """A setting that cannot change once the object has been created, since arrays depend on it."""

    def __set__(self, thing: Any, value: Any) -> None:
        if self.name in vars(thing):
            if vars(thing)[self.name] == value:
                return
            made = type(thing).__name__
            raise ValueError(f"{self.name} of {made} is fixed when it is created: create another one, {made}(...)")
        super().__set__(thing, value)


class WithSettings:
    """Base class of classes with settings: on portnn's own classes, setting a misspelt name is an error.

    A user's class that derives from one of them may have any attributes.
    """

    def __new__(cls, /, *given: Any, **options: Any) -> Any:
        habits.check_making(cls, given, options)
        return super().__new__(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        made = type(self)
        if not hasattr(made, name) and made.__module__.startswith("portnn."):
            raise TypeError(unknown_setting(made, name))
        super().__setattr__(name, value)


def missing(thing: Any) -> list[str]:
    """The settings that were never set: the ``__init__`` of the object's class did not call ``super().__init__``."""
    names = (key for base in type(thing).__mro__ for key, value in vars(base).items() if isinstance(value, Setting))
    return [name for name in names if name not in vars(thing) and isinstance(getattr(type(thing), name), Setting)]


def unknown_setting(made: type, name: str) -> str:
    """The error message for a name that is no setting of the class ``made``."""
    from difflib import get_close_matches  # here: it is slow to import

    known = [key for base in reversed(made.__mro__) for key, value in vars(base).items() if isinstance(value, Setting)]
    close = get_close_matches(name, known, 1)
    guess = f": did you mean {close[0]!r}?" if close else habits.told(habits.of_class(made), name, known)
    return names.sentences(
        f"{made.__name__} has no setting {name!r}{guess}", f"Its settings are: {', '.join(dict.fromkeys(known))}"
    )
