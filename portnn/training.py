"""The train step, the epoch, and the state they change.

A step is functional: from the state it computes new leaves and writes into none; all of them are committed together at
its end, so a step that fails leaves everything as it was (only layers written as in the article update themselves). A
step needs nothing but its number: the data and the epoch's permutation lie ready on the device. So the same code runs
eagerly, where the number is a Python int and the optimizer's numbers are Python floats, and captured into a graph,
where they are a counter and a table in device memory.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from portnn import ops, random
from portnn.backend import Array, Backend, namespace
from portnn.feed import Feed
from portnn.interrupts import Interrupts
from portnn.layers import chain, checks, joined

Place = tuple[dict[str, Any], str]  # where a leaf lives: places[i] = (home, key), the leaf is home[key]


class History(dict[str, list[float]]):
    """What ``fit`` returns: ``history["error"]`` and one list for each metric, a value an epoch."""


class State:
    """All that a step changes, as a flat list of ``places``; ``inputs`` are what the host replaces once an epoch."""

    def __init__(self, network: Any, optimizer: Any, feed: Feed):
        self.backend: Backend = network.backend
        self.feed = feed
        self.layers = list(network.walk())
        self.article_layers = [layer for layer in self.layers if layer.written_as_in_the_article]
        learning = [layer for layer in self.layers if not layer.written_as_in_the_article]  # the others step themselves
        self.gradients = [(layer, name) for layer in learning for name in layer.parameters]
        self.parameters = [(layer.parameters, name) for layer, name in self.gradients]
        self.buffers = [(layer, name) for layer in self.layers for name in layer.buffers]
        self.slots = self._slot_places(network, optimizer)
        self.counters: dict[str, Any] = {"step": network.step, "position": 0}
        self.metrics = list(network.metrics)
        self.sums_dtype = self._sums_dtype(network.dtype)
        self.start_epoch()
        # Every leaf, in the order in which a step returns the new ones.
        self.places: list[Place] = [
            *self.parameters,
            *((layer.buffers, name) for layer, name in self.buffers),
            *(place for places in self.slots.values() for place in places),
            *((self.counters, key) for key in self.counters),
        ]
        self.eager_reason = None
        if self.article_layers:
            layer = self.article_layers[0]
            name = type(layer).__name__
            self.eager_reason = f"layer {layer.path} ({name}) is written as in the article: it updates itself"

    def _slot_places(self, network: Any, optimizer: Any) -> dict[str, list[Place]]:
        """The optimizer's slots, one dict a kind in ``network.slots``, by parameter path; missing ones are made."""
        fresh = optimizer.slots([home[key] for home, key in self.parameters])
        if not isinstance(fresh, dict) or any(len(arrays) != len(self.parameters) for arrays in fresh.values()):
            raise TypeError(
                f"{type(optimizer).__name__}.slots must return a dict of lists, each with one array a parameter "
                f"({len(self.parameters)}), got {fresh!r:.80}"
            )
        places: dict[str, list[Place]] = {}
        for kind, arrays in fresh.items():
            home = network.slots.setdefault(kind, {})
            places[kind] = [(home, f"{layer.path}.{name}") for layer, name in self.gradients]
            for (_, path), array in zip(places[kind], arrays, strict=True):
                home.setdefault(path, array)
        return places

    def _sums_dtype(self, dtype: str) -> str:
        """A sum of many errors wants float64; some devices have none."""
        try:
            self.backend.asarray(np.zeros((), np.float64))
        except (TypeError, ValueError, RuntimeError):
            return dtype
        return "float64"

    @property
    def inputs(self) -> list[Place]:
        return [(self.feed.inputs, key) for key in self.feed.inputs]

    def commit(self, leaves: list[Array]) -> None:
        """Rebinds every place to its new leaf."""
        for (home, key), leaf in zip(self.places, leaves, strict=True):
            home[key] = leaf

    def start_epoch(self) -> None:
        """Sets the sums of the epoch to zero."""
        position = self.counters["position"]
        self.counters["position"] = 0 if isinstance(position, int) else self._whole(0)
        for name in ("error", *(name for name, _ in self.metrics)):
            self.counters[sum_of(name)] = self.backend.asarray(np.zeros((), self.sums_dtype))
        self.counters["finite steps"] = self._whole(0)

    def use_device_counters(self) -> None:
        """Step number and position become 0-d arrays on the device, and the optimizer's numbers a table there.

        Every leaf becomes a copy of its own, once a fit: a graph writes into it, and somebody may hold the old one.
        """
        if not self.feed.on_device:
            for home, key in self.places:
                if not isinstance(home[key], int):
                    home[key] = self.backend.xp.asarray(home[key], copy=True)
            for name in ("step", "position"):
                self.counters[name] = self._whole(self.counters[name])
            self.feed.on_device = True
            self.feed.inputs["hyper"] = self.backend.asarray(np.array(self.feed.hyper, self.feed.dtype))

    def _whole(self, value: int) -> Array:
        return self.backend.asarray(np.asarray(value, np.int64))


