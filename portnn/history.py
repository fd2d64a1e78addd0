"""The record of training."""


class History(dict[str, list[float]]):
    """What ``fit`` returns: ``history["error"]`` and one list per metric, each with one value per epoch.

    ``network.history`` is another, of all fits since ``use``. An epoch without validation has NaN for its values.
    """

    def __repr__(self) -> str:
        """The number of epochs, and the values of the last one."""
        epochs = max(map(len, self.values()), default=0)
        last = "".join(f", {name}={values[-1]:.6g}" for name, values in self.items() if values)
        return f"History({epochs} epoch{'s' * (epochs != 1)}{last})"
