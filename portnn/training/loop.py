"""The loop over the epochs of one fit."""

import copy
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import compress
from typing import Any

import numpy as np

from portnn import evaluation, metrics, ops, random
from portnn._typing import Shape
from portnn.backend import Backend
from portnn.callbacks import METHODS, Callback, Checkpoint, TimeLimit, method_of
from portnn.history import History, Values
from portnn.optimizers import rate_at
from portnn.samples import Samples
from portnn.sources import Chunk, Rows, Stream, Whole
from portnn.training import resume, reuse
from portnn.training.batches import Batches
from portnn.training.divergence import DivergedError, not_finite
from portnn.training.interrupts import Interrupts
from portnn.training.progress import Bar, line
from portnn.training.resume import BATCH, EPOCHS, FACTOR, RATES, SEEN, STEPS
from portnn.training.state import State, sum_of
from portnn.training.step import TrainStep

LONG = 32  # steps of an epoch, beside which a look at all parameters does not count
MOST_CAPTURED = 8  # sizes of batches whose step may be captured: each graph has memory of its own


@dataclass
class Plan:
    """The arguments of a fit, checked."""

    epochs: int
    batch_size: int
    shuffle: bool = False
    verbose: int = 1
    check_finite: bool = True
    callbacks: list[Callback] = field(default_factory=list)
    validation: Callable[[], Iterator[Samples]] | None = None  # returns the batches to validate with
    validation_frequency: int = 1
    logs_rate: bool = False  # the learning rate changes, and is noted for each epoch


@dataclass
class Data:
    """The samples of a fit: where they come from, the first batch or all, and the shape of an output of the network."""

    source: Whole | Rows | Stream
    first: Samples
    output: Shape


def train(
    network: Any, data: Data, optimizer: Any, plan: Plan, saved: Any = None, before: resume.Before | None = None
) -> History:
    """Runs the epochs of one ``fit``.

    ``saved`` is what a checkpoint holds: the network is as it was then, and the run goes on from there. If it cannot,
    the network becomes what it was ``before``.
    """
    with resume.undone_by_errors(before):
        run = _Fit(network, data, optimizer, plan)
    network.stop_training = False
    interrupts = Interrupts(lambda: _after_step(network.step), run.last_checkpoint)
    with interrupts, _closing(run.state), run.called_back(saved, before):
        while run.epoch < plan.epochs and not run.stops():
            run.run_epoch(interrupts)
        if interrupts.noted:
            interrupts.act()
        if run.paused:
            run.last_checkpoint()
            network.stop_training = True  # after it was saved: the run goes on with a resume
        run.between = False
    return run.history


def check(network: Any, data: Data, optimizer: Any, plan: Plan, saved: Any = None) -> None:
    """Checks the callbacks, and what a checkpoint holds of them, before the network changes."""
    changing = [type(c).__name__ for c in plan.callbacks if getattr(c, "changes_learning_rate", False)]
    if changing and not hasattr(optimizer, "learning_rate"):
        raise TypeError(f"{changing[0]} changes the learning rate, but {type(optimizer).__name__} has no learning_rate")
    plan.logs_rate = bool(changing) or callable(getattr(optimizer, "learning_rate", None))
    plan.logs_rate = plan.logs_rate or network.learning_rate_factor != 1.0
    if saved is not None:
        resume.check(saved, network, data.source, data.first.weights is not None, optimizer, plan)
        plan.logs_rate = bool(saved.counters[RATES])
    names = _names(network, plan)
    for callback in plan.callbacks:
        getattr(callback, "check_monitor", lambda names: None)(names)
        getattr(callback, "check_file", lambda network: None)(network)


def _names(network: Any, plan: Plan) -> list[str]:
    """The names of what a fit notes for each epoch."""
    names = ["error", *(name for name, _ in network.metrics)]
    names += [f"val_{name}" for name in names if plan.validation is not None]
    return [*names, *["learning_rate"] * plan.logs_rate]


