"""One step on one sample, run on copies of the network, with all that passes between the layers written down."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite, prod
from typing import Any

import numpy as np

from portnn.article import adapted
from portnn.backend import is_array
from portnn.layers import BatchNormLayer, DropoutLayer, RandomAffineLayer, sequential
from portnn.optimizers import SGD, rate_at
from portnn.samples import Samples
from portnn.show.explain import sample

RATE = 0.1  # the article's learning rate, for a network whose fit is given one
Values = dict[str, np.ndarray]


@dataclass
class Pass:
    """What one layer got and gave: X, Y and their derivatives are float64, of one sample, without an axis of samples.

    ``D`` is dE/dY, ``input_error`` dE/dX. Parameters, gradients and buffers are by name; the new ones are those after
    the step. A layer written as in the article has its array attributes as parameters, and no gradients.
    """

    layer: Any
    path: str
    X: Any = None
    Y: Any = None
    D: Any = None
    input_error: Any = None
    parameters: Values = field(default_factory=dict)
    gradients: Values = field(default_factory=dict)
    new_parameters: Values = field(default_factory=dict)
    buffers: Values = field(default_factory=dict)
    new_buffers: Values = field(default_factory=dict)
    slots: dict[str, Values] = field(default_factory=dict)  # before the step, by kind and name
    new_slots: dict[str, Values] = field(default_factory=dict)
    updates: dict[str, int] = field(default_factory=dict)  # made to each parameter before
    children: list["Pass"] = field(default_factory=list)
    made_alone: bool = False  # batch norm of one value per channel, which could not be trained by one sample
    mask: Any = None  # of dropout
    words: Any = None  # random ones, of dropout and of the layer that moves images
    maps: Any = None  # of that layer, (2, 3)

    @property
    def frozen(self) -> bool:
        return bool(self.layer._is_frozen)

    def walk(self) -> Iterator["Pass"]:
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass
class Trace:
    """A whole step: the passes of the layers in order, the error, and what the optimizer worked with."""

    network: Any  # a copy
    passes: list[Pass]
    target: np.ndarray  # of the one sample: class numbers, or numbers in the shape of Y
    classes: bool
    E: float
    D: np.ndarray  # dE/dY of the network
    optimizer: Any
    rate: float  # the learning rate of this step
    step: int
    given_rate: bool  # the network has an optimizer; if not, RATE is taken

    def walk(self) -> Iterator[Pass]:
        for found in self.passes:
            yield from found.walk()


def trace(network: Any, x: Any, y: Any) -> Trace:
    """Runs a step on ``network``, which is the caller's copy; errors are those of ``fit``."""
    probe = copy.deepcopy(network)  # what looks at the sample may run layers, and a user's may count their passes
    one = sample.accept(probe, x, y)
    host = _Host(network.backend)
    alone = _norms_of_one_value(probe, one, host)
    if not all(layer.complete for layer in network.walk()):
        network = probe  # where the sample has told the shapes of all parameters
    for layer in network.walk():
        if layer.path in alone:
            layer.trainable = False
    optimizer = network.optimizer or SGD(RATE)
    rate = None if network.optimizer else RATE
    trained = copy.deepcopy(network)
    trained.fit(one.x, one.y, epochs=1, learning_rate=rate, verbose=0)
    found = _run(network, one, host, _rate(network, optimizer))
    twins = dict(zip(map(id, network.walk()), trained.walk(), strict=True))
    for note in found.walk():
        layer = twins[id(note.layer)]
        note.made_alone = note.path in alone
        now = _attributes(layer) if layer.updates_itself else layer.parameters
        note.new_parameters = {name: host.as_it_is(now[name]) for name in note.parameters if name in now}
        note.new_slots = {
            k: {n: host.as_it_is(a) for n, a in slots.items()} for k, slots in layer._slots_by_kind.items()
        }
        note.new_buffers = {} if layer.updates_itself else {name: host(a) for name, a in layer.buffers.items()}
    return found


class _Host:
    """Copies arrays of a backend to the host, as float64."""

    def __init__(self, backend: Any):
        self.backend = backend

    def __call__(self, array: Any) -> np.ndarray:
        return np.array(self.backend.to_numpy(array), np.float64)

    def as_it_is(self, array: Any) -> np.ndarray:
        """The same in its own dtype: there may be many parameters."""
        return np.array(self.backend.to_numpy(array))

    def one(self, batch: Any) -> np.ndarray:
        return np.array(self(batch)[0])


def _rate(network: Any, optimizer: Any) -> float:
    """The learning rate of the next step; a user's optimizer need not have one."""
    rate = getattr(optimizer, "learning_rate", None)
    found = optimizer.hyper(network.step)[0] if rate is None else rate_at(rate, network.step)
    return float(found) * network.learning_rate_factor


def _norms_of_one_value(network: Any, one: Samples, host: _Host) -> set[str]:
    """The paths of batch norm layers that get one value per channel of one sample.

    They cannot be trained by it: the explanation freezes them, so that they use their running averages.
    """
    norms = [layer for layer in network.walk() if isinstance(layer, BatchNormLayer)]
    if not norms:
        return set()
    with _Recorded(network, host) as found:
        sequential.run(adapted(network.layers), _cast(network, one.x), False, known=False)
    alone = [layer for layer in norms if found[id(layer)].X is not None and prod(found[id(layer)].X.shape[:-1]) == 1]
    return {layer.path for layer in alone if not _in_frozen(network, layer)}


