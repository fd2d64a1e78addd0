"""The record of training."""

from typing import NoReturn, TypeVar

from portnn import names

Value = TypeVar("Value")


class Values(dict[str, Value]):
    """Error and metrics by name: a dict, whose error for a name that it does not have says which ones it has."""

    def __missing__(self, name: object) -> NoReturn:
        raise KeyError(f"there is no value {name!r:.60}; there {_are(list(self))}{names.no_value(name, self)}")


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
        """The number of epochs, and the values of the last one; of validation, those of its last."""
        epochs = max(map(len, self.values()), default=0)
        found = {
            name: [v for v in values if v == v] if name.startswith("val_") else values for name, values in self.items()
        }
        last = "".join(f", {name}={values[-1]:.6g}" for name, values in found.items() if values)
        return f"History({epochs} epoch{'s' * (epochs != 1)}{last})"

    def _repr_html_(self) -> str:
        """What a notebook shows: a table of first and last values and their range, with curves."""
        from portnn.show.pages import history

        return history(self)


def _are(known: list[str]) -> str:
    return f"{'is' if len(known) == 1 else 'are'} {', '.join(known)}" if known else "are none yet"
