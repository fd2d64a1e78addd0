"""Callbacks: objects that ``fit`` calls between steps and epochs, to stop training, save the network, or log progress.

A callback derives from ``Callback`` and defines the methods that it needs:

    class PrintGap(Callback):
        def on_epoch_end(self, network, epoch, logs):
            print(f"overfits by {logs['val_error'] - logs['error']:.3f}")
"""

import csv
import io
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portnn import checks
from portnn.leaves import check_copied, copied, put_back
from portnn.names import meant, no_value
from portnn.settings import Setting, WithSettings

MODES = ("auto", "min", "max")
UNITS = ("epoch", "step")
SHAPE = "on_epoch_end(self, network, epoch, logs)"
WITHOUT_NETWORK = ("epoch", "step", "batch", "logs")  # first parameters of methods that do not take the network
LARGER_IS_BETTER = ("accuracy", "top_", "precision", "recall", "f1", "r2")  # what the names of metrics begin with


class Callback:
    """The base class: every method does nothing.

    The methods run on the host, between two steps. They may read the network's parameters, slots and counters, and
    call ``predict`` and ``evaluate``; ``fit``, ``use``, ``add`` and ``to`` raise RuntimeError. ``epoch`` counts from 1,
    within this ``fit`` (within the first run of one that is resumed); ``step`` is the number of updates since ``use``.
    ``logs`` maps ``"error"``, the metrics, and with validation ``"val_error"`` and so on, to the values of the epoch.
    ``network.stop_training = True`` ends ``fit`` after the current step. A method may leave the network out:
    ``on_epoch_end(self, epoch, logs)``.
    """

    reads_gradients = False  # True if a method reads network.gradients: steps then run without a captured graph

    def on_fit_begin(self, network: Any) -> None:
        pass

    def on_epoch_begin(self, network: Any, epoch: int) -> None:
        pass

    def on_step_end(self, network: Any, step: int) -> None:
        pass

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> None:
        pass

    def on_fit_end(self, network: Any) -> None:
        """Called when ``fit`` ends, also where it ends by an exception."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint stores of this callback: JSON values, and arrays."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned; called by a fit that resumes, after ``on_fit_begin``."""

    if not TYPE_CHECKING:  # for which a callback would have every attribute

        def __getattr__(self, name: str) -> Any:
            """Called for an attribute that there is not."""
            if name in ("model", "trainer"):
                raise AttributeError(f"a callback has no {name}: its methods are given the network, {SHAPE}")
            return super().__getattribute__(name)  # raises Python's error, or once more that of a property


METHODS = tuple(name for name in vars(Callback) if name.startswith("on_"))


def method_of(callback: Callback, name: str) -> Callable[..., None]:
    """A method as ``fit`` calls it, with the network first, whether it takes that or not.

    TypeError if it does not take what it is called with.
    """
    method: Callable[..., None] = getattr(callback, name)
    known = getattr(Callback, name)
    if getattr(type(callback), name) is known:
        return method
    given = list(checks.signature_of(known).parameters)[1:]
    takes = checks.signature_of(method)
    alone = next(iter(takes.parameters), "") in WITHOUT_NETWORK
    try:
        takes.bind(*given[alone:])
    except TypeError:
        raise TypeError(
            f"{type(callback).__name__}.{name} takes ({', '.join(['self', *takes.parameters])}), but fit gives it "
            f"({', '.join(given)}): write def {name}(self, {', '.join(given)})"
        ) from None
    return (lambda network, *others: method(*others)) if alone else method


def _choice(*choices: str) -> Callable[[str, Any], str]:
    def check(what: str, value: Any) -> str:
        if value not in choices:
            raise ValueError(f"{what} must be one of {choices}, got {value!r:.60}{meant(what, value, choices)}")
        return str(value)

    return check


def _count(least: int) -> Callable[[str, Any], int]:
    return lambda what, value: checks.size(what, value, least)


def _name(what: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f'{what} must be a name such as "val_error", got {value!r:.60}')
    return value


def _path(what: str, value: Any) -> str:
    if not isinstance(value, (str, Path)) or not str(value):
        raise TypeError(f"{what} must be a file's path, got {value!r:.60}")
    return str(value)