def _in_frozen(network: Any, layer: Any) -> bool:
    return any(part is layer for other in network.walk() if not other.trainable for part in other.walk())


def _cast(network: Any, x: Any) -> Any:
    xp = network.backend.xp
    return xp.astype(x, getattr(xp, network.dtype))


class _Recorded:
    """Notes what each layer gets and gives while the layers run."""

    def __init__(self, network: Any, host: _Host):
        self.network, self.host = network, host
        self.found: dict[int, Pass] = {}

    def __enter__(self) -> dict[int, Pass]:
        for layer in self.network.walk():
            note = self.found[id(layer)] = Pass(layer, layer.path)
            names = ("forward_propagation", "backward_propagation")
            if not layer.updates_itself:
                names = ("compute", "compute_backward")
            one = self.host if layer.updates_itself and not layer.batched else self.host.one
            before = getattr(layer, names[0]), getattr(layer, names[1])
            vars(layer)[names[0]] = _noting(before[0], one, note, "X", "Y")
            vars(layer)[names[1]] = _noting(before[1], one, note, "D", "input_error")
        return self.found

    def __exit__(self, *error: object) -> None:
        for layer in self.network.walk():
            for name in ("forward_propagation", "backward_propagation", "compute", "compute_backward"):
                vars(layer).pop(name, None)


def _noting(method: Any, one: Any, note: Pass, given: str, answered: str) -> Any:
    def noting(array: Any, *rest: Any, **options: Any) -> Any:
        setattr(note, given, one(array))  # before: a user's layer may write into it
        answer = method(array, *rest, **options)
        if answer is not None:
            setattr(note, answered, one(answer))
        return answer

    return noting


def _run(network: Any, one: Samples, host: _Host, rate: float) -> Trace:
    """The passes and the loss, through the layers one by one: ``fit`` may join neighbours."""
    before = {}
    for layer in network.layers:
        layer._freeze()
    for layer in network.walk():
        layer.step, layer._learning_rate = network.step, rate
        found = _attributes(layer) if layer.updates_itself else layer.parameters
        before[id(layer)] = {name: host.as_it_is(array) for name, array in found.items()}
    X = _cast(network, one.x)
    Y_true = one.y if one.classes else _cast(network, one.y)
    with _Recorded(network, host) as found:
        layers = adapted(network.layers)
        Y = sequential.run(layers, X, True, known=False)
        E, D = network.bound_loss(Y_true, Y), network.bound_loss_prime(Y_true, Y)
        sequential.run_backward(layers, D, True, lowest=0)
    for layer in network.walk():
        note = found[id(layer)]
        note.parameters = before[id(layer)]
        if layer.updates_itself:
            note.parameters = {n: a for n, a in note.parameters.items() if _changed(a, _attributes(layer), n, host)}
            continue
        note.children = [found[id(child)] for _, _, child in layer._children()]
        note.gradients = {name: host.as_it_is(g) for name, g in layer.gradients.items()}
        note.buffers = {name: host(a) for name, a in layer.buffers.items()}
        note.slots = {k: {n: host.as_it_is(a) for n, a in slots.items()} for k, slots in layer._slots_by_kind.items()}
        note.updates = {name: layer._updates(name, network.step) for name in layer.parameters}
        if isinstance(layer, RandomAffineLayer) and layer.maps is not None:
            note.maps = host.one(layer.maps)
            note.words = np.array(host.backend.to_numpy(host.backend.random_bits(layer.key, network.step, 4)))
        if isinstance(layer, DropoutLayer) and layer.mask is not None:
            note.mask = host.one(layer.mask)
            note.words = np.array(host.backend.to_numpy(host.backend.random_bits(layer.key, network.step, note.X.size)))
    passes = [found[id(layer)] for layer in network.layers]
    optimizer = network.optimizer or SGD(RATE)
    given = network.optimizer is not None
    target = np.array(host.backend.to_numpy(one.y))[0]
    traced = Trace(
        network, passes, target, one.classes, float(host(E)), host.one(D), optimizer, rate, network.step, given
    )
    _check_finite(traced)
    return traced


def _attributes(layer: Any) -> Values:
    """The arrays that a layer written as in the article holds."""
    left_out = {"input", "output", "_learning_rate"}
    return {name: a for name, a in vars(layer).items() if name not in left_out and _is_floating(a)}


def _is_floating(value: Any) -> bool:
    return is_array(value) and "float" in str(value.dtype)


def _changed(before: np.ndarray, attributes: Values, name: str, host: _Host) -> bool:
    now = attributes.get(name)
    return now is not None and now.shape == before.shape and bool((host(now) != before).any())


def _check_finite(traced: Trace) -> None:
    """ValueError where a number of the pass is infinite or NaN: no equation would hold."""
    if not (isfinite(traced.E) and np.isfinite(traced.D).all()):
        raise ValueError(f"the error of this sample is {traced.E}, and no calculation with that can be shown")
    for note in traced.walk():
        for what, array in (("Y", note.Y), ("dE/dX", note.input_error), *note.gradients.items()):
            if array is not None and not np.isfinite(array).all():
                raise ValueError(
                    f"{what} of layer {note.path} ({type(note.layer).__name__}) holds infinity or NaN for this sample, "
                    "and no calculation with these can be shown: look for too large weights or a learning rate that "
                    "was too high"
                )