def sum_of(name: str) -> str:
    """The counter in which the error, or a metric, is summed up over an epoch."""
    return f"sum of {name}"


class TrainStep:
    """One step on a batch of ``size`` samples. Called, it returns the new leaves in the order of ``state.places``."""

    def __init__(self, network: Any, optimizer: Any, state: State, size: int):
        self.layers = joined.join(network.layers, network.backend, network.kernels)
        self.loss, self.loss_prime = network.bound_loss, network.bound_loss_prime
        update = getattr(type(optimizer), "update", None)
        self.update = (
            partial(ops.twin(network.backend, network.kernels, update), optimizer) if update else optimizer.update
        )
        self.own_optimizer = ops.is_ours(type(optimizer))
        self.optimizer_name = type(optimizer).__name__
        self.tally = ops.twin(network.backend, network.kernels, tally)
        self.state, self.size = state, size
        self.backend = network.backend
        self.checked = False
        self.at: Any = ""  # what is being run, for a word on what went wrong there
        self.offsets = network.backend.asarray(np.arange(size, dtype=np.int64))
        self.lowest = chain.lowest_that_learns(self.layers)

    def __call__(self) -> list[Array]:
        state, counters = self.state, self.state.counters
        self.at = ""
        X, Y_true, hyper = state.feed.batch(counters["position"], self.offsets)
        for layer in state.layers:
            layer.step = counters["step"]
            layer.gradients.clear()  # this step's take their memory
        for layer in state.article_layers:
            layer.learning_rate_now = hyper[0]

        first, self.checked = not self.checked, True  # what layers answer is looked at once
        Y, inputs = X, []
        for layer in self.layers:
            if first:
                inputs.append(Y)
            self.at = layer
            Y = layer.forward(Y, training=True)
            if first:
                checks.answer(layer, "forward", Y, samples=self.size)
        if Y.shape != Y_true.shape and not state.feed.classes:
            raise ValueError(
                f"the network's output has shape {tuple(Y.shape)}, but the targets of this batch {tuple(Y_true.shape)}"
            )
        self.at = "the loss"
        error = self.loss(Y_true, Y)

        D = self.loss_prime(Y_true, Y)  # dE/dY, going down
        for i in range(len(self.layers) - 1, self.lowest - 1, -1):
            self.at = self.layers[i]
            D = self.layers[i].backward(D, need_input_error=i > self.lowest)
            if first:
                for part in self.layers[i].walk():
                    checks.gradients(part)
                if i > self.lowest:
                    checks.answer(self.layers[i], "backward", D, shape=inputs[i].shape)

        self.at = "the optimizer"
        parameters, slots = self._descend(hyper)
        old = (counters[name] for name in ("step", "position", "sum of error", "finite steps"))
        step, position, total, finite = self.tally(*old, error, self.size)
        leaves = [
            *parameters,
            *(layer.new_buffers.get(name, layer.buffers[name]) for layer, name in state.buffers),
            *slots,
            step,
            position,
            total,
        ]
        for name, metric in state.metrics:
            self.at = f"metric {name}"
            leaves.append(counters[sum_of(name)] + metric_sum(name, metric, Y_true, Y, self.backend))
        leaves.append(finite)
        self.at = ""
        return leaves

    def where(self) -> str:
        """What was being run when the step was left by an exception, ``"layer 2 (MyLayer)"``; empty if it was not."""
        if not self.at or isinstance(self.at, str):
            return self.at
        layer = self.at.layer if isinstance(self.at, joined.Joined) else self.at
        return f"layer {layer.path} ({type(layer).__name__})"

    def _updated(self, old: list[Array], gradients: list[Array], slots: Any, hyper: Any) -> tuple[list[Array], Any]:
        """The optimizer's answer; a user's must be arrays like those it was given."""
        answer = self.update(old, gradients, slots, hyper)
        if self.own_optimizer:
            return answer
        try:
            parameters, new_slots = answer
            arrays = [*parameters, *(a for kind in slots for a in new_slots[kind])]
            alike = [(a.shape, a.dtype) for a in arrays]
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise TypeError(
                f"{self.optimizer_name}.update must return (parameters, slots), lists of arrays as it was given: "
                f"{error!r}"
            ) from error
        if alike != [(a.shape, a.dtype) for a in [*old, *(a for kind in slots.values() for a in kind)]]:
            raise TypeError(
                f"{self.optimizer_name}.update returned arrays of another number, shape or dtype than it was given: "
                "NumPy scalars promote, write numbers as Python floats"
            )
        return parameters, new_slots

    def _descend(self, hyper: Sequence[Any]) -> tuple[list[Array], list[Array]]:
        """New parameters and slots; a parameter that got no gradient is left alone, and so are its slots."""
        state = self.state
        old = [home[key] for home, key in state.parameters]
        gradients = [layer.gradients.get(name) for layer, name in state.gradients]
        slots = {kind: [home[key] for home, key in places] for kind, places in state.slots.items()}
        has = [i for i, gradient in enumerate(gradients) if gradient is not None]
        if len(has) == len(old):
            parameters, slots = self._updated(old, gradients, slots, hyper)
            return parameters, [array for arrays in slots.values() for array in arrays]
        some = {kind: [arrays[i] for i in has] for kind, arrays in slots.items()}
        parameters, some = self._updated([old[i] for i in has], [gradients[i] for i in has], some, hyper)
        for new, i in enumerate(has):
            old[i] = parameters[new]
            for kind, arrays in slots.items():
                arrays[i] = some[kind][new]
        return old, [array for arrays in slots.values() for array in arrays]