def _optional(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda what, value: None if value is None else check(what, value)


class _Monitor(WithSettings, Callback):
    """The base of callbacks that watch one value of ``logs``."""

    monitor: Any = Setting(_name)
    mode: Any = Setting(_choice(*MODES))
    min_delta: Any = Setting(checks.in_range(0.0))

    best: float | None = None  # the best value so far
    waited = 0  # epochs in a row without a better one

    def on_fit_begin(self, network: Any) -> None:
        self.best, self.waited = None, 0

    def check_monitor(self, names: list[str]) -> None:
        """ValueError unless the value is one of those that the fit computes; ``fit`` calls it before it begins."""
        if self.monitor not in names:
            raise ValueError(
                f"{type(self).__name__} watches {self.monitor!r}, but this fit computes "
                f"{', '.join(names)}{no_value(self.monitor, names)}"
            )

    def improves(self, value: float) -> bool:
        """Whether a value is better than the best so far by more than ``min_delta``; NaN never is."""
        if math.isnan(value):
            return False
        if self.best is None:
            return True
        larger = self._larger_is_better()
        return value > self.best + self.min_delta if larger else value < self.best - self.min_delta

    def _larger_is_better(self) -> bool:
        name = (self.monitor or "").removeprefix("val_")
        return name.startswith(LARGER_IS_BETTER) if self.mode == "auto" else bool(self.mode == "max")

    def state_dict(self) -> dict[str, Any]:
        of = {"monitor": self.monitor, "larger_is_better": self._larger_is_better()}  # what the best value means
        return {"best": self.best, "waited": self.waited, **of}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        checks.remembered(state, best=(float, int, type(None)), waited=(int,))
        monitor, larger = self.monitor, self._larger_is_better()
        then = state.get("monitor", monitor), state.get("larger_is_better", larger)
        if then != (monitor, larger):
            best = {True: "the largest is best", False: "the smallest is best"}
            raise ValueError(
                f"it remembers values of {then[0]!r} of which {best.get(then[1], then[1])}, but this one watches "
                f"{monitor!r} of which {best[larger]}"
            )
        self.best, self.waited = state["best"], state["waited"]


class EarlyStopping(_Monitor):
    """Stops training when a value has not improved for ``patience`` epochs in a row (0 means the same as 1).

    An epoch improves on the best value if it is better by more than ``min_delta``; NaN never improves, and epochs
    without validation do not count. ``mode`` is ``"min"``, ``"max"``, or ``"auto"``: ``"max"`` for accuracy, top_k,
    precision, recall, f1 and r2. With ``restore_best`` the network has the parameters and buffers of the best epoch
    when ``fit`` ends, whether it was stopped or not; after an exception it has those of the last step.
    """

    patience: Any = Setting(_count(0))
    restore_best: Any = Setting(checks.flag)

    best_arrays: dict[str, Any] | None = None  # parameters and buffers of the best epoch, by path

    def __init__(
        self,
        monitor: str = "val_error",
        *,
        patience: int = 0,
        min_delta: float = 0.0,
        mode: str = "auto",
        restore_best: bool = True,
    ):
        self.monitor, self.mode, self.min_delta = monitor, mode, min_delta
        self.patience, self.restore_best = patience, restore_best

    def on_fit_begin(self, network: Any) -> None:
        super().on_fit_begin(network)
        self.best_arrays = None

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> None:
        if self.monitor not in logs:
            return
        if self.improves(logs[self.monitor]):
            self.best, self.waited = logs[self.monitor], 0
            if self.restore_best:
                self.best_arrays = copied(network)
        else:
            self.waited += 1
            if self.waited >= max(self.patience, 1):
                network.stop_training = True

    def on_training_done(self, network: Any) -> None:
        """After the last epoch, unless ``fit`` ends by an exception."""
        if self.best_arrays is not None:
            put_back(network, self.best_arrays)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "best_arrays": self.best_arrays}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        checks.remembered(state, best_arrays=(dict, type(None)))
        super().load_state_dict(state)
        self.best_arrays = state["best_arrays"]

    def check_loaded(self, network: Any) -> None:
        """ValueError unless what ``load_state_dict`` was given fits the network; ``fit`` calls it after that."""
        if self.best_arrays is not None:
            check_copied(network, self.best_arrays)


