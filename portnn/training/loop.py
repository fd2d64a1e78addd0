"""The loop over the epochs of one fit."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from portnn import ops, random
from portnn.backend import Array, Backend
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
    backend, n = network.backend, x.shape[0]
    if ops.is_ours(type(optimizer)):
        optimizer = copy.copy(optimizer)  # settings changed meanwhile take effect at the next fit, on every backend
    if not isinstance(optimizer.hyper(network.step), (tuple, list)):
        raise TypeError(f"{type(optimizer).__name__}.hyper must return a tuple of numbers, the learning rate first")
    if network.kernels != "portable" and _may_be_matrices(network, x, y, classes):
        x = backend.xp.reshape(x, (n, x.shape[2]))
        y = y if classes else backend.xp.reshape(y, (n, y.shape[2]))
    feed = Batches(x, y, batch_size, backend, network.dtype, classes, network.kernels)
    state = State(network, optimizer, feed)
    steps, rest = divmod(n, batch_size)
    sizes = [batch_size] * steps + [rest] * (rest > 0)
    run: dict[int, Callable[[], None]] = {}
    progress = state.progress
    for name in ("error", *(name for name, _ in state.metrics)):
        network.history.setdefault(name, [])
    history = History({"error": [], **{name: [] for name, _ in state.metrics}})

    with Interrupts(lambda: _after_step(network.step)) as interrupts, _closing(state):
        for epoch in range(epochs):
            state.start_epoch()
            order = random.permutation(network.seed, network.epoch, n) if shuffle else None
            feed.load(order, state.hyper(len(sizes)))
            for left, size in zip(range(len(sizes) - 1, -1, -1), sizes, strict=True):
                if size not in run:
                    run[size] = backend.compile(TrainStep(network, optimizer, state, size), state)
                step = progress["step"]
                run[size]()
                if progress["step"] == step:  # a graph: it only updates its own counter
                    state.count_step()
                if state.skipped:
                    state.hyper_again()
                if interrupts.noted and left:
                    interrupts.act()
            means = {name: float(backend.to_numpy(state.counters[sum_of(name)])) / n for name in history}
            state.finish_epoch(means, history, network.history)
            if verbose:
                rest_of_line = "".join(f"   {name}={value:f}" for name, value in means.items())
                print(f"epoch {epoch + 1}/{epochs}{rest_of_line}", flush=True)
            if check_finite and not np.isfinite(means["error"]):
                bad = int(backend.to_numpy(state.counters["finite steps"])) + 1
                raise DivergedError(
                    f"the error became {means['error']} in epoch {epoch + 1}, at step {bad} of {len(sizes)}: the "
                    "weights diverged. Build the network again and train it with a smaller learning rate, or "
                    "scale the data; check_finite=False trains on regardless"
                )
            if interrupts.noted:  # a finished epoch counts
                interrupts.act()
    if check_finite:
        _check_parameters(state, backend)
    return history


def _after_step(step: int) -> str:
    """The state of the network, for the message of an aborted step."""
    return (
        f"The network is as it was after step {step} (but for layers written as in the article, which update "
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
