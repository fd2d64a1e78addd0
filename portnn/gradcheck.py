"""Are a layer's derivatives those of what it computes? Each is measured by moving its numbers a little up and down."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from portnn import diagnosis
from portnn.backend import get_backend
from portnn.diagnosis import scale_of
from portnn.layers import chain
from portnn.layers.layer import Layer
from portnn.network import Network
from portnn.transfer import to_numpy

Array = np.ndarray
Values = dict[str, Array]

TOLERANCE = 1e-6  # a right derivative agrees to about 1e-9
STEPS = 1e-2 * 5.0 ** -np.arange(8)  # from wide, for smooth functions, to narrow, for those full of kinks
DIRECTIONS, TRIES = 3, 8  # directions for a leaf; inputs, until one lies on no kink
PARAMETER_NAMES = ("weight", "bias", "kernel", "filter", "gamma", "beta", "w", "b")


@dataclass(frozen=True)
class GradcheckReport:
    """What ``gradcheck`` found: true where every derivative is right; printed, a table and what seems to be wrong.

    ``errors``: for the input ``"X"`` and each parameter (``"weights"``, in a network ``"0.weights"``) how far its
    derivative is from the measured one, relative to its size. ``worst`` is the largest of them. ``diagnosis`` says
    which mistake it looks like; it is empty where all is right.
    """

    passed: bool
    worst: float
    errors: dict[str, float]
    diagnosis: str

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        width = max([len(name) for name in self.errors] + [4]) + 5
        rows = [f"{'leaf':<{width}}relative error"]
        for name, error in self.errors.items():
            rows.append(f"{'dE/d' + name:<{width}}{error:8.1e}{'' if error <= TOLERANCE else '   WRONG'}")
        return "\n".join([f"gradcheck {'passed' if self.passed else 'FAILED'}", *rows, *filter(None, [self.diagnosis])])

    __repr__ = __str__


def gradcheck(
    layer_or_network: Layer | Network, x: Any = None, *, input_shape: tuple[int, ...] | None = None
) -> GradcheckReport:
    """Compares a layer's or network's derivatives with measured ones, and says what a mismatch looks like.

    ``x`` (N, ...): NumPy, a list, or an array of the layer's backend. Without it numbers are drawn, the same each time,
    for ``input_shape``, the shape of one sample, or for the shape the layer states itself. Both ways of writing a layer
    are taken; one written as in the article is looked at with one sample, unless it is ``batched``.

        E = sum of D * Y,  D random        dE/dv = (E(x + h v) - E(x - h v)) / 2h  along random directions v

    It works on a copy in float64 on the host, in training mode, with the step and so all masks fixed; a network is
    taken without its loss. Where Y has a kink the derivative is not defined, and another x is drawn. Parameters that
    hold one number only, such as biases of zero, become random in the copy, so that they hide nothing.

    Source: R. J. LeVeque, "Finite Difference Methods", 2007, chapter 1; kinks drawn again, as in Chainer's checker.

    Raises ValueError where no shape is known, TypeError for what is no layer, and whatever the layer's forward raises;
    an exception in its backward is part of the report.

    >>> from portnn import ActivationLayer, FCLayer, Network
    >>> gradcheck(Network([FCLayer(3, 2), ActivationLayer("tanh")], seed=1)).passed
    True
    >>> import numpy as np
    >>> halved = ActivationLayer(np.square, lambda x: x)
    >>> print(gradcheck(halved, input_shape=(3,)).diagnosis)
    dE/dX: constant factor: it is 0.5 times what it should be; 0.5 is 1/2
    """
    if not isinstance(layer_or_network, (Layer, Network)):
        hint = f": call {layer_or_network.__name__}(...) first" if isinstance(layer_or_network, type) else ""
        raise TypeError(f"gradcheck takes a layer or a network, got {layer_or_network!r:.60}{hint}")
    network = isinstance(layer_or_network, Network)
    layers = layer_or_network.layers if isinstance(layer_or_network, Network) else [layer_or_network]
    if not layers:
        raise ValueError("the network has no layers: add them first, net.add(FCLayer(2, 3))")
    X, sample = _given(x, input_shape if input_shape is not None else chain.own_input_shape(layers[0]), layers[0])
    parts = copy.deepcopy(layers)  # in one go: what two layers share stays shared
    _to_host(parts, sample)
    if X is not None:
        return _with_culprits(parts, network, X, False)
    shape = (_batch_size(parts, sample, network), *sample)
    return _with_culprits(parts, network, np.random.default_rng(0).standard_normal(shape), True)


def _given(x: Any, shape: Any, layer: Layer) -> tuple[Array | None, tuple[int, ...]]:
    """The caller's x as a batch in float64, and the shape of a sample."""
    if shape is not None:
        shape = tuple(int(n) for n in np.atleast_1d(np.array(shape, dtype=int)))
    if x is None:
        if shape is None:
            raise ValueError(
                f"the shape of what {layer} takes is not known: give one sample's, gradcheck(layer, input_shape=(3,)), "
                "or an input, gradcheck(layer, x) with x (N, ...)"
            )
        if 0 in shape:
            raise ValueError(f"input_shape={shape} holds no numbers: there is nothing to measure")
        return None, shape
    X = np.array(to_numpy(x), dtype=np.float64)
    if shape is not None and X.shape == shape:
        X = X[np.newaxis]
    if X.ndim == 0 or X.size == 0:
        raise ValueError(f"x must be samples, (N, ...), got shape {X.shape}: there is nothing to measure")
    if not np.all(np.isfinite(X)):
        raise ValueError("x holds NaN or infinity: derivatives are measured at finite numbers")
    return X, X.shape[1:]