class _Fit:
    """What one ``fit`` works with: data and state on the device, and a compiled step for each size of batch."""

    def __init__(self, network: Any, data: Data, optimizer: Any, plan: Plan):
        if not isinstance(optimizer.hyper(network.step), (tuple, list)):
            raise TypeError(f"{type(optimizer).__name__}.hyper must return a tuple of numbers, the learning rate first")
        self.network, self.source, self.plan, self.optimizer = network, data.source, plan, optimizer
        samples, output = data.first, data.output
        self.as_matrices = network.kernels != "portable" and _may_be_matrices(network, samples)
        if self.as_matrices:
            samples, output = _as_matrices(samples, network.backend.xp), output[1:]
        self.batches = Batches(samples, plan.batch_size, network.backend, network.dtype, network.kernels)
        self.batches.in_chunks = not isinstance(data.source, Whole)
        self.state = State(network, self.optimizer, self.batches, output)
        if any(callback.reads_gradients for callback in plan.callbacks):
            self.state.eager_reason = self.state.eager_reason or "a callback reads the gradients of each step"
        self.batches.find_addresses()
        if self.state.eager_reason is None:
            self.state.key = reuse.key_of(network, optimizer, self.state)
        self.compiled: dict[int, Callable[[], None]] = {}
        self.epoch = 0  # epochs finished by this fit, including those before a resume
        self.seen = 0  # samples of the current epoch so far
        self.factor = 1.0  # what multiplies the learning rate in this epoch
        self.sums: dict[str, np.ndarray] | None = None  # the sums of an unfinished epoch, from a checkpoint
        self.calls = {name: [method_of(callback, name) for callback in plan.callbacks] for name in METHODS}
        used = [type(callback).on_step_end is not Callback.on_step_end for callback in plan.callbacks]
        self.checkpoints = [callback for callback in plan.callbacks if isinstance(callback, Checkpoint)]
        self.limits = [callback for callback in plan.callbacks if isinstance(callback, TimeLimit)]
        self.paused = False  # a time limit is over
        self.after_step = list(compress(self.calls["on_step_end"], used))
        self.constant: Any = None  # the learning rate of the epochs so far, until one differs
        self.kept: list[Any] = []  # the state when the epoch began
        self.before: list[Any] = []  # when the one before it began, where that was not checked at its end
        self.checked = True
        self.between = False  # between two steps, with all callbacks called: a checkpoint can be written
        self.history = History({name: [] for name in _names(network, plan)})
        for name in self.history:
            network.history.setdefault(name, [float("nan")] * len(network.history["error"]))

    @property
    def position(self) -> int:
        """The steps made in the current epoch."""
        return self.network.progress["position"]

    @position.setter
    def position(self, value: int) -> None:
        self.network.progress["position"] = value

    def _scaled(self, optimizer: Any) -> Any:
        """The optimizer, with its learning rate times the factor of this epoch."""
        factor = self.factor
        if factor != 1.0:
            if not hasattr(optimizer, "learning_rate"):
                raise TypeError(
                    f"network.learning_rate_factor is {factor:g}, but {type(optimizer).__name__} has no learning_rate"
                )
            optimizer, rate = copy.copy(optimizer), optimizer.learning_rate
            optimizer.learning_rate = (lambda k: factor * rate(k)) if callable(rate) else factor * rate
        return optimizer

    def stops(self) -> bool:
        """Whether the fit ends after this step."""
        return bool(self.network.stop_training) or self.paused

    def steps(self) -> str:
        """The number of steps of an epoch, for messages."""
        return "" if self.source.steps is None else f" of {self.source.steps}"

    # -- one epoch ---------------------------------------------------------------------------------------------

    def run_epoch(self, interrupts: Interrupts) -> None:
        plan, network, progress = self.plan, self.network, self.network.progress
        order = self.begin_epoch()
        if plan.check_finite:
            self.before, self.kept = [] if self.checked else self.kept, self.state.keep()
        steps = self.steps_of(order)
        bar = Bar(plan.verbose, self.epoch + 1, plan.epochs, self.source.steps, self.position)
        try:
            for last, size in steps:
                self.step(size)
                progress["position"] += 1
                self.seen += size
                if self.after_step:
                    self.call_after_step()
                if bar.bar is not None:
                    bar.bar.update()
                if last:
                    break
                if network.stop_training or self.paused:
                    if plan.check_finite:
                        self.check_finite(self.means()["error"])
                    return
                if interrupts.noted:
                    interrupts.act()
        finally:
            bar.close()
            steps.close()  # what reads ahead ends before the caller closes a file
        self.finish_epoch(interrupts)

    def steps_of(self, order: np.ndarray | None) -> Generator[tuple[bool, int], None, None]:
        """For each step that is left of the epoch whether it is the last one, and the size of its batch."""
        chunks = self.source.chunks(order, self.position)
        whole = isinstance(self.source, Whole)  # one chunk, with nothing to look for after it
        for final, chunk in ((True, chunk) for chunk in chunks) if whole else _with_last(chunks):
            self.load(chunk)
            for k, size in enumerate(chunk.sizes, 1):
                yield final and k == len(chunk.sizes), size

    def load(self, chunk: Chunk) -> None:
        """Makes a chunk's samples, and the hyperparameters of its steps, the current ones on the device."""
        if not isinstance(self.source, Whole):
            samples = chunk.arrived()
            samples = _as_matrices(samples, self.network.backend.xp) if self.as_matrices else samples
            self.batches.put(samples.in_order())
            self.state.set_position(chunk.first)
        hyper = self.state.hyper(len(chunk.sizes))
        self.batches.load(chunk.order, hyper[:1] * chunk.first + hyper)

    def begin_epoch(self) -> np.ndarray | None:
        """Calls the callbacks and resets the sums, unless the epoch is resumed; returns the order of the samples."""
        network, state = self.network, self.state
        if self.sums is None:
            if self.position:  # an earlier fit left its epoch there: this is the next one
                network.progress.update(epoch=network.epoch + 1, position=0)
            self.seen, self.factor = 0, network.learning_rate_factor
            self.between = False
            for call in self.calls["on_epoch_begin"]:
                call(network, self.epoch + 1)
            self.check_layers()
        state.optimizer = self._scaled(self.optimizer)
        state.start_epoch(self.position if isinstance(self.source, Whole) else 0, self.sums)
        self.sums, self.between = None, True
        if not self.plan.shuffle or self.source.count is None:
            return None
        return random.permutation(network.seed, network.epoch, self.source.count)

    def step(self, size: int) -> None:
        """One step on a batch of that size."""
        state = self.state
        if size not in self.compiled:
            step, backend = TrainStep(self.network, self.optimizer, state, size), self.network.backend
            captures = len(self.compiled) < MOST_CAPTURED
            self.compiled[size] = (backend.compile if captures else partial(Backend.compile, backend))(step, state)
        before = state.progress["step"]
        self.compiled[size]()
        if state.progress["step"] == before:  # a graph was launched: it counts on the device only
            state.count_step()
            state.turn.captured = True
        elif state.batches.on_device:
            state.turn.captured = False
        if state.skipped:
            state.hyper_again()

    def call_after_step(self) -> None:
        self.between = False
        for call in self.after_step:
            call(self.network, self.network.step)
        self.check_layers()
        self.paused = any(limit.is_over for limit in self.limits)
        self.between = True
        if self.plan.check_finite and any(checkpoint.due for checkpoint in self.checkpoints):
            self.check_finite(self.means()["error"])  # a file of NaN would replace one that is of use
        self.write_checkpoints()

    def finish_epoch(self, interrupts: Interrupts) -> None:
        """Validation, history, the line of the epoch, callbacks, checkpoints."""
        plan, network = self.plan, self.network
        logs = Values(self.means())
        if plan.check_finite:
            # Where an epoch is over so soon that the check would be felt, and nobody looks, the next error will tell.
            self.checked = bool(plan.callbacks) or self.position >= LONG or self.epoch + 1 == plan.epochs
            self.check_finite(logs["error"], self.checked)
        if plan.validation is not None and (self.epoch + 1) % plan.validation_frequency == 0:
            between = lambda: interrupts.act() if interrupts.noted else None  # noqa: E731
            found = evaluation.evaluate(network, plan.validation(), between)
            logs |= {f"val_{name}": value for name, value in found.items()}
        # Of the steps that were made, whatever was set since; there are none after a resume at the epoch's end.
        hyper = self.batches.hyper
        rate = float(hyper[-1][0]) if hyper else self.rate(network.step - 1)
        if not plan.logs_rate and self.constant not in (None, rate):
            self.log_rates()
        self.constant = rate
        if plan.logs_rate:
            logs["learning_rate"] = rate
        self.between = False
        self.epoch += 1
        self.state.finish_epoch(logs, self.history, network.history)
        if plan.verbose:
            print(line(self.epoch, plan.epochs, logs), flush=True)
        for call in self.calls["on_epoch_end"]:
            call(network, self.epoch, Values(logs))  # a copy each, so that what one changes disturbs no other
        self.check_layers()
        self.between = True
        self.write_checkpoints()
        if interrupts.noted:  # a finished epoch counts
            interrupts.act()

    def log_rates(self) -> None:
        """Notes the learning rates from this epoch on, and the one that all epochs of the run so far had."""
        self.plan.logs_rate, whole = True, self.network.history
        epochs = len(whole["error"])
        rates = [self.constant] * self.epoch
        earlier = whole.get("learning_rate", [float("nan")] * epochs)[: epochs - self.epoch]
        self.history["learning_rate"], whole["learning_rate"] = list(rates), [*earlier, *rates]

    def means(self) -> dict[str, float]:
        """The error and the metrics of the epoch so far."""
        state, to_numpy = self.state, self.network.backend.to_numpy
        sums = {name: to_numpy(array) for name, array in state.counters.items() if name.startswith(sum_of(""))}
        weight = float(sums[sum_of("weights")]) if state.weighted else float(self.seen)
        means = {"error": float(sums[sum_of("error")]) / weight if weight else 0.0}
        for name, metric in state.metrics:
            means[name] = metrics.value(metric, sums[sum_of(name)], weight)
        return means

    def rate(self, step: int) -> float:
        """The learning rate of the update number ``step``, of this epoch."""
        optimizer = self.state.optimizer
        if hasattr(optimizer, "learning_rate"):
            return rate_at(optimizer.learning_rate, step)
        return float(optimizer.hyper(step)[0])

    # -- callbacks -----------------------------------------------------------------------------------------------

    @contextmanager
    def called_back(self, saved: Any, before: resume.Before | None) -> Iterator[None]:
        """A context that calls the callbacks when the fit begins and when it ends, also by an exception."""
        network, callbacks = self.network, self.plan.callbacks
        try:
            for call in self.calls["on_fit_begin"]:
                call(network)
            self.check_layers()
            if saved is not None:
                with resume.undone_by_errors(before):
                    self.go_on(saved)
                self.write_checkpoints()  # that the run did not come to write
            yield
            for callback in callbacks:
                getattr(callback, "on_training_done", lambda network: None)(network)
        finally:
            _end(self.calls["on_fit_end"], network)

    def check_layers(self) -> None:
        """Raises where a callback has changed the network's layers, or has put into one what does not fit.

        The steps run the layers of the beginning.
        """
        if self.plan.callbacks:
            self.network._arrange()
        if not all(ops.is_ours(type(callback)) for callback in self.plan.callbacks):
            for layer in self.network.walk():
                layer.check_leaves()

    def write_checkpoints(self) -> None:
        for checkpoint in self.checkpoints:
            if checkpoint.due:
                checkpoint.write(self.current_epoch(), self.network.step, self.save)

    def last_checkpoint(self) -> None:
        """Saves once more before a signal or a time limit ends the fit; a monitored checkpoint keeps its best epoch."""
        if not self.between or (self.plan.check_finite and not_finite(self.state, self.network.backend)):
            return
        for checkpoint in self.checkpoints:
            if checkpoint.monitor is None:
                checkpoint.write(self.current_epoch(), self.network.step, self.save)

    def current_epoch(self) -> int:
        """The epoch that goes on, or has just ended: a file from its middle replaces none of the epoch before."""
        return self.epoch + (self.position > 0)

    def save(self, path: str) -> None:
        """Writes a checkpoint: all that a fit needs to go on as if it had never stopped."""
        from portnn.files.writing import write

        network = self.network
        write(
            network,
            path,
            stop_training=bool(network.stop_training),
            callbacks=[(type(callback).__name__, callback.state_dict()) for callback in self.plan.callbacks],
            optimizer=self.optimizer,
            counters={
                EPOCHS: np.int64(self.epoch),
                FACTOR: np.float64(self.factor),
                SEEN: np.int64(self.seen),
                RATES: np.int64(self.plan.logs_rate),
                BATCH: np.int64(self.plan.batch_size),
                STEPS: np.int64(self.source.steps or 0),
                **(self.state.sums() if self.sums is None else self.sums),
            },
        )

    def go_on(self, saved: Any) -> None:
        """Restores the state of the run from a checkpoint; the network has been filled from it already."""
        from portnn.files.environment import differences, environment

        sums = resume.sums(saved, self.state.sums())
        resume.load_states(self.network, self.plan.callbacks, saved)
        self.epoch, self.seen = resume.number(saved, EPOCHS), resume.number(saved, SEEN)
        self.factor = resume.number(saved, FACTOR, 1e300)
        self.position, self.sums = saved.position, sums if saved.position else None
        if self.epoch:
            self.state.optimizer = self._scaled(self.optimizer)
            self.constant = self.rate(self.network.step - 1)
        if isinstance(self.source, Stream):
            self.skip_epochs(self.source)
        for name, values in self.history.items():
            values[:] = self.network.history[name][len(self.network.history[name]) - self.epoch :]
        self.network.stop_training = saved.stop_training or self.network.stop_training
        if changed := differences(saved.environment, environment(self.network)):
            warnings.warn(
                f"the run goes on elsewhere, so the last digits may differ: {'; '.join(changed)}",
                ResumeWarning,
                stacklevel=7,  # the line with fit
            )

    def skip_epochs(self, source: Stream) -> None:
        """Skips the batches of the epochs before the resume. A function that gives them may ask for network.epoch."""
        progress, now = self.network.progress, self.network.epoch
        source.begin_anew()
        try:
            for epoch in range(now - self.epoch, now):
                progress["epoch"] = epoch
                source.skip_epoch()
        finally:
            progress["epoch"] = now

    # -- divergence ----------------------------------------------------------------------------------------------

    def check_finite(self, error: float, parameters: bool = True) -> None:
        """Raises DivergedError, with the network as it was when the epoch began, if error or parameters are not finite.

        The error of the last step was computed before its update: the parameters show that update's effect.
        """
        fault, step = "", self.network.step - 1
        if not np.isfinite(error):
            bad = int(self.network.backend.to_numpy(self.state.counters["finite steps"])) + 1
            fault = f"the error became {error} in epoch {self.epoch + 1}, at step {bad}{self.steps()}"
            step += bad - self.position
        elif parameters:
            name = not_finite(self.state, self.network.backend)
            fault = name and (
                f"{name} holds NaN or infinity in epoch {self.epoch + 1}, after step {self.position}{self.steps()}"
            )
        if fault:
            rate = f", with a learning rate of {self.rate(step):g}"
            self.between = False
            self.bring_back()
            diverged = DivergedError(
                f"{fault}{rate}: the weights diverged. The network is as it was when the epoch began (but for layers "
                "written as in the article). Train it with a smaller learning rate, or scale the data; "
                "check_finite=False trains on regardless"
            )
            diverged.fault = f"{fault}{rate}: the weights diverged"
            raise diverged

    def bring_back(self) -> None:
        """Makes the network what it was when the epoch began, or the one in whose last step it became NaN."""
        self.state.bring_back(self.kept)
        if self.before and not_finite(self.state, self.network.backend):
            self.state.bring_back(self.before)
            for values in (*self.history.values(), *self.network.history.values()):
                values.pop()


