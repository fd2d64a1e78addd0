"""The state that a train step changes, and its commit: all changes of a step become visible at once."""

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from operator import call
from typing import Any

import numpy as np

from portnn._typing import Array, Shape
from portnn.backend import Backend, in_order, is_array
from portnn.indivisible import set_all, set_each
from portnn.metrics import prepared, zero_sums
from portnn.ops import is_ours
from portnn.training.batches import Batches
from portnn.training.turns import Turn

Place = tuple[dict[str, Any], str]  # where a leaf is stored: places[i] = (home, key), the leaf is home[key]


class State:
    """All leaves that a step changes, as a flat list of ``places``; the host replaces ``inputs`` between steps.

    Created when ``fit`` begins, it makes every leaf C-contiguous and raises for one that does not fit its layer.
    """

    def __init__(self, network: Any, optimizer: Any, batches: Batches, output: Shape):
        """``output`` is the shape of one output of the network."""
        self.backend: Backend = network.backend
        self.network = weakref.ref(network)
        self.key: Any = None  # of steps that a later fit may use again; see ``reuse``
        self.at_end: Callable[[bool], None] | None = None  # of the backend, if it keeps steps: see ``hand_over``
        self.batches, self.optimizer, self.progress = batches, optimizer, network.progress
        self.turn = network.turns.held() or Turn("")
        self.layers = list(network.walk())
        self.article_layers = [layer for layer in self.layers if layer.updates_itself]
        learning = [layer for layer in self.layers if not layer.updates_itself]  # the others update themselves
        for layer in self.layers:
            layer._check_leaves()
            layer.drawn = {}  # from now on they are trained values, which are not drawn again
        for layer in learning:
            layer.new_buffers = {}
        self.frozen = [layer for layer in learning if layer._is_frozen]
        self.gradients = [(layer, name) for layer in learning if not layer._is_frozen for name in layer.parameters]
        self.parameters = [(layer.parameters, name) for layer, name in self.gradients]
        self.left_alone = [(layer.parameters, name) for layer in self.frozen for name in layer.parameters]
        self.buffers = [(layer, name) for layer in self.layers for name in layer.buffers]
        self.slots = self._slot_places(optimizer)
        self.skipped: list[tuple[Any, str]] = []  # parameters without a gradient in the last step
        for layer in learning:
            layer._count_updates(network.step, not layer._is_frozen)
        self.counters: dict[str, Any] = {"step": network.step, "position": 0}
        # By the first batch, wherever the samples come from: results must not depend on that.
        some = slice(None) if batches.in_chunks else slice(batches.batch_size)
        weights = None if batches.weights is None else batches.weights[some]
        self.metrics = [(name, prepared(metric, batches.y[some, ...], weights)) for name, metric in network.metrics]
        # What our metrics found out about the targets of this fit: a graph reads it where it read that of another fit.
        ours = [metric for _, metric in self.metrics if is_ours(type(metric))]
        self.constants = [(vars(m), key) for m in ours for key, value in vars(m).items() if is_array(value)]
        self.sums_dtype = self._sums_dtype(network.dtype)
        self.weighted = batches.weights is not None
        self.shapes = {sum_of(name): self._shape_of_sums(name, metric, output) for name, metric in self.metrics}
        self.start_epoch()
        # Every leaf, in the order in which a step returns the new ones.
        self.places: list[Place] = [
            *self.parameters,
            *self.left_alone,
            *((layer.buffers, name) for layer, name in self.buffers),
            *(place for places in self.slots.values() for place in places),
            *((self.counters, key) for key in self.counters),
        ]
        for home, key in self.places:
            home[key] = in_order(home[key])
        # Arrays of our own layers and optimizers are C-contiguous; those of a user's may not be.
        self.reorders = not all(is_ours(type(part)) for part in [*self.layers, optimizer])
        self.homes = [*(home for home, _ in self.places), self.progress]
        self.keys = [*(key for _, key in self.places), "step"]
        self.eager_reason = None
        if self.article_layers:
            layer = self.article_layers[0]
            name = type(layer).__name__
            self.eager_reason = f"layer {layer.path} ({name}) is written as in the article: it updates itself"

    def _slot_places(self, optimizer: Any) -> dict[str, list[Place]]:
        """The optimizer's slots, by kind; each layer keeps those of its own parameters, missing ones are created."""
        fresh = optimizer.slots([home[key] for home, key in self.parameters])
        if not isinstance(fresh, dict) or any(len(arrays) != len(self.parameters) for arrays in fresh.values()):
            raise TypeError(
                f"{type(optimizer).__name__}.slots must return a dict of lists, each with one array per parameter "
                f"({len(self.parameters)}), got {fresh!r:.80}"
            )
        places: dict[str, list[Place]] = {}
        for kind, arrays in fresh.items():
            places[kind] = []
            for (layer, name), array in zip(self.gradients, arrays, strict=True):
                home = layer._slots_by_kind.setdefault(kind, {})
                old = home.setdefault(name, array)
                if not is_array(old):
                    raise TypeError(
                        f"the optimizer's {kind} of {layer.path}.{name} is {old!r:.60}, not an array: set it with "
                        f"net.slots[{kind!r}][{layer.path + '.' + name!r}] = array"
                    )
                if (old.shape, old.dtype) != (array.shape, array.dtype):
                    raise ValueError(
                        f"the optimizer's {kind} of {layer.path}.{name} is {old.dtype} of shape {tuple(old.shape)}, "
                        f"but the parameter needs {array.dtype} of shape {tuple(array.shape)}: use(...) starts "
                        "training afresh, with new ones"
                    )
                places[kind].append((home, name))
        return places

    def _sums_dtype(self, dtype: str) -> str:
        """The dtype for the sums of an epoch: float64, since they have many terms, where the device has it."""
        try:
            self.backend.asarray(np.zeros((), np.float64))
        except (TypeError, ValueError, RuntimeError):
            return dtype
        return "float64"

    @property
    def inputs(self) -> list[Place]:
        return [*((self.batches.inputs, key) for key in self.batches.inputs), *self.constants]

    # -- after a step ------------------------------------------------------------------------------------------

    def commit(self, leaves: list[Array]) -> None:
        """Rebinds every place to its new leaf, and counts the step: one call into C, which no signal can interrupt."""
        if self.reorders or self.skipped:
            self._commit(self.places, list(map(in_order, leaves)))
        else:
            leaves.append(self.progress["step"] + 1)
            set_each(self.homes, self.keys, leaves)

    def count_step(self) -> None:
        """Counts a step whose leaves the backend itself has stored, as a graph does."""
        self._commit([], [])

    def _commit(self, places: Sequence[Place], leaves: Sequence[Any]) -> None:
        step = self.progress["step"] + 1
        counts = [(layer._update_counts, name, (layer._updates(name, step - 1), step)) for layer, name in self.skipped]
        bound = [(home, key, leaf) for (home, key), leaf in zip(places, leaves, strict=True)]
        set_all([*bound, *counts, (self.progress, "step", step)])

    def finish_epoch(self, means: dict[str, float], *histories: dict[str, list[float]]) -> None:
        """Counts the epoch and appends its means to the histories, in one call into C as well."""
        nan = float("nan")  # of what this epoch did not compute
        notes = [partial(v.append, means.get(name, nan)) for history in histories for name, v in history.items()]
        counts = {"epoch": self.progress["epoch"] + 1, "position": 0}
        deque(map(call, [*notes, partial(self.progress.update, counts)]), 0)

    # -- before an epoch ---------------------------------------------------------------------------------------

    def hyper(self, steps: int) -> list[tuple[float, ...]]:
        """The optimizer's hyperparameters for the next ``steps`` steps."""
        step, counts = self.progress["step"], self._counts()
        if counts is None:
            return [self.optimizer.hyper(step + k) for k in range(steps)]
        return [self.optimizer.hyper(step + k, [count + k for count in counts]) for k in range(steps)]

    def hyper_again(self) -> None:
        """Recomputes the next step's hyperparameters where a parameter missed the last update: its count lags now."""
        position = self.counters["position"]
        if self.skipped and not self.batches.on_device and position < len(self.batches.hyper):
            self.batches.hyper[position:] = self.hyper(len(self.batches.hyper) - position)

    def _counts(self) -> list[int] | None:
        """The updates made to each parameter, if the optimizer uses them and not all equal the step's number."""
        if not getattr(self.optimizer, "uses_counts", False):
            return None
        step = self.progress["step"]
        skipped = self.skipped if self.batches.on_device else ()  # a graph does not read the table's values for these
        counts = [step if (layer, name) in skipped else layer._updates(name, step) for layer, name in self.gradients]
        return None if all(count == step for count in counts) else counts

    def start_epoch(self, position: int = 0, sums: dict[str, np.ndarray] | None = None) -> None:
        """Resets the sums of the epoch to zero; or sets those of an epoch that goes on at a ``position``."""
        self.set_position(position)
        for name in ("error", *(name for name, _ in self.metrics)):
            self.counters[sum_of(name)] = self._zeros(self.shapes.get(sum_of(name), ()))
        self.counters["finite steps"] = self._whole(0)
        if self.weighted:
            self.counters[sum_of("weights")] = self._zeros(())
        for name, values in (sums or {}).items():
            self.counters[name] = self.backend.asarray(np.array(values, str(self.counters[name].dtype)))

    def weighed(self, error: Array, weights: Array) -> tuple[Array, Array, int]:
        """The batch's weighted sum of errors, its sum of weights, and 1 as its size: the error is a sum already."""
        xp = self.backend.xp
        weight = xp.astype(xp.sum(xp.astype(weights, self._sums())), self._sums())
        return xp.astype(error, self._sums()) * weight, weight, 1

    def use_device_counters(self) -> None:
        """Makes step number and position 0-d arrays on the device, and the optimizer's hyperparameters a table there.

        Every leaf is copied, once per fit: a graph writes into it, and the caller may hold a reference to the old one.
        """
        if not self.batches.on_device:
            for home, key in self.places:
                if not isinstance(home[key], int):
                    home[key] = self.backend.xp.asarray(home[key], copy=True)
            for name in ("step", "position"):
                self.counters[name] = self._whole(self.counters[name])
            self.batches.on_device = True
            self.batches.put_on_device()
            self.batches.inputs["hyper"] = self.batches.table()

    def set_position(self, position: int) -> None:
        """The number, among the batches on the device, of the next one."""
        old = self.counters["position"]
        self.counters["position"] = position if isinstance(old, int) else self._whole(position)

    def sums(self) -> dict[str, np.ndarray]:
        """What the epoch has added up so far, on the host."""
        numbers = {name: value for name, value in self.counters.items() if name not in ("step", "position")}
        return {name: np.array(self.backend.to_numpy(value)) for name, value in numbers.items()}

    def keep(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Every leaf and count as they are now, for ``bring_back``.

        A step binds new arrays, so the old ones need no copy; but a graph writes into its arrays.
        """
        homes = [self.progress, *(layer._update_counts for layer in self.layers)]
        homes += list({id(home): home for home, _ in self.places}.values())
        kept = [(home, dict(home)) for home in homes]
        if self.batches.on_device:
            for _, then in kept:
                then.update({key: self.backend.xp.asarray(a, copy=True) for key, a in then.items() if is_array(a)})
        return kept

    def bring_back(self, kept: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
        """Makes the state what it was when it was kept: one call into C, which no signal can interrupt."""
        bound = [(home, key, value) for home, then in kept for key, value in then.items()]
        set_all(bound)

    def hand_over(self) -> None:
        """At the end of a fit whose graphs are kept: binds copies of the arrays that graphs will go on to write to.

        Without memory for the copies the graphs are given up instead, and the arrays are the network's own.
        """
        at_end, self.at_end = self.at_end, None
        if at_end is None:
            return
        copied = False
        try:
            with suppress(Exception):
                places = [(home, key) for home, key in self.places if home is not self.counters]
                bound = [(home, key, self.backend.xp.asarray(home[key], copy=True)) for home, key in places]
                set_all(bound)
                copied = True
        finally:
            at_end(copied)

    def settle(self) -> None:
        """After an exception, reads the step's number from the device, in case a launched step was not counted."""
        if self.batches.on_device:
            with suppress(Exception):  # the device itself may have failed: that exception is being raised
                self.progress["step"] = int(self.backend.to_numpy(self.counters["step"]))

    def _sums(self) -> Any:
        return getattr(self.backend.xp, self.sums_dtype)

    def _zeros(self, shape: Shape) -> Array:
        return self.backend.asarray(np.zeros(shape, self.sums_dtype))

    def _shape_of_sums(self, name: str, metric: Any, output: Shape) -> Shape:
        """The shape of a metric's sums, found with one sample: a captured step's arrays have fixed shapes."""
        xp, y = self.backend.xp, self.batches.y[:1, ...]
        Y = self.backend.asarray(np.zeros((1, *output)), self.batches.dtype)
        Y_true = y if self.batches.classes else xp.astype(xp.reshape(y, Y.shape), Y.dtype)
        return tuple(zero_sums(name, metric, Y_true, Y, self.backend).shape)

    def _whole(self, value: int) -> Array:
        return self.backend.asarray(np.asarray(value, np.int64))


def sum_of(name: str) -> str:
    """The name of the counter that sums the error, or a metric, over an epoch."""
    return f"sum of {name}"