def _to_host(layers: list[Layer], sample: tuple[int, ...]) -> None:
    for layer in layers:
        if layer.backend is None:
            layer.build(sample, get_backend("cpu"), "float64", 0, "")
        for part in layer.walk():
            part.dtype = "float64"
            part.move(get_backend("cpu"))


def _batch_size(layers: list[Layer], sample: tuple[int, ...], network: bool) -> int:
    """A number of samples that is no other size around, so that a factor N can be told from it."""
    subject = Subject(copy.deepcopy(layers), network)
    if subject.one_by_one:
        return 1
    values = subject.find_leaves(np.random.default_rng(0).standard_normal((3, *sample)))
    shapes = [sample, subject.forward(values).shape[1:], *(W.shape for name, W in values.items() if name != "X")]
    taken = {n for shape in shapes for n in shape}
    return next(n for n in (5, 7, 3, 6, 4, *range(8, 99)) if n not in taken or n == 98)


class Subject:
    """Layers one after the other, on the host, to be run with any values for the input and the parameters."""

    def __init__(self, layers: list[Layer], network: bool = False):
        self.layers = layers
        self.parts = [pair for i, layer in enumerate(layers) for pair in below(layer, str(i) if network else "")]
        article = [layer for _, layer in self.parts if layer.written_as_in_the_article]
        self.one_by_one = any(not layer.batched for layer in article)
        self.alone = len(layers) == 1 and bool(article) and article[0] is layers[0]  # call its own methods
        self.has_batch_axis = not (self.alone and self.one_by_one)
        self.buffers = {path: dict(layer.buffers) for path, layer in self.parts}
        self.places: dict[str, tuple[Layer, str]] = {}

    def as_seen(self, X: Array) -> Array:
        """The input as it is handed over: an article's layer alone gets one sample, a row as (1, n)."""
        if self.one_by_one:
            X = X[:1]
        if not self.has_batch_axis:
            X = X[0] if X.ndim > 2 else X.reshape(1, -1)
        return X

    def find_leaves(self, X: Array) -> Values:
        """X and the parameters' values by their names; of an article's layer the attributes that Y depends on."""
        Y = self.forward({"X": X})  # it may make some of them
        values = {"X": X}
        for path, layer in self.parts:
            article = layer.written_as_in_the_article
            for attribute in [n for n, v in vars(layer).items() if is_floating(v)] if article else layer.parameters:
                name = f"{path}.{attribute}" if path else attribute
                self.places[name] = layer, attribute
                values[name] = self.read(name)
                moved = self.forward({**values, name: 1.001 * values[name] + 1e-3})
                self.forward(values)
                if article and np.array_equal(moved, Y):  # a note, or what is kept for backward
                    del self.places[name], values[name]
        return values

    def read(self, name: str) -> Array:
        layer, attribute = self.places[name]
        value = getattr(layer, attribute) if layer.written_as_in_the_article else layer.parameters[attribute]
        return np.array(value, dtype=np.float64)

    def forward(self, values: Values) -> Array:
        """Y in training, always at the same step and from the same buffers."""
        for name, (layer, attribute) in self.places.items():
            value = values[name].copy()
            if layer.written_as_in_the_article:
                setattr(layer, attribute, value if value.ndim else float(value))
            else:
                layer.parameters[attribute] = value
        for path, layer in self.parts:
            layer.step = 0
            layer.buffers.update({name: np.array(array) for name, array in self.buffers[path].items()})
        Y: Any = values["X"].copy()
        for layer in self.layers:
            Y = layer.forward_propagation(Y) if self.alone else layer.forward(Y, training=True)
        if Y is None:
            raise TypeError(f"{self.layers[-1]}: forward returned None: it must return an array (is a return missing?)")
        return np.array(Y)

    def backward(self, D: Array, learning_rate: float = 1.0) -> dict[str, Any]:
        """What it takes for dE/dX and the parameters' derivatives; an article's layer shows them by its step."""
        before = {name: self.read(name) for name in self.places}
        error: Any = D.copy()
        for _, layer in self.parts:
            layer.learning_rate_now = learning_rate
        for layer in reversed(self.layers):
            error = layer.backward_propagation(error, learning_rate) if self.alone else layer.backward(error)
        found: dict[str, Any] = {"X": error}
        for name, (layer, attribute) in self.places.items():
            article = layer.written_as_in_the_article
            found[name] = before[name] - self.read(name) if article else layer.gradients.get(attribute)
        return {name: None if A is None else np.array(A, dtype=np.float64) for name, A in found.items()}

    def is_parameter(self, name: str) -> bool:
        """Whether a leaf is certainly to be learned; an attribute of an article's layer only by its name."""
        layer, attribute = self.places[name]
        word = attribute.lower().strip("_")
        short = any(word == known or (len(known) > 1 and word.startswith(known)) for known in PARAMETER_NAMES)
        return not layer.written_as_in_the_article or (short and isinstance(getattr(layer, attribute), np.ndarray))


