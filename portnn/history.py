"""The record of training."""

from typing import NoReturn, TypeVar

from portnn import names

Value = TypeVar("Value")


class Values(dict[str, Value]):
    """Error and metrics by name: a dict, whose error for a name that it does not have says which ones it has."""

    def __missing__(self, name: object) -> NoReturn:
        raise KeyError(
            f"there is no value {name!r:.60}, but {', '.join(self) or 'none yet'}{names.no_value(name, self)}"
        )


class History(Values[list[float]]):
    """What ``fit`` returns: ``history["error"]`` and one list per metric, each with one value per epoch.

    ``network.history`` is another, of all fits since ``use``. An epoch without validation has NaN for its values.
    """

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # asked for by copy and pickle, and not by people
            raise AttributeError(f"'History' object has no attribute {name!r}")
        raise AttributeError(
            f"a history is a dict and has no attribute {name}: write history['error'], or list(history)"
        )

    def __repr__(self) -> str:
        """The number of epochs, and the values of the last one."""
        epochs = max(map(len, self.values()), default=0)
        last = "".join(f", {name}={values[-1]:.6g}" for name, values in self.items() if values)
        return f"History({epochs} epoch{'s' * (epochs != 1)}{last})"