class ReduceLROnPlateau(_Monitor):
    """Multiplies the learning rate by ``factor`` when a value has not improved for ``patience`` epochs in a row.

    It multiplies ``network.learning_rate_factor``, which scales the rate or the schedule from the next epoch on, and
    stays until ``use``. It does not bring the current rate below ``least``.
    """

    changes_learning_rate = True  # fit then logs it

    factor: Any = Setting(checks.in_range(0.0, 1.0))
    patience: Any = Setting(_count(1))
    least: Any = Setting(checks.in_range(0.0))

    def __init__(self, monitor: str = "val_error", *, factor: float = 0.1, patience: int = 10, least: float = 0.0):
        self.monitor, self.mode, self.min_delta = monitor, "auto", 0.0
        self.factor, self.patience, self.least = factor, patience, least

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> None:
        if self.monitor not in logs:
            return
        if self.improves(logs[self.monitor]):
            self.best, self.waited = logs[self.monitor], 0
            return
        self.waited += 1
        if self.waited >= self.patience:
            self.waited = 0
            rate = logs["learning_rate"]
            if rate > self.least:
                network.learning_rate_factor *= max(self.factor, self.least / rate)


class Checkpoint(_Monitor):
    """Saves the network and all that training needs to continue: ``fit(..., resume=path)`` goes on from the file.

    It saves after each ``every``-th epoch, or step with ``unit="step"``; with ``monitor`` only after an epoch with a
    new best value. ``path`` may contain ``{epoch}`` and ``{step}``; with ``keep``, only that many of the newest files
    stay. Without ``monitor``, it also saves when a ``TimeLimit`` stops ``fit``, and before SIGTERM ends the process.
    ``{epoch}`` is the epoch that has just ended or, within one, the epoch that goes on.
    """

    path: Any = Setting(_path)
    every: Any = Setting(_count(1))
    unit: Any = Setting(_choice(*UNITS))
    monitor: Any = Setting(_optional(_name))
    keep: Any = Setting(_optional(_count(1)))

    due = False  # to be saved as soon as all callbacks of this moment have run
    folder = ""  # in which the fit began, and a path that is not absolute lies
    # Epoch and step of each file that is there. No paths: a file that was copied, or forged, must not name others to
    # be removed.
    written: list[tuple[int, int]] = []  # noqa: RUF012 - replaced, never changed

    def __init__(
        self, path: Any, *, every: int = 1, unit: str = "epoch", monitor: str | None = None, keep: int | None = None
    ):
        self.mode, self.min_delta = "auto", 0.0
        self.path, self.every, self.unit, self.monitor, self.keep = path, every, unit, monitor, keep
        if monitor is not None and unit == "step":
            raise ValueError('Checkpoint: a monitored value is known after an epoch only: leave unit="step" out')
        _filled(self.path, 1, 1)
        self.check_keep()

    def check_keep(self) -> None:
        """ValueError for several files to keep of one name."""
        if self.keep is not None and self.keep > 1 and _filled(self.path, 1, 1) == _filled(self.path, 2, 2):
            raise ValueError(
                f"keep={self.keep} needs a path with {{epoch}} or {{step}}, got {self.path!r:.120}: each file replaces "
                "the one before; leave keep out, or name the files apart"
            )

    def check_monitor(self, names: list[str]) -> None:
        if self.monitor is not None:
            super().check_monitor(names)

    def check_file(self, network: Any) -> None:
        """An error for what will keep it from saving, before ``fit`` begins; nothing is written."""
        from portnn.files import durable, writing

        self.check_keep()
        writing.check(network)
        path, other = (_filled(self.path, n, n) for n in (1, 2))
        if os.path.dirname(path) == os.path.dirname(other):  # a callback may create folders with numbers
            durable.check(path, name=path == other)

    def on_fit_begin(self, network: Any) -> None:
        super().on_fit_begin(network)
        self.due, self.written, self.folder = False, [], _begun_in(self.path)

    def on_step_end(self, network: Any, step: int) -> None:
        self.due = self.due or (self.unit == "step" and step % self.every == 0)

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> None:
        if self.monitor is not None:
            if self.monitor in logs and self.improves(logs[self.monitor]):
                self.best = logs[self.monitor]
                self.due = True
        elif self.unit == "epoch" and epoch % self.every == 0:
            self.due = True

    def write(self, epoch: int, step: int, save: Callable[[str], None]) -> None:
        """Saves to the path of this epoch and step, and removes the oldest files; called by ``fit``."""
        path = self.file(epoch, step)
        self.due = False
        self.written = [*(each for each in self.written if self.file(*each) != path), (epoch, step)]
        save(path)  # which notes the old ones too: a run that is killed here removes them when it goes on
        old = self.written[: -self.keep] if self.keep else []
        for each in old:
            Path(self.file(*each)).unlink(missing_ok=True)
        self.written = self.written[len(old) :]

    def file(self, epoch: int, step: int) -> str:
        """The path of this epoch and step."""
        return os.path.join(self.folder, _filled(self.path, epoch, step))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "written": list(self.written), "due": self.due}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        checks.remembered(state, written=(list,), due=(bool,))
        super().load_state_dict(state)
        self.written, self.due = [each for each in state["written"] if _are_counts(each)], state["due"]


