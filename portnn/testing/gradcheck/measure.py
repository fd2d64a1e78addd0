"""Compares a layer's derivatives with central differences."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from portnn import checks
from portnn.layers import sequential
from portnn.layers.layer import Layer
from portnn.network import Network
from portnn.testing.gradcheck.diagnosis import Budget, Case, broken_rules, explain, not_repeatable, raised
from portnn.testing.gradcheck.mistakes import STALE
from portnn.testing.gradcheck.subject import Subject, children, duplicate, scale_of, to_host
from portnn.transfer import host_array, to_numpy

Array = np.ndarray
Values = dict[str, Array]

TOLERANCE = 1e-6  # a correct derivative agrees to about 1e-9
STEPS = 1e-2 * 5.0 ** -np.arange(8)  # from wide, for smooth functions, to narrow, for those with many kinks
DIRECTIONS, TRIES = 3, 8  # directions per array; inputs to try, until one is not at a kink
SAMPLES, DRAWN = 5, 3  # the most samples that are checked one by one; the number that is drawn
SPREADS = (2.0, 8.0, 32.0, 128.0)  # of further inputs, where some derivative was zero everywhere
JOINED = "the layers are right one by one, but not their connection"


@dataclass(frozen=True)
class GradcheckReport:
    """The result of ``gradcheck``: true if every derivative is right; printed, it is a table with the diagnosis.

    ``errors`` maps the input ``"X"`` and each parameter (``"weights"``, in a network ``"0.weights"``) to the relative
    error of its derivative. ``worst`` is the largest of them. ``diagnosis`` names the mistake that a
    wrong one looks like; it is empty if all are right.
    """

    passed: bool
    worst: float
    errors: dict[str, float]
    diagnosis: str

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        width = max([len(name) for name in self.errors] + [4]) + 5
        rows = [f"{'gradient':<{width}}relative error"]
        for name, error in self.errors.items():
            rows.append(f"{'dE/d' + name:<{width}}{error:8.1e}{'' if error <= TOLERANCE else '   WRONG'}")
        return "\n".join([f"gradcheck {'passed' if self.passed else 'FAILED'}", *rows, *filter(None, [self.diagnosis])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """What a notebook shows: the table, and the diagnosis."""
        from portnn.show.pages import gradcheck

        return gradcheck(self, TOLERANCE)


def gradcheck(
    layer_or_network: Layer | Network, x: Any = None, *, input_shape: tuple[int, ...] | None = None
) -> GradcheckReport:
    """Compares a layer's or network's derivatives with numerical ones, and says what a wrong one looks like.

    ``x`` (N, ...) is a NumPy array, a list, or an array of the layer's backend. Without it random values are drawn, the
    same each time, for ``input_shape``, the shape of one sample, or for the shape that the layer declares. Layers
    written as in the article are accepted too; they are checked with a few samples, one by one, unless ``batched``.

        E = sum of D * Y,  D random        dE/dv = (E(x + h v) - E(x - h v)) / 2h  along random directions v

    It works on a copy in float64 on the host, in training mode, with the step and so all masks fixed; a network is
    checked without its loss. At a kink of Y the derivative is not defined, and another x is drawn; where a derivative
    is zero everywhere, as after dead units, further inputs are tried. Parameters of the copy are perturbed by a few
    per cent, and constant ones, such as zero biases, become random, so that they hide no mistake.

    Source: R. J. LeVeque, "Finite Difference Methods", 2007, chapter 1; kinks drawn again, as in Chainer's checker.

    Raises ValueError if no shape is known, TypeError for anything but a layer or network, and whatever the layer's
    forward raises; an exception in its backward is part of the report.

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
    parts = duplicate(layers)
    X, sample = _given(x, input_shape, parts[0])
    to_host(parts, sample)
    drawn = X is None
    with np.errstate(all="ignore"):  # the search includes inputs near the edge of a function's domain
        if X is None:
            X = np.random.default_rng(0).standard_normal((_batch_size(parts, sample, network), *sample))
            if Subject(parts, network).one_by_one:
                X[1] = -X[0]  # each value with both signs, each pair in both orders
        return _with_culprits(parts, network, X, drawn, Budget())