def _end(calls: list[Callable[..., None]], network: Any) -> None:
    """Calls each, whatever another one raises; no exception is lost, each is the context of the next."""
    if calls:
        try:
            calls[0](network)
        finally:
            _end(calls[1:], network)


def _with_last(items: Iterable[Any]) -> Iterator[tuple[bool, Any]]:
    """Each item, and whether it is the last one. An error in the search for the next one comes after the item."""
    iterator = iter(items)
    waiting: list[Any] = []
    while True:
        try:
            following = [next(iterator)]
        except StopIteration:
            break
        except Exception:
            if waiting:
                yield False, waiting.pop()
            raise
        if waiting:
            yield False, waiting.pop()
        waiting = following
    if waiting:
        yield True, waiting.pop()


def _after_step(step: int) -> str:
    """The state of the network, for the message of an aborted step."""
    return (
        f"The network is as it was after step {step} (except for layers written as in the article, which update "
        "themselves within a step)"
    )


@contextmanager
def _closing(state: State) -> Iterator[None]:
    """Settles the state after an exception; takes the learning rate from layers that update themselves."""
    try:
        yield
    except BaseException:
        state.settle()
        raise
    finally:
        state.hand_over()
        for layer in state.article_layers:
            layer._learning_rate = None


def _may_be_matrices(network: Any, samples: Samples) -> bool:
    """Whether samples (1, n) may run as (n,): the same values, without a reshape in every layer.

    They may if every layer acts on the last axis alone and no code of a user's sees the shapes.
    """
    x, y = samples.x, samples.y
    rows = x.ndim == 3 and x.shape[1] == 1 and (y.ndim == 1 if samples.classes else y.ndim == 3 and y.shape[1] == 1)
    parts = [network.loss, *(metric for _, metric in network.metrics)]
    for layer in network.walk():
        parts += [type(layer), getattr(layer, "activation", network.loss)]
    return rows and all(map(_is_ours, parts)) and all(layer.last_axis_only for layer in network.layers)


def _is_ours(part: Any) -> bool:
    return ops.is_ours(getattr(part, "function", part))


def _as_matrices(samples: Samples, xp: Any) -> Samples:
    x, y = samples.x, samples.y
    x = xp.reshape(x, (x.shape[0], x.shape[2]))
    return replace(samples, x=x, y=y if samples.classes else xp.reshape(y, (y.shape[0], y.shape[2])))


class ResumeWarning(UserWarning):
    """The machine or a library has changed since the checkpoint, so the last digits of results may differ."""
