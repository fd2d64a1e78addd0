"""Compares a network on two backends: both train in lockstep, and the first difference is reported."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np

from portnn import checks, preparation, random, validation
from portnn._typing import Array
from portnn.article import adapted
from portnn.backend import get_backend
from portnn.layers import sequential
from portnn.network import Network
from portnn.sources import batch_sizes
from portnn.training.batches import Batches
from portnn.training.fusion import Fused, Pooled
from portnn.training.state import State, sum_of
from portnn.training.step import TrainStep

TOLERANCES = {"float32": 1e-4, "float64": 1e-9}
Tensor = tuple[str, str, np.ndarray]  # where it was seen ("layer 2 (FCLayer)"), what it is ("dE/dX"), its values


@dataclass(frozen=True)
class BackendReport:
    """The result of ``compare_backends``: true if both runs agree. Printed, it says where they first differ.

    ``step``, from 0, ``layer`` (``"layer 2 (FCLayer)"``, ``"the loss"``) and ``tensor`` (``"Y"``, ``"dE/dX"``,
    ``"dE/dweights"``, ``"weights"``) name the first difference above the tolerance; None and empty if there is none.
    ``difference`` is its size, or the largest of all, relative to the largest value of the tensor.
    """

    agree: bool
    steps: int
    difference: float
    step: int | None = None
    layer: str = ""
    tensor: str = ""

    def __bool__(self) -> bool:
        return self.agree

    def __str__(self) -> str:
        if self.agree:
            return f"equal for {self.steps} steps: no tensor differs by more than {self.difference:.1e}"
        return f"step {self.step}: {self.tensor} of {self.layer} differs by {self.difference:.1e}"

    __repr__ = __str__


def compare_backends(
    network: Network,
    x: Any,
    y: Any,
    *,
    backends: tuple[Any, Any] = ("cpu", "gpu"),
    epochs: int = 1,
    learning_rate: Any = None,
    batch_size: int = 32,
    shuffle: bool = True,
    tolerance: float | None = None,
) -> BackendReport:
    """Trains copies of a network on two backends, step by step, and names the first tensor in which they differ.

    x, y, epochs, learning_rate, batch_size and shuffle mean what they mean in ``fit``, with other defaults; the network
    must be ready for ``fit``, and is not changed. Layers are fused only where both backends fuse them. Every step
    compares each layer's output, dE/dX and gradients, the loss, and then parameters, buffers and the optimizer's slots:
    the largest difference, relative to the largest value of the tensor. ``tolerance`` is by default 1e-4 in float32,
    1e-9 in float64. The runs are not synchronized between steps: rounding errors may add up over many steps.

    Raises what ``fit`` raises, and BackendUnavailableError if one of the backends cannot run here.

    >>> import numpy as np
    >>> from portnn import ActivationLayer, FCLayer
    >>> net = Network([FCLayer(2, 3), ActivationLayer("tanh"), FCLayer(3, 1)], seed=1)
    >>> net.use("mse")
    >>> bool(compare_backends(net, np.eye(2), [[0.0], [1.0]], backends=("cpu", np), learning_rate=0.1))
    True
    """
    if not isinstance(network, Network):
        raise TypeError(f"compare_backends takes a network, got {network!r:.60}")
    epochs, batch_size = checks.size("epochs", epochs), checks.size("batch_size", batch_size)
    limit = TOLERANCES[network.dtype] if tolerance is None else checks.number("tolerance", tolerance)
    options = epochs, learning_rate, batch_size, checks.flag("shuffle", shuffle)
    if not isinstance(backends, (tuple, list)) or len(backends) != 2:
        raise TypeError(f"backends must be two, such as ('cpu', 'gpu'), got {backends!r:.60}")
    pair = [get_backend(backend) for backend in backends]  # both, before anything is copied
    runs = [_Run(deepcopy(network).to(backend), x, y, *options) for backend in pair]
    if runs[0].stages() != runs[1].stages():  # only one of them fuses layers
        for run in runs:
            run.part()
    worst, steps = 0.0, 0
    for steps, (first, second) in enumerate(zip(*(run.steps() for run in runs), strict=True), 1):
        for (place, name, a), (_, _, b) in zip(first, second, strict=True):
            apart = _difference(a, b)
            if not apart <= limit:
                return BackendReport(False, steps, apart, steps - 1, place, name)
            worst = max(worst, apart)
    return BackendReport(True, steps, worst)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, relative to the largest value; infinite where only one of them is finite."""
    good = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(np.isnan(a), np.isnan(b)) or not np.array_equal(a[~good], b[~good], equal_nan=True):
        return float("inf")
    a, b = a[good].astype(np.float64), b[good].astype(np.float64)
    size = np.abs(b).max(initial=0.0)
    return float(np.abs(a - b).max(initial=0.0) / size) if size else float(np.abs(a).max(initial=0.0))