def _given(x: Any, shape: Any, layer: Layer) -> tuple[Array | None, tuple[int, ...]]:
    """The caller's x as a batch in float64, and the shape of a sample."""
    if shape is None and (isinstance(layer.layers, (list, tuple)) or hasattr(layer, "input_shape")):
        shape = sequential.own_input_shape(layer)
    if shape is not None:
        shape = _sizes(shape)
    if x is None:
        if shape is None:
            raise ValueError(
                f"the input shape of {layer} is not known: give that of one sample, "
                "gradcheck(layer, input_shape=(3,)), or an input, gradcheck(layer, x) with x (N, ...)"
            )
        if 0 in shape:
            raise ValueError(f"input_shape={shape} has a size of 0: there is nothing to measure")
        return None, shape
    X = np.array(host_array(to_numpy(x), "x"), dtype=np.float64)
    if shape is not None and X.shape == shape:
        X = X[np.newaxis]
    if X.ndim == 0 or X.size == 0:
        raise ValueError(f"x must be samples, (N, ...), got shape {X.shape}: there is nothing to measure")
    if not np.all(np.isfinite(X)):
        raise ValueError("x holds NaN or infinity: derivatives are measured at finite numbers")
    return X, X.shape[1:]


def _sizes(shape: Any) -> tuple[int, ...]:
    """``input_shape`` as a tuple: whole numbers, or a single one."""
    values = shape if isinstance(shape, (tuple, list)) or getattr(shape, "ndim", 0) == 1 else (shape,)
    sizes = tuple(checks.whole(f"input_shape: axis {i}", n) for i, n in enumerate(values))
    if any(not 0 <= n <= 1 << 40 for n in sizes):
        raise ValueError(f"input_shape must be the shape of one sample, such as (28, 28, 1), got {shape!r:.60}")
    return sizes


def _batch_size(layers: list[Layer], sample: tuple[int, ...], network: bool) -> int:
    """A batch size that differs from all other sizes, so that a factor N can be recognized."""
    subject = Subject(duplicate(layers), network)
    if subject.one_by_one:
        return DRAWN
    values = subject.find_arrays(np.random.default_rng(0).standard_normal((3, *sample)))
    shapes = [sample, subject.forward(values).shape[1:], *(W.shape for name, W in values.items() if name != "X")]
    taken = {n for shape in shapes for n in shape}
    return next(n for n in (5, 7, 3, 6, 4, *range(8, 99)) if n not in taken or n == 98)


@dataclass
class Found:
    """The result of measuring at one input."""

    X: Array  # with the axis of samples
    errors: dict[str, float]
    seen: set[str] = field(default_factory=set)  # names of arrays whose derivative was not zero
    text: str = ""  # why nothing was measured
    rules: list[str] = field(default_factory=list)
    case: Case | None = None

    @property
    def wrong(self) -> list[str]:
        return [name for name, error in self.errors.items() if error > TOLERANCE]

    @property
    def passed(self) -> bool:
        return not (self.text or self.wrong or self.rules)

    def lines(self, budget: Budget) -> list[str]:
        if self.case is None:
            return self.text.splitlines()
        return explain(self.case, self.wrong, budget) + self.rules


def _with_culprits(parts: list[Layer], network: bool, X: Array, drawn: bool, budget: Budget) -> GradcheckReport:
    """The report on layers run in order; where they fail, it names those that fail on their own."""
    found = _check(parts, network, X, drawn)
    among = [(str(i), layer) for i, layer in enumerate(parts)] if network else children(parts[0])
    lines: list[str] = []
    for path, layer, x in _inputs(parts, among, found.X) if among and not found.passed else ():
        for line in _with_culprits(duplicate([layer]), False, x, False, budget).diagnosis.splitlines():
            deeper = line.startswith("layer ")
            lines.append(line.replace("layer ", f"layer {path}.", 1) if deeper else f"layer {path} ({layer}): {line}")
    if not lines and network and found.wrong and not found.rules:
        lines = [f"{STALE} {JOINED}: two layers seem to share what they keep (is it kept on the class?)"]
        lines += [f"wrong are dE/d{', dE/d'.join(found.wrong)}"]
    elif not lines and not found.passed:
        lines = found.lines(budget)
        lines[0] = f"{JOINED}: {lines[0]}" if among and found.wrong else lines[0]
    return GradcheckReport(found.passed, max(found.errors.values()), found.errors, "\n".join(lines))