def is_floating(value: Any) -> bool:
    return isinstance(value, float) or (isinstance(value, np.ndarray) and value.dtype.kind == "f")


def below(layer: Any, path: str) -> Iterator[tuple[str, Layer]]:
    """The layer and all layers in it, each with its path from here."""
    yield path, layer
    for step, part in children(layer):
        yield from below(part, f"{path}.{step}" if path else step)


def children(layer: Any) -> list[tuple[str, Layer]]:
    """The layers right below; those of a list under its place and their own, such as ``"1.0"``."""
    found: list[tuple[str, Layer]] = []
    for i, child in enumerate(layer.layers):
        branch = isinstance(child, (list, tuple))
        found += [(f"{i}.{j}", part) for j, part in enumerate(child)] if branch else [(str(i), child)]
    return found


def slope(
    forward: Callable[[Values], Array], values: Values, leaf: str, v: Array, D: Array, Y: Array
) -> tuple[float, float, float]:
    """The derivative of sum(D * Y) along v, how much it may be off, and the size of a kink exactly at x.

    The step is the one at which two extrapolated values agree best. The second difference over h shrinks with h where
    Y is smooth; where it has a kink it does not.
    """
    x, central, second = values[leaf], [], []
    steps = STEPS * scale_of(x)
    for h in steps:
        up, down = forward({**values, leaf: x + h * v}), forward({**values, leaf: x - h * v})
        central.append(float(np.sum(D * (up - down))) / (2 * h))
        second.append(float(np.sum(D * ((up - Y) + (down - Y)))) / h)
    c, s = np.array(central), np.array(second)
    noise = 4 * np.finfo(Y.dtype).eps * float(np.sqrt(np.sum((D * Y) ** 2))) / steps
    better = (25 * c[1:] - c[:-1]) / 24  # the share of h**2 cancelled
    doubt = np.abs(np.diff(better)) + noise[2:]
    k = int(np.argmin(doubt))
    last = s[-3:]
    steady = np.all(last * last[0] > 0) and np.max(np.abs(last)) < 1.5 * np.min(np.abs(last))
    kink = float(np.min(np.abs(last))) if steady and np.min(np.abs(last)) > 20 * noise[-1] else 0.0
    return float(better[k]), float(doubt[k]), kink