def metric_sum(name: str, metric: Any, Y_true: Array, Y: Array, backend: Backend) -> Array:
    """The sum of a metric over a batch: one number a sample, (N,)."""
    values = metric(Y_true, Y)
    if not backend.owns(values) or tuple(values.shape) != (Y.shape[0],):
        given = f"shape {tuple(values.shape)}" if hasattr(values, "shape") else f"{values!r:.40}"
        raise ValueError(
            f"metric {name} returned {given} for {Y.shape[0]} samples: it must return an array with one number a "
            f"sample ({Y.shape[0]},), which is averaged here"
        )
    return backend.xp.sum(backend.xp.astype(values, Y.dtype))


def tally(step: Any, position: Any, total: Array, finite: Array, error: Array, size: int) -> tuple[Any, Any, Any, Any]:
    """The counters after a step: its number, its place in the epoch, the sum of errors over samples, and the number of
    steps for which that was finite. Once infinite or NaN it stays so: this counts the good steps.
    """
    total = total + error * size
    xp = namespace(total)
    return step + 1, position + 1, total, xp.where(xp.isfinite(total), finite + 1, finite)


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
    """Runs the epochs of one ``fit`` on data that is ready on the device."""
    backend, n = network.backend, x.shape[0]
    if not isinstance(optimizer.hyper(network.step), (tuple, list)):
        raise TypeError(f"{type(optimizer).__name__}.hyper must return a tuple of numbers, the learning rate first")
    if network.kernels != "portable" and _may_be_matrices(network, x, y, classes):
        x = backend.xp.reshape(x, (n, x.shape[2]))
        y = y if classes else backend.xp.reshape(y, (n, y.shape[2]))
    feed = Feed(x, y, batch_size, backend, network.dtype, classes, network.kernels)
    state = State(network, optimizer, feed)
    steps, rest = divmod(n, batch_size)
    sizes = [batch_size] * steps + [rest] * (rest > 0)
    run: dict[int, Callable[[], None]] = {}
    history = History({"error": [], **{name: [] for name, _ in state.metrics}})

    with Interrupts() as interrupts, _article_layers_learn(state.article_layers):
        for epoch in range(epochs):
            state.start_epoch()
            order = random.permutation(network.seed, network.epoch, n) if shuffle else None
            feed.load(order, [optimizer.hyper(network.step + k) for k in range(len(sizes))])
            for size in sizes:
                if size not in run:
                    run[size] = backend.compile(TrainStep(network, optimizer, state, size), state)
                run[size]()
                network.step += 1
                if interrupts.noted:
                    interrupts.act()
            network.epoch += 1
            means = {name: float(backend.to_numpy(state.counters[sum_of(name)])) / n for name in history}
            for name, value in means.items():
                history[name].append(value)
            if verbose:
                rest_of_line = "".join(f"   {name}={value:f}" for name, value in means.items())
                print(f"epoch {epoch + 1}/{epochs}{rest_of_line}", flush=True)
            if check_finite and not np.isfinite(means["error"]):
                bad = int(backend.to_numpy(state.counters["finite steps"])) + 1
                raise DivergedError(
                    f"the error became {means['error']} in epoch {epoch + 1}, at step {bad} of {len(sizes)}: the "
                    "weights have run away. Build the network again and train it with a smaller learning rate, or "
                    "scale the data; check_finite=False goes on regardless"
                )
    if check_finite:
        _check_parameters(state, backend)
    return history