def _inputs(parts: list[Layer], among: list[Any], X: Array) -> Iterator[tuple[str, Layer, Array]]:
    """Each inner layer with the input that it really gets."""
    seen: dict[int, Array] = {}
    for _, layer in among:
        name = "forward_propagation" if layer.updates_itself else "forward"
        method = getattr(layer, name)

        def recorded(X: Any, layer: Layer = layer, method: Any = method, **options: Any) -> Any:
            sample = layer.updates_itself and not layer.batched and not (X.ndim == 2 and X.shape[0] == 1)
            seen[id(layer)] = np.array(X)[None] if sample else np.array(X)
            return method(X, **options)

        setattr(layer, name, recorded)
    try:
        subject = Subject(parts, True)
        subject.forward({"X": subject.as_seen(X)})
    finally:
        for _, layer in among:
            vars(layer).pop("forward", None)
            vars(layer).pop("forward_propagation", None)
    return ((path, layer, seen[id(layer)]) for path, layer in among if id(layer) in seen)


def _check(parts: list[Layer], network: bool, X: Array, drawn: bool) -> Found:
    """The result at X, sample by sample where layers take one at a time, each with the original parameters.

    A derivative that is zero everywhere, as after a relu whose units are all dead, proves little: then inputs with a
    larger spread are tried, and count where they can be measured.
    """
    rows = [X[i : i + 1] for i in range(min(len(X), SAMPLES))] if Subject(parts, network).one_by_one else [X]
    found, errors, seen = Found(X, {}), dict[str, float](), set[str]()
    for row in rows:
        found = _off_kinks(parts, network, row, drawn)
        if not found.passed:
            return found
        errors.update({name: max(error, errors.get(name, 0.0)) for name, error in found.errors.items()})
        seen |= found.seen
    rng = np.random.default_rng(4)
    for spread in SPREADS:
        if seen >= set(errors):
            break
        row = rows[0] + spread * scale_of(rows[0]) * rng.standard_normal(rows[0].shape)
        try:
            further = _attempt(parts, network, row)
        except Exception:  # the layer's forward does not take this input
            break
        if further is not None and not further.text:
            if not further.passed:
                return further
            seen |= further.seen
    return Found(X, errors, seen)


def _off_kinks(parts: list[Layer], network: bool, X: Array, drawn: bool) -> Found:
    """The result at the first of several inputs that is not at a kink."""
    rng, start = np.random.default_rng(1), X
    for attempt in range(TRIES):
        if attempt and drawn:
            X = rng.standard_normal(start.shape)
        elif attempt:
            X = start + 1e-3 * 2.0**attempt * scale_of(start) * rng.standard_normal(start.shape)
        if (found := _attempt(parts, network, X)) is not None:
            return found
    text = f"forward has a kink, or jumps, at all of {TRIES} inputs: give an x away from it, gradcheck(layer, x)"
    return _failed(X, ["X"], text)


def _attempt(parts: list[Layer], network: bool, X: Array) -> Found | None:
    """The result at this input; None where it is at a kink.

    Parameters are perturbed by a few per cent first, so that a stale copy of them, used by the layer in backward, shows
    as an error. A layer of the article's may renew such a copy in each step, which is right: where it fails, it is
    checked again with parameters that its own step has changed.
    """
    found = _measured(parts, network, X, None)
    if found is not None and found.wrong and found.case is not None and found.case.subject.learns_by_steps:
        again = _measured(parts, network, X, found.wrong)
        if again is not None and again.passed and not found.rules:
            found.errors.update(again.errors)
    return found