def _with_culprits(parts: list[Layer], network: bool, X: Array, drawn: bool) -> GradcheckReport:
    """The report on layers one after the other; where they fail, with those among them that fail on their own."""
    report, X = _check(parts, network, X, drawn)
    within = [(str(i), layer) for i, layer in enumerate(parts)] if network else children(parts[0])
    if report.passed or not within:
        return report
    lines = []
    for path, layer, x in _inputs(parts, within, X):
        for line in _with_culprits([copy.deepcopy(layer)], False, x, False).diagnosis.splitlines():
            deeper = line.startswith("layer ")
            lines.append(line.replace("layer ", f"layer {path}.", 1) if deeper else f"layer {path} ({layer}): {line}")
    what = "the layers are right one by one, but not how they are joined: "
    text = "\n".join(lines or [what + line for line in report.diagnosis.splitlines()])
    return GradcheckReport(False, report.worst, report.errors, text)


def _inputs(parts: list[Layer], within: list[Any], X: Array) -> Iterator[tuple[str, Layer, Array]]:
    """Each layer within with the input it really gets."""
    seen: dict[int, Array] = {}
    for _, layer in within:

        def recorded(X: Any, *, training: bool = False, layer: Layer = layer, forward: Any = layer.forward) -> Any:
            seen[id(layer)] = np.array(X)
            return forward(X, training=training)

        layer.forward = recorded
    try:
        subject = Subject(parts, True)
        subject.forward({"X": subject.as_seen(X)})
    finally:
        for _, layer in within:
            del layer.forward
    return ((path, layer, seen[id(layer)]) for path, layer in within if id(layer) in seen)


def _check(parts: list[Layer], network: bool, X: Array, drawn: bool) -> tuple[GradcheckReport, Array]:
    """The report on these layers alone, and the input it was made with: the first one that lies on no kink."""
    rng, start = np.random.default_rng(1), X
    for attempt in range(TRIES):
        if attempt and drawn:
            X = rng.standard_normal(start.shape)
        elif attempt:
            X = start + 1e-3 * 2.0**attempt * scale_of(start) * rng.standard_normal(start.shape)
        subject = Subject(copy.deepcopy(parts), network)
        if (report := _attempt(subject, X, np.random.default_rng(2))) is not None:
            return report, X
    text = f"forward has a kink, or jumps, at all of {TRIES} inputs: give an x away from it, gradcheck(layer, x)"
    return _failed({"X": X}, text), X


