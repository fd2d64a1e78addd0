"""The train step: it computes new leaves from the state, and writes into none.

All of them are committed together at its end, so a step that fails changes nothing (except that layers written as
in the article update themselves). A step needs nothing but its number: the data and the epoch's permutation are on the
device. So the same code runs eagerly, where the number is a Python int and the hyperparameters are Python floats, and
captured into a graph, where they are a counter and a table in device memory.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from portnn import ops
from portnn._typing import Array
from portnn.article import adapted
from portnn.backend import namespace
from portnn.layers import sequential
from portnn.metrics import batch_sums
from portnn.optimizers import SGD
from portnn.training import fusion
from portnn.training.state import State, sum_of


class TrainStep:
    """One step on a batch of ``size`` samples. Called, it returns the new leaves in the order of ``state.places``."""

    def __init__(self, network: Any, optimizer: Any, state: State, size: int):
        layers = fusion.fuse(adapted(network.layers), network.backend, network.kernels)
        self.optimizer, self.descending = optimizer, None
        if type(optimizer) is SGD and not state.slots and state.batches.batch_size == 1:
            layers, self.descending = fusion.descending(layers, state.parameters, network.backend, network.kernels)
        self.layers, self.whole = fusion.ending(layers, network.backend, network.kernels)
        self.loss, self.loss_prime = network.bound_loss, network.bound_loss_prime
        update = getattr(type(optimizer), "update", None)
        self.update = (
            partial(ops.implementation(network.backend, network.kernels, update), optimizer)
            if update
            else optimizer.update
        )
        self.own_optimizer = ops.is_ours(type(optimizer))
        self.optimizer_name = type(optimizer).__name__
        self.update_counters = ops.implementation(network.backend, network.kernels, update_counters)
        self.state, self.size = state, size
        self.backend = network.backend
        self.known = all(layer._own for layer in network.layers)
        self.lowest = sequential.lowest_that_learns(self.layers)
        self.at = state.turn.at  # a captured step that fails asks for it, and a layer that a user's code calls
        self.notes_layers = not all(layer._own for layer in state.layers)
        self.offsets = network.backend.asarray(np.arange(size, dtype=np.int64))

    def __call__(self) -> list[Array]:
        state = self.state
        state.turn.in_step = True
        self.at[0] = ""
        X, Y_true, weights, hyper = state.batches.batch(state.counters["position"], self.offsets)
        self._begin(hyper)
        Y, error = self._pass(X, Y_true, weights)
        leaves = self._new_leaves(hyper, Y_true, Y, weights, error)
        self.at[0] = ""
        state.turn.in_step = False
        return leaves

    def _begin(self, hyper: Sequence[Any]) -> None:
        step = self.state.counters["step"]
        for layer in self.state.layers:
            layer.step = step
            layer.gradients.clear()  # this step's gradients reuse their memory
        for layer in self.state.article_layers:
            layer._learning_rate = hyper[0]
        if self.descending is not None:
            rate = hyper[0] if _is_plain(self.optimizer) else None
            for layer in self.descending:
                layer.rate, layer.moved = rate, None

    def _pass(self, X: Array, Y_true: Array, weights: Array | None) -> tuple[Array, Array]:
        """Forward, loss, backward: returns Y and the error; afterwards the layers hold their gradients."""
        at = self.at if self.notes_layers or self.state.batches.on_device else None
        Y = sequential.run(self.layers, X, True, at, known=self.known)
        if Y.shape != Y_true.shape and not self.state.batches.classes:
            raise ValueError(
                f"the network's output has shape {tuple(Y.shape)}, but the targets of this batch {tuple(Y_true.shape)}"
            )
        self.at[0] = "the loss"
        if self.whole is not None and weights is None and self.lowest < len(self.layers):
            return Y, self._backward_whole(Y_true, Y, at)
        given = (Y_true, Y) if weights is None else (Y_true, Y, weights)
        error = self.loss(*given)
        sequential.run_backward(self.layers, self.loss_prime(*given), False, at, self.lowest)
        return Y, error

    def _backward_whole(self, Y_true: Array, Y: Array, at: list[Any] | None) -> Array:
        """The error; the loss, the last activation's chain rule and the last bias's gradient are one."""
        *below, last = self.layers
        descends = last.rate is not None  # then the chain rule is part of its own pass
        error, D, sums = self.whole(Y_true, Y, self.loss, self.loss_prime, None if descends else last.chain)
        if at is not None:
            at[0] = last
        need = self.lowest < len(below)
        D = last.compute_backward(D, need) if descends else last.compute_below(D, sums, need)
        sequential.run_backward(below, D, False, at, self.lowest)
        return error

    def _new_leaves(
        self, hyper: Sequence[Any], Y_true: Array, Y: Array, weights: Array | None, error: Array
    ) -> list[Array]:
        """Every leaf of the state after the step, in the order of its places."""
        state, counters = self.state, self.state.counters
        self.at[0] = "the optimizer"
        parameters, slots = self._descend(hyper)
        old = (counters[name] for name in ("step", "position", "sum of error", "finite steps"))
        size = self.size
        if weights is not None:
            error, weight, size = state.weighed(error, weights)
        step, position, total, finite = self.update_counters(*old, error, size)
        leaves = [*parameters]
        if state.left_alone or state.buffers:
            leaves += [home[key] for home, key in state.left_alone]
            leaves += [layer.new_buffers.get(name, layer.buffers[name]) for layer, name in state.buffers]
        leaves += [*slots, step, position, total]
        for name, metric in state.metrics:
            self.at[0] = f"metric {name}"
            leaves.append(counters[sum_of(name)] + batch_sums(name, metric, Y_true, Y, weights, self.backend))
        leaves.append(finite)
        if weights is not None:
            leaves.append(counters[sum_of("weights")] + weight)
        return leaves

    def where(self) -> str:
        """What was running when an exception left the step, such as ``"layer 2 (MyLayer)"``; empty if none did."""
        (layer,) = self.at
        if isinstance(layer, str):
            return layer
        layer = getattr(layer, "layer", layer)  # of two fused layers, or of an adapter
        return f"layer {layer.path} ({type(layer).__name__})"

    def _updated(self, old: list[Array], gradients: list[Array], slots: Any, hyper: Any) -> tuple[list[Array], Any]:
        """The optimizer's new parameters and slots; a user's optimizer must return arrays like those it was given."""
        if self.own_optimizer:
            answer: tuple[list[Array], Any] = self.update(old, gradients, slots, hyper)
            return answer
        copy = self.backend.xp.asarray  # a user's optimizer may write into what it gets
        given = {kind: [copy(a, copy=True) for a in arrays] for kind, arrays in slots.items()}
        answer = self.update([copy(w, copy=True) for w in old], [copy(g, copy=True) for g in gradients], given, hyper)
        try:
            parameters, new_slots = answer
            arrays = [*parameters, *(a for kind in slots for a in new_slots[kind])]
            alike = [(a.shape, a.dtype) for a in arrays]
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise TypeError(
                f"{self.optimizer_name}.update must return (parameters, slots), lists of arrays like those given: "
                f"{error!r}"
            ) from error
        if alike != [(a.shape, a.dtype) for a in [*old, *(a for kind in slots.values() for a in kind)]]:
            raise TypeError(
                f"{self.optimizer_name}.update returned arrays of another number, shape or dtype than it was given: "
                "NumPy scalars promote float32 arrays, so write numbers as Python floats"
            )
        return parameters, new_slots

    def _descend(self, hyper: Sequence[Any]) -> tuple[list[Array], list[Array]]:
        """New parameters and slots; a parameter without a gradient stays unchanged, and so do its slots."""
        state = self.state
        if self.descending is not None:
            moved = [layer.moved for layer in self.descending]
            if None not in moved:  # the backward pass has done it
                return [array for both in moved for array in both], []
        old = [home[key] for home, key in state.parameters]
        gradients = [layer.gradients.get(name) for layer, name in state.gradients]
        slots = {kind: [home[key] for home, key in places] for kind, places in state.slots.items()}
        has = [i for i, gradient in enumerate(gradients) if gradient is not None]
        if state.skipped:
            state.skipped = []
        if len(has) == len(old):
            parameters, slots = self._updated(old, gradients, slots, hyper)
            return parameters, [array for arrays in slots.values() for array in arrays]
        state.skipped = [state.gradients[i] for i, gradient in enumerate(gradients) if gradient is None]
        if len(hyper) == 1 + 2 * len(old) and len(old) > 1 and getattr(state.optimizer, "uses_counts", False):
            hyper = [hyper[0], *(hyper[1 + 2 * i + j] for i in has for j in (0, 1))]  # two numbers for each parameter
        some = {kind: [arrays[i] for i in has] for kind, arrays in slots.items()}
        parameters, some = self._updated([old[i] for i in has], [gradients[i] for i in has], some, hyper)
        for new, i in enumerate(has):
            old[i] = parameters[new]
            for kind, arrays in slots.items():
                arrays[i] = some[kind][new]
        return old, [array for arrays in slots.values() for array in arrays]


def _is_plain(sgd: SGD) -> bool:
    """Whether an update is w - lr * dE/dw and no more; its settings may change between two steps."""
    return not (sgd.momentum or sgd.weight_decay or sgd.clip_norm is not None or sgd.clip_value is not None)


def update_counters(
    step: Any, position: Any, total: Array, finite: Array, error: Array, size: int
) -> tuple[Any, Any, Any, Any]:
    """The counters after a step: its number, its position in the epoch, the sum of errors over samples, and the number
    of steps for which that sum was finite. Once infinite or NaN it stays so: the count tells the first bad step.
    """
    total = total + error * size
    xp = namespace(total)
    return step + 1, position + 1, total, xp.where(xp.isfinite(total), finite + 1, finite)
