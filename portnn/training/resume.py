"""What a checkpoint holds of a run, checked before the run goes on; and the network as it was, if it cannot."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from portnn.files.errors import FileError
from portnn.sources import Stream
from portnn.training.state import sum_of

# Counters in a checkpoint, beside those of the state.
EPOCHS, FACTOR, SEEN = "epochs of the run", "learning rate factor of the epoch", "samples of the epoch"
RATES, BATCH, STEPS = "learning rates are logged", "samples of a batch", "steps of an epoch"
OWN = (EPOCHS, FACTOR, SEEN, RATES, BATCH, STEPS)
NUMBERS = ("history", "learning_rate_factor", "seed", "stop_training")  # attributes of a network


def check(saved: Any, network: Any, source: Any, weighted: bool, optimizer: Any, plan: Any) -> None:
    """Checks that a fit can go on with what a checkpoint holds, before the network changes.

    ValueError for what its file says of another run, FileError for what no fit writes.
    """
    if EPOCHS not in saved.counters:
        raise ValueError(
            f"{saved.path} was written by save, and holds a network but no run to go on with: resume takes the file of "
            "a Checkpoint; portnn.load(path) returns the network, which fit then trains on"
        )
    names = [type(callback).__name__ for callback in plan.callbacks]
    if names != [name for name, _ in saved.callbacks]:
        before = ", ".join(name for name, _ in saved.callbacks) or "none"
        raise ValueError(
            f"{saved.path} was written by a fit with the callbacks {before}, this one has "
            f"{', '.join(names) or 'none'}: a run goes on with those that it began with, in the same order"
        )
    _check_numbers(saved)
    _check_optimizer(saved, network, optimizer)
    then = number(saved, BATCH), number(saved, STEPS), sum_of("weights") in saved.counters
    now = plan.batch_size, source.steps or 0, weighted
    if saved.position and then != now:
        raise ValueError(
            f"{saved.path} was written within an epoch of (batch_size, steps, weighted) = {then}, which cannot go on "
            f"as one of {now}: give the samples, batch_size and weights that the run began with"
        )
    if source.steps is not None and saved.position > source.steps:
        raise FileError(f"{saved.path}: its position is {saved.position:,}, in an epoch of {source.steps:,} steps")
    if isinstance(source, Stream) and source.once:
        raise ValueError("x is an iterator, which cannot begin anew: a run is resumed with an iterable that can")


def number(saved: Any, name: str, most: float = 1 << 40) -> Any:
    """A counter that is one number from 0 to ``most``: a float if ``most`` is one, else a whole number."""
    array, kind = saved.counters.get(name), "a number" if isinstance(most, float) else "a whole number"
    fits = array is not None and not array.shape and array.dtype.kind == ("f" if kind == "a number" else "i")
    if not fits or not 0 <= array <= most:
        found = "missing" if array is None else f"{array!s:.40} ({array.dtype} of shape {array.shape})"
        raise FileError(f"{saved.path}: counters/{name} is {found}, expected {kind} from 0 to {most:,}")
    return array.item()


def _check_numbers(saved: Any) -> None:
    for name in (SEEN, BATCH, STEPS):
        number(saved, name)
    number(saved, RATES, 1)
    number(saved, FACTOR, 1e300)
    epochs, lengths = number(saved, EPOCHS, saved.epoch), {name: len(v) for name, v in saved.history.items()}
    if len({*lengths.values()}) != 1 or "error" not in lengths or epochs > lengths["error"]:
        found = ", ".join(f"{length} of {name}" for name, length in lengths.items()) or "none"
        raise FileError(f"{saved.path}: the run has {epochs} epochs, but the history holds values, {found:.200}")


def _check_optimizer(saved: Any, network: Any, optimizer: Any) -> None:
    """The learning rate that fit is given, where the network has no optimizer; files of older versions lack it."""
    from portnn.files.building import unlike
    from portnn.files.values import thing

    then = saved.about.get("fit_optimizer")
    if network.optimizer is None and then is not None:
        fault = unlike(thing(optimizer, "the optimizer", {}), then, "the optimizer of fit")
        if fault:
            raise FileError(f"{saved.path}: {fault}: a run goes on with the learning rate that it began with")


def sums(saved: Any, expected: dict[str, Any]) -> dict[str, Any]:
    """What the unfinished epoch has added up; FileError unless it is like ``expected``."""
    found = {name: array for name, array in saved.counters.items() if name not in OWN}
    alike = {name: (array.shape, array.dtype.kind) for name, array in found.items()}
    wanted = {name: (array.shape, array.dtype.kind) for name, array in expected.items()}
    if saved.position and alike != wanted:
        names = sorted(name for name in {*alike, *wanted} if alike.get(name) != wanted.get(name))
        of = lambda kinds, name: f"of shape {kinds[name][0]}" if name in kinds else "none"  # noqa: E731
        faults = [f"counters/{name}: {of(alike, name)} in the file, but {of(wanted, name)} here" for name in names]
        raise FileError(f"{saved.path}: the sums of its epoch are not those of this fit: {'; '.join(faults)[:500]}")
    return found


def load_states(network: Any, callbacks: list[Any], saved: Any) -> None:
    """Gives each callback its state from the file; if one refuses, all have the state that they had before."""
    before = [_state(callback) for callback in callbacks]
    for i, (callback, (name, state)) in enumerate(zip(callbacks, saved.callbacks, strict=True)):
        try:
            callback.load_state_dict(state)
            getattr(callback, "check_loaded", lambda network: None)(network)
        except Exception as error:
            for other, then in zip(callbacks[: i + 1], before, strict=False):
                with suppress(Exception):
                    other.load_state_dict(then)
            raise FileError(
                f"{saved.path}: callback {i} ({name}) cannot take up the state that the file holds for it: "
                f"{type(error).__name__}: {str(error)[:300]}"
            ) from error


def _state(callback: Any) -> Any:
    """The state of a callback; None where it has none yet."""
    with suppress(Exception):
        return copy.deepcopy(callback.state_dict())
    return None


@contextmanager
def at_its_beginning(network: Any, saved: Any) -> Iterator[None]:
    """A context in which network.epoch is that of the run's beginning: the first batch may depend on it."""
    progress, now = network.progress, network.epoch
    if saved is not None and EPOCHS in saved.counters:
        progress["epoch"] = saved.epoch - number(saved, EPOCHS, saved.epoch)
    try:
        yield
    finally:
        progress["epoch"] = now


class Before:
    """A network as it was before it was filled from a checkpoint."""

    def __init__(self, network: Any):
        homes: list[dict[str, Any]] = [network.progress]
        for layer in network.walk():
            homes += [vars(layer), layer.parameters, layer.buffers, layer._update_counts]
            homes += [layer._slots_by_kind, *layer._slots_by_kind.values()]
        self.network, self.kept = network, [(home, dict(home)) for home in homes]
        self.numbers = {name: vars(network)[name] for name in NUMBERS if name in vars(network)}

    def bring_back(self) -> None:
        for home, then in self.kept:
            dict.clear(home)
            dict.update(home, then)
        vars(self.network).update(self.numbers)
        self.network._note_layers()


@contextmanager
def undone_by_errors(before: Before | None) -> Iterator[None]:
    """A context in which an exception leaves the network as it was before."""
    try:
        yield
    except BaseException:
        if before is not None:
            before.bring_back()
        raise