def _measured(parts: list[Layer], network: bool, X: Array, only: list[str] | None) -> Found | None:
    """Two passes, and the derivatives of the second; with ``only``, those of the named arrays, after a step."""
    row, rng = X, np.random.default_rng(2)
    fresh, subject = (Subject(duplicate(parts), network) for _ in range(2))
    X = subject.as_seen(X)
    X_before = _another_input(subject, X, rng)
    start = subject.find_arrays(X_before)
    learned = subject.learned({**start, "X": X}, rng)
    stepped = [name for name in learned if only and subject.by_step(name)]
    values = {n: _moved(W, rng) if n in learned and n not in stepped else W for n, W in start.items()} | {"X": X}
    Y = subject.forward(values)
    D = rng.standard_normal(Y.shape)
    fault = _unusable_forward(subject, values, Y, D)
    if fault:
        return _failed(row, values, fault)
    before = {**values, "X": X_before}
    try:
        D_before = _pass_before(subject, before, rng, stepped)
        values.update({name: subject.read(name) for name in stepped})
        if any(values[name].shape != start[name].shape for name in stepped):
            return None
        Y_first, Y = Y, subject.forward(values)
        found = subject.backward(D)
    except Exception as error:
        return _failed(row, values, raised(error))
    after = {name: subject.read(name) for name in subject.places}
    if not (stepped or _alike(Y, Y_first)) or not _alike(Y, subject.forward(values)):
        text = "backward changed something of forward that is not seen here: keep arrays in attributes of the layer"
        return _failed(row, values, f"{text}, in lists or dicts of arrays, or in layers that it holds")
    case = Case(subject, fresh, start, values, D, Y, before, D_before, found, after)
    return _compared(row, case, learned, only, rng)


def _unusable_forward(subject: Subject, values: Values, Y: Array, D: Array) -> str:
    """Why nothing can be measured: the output is not finite, or differs for the same input; empty if it can."""
    if not np.all(np.isfinite(Y)):
        return "forward gives NaN or infinity: give an x that it takes, gradcheck(layer, x)"
    again = subject.forward(values)
    if _alike(Y, again):
        return ""
    try:
        A = subject.backward(D)["X"]
    except Exception:
        A = None
    return not_repeatable(values["X"], again, D, A)


def _pass_before(subject: Subject, before: Values, rng: "np.random.Generator", stepped: list[str]) -> Array:
    """A whole pass with another input, for what a layer wrongly keeps from it; returns the dE/dY of that pass."""
    D_before = rng.standard_normal(subject.forward(before).shape)
    subject.backward(D_before, _small_rate(subject.copy(), before, D_before, stepped) if stepped else 1.0)
    return D_before


def _compared(
    row: Array, case: Case, learned: list[str], only: list[str] | None, rng: "np.random.Generator"
) -> Found | None:
    """The error of each array's derivative against the measured one, then the rules; None at a kink."""
    result = Found(row, {}, case=case)
    for name, value in case.values.items():
        is_learned = name == "X" or name in learned or not np.array_equal(case.after[name], value)
        if not is_learned if only is None else name not in only:
            continue
        measured = _measure(case, name, rng)
        if measured is None:
            return None
        result.errors[name] = measured[0]
        if measured[1]:
            result.seen.add(name)
        if only and result.wrong:
            return result
    result.rules = broken_rules(case, () if result.wrong and case.subject.alone else result.errors)
    return result


def _alike(Y: Array, again: Array) -> bool:
    return again.shape == Y.shape and np.allclose(again, Y, rtol=1e-9, atol=1e-12 * float(np.max(np.abs(Y))))


def _another_input(subject: Subject, X: Array, rng: "np.random.Generator") -> Array:
    """An input for the pass before, so that state wrongly kept from one pass to the next shows."""
    shuffled, noise = rng.permutation(X.reshape(-1)).reshape(X.shape), rng.standard_normal(X.shape)
    for other in (shuffled + 0.1 * scale_of(X) * noise, shuffled, X * (1.0 + 0.1 * np.tanh(noise))):
        try:
            if np.all(np.isfinite(subject.forward({"X": other}))):
                return other
        except Exception:
            pass  # the layer does not take it; with X itself the caller sees why
    return X