def _attempt(subject: Subject, X: Array, rng: np.random.Generator) -> GradcheckReport | None:
    """The report for this input; None where it lies on a kink."""
    X = subject.as_seen(X)
    # Another input first: what a layer keeps from one pass to the next, and should not, then shows.
    X_before = rng.permutation(X.reshape(-1)).reshape(X.shape) + 0.1 * scale_of(X) * rng.standard_normal(X.shape)
    values = {**subject.find_leaves(X_before), "X": X}
    learned = _learned(copy.deepcopy(subject), values, rng)
    values.update({name: _uneven(values[name], rng) for name in learned})
    before, errors_in, found = {**values, "X": X_before}, [], {}
    for given in (before, values):
        Y = subject.forward(given)
        if not np.all(np.isfinite(Y)):
            return _failed(values, "forward gives NaN or infinity: give an x that it takes, gradcheck(layer, x)")
        errors_in.append(rng.standard_normal(Y.shape))
        try:
            found = subject.backward(errors_in[-1])
        except Exception as error:
            return _failed(values, diagnosis.raised(error))
    (D_before, D), after = errors_in, {name: subject.read(name) for name in subject.places}
    case = diagnosis.Case(subject, values, D, Y, before, D_before, found, after)
    again = subject.forward(values)
    if again.shape != Y.shape or not np.allclose(again, Y, rtol=1e-9, atol=1e-12 * float(np.max(np.abs(Y)))):
        return _failed(values, diagnosis.not_repeatable(case))
    errors: dict[str, float] = {}
    for name, value in values.items():
        if name != "X" and name not in learned and np.array_equal(after[name], value):
            continue  # an array that is not learned
        if (off := _measure(case, name, rng)) is None:
            return None
        errors[name] = off
    wrong = [name for name, error in errors.items() if error > TOLERANCE]
    lines = diagnosis.explain(case, wrong) + diagnosis.broken_rules(case, () if wrong and subject.alone else errors)
    return GradcheckReport(not lines, max(errors.values()), errors, "\n".join(lines))


def _learned(subject: Subject, values: Values, rng: np.random.Generator) -> list[str]:
    """The leaves to be learned; an attribute of an article's layer by its name, or because its backward changes it."""
    Y, changed = subject.forward(values), set()
    try:
        subject.backward(rng.standard_normal(Y.shape))
        changed = {name for name in subject.places if not np.array_equal(subject.read(name), values[name])}
    except Exception:
        pass  # it will be raised, and reported, again
    return [name for name in subject.places if name in changed or subject.is_parameter(name)]


def _measure(case: diagnosis.Case, name: str, rng: np.random.Generator) -> float | None:
    """The relative error of a leaf; None at a kink."""
    x, A, D, Y = case.values[name], case.found[name], case.D, case.Y
    usable = A is not None and A.shape == x.shape and bool(np.all(np.isfinite(A)))
    directions = rng.standard_normal((DIRECTIONS, *x.shape))
    slopes = [slope(case.subject.forward, case.values, name, v, D, Y) for v in directions]
    numeric, doubt, kinks = np.array(slopes).T
    given = np.array([np.sum(A * v) for v in directions]) if usable else np.zeros(DIRECTIONS)
    floor = 1e-6 * float(np.sqrt(np.sum((D * Y) ** 2))) / scale_of(x)  # a derivative below it is rounding
    size = max(float(np.sqrt(np.mean(numeric**2))), float(np.linalg.norm(A)) if usable else 0.0, floor, 1e-300)
    much = max(1e-4, 1e6 * float(np.finfo(Y.dtype).eps)) * size
    if not (np.max(kinks) <= 1e-6 * size and np.max(10 * doubt) <= much):  # NaN too is no good
        return None
    if not usable:
        return 0.0 if A is None and np.max(np.abs(numeric)) <= floor and name != "X" else float("inf")
    apart = np.abs(numeric - given)
    wrong = np.max(apart - 10 * doubt) > TOLERANCE * size  # by more than what was measured may be off itself
    return float(np.max(apart) / size) if wrong else min(float(np.max(apart) / size), TOLERANCE)


def _uneven(W: Array, rng: np.random.Generator) -> Array:
    """The parameter, or random numbers about as large where all of it is one number."""
    if W.size == 0 or np.any(W.reshape(-1)[0] != W):
        return W
    noise = rng.standard_normal(W.shape)
    return 0.5 * noise if np.all(W == 0) else W * (1.0 + 0.3 * np.tanh(noise))


def _failed(values: Values, text: str) -> GradcheckReport:
    return GradcheckReport(False, float("inf"), dict.fromkeys(values, float("inf")), text)