def _are_counts(pair: Any) -> bool:
    """Whether these are an epoch and a step; earlier versions wrote paths here, which are left alone."""
    return isinstance(pair, tuple) and len(pair) == 2 and all(type(n) is int and n >= 0 for n in pair)


def _begun_in(path: str) -> str:
    """The folder that a path is relative to, so that it stays the same if a program goes to another one within fit."""
    return "" if os.path.isabs(path) else os.getcwd()


def _filled(path: str, epoch: int, step: int) -> str:
    """The path with its ``{epoch}`` and ``{step}`` filled in, which may have a format: ``{epoch:03}``."""
    checks.template("a path", path)
    return path.format(epoch=epoch, step=step)


class _Logger(WithSettings, Callback):
    """The base of callbacks that write a line per epoch to a file, which can be read while ``fit`` runs.

    A new ``fit`` overwrites the file; a resumed one goes on after the last line that its checkpoint knows of.
    """

    path: Any = Setting(_path)
    folder = ""  # in which the fit began, and a path that is not absolute lies
    size = 0  # bytes written by this run

    def __init__(self, path: Any):
        self.path = path

    def check_file(self, network: Any) -> None:
        """OSError where the file cannot be written, before ``fit`` begins."""
        from portnn.files import durable

        durable.check_appending(self.path)

    def on_fit_begin(self, network: Any) -> None:
        self.size, self.folder = 0, _begun_in(self.path)

    def write(self, text: str, head: str = "") -> None:
        """Appends a line; in an empty file below ``head``."""
        with open(os.path.join(self.folder, self.path), "ab") as file:
            self.size = min(self.size, file.seek(0, 2))  # less where somebody has emptied the file
            file.truncate(self.size)  # which leaves the position, so that tell() would be too much
            line = (text if self.size else head + text).encode()
            file.write(line)
        self.size += len(line)

    def state_dict(self) -> dict[str, Any]:
        return {"size": self.size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        checks.remembered(state, size=(int,))
        self.size = state["size"]


class CSVLogger(_Logger):
    """Writes the number and ``logs`` of each epoch as a row of a CSV file, below a header.

    The cell of a value that an epoch lacks, such as ``val_error`` in one without validation, is empty. The columns are
    those of the first epoch: a ``learning_rate`` that a callback of your own changes later has none (in ``history`` it
    has its place).
    """

    columns: list[str] = []  # noqa: RUF012 - replaced, never changed

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> None:
        if not self.size:
            self.columns = ["epoch", *network.history]
        values = {"epoch": epoch, **logs}
        self.write(_csv([values.get(name, "") for name in self.columns]), head=_csv(self.columns))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "columns": list(self.columns)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        checks.remembered(state, columns=(list,))
        columns = checks.texts("columns", state["columns"])
        super().load_state_dict(state)
        self.columns = columns


def _csv(row: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()


class JSONLogger(_Logger):
    """Writes epoch, step and ``logs`` of each epoch as a JSON object on a line; null for NaN and infinity."""

    def on_epoch_end(self, network: Any, epoch: int, logs: dict[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in logs.items()}
        self.write(json.dumps({"epoch": epoch, "step": network.step, **finite}) + "\n")


class TimeLimit(WithSettings, Callback):
    """Stops training after the first step that ends more than ``seconds`` after ``fit`` began.

    It is a pause: each ``Checkpoint`` without ``monitor`` saves once more, and a later ``fit`` with ``resume`` goes on.
    """

    seconds: Any = Setting(checks.in_range(0.0))
    end = math.inf
    is_over = False  # fit then ends; a checkpoint does not note it, unlike network.stop_training

    def __init__(self, seconds: float):
        self.seconds = seconds

    def on_fit_begin(self, network: Any) -> None:
        self.end, self.is_over = time.monotonic() + self.seconds, False

    def on_step_end(self, network: Any, step: int) -> None:
        self.is_over = time.monotonic() > self.end