def _small_rate(subject: Subject, values: Values, D: Array, names: list[str]) -> float:
    """A learning rate at which a step changes parameters by a few per cent."""
    found = subject.backward(D)
    rates = [
        np.linalg.norm(values[n]) / np.linalg.norm(found[n]) for n in names if np.any(values[n]) and np.any(found[n])
    ]
    return 0.05 * float(min(rates, default=1.0))


def _measure(case: Case, name: str, rng: "np.random.Generator") -> tuple[float, bool] | None:
    """The relative error of a derivative, and whether it is not zero; None at a kink."""
    x, A, D, Y = case.values[name], case.found[name], case.D, case.Y
    usable = A is not None and A.shape == x.shape and bool(np.all(np.isfinite(A)))
    directions = rng.standard_normal((DIRECTIONS, *x.shape))
    slopes = [slope(case.subject.forward, case.values, name, v, D, Y) for v in directions]
    numeric, doubt, kinks = np.array(slopes).T
    given = np.array([np.sum(A * v) for v in directions]) if usable else np.zeros(DIRECTIONS)
    floor = 1e-6 * float(np.sqrt(np.sum((D * Y) ** 2))) / scale_of(x)  # a derivative below it is rounding error
    size = max(float(np.sqrt(np.mean(numeric**2))), float(np.linalg.norm(A)) if usable else 0.0, floor, 1e-300)
    much = max(1e-4, 1e6 * float(np.finfo(Y.dtype).eps)) * size
    if not (np.max(kinks) <= 1e-6 * size and np.max(10 * doubt) <= much):  # false for NaN too
        return None
    seen = bool(np.max(np.abs(numeric)) > floor)
    if not usable:
        return (0.0 if A is None and not seen and name != "X" else float("inf")), seen
    apart = np.abs(numeric - given)
    wrong = np.max(apart - 10 * doubt) > TOLERANCE * size  # by more than the error of the measurement
    return (float(np.max(apart) / size) if wrong else min(float(np.max(apart) / size), TOLERANCE)), seen


def _moved(W: Array, rng: "np.random.Generator") -> Array:
    """The parameter, perturbed by a few per cent, or random values of its size if it is constant."""
    noise = rng.standard_normal(W.shape)
    if np.all(W == 0):
        return 0.5 * noise
    return W * (1.0 + (0.3 if np.all(W.reshape(-1)[:1] == W) else 0.03) * np.tanh(noise))


def _failed(X: Array, names: Iterable[str], text: str) -> Found:
    return Found(X, dict.fromkeys(names, float("inf")), text=text)


def slope(
    forward: Callable[[Values], Array], values: Values, name: str, v: Array, D: Array, Y: Array
) -> tuple[float, float, float]:
    """The derivative of sum(D * Y) along v, its estimated error, and the size of a kink exactly at x.

    The step h is the one at which two extrapolated values agree best. The second difference divided by h goes to zero
    with h where Y is smooth; at a kink it does not.
    """
    x = values[name]
    for shrink in (1.0, 1e-2, 1e-4, 1e-6):  # until all steps stay within the function's domain
        steps, central, second = STEPS * scale_of(x) * shrink, [], []
        for h in steps:
            up, down = forward({**values, name: x + h * v}), forward({**values, name: x - h * v})
            central.append(float(np.sum(D * (up - down))) / (2 * h))
            second.append(float(np.sum(D * ((up - Y) + (down - Y)))) / h)
            if not np.isfinite(central[-1]):
                break
        if np.isfinite(central[-1]):
            break
    else:
        return float("nan"), float("nan"), float("nan")
    c, s = np.array(central), np.array(second)
    noise = 4 * np.finfo(Y.dtype).eps * float(np.sqrt(np.sum((D * Y) ** 2))) / steps
    better = (25 * c[1:] - c[:-1]) / 24  # the term of order h**2 cancels
    doubt = np.abs(np.diff(better)) + noise[2:]
    k = int(np.argmin(doubt))
    last = s[-3:]
    steady = np.all(last * last[0] > 0) and np.max(np.abs(last)) < 1.5 * np.min(np.abs(last))
    kink = float(np.min(np.abs(last))) if steady and np.min(np.abs(last)) > 20 * noise[-1] else 0.0
    return float(better[k]), float(doubt[k]), kink