class _Run:
    """One of the two runs: its network, and the tensors of the current step."""

    def __init__(
        self, network: Network, x: Any, y: Any, epochs: int, learning_rate: Any, batch_size: int, shuffle: bool
    ):
        self.network, self.epochs, self.shuffle = network, epochs, shuffle
        self.optimizer = network._optimizer(learning_rate)
        with network.backend.scope():
            samples, shapes = preparation.samples(network, x, y, None, True)
            n, size = len(samples), min(batch_size, len(samples))
            self.sizes, self.samples = batch_sizes(n, size), n
            validation.check_batches(network.layers, shapes, n, self.sizes)
            self.batches = Batches(samples.in_order(), size, network.backend, network.dtype, network.kernels)
            self.state = State(network, self.optimizer, self.batches, shapes[-1])
        self.tensors: list[Tensor] = []
        self.made = {n: TrainStep(network, self.optimizer, self.state, n) for n in set(self.sizes)}
        for step in self.made.values():
            self.watch(step, step.layers)

    def watch(self, step: TrainStep, layers: list[Any]) -> None:
        step.whole = None  # what is between the loss and the layer below it would not be seen
        step.layers = [_Watched(layer, self) for layer in layers]
        step.lowest = sequential.lowest_that_learns(step.layers)

    def stages(self) -> list[str]:
        return [layer.place for step in self.made.values() for layer in step.layers]

    def part(self) -> None:
        """Separates fused layers: each runs on its own."""
        for step in self.made.values():
            self.watch(step, adapted(self.network.layers))

    def steps(self) -> Iterator[list[Tensor]]:
        """Makes the steps, and yields the tensors of each."""
        network, state = self.network, self.state
        for _ in range(self.epochs):
            with network.backend.scope():
                state.start_epoch()
                order = random.permutation(network.seed, network.epoch, self.samples) if self.shuffle else None
                self.batches.load(order, state.hyper(len(self.sizes)))
            for size in self.sizes:
                with network.backend.scope():
                    self.tensors = []
                    state.commit(self.made[size]())  # which counts the step too
                    for place, name, leaf in self._leaves():
                        self.see(place, name, leaf)
                yield self.tensors
            network.progress["epoch"] += 1

    def see(self, place: str, name: str, tensor: Array) -> None:
        self.tensors.append((place, name, np.array(self.network.backend.to_numpy(tensor))))

    def _leaves(self) -> Iterator[tuple[str, str, Array]]:
        """All arrays that a step has changed, with the layer, optimizer or metric that they belong to."""
        state = self.state
        yield "the loss", "E", state.counters[sum_of("error")]
        for layer, name in state.gradients:
            yield _place(layer), name, layer.parameters[name]
        for layer, name in state.buffers:
            yield _place(layer), name, layer.buffers[name]
        for kind, places in state.slots.items():
            for home, path in places:
                yield "the optimizer", f"{kind} of {path}", home[path]
        for name, _ in state.metrics:
            yield f"metric {name}", "sum", state.counters[sum_of(name)]


class _Watched:
    """A layer, or two fused ones, whose tensors are recorded as they are computed."""

    def __init__(self, layer: Any, run: _Run):
        self.layer, self.run = layer, run
        *_, last = layer.walk() if isinstance(layer, (Fused, Pooled)) else (getattr(layer, "layer", layer),)
        self.place = _place(layer if hasattr(layer, "forward") else last)
        self.path, self.backend = layer.path, layer.backend

    def walk(self) -> Iterator[Any]:
        yield from self.layer.walk()

    def fit_to(self, X: Array) -> None:
        self.layer.fit_to(X)

    def compute(self, X: Array, training: bool) -> Array:
        Y = self.layer.compute(X, training)
        self.run.see(self.place, "Y", Y)
        return Y

    def compute_backward(self, output_error: Array, need_input_error: bool) -> Array:
        D = self.layer.compute_backward(output_error, need_input_error)
        for part in self.layer.walk():
            for name, gradient in part.gradients.items():
                self.run.see(_place(part), f"dE/d{name}", gradient)
        if need_input_error:
            self.run.see(self.place, "dE/dX", D)
        return D


def _place(layer: Any) -> str:
    return f"layer {layer.path} ({type(layer).__name__})"
