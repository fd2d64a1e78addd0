"""The loop over the epochs of one fit."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from portnn import ops, random
from portnn._typing import Array
from portnn.backend import Backend
from portnn.training.batches import Batches
from portnn.training.interrupts import Interrupts
from portnn.training.state import State, sum_of
from portnn.training.step import TrainStep


class History(dict[str, list[float]]):
    """What ``fit`` returns: ``history["error"]`` and one list per metric, each with one value per epoch."""


def train(
    network: Any,
    x: Array,
    y: Array,
    optimizer: Any,
    *,
    classes: bool,
    epochs: int,
    batch_size: int,
    shuffle: bool,
    verbose: int,
    check_finite: bool,
) -> History:
    """Runs the epochs of one ``fit`` on data that is on the device."""
    run = _Fit(network, x, y, optimizer, classes=classes, batch_size=batch_size)
    history = History({name: [] for name in run.names})
    with Interrupts(lambda: _after_step(network.step)) as interrupts, _closing(run.state):
        for epoch in range(epochs):
            run.begin_epoch(shuffle)
            for last, size in run.sizes():
                run.step(size)
                if interrupts.noted and not last:
                    interrupts.act()
            means = run.finish_epoch(history)
            if verbose:
                rest_of_line = "".join(f"   {name}={value:f}" for name, value in means.items())
                print(f"epoch {epoch + 1}/{epochs}{rest_of_line}", flush=True)
            if check_finite and not np.isfinite(means["error"]):
                raise DivergedError(run.where_it_diverged(epoch, means["error"]))
            if interrupts.noted:  # a finished epoch counts
                interrupts.act()
    if check_finite:
        _check_parameters(run.state, network.backend)
    return history


class _Fit:
    """What one ``fit`` works with: data and state on the device, and a compiled step for each size of batch."""

    def __init__(self, network: Any, x: Array, y: Array, optimizer: Any, *, classes: bool, batch_size: int):
        if ops.is_ours(type(optimizer)):
            optimizer = copy.copy(optimizer)  # settings changed meanwhile take effect at the next fit, on every backend
        if not isinstance(optimizer.hyper(network.step), (tuple, list)):
            raise TypeError(f"{type(optimizer).__name__}.hyper must return a tuple of numbers, the learning rate first")
        n, xp = x.shape[0], network.backend.xp
        if network.kernels != "portable" and _may_be_matrices(network, x, y, classes):
            x = xp.reshape(x, (n, x.shape[2]))
            y = y if classes else xp.reshape(y, (n, y.shape[2]))
        self.network, self.optimizer, self.samples, self.batch_size = network, optimizer, n, batch_size
        self.batches = Batches(x, y, batch_size, network.backend, network.dtype, classes, network.kernels)
        self.state = State(network, optimizer, self.batches)
        self.names = ["error", *(name for name, _ in self.state.metrics)]
        self.compiled: dict[int, Callable[[], None]] = {}
        for name in self.names:
            network.history.setdefault(name, [])

    def sizes(self) -> Iterator[tuple[bool, int]]:
        """For each batch of an epoch whether it is the last one, and its size."""
        for start in range(0, self.samples, self.batch_size):
            left = self.samples - start
            yield left <= self.batch_size, min(left, self.batch_size)

    def begin_epoch(self, shuffle: bool) -> None:
        network = self.network
        self.state.start_epoch()
        order = random.permutation(network.seed, network.epoch, self.samples) if shuffle else None
        self.batches.load(order, self.state.hyper(-(-self.samples // self.batch_size)))

    def step(self, size: int) -> None:
        """One step on a batch of that size."""
        state = self.state
        if size not in self.compiled:
            step = TrainStep(self.network, self.optimizer, state, size)
            self.compiled[size] = self.network.backend.compile(step, state)
        before = state.progress["step"]
        self.compiled[size]()
        if state.progress["step"] == before:  # a graph: it only updates its own counter
            state.count_step()
        if state.skipped:
            state.hyper_again()

    def finish_epoch(self, history: History) -> dict[str, float]:
        """The means of the epoch, noted in both histories."""
        state, to_numpy = self.state, self.network.backend.to_numpy
        means = {name: float(to_numpy(state.counters[sum_of(name)])) / self.samples for name in self.names}
        state.finish_epoch(means, history, self.network.history)
        return means

    def where_it_diverged(self, epoch: int, error: float) -> str:
        bad = int(self.network.backend.to_numpy(self.state.counters["finite steps"])) + 1
        steps = -(-self.samples // self.batch_size)
        return (
            f"the error became {error} in epoch {epoch + 1}, at step {bad} of {steps}: the weights diverged. "
            "Build the network again and train it with a smaller learning rate, or scale the data; check_finite=False "
            "trains on regardless"
        )


def _after_step(step: int) -> str:
    """The state of the network, for the message of an aborted step."""
    return (
        f"The network is as it was after step {step} (except for layers written as in the article, which update "
        "themselves within a step)"
    )


def _check_parameters(state: State, backend: Backend) -> None:
    """Checks the parameters: the last step's error was computed before its update and does not show its effect."""
    xp = backend.xp
    for (home, key), (layer, name) in zip(state.parameters, state.gradients, strict=True):
        if not backend.to_numpy(xp.all(xp.isfinite(home[key]))):
            raise DivergedError(
                f"{layer.path}.{name} holds NaN or infinity after the last step: the weights diverged. Build the "
                "network again and train it with a smaller learning rate, or scale the data; check_finite=False trains "
                "on regardless"
            )


@contextmanager
def _closing(state: State) -> Iterator[None]:
    """Ends the fit's state: a layer written as in the article updates itself within ``fit`` only."""
    try:
        yield
    except BaseException:
        state.settle()
        raise
    finally:
        for layer in state.article_layers:
            layer._learning_rate = None


def _may_be_matrices(network: Any, x: Array, y: Array, classes: bool) -> bool:
    """Whether samples (1, n) may run as (n,): the same values, without a reshape in every layer.

    They may if every layer acts on the last axis alone and no code of a user's sees the shapes.
    """
    rows = x.ndim == 3 and x.shape[1] == 1 and (y.ndim == 1 if classes else y.ndim == 3 and y.shape[1] == 1)
    parts = [network.loss, *(metric for _, metric in network.metrics)]
    for layer in network.walk():
        parts += [type(layer), getattr(layer, "activation", network.loss)]
    return rows and all(map(ops.is_ours, parts)) and all(layer.last_axis_only for layer in network.layers)


class DivergedError(RuntimeError):
    """Training diverged: the error, or a parameter, is no longer finite."""