def _check_parameters(state: State, backend: Backend) -> None:
    """The error of the last step was calculated before its update: what came of that is seen here."""
    xp = backend.xp
    for (home, key), (layer, name) in zip(state.parameters, state.gradients, strict=True):
        if not backend.to_numpy(xp.all(xp.isfinite(home[key]))):
            raise DivergedError(
                f"{layer.path}.{name} holds NaN or infinity after the last step: the weights have run away. Build the "
                "network again and train it with a smaller learning rate, or scale the data; check_finite=False goes "
                "on regardless"
            )


@contextmanager
def _article_layers_learn(layers: list[Any]) -> Iterator[None]:
    """Only within ``fit`` does a layer written as in the article update itself."""
    try:
        yield
    finally:
        for layer in layers:
            layer.learning_rate_now = None


def _may_be_matrices(network: Any, x: Array, y: Array, classes: bool) -> bool:
    """Whether samples (1, n) may go through as (n,): the same numbers, without reshaping them in every layer.

    They may if every layer acts on the last axis alone and nobody but portnn sees the shapes.
    """
    rows = x.ndim == 3 and x.shape[1] == 1 and (y.ndim == 1 if classes else y.ndim == 3 and y.shape[1] == 1)
    parts = [network.loss, *(metric for _, metric in network.metrics)]
    for layer in network.walk():
        parts += [type(layer), getattr(layer, "activation", network.loss)]
    return rows and all(map(ops.is_ours, parts)) and all(layer.last_axis_only for layer in network.layers)


class DivergedError(RuntimeError):
    """Training ran away: the error is no longer finite."""
