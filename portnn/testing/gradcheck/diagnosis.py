"""The diagnosis of a wrong derivative, from two passes of a layer and from further ones."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod
from time import perf_counter
from typing import Any

import numpy as np

from portnn.testing.gradcheck.mistakes import (
    CLOSE,
    EARLY,
    EXACT,
    MISSING,
    PASSED_ON,
    SCALED,
    STALE,
    added_up,
    at_some_places,
    factor,
    other_places,
    same,
    turns,
)
from portnn.testing.gradcheck.subject import Subject, children, scale_of

Array = np.ndarray
Values = dict[str, Array]

STEP = 2e-5  # the finite-difference step for derivatives measured element by element
MOST_NUMBERS, MOST_ENTRIES = 20_000, 20_000_000  # larger arrays are not measured element by element
SECONDS = 5.0  # for all guesses of a call of gradcheck


@dataclass
class Budget:
    """The seconds left for guesses."""

    left: float = field(default_factory=lambda: SECONDS)


@dataclass
class Case:
    """A forward and backward pass, and the pass before it: their inputs and outputs."""

    subject: Subject
    fresh: Subject  # a copy that never ran
    start: Values  # the parameters that the layer was created with
    values: Values  # "X" and the parameters
    D: Array
    Y: Array
    before: Values
    D_before: Array
    found: dict[str, Any]  # what backward returned for X, and set for each parameter
    after: Values  # the parameters after backward
    until: float = field(default=0.0)  # the time at which guessing ends


def explain(case: Case, wrong: Iterable[str], budget: Budget) -> list[str]:
    """A line for each wrong derivative: the mistake that it looks like, with the numbers."""
    started = perf_counter()
    case.until = started + budget.left
    lines = [f"dE/d{name}: {Gradient(case, name).looks_like()}" for name in wrong]
    budget.left = max(budget.left - (perf_counter() - started), 0.1)
    for i, line in enumerate(lines):
        if " A = " in line:  # explained once
            lines[i] += " (A: what backward gave" + ("; G: the measured one)" if " G" in line else ")")
            break
    return lines


def broken_rules(case: Case, names: Iterable[str]) -> list[str]:
    """Lines for other mistakes: parameters that backward changed, gradients of none, a learning rate ignored."""
    learned = [name for name in names if name != "X"]
    stepped = [name for name in learned if case.subject.by_step(name)]
    early = _changed_too_early(case, [name for name in learned if name not in stepped])
    return early or _without_parameter(case) or _rate_ignored(case, stepped)


def _without_parameter(case: Case) -> list[str]:
    """Lines for gradients of no parameter: weights kept where no optimizer sees them, or a name misspelt."""
    lines = []
    for path, layer in case.subject.parts:
        if not layer.updates_itself:
            for name in sorted(set(layer.gradients).difference(layer.parameters)):
                known = ", ".join(map(repr, layer.parameters)) or "none"
                lines.append(
                    f"backward sets gradients[{name!r}]{f' in layer {path}' if path else ''}, but no parameter has "
                    f"this name (there are: {known}): set it in __init__, self.parameters[{name!r}] = ..."
                )
    return lines


def _changed_too_early(case: Case, names: list[str]) -> list[str]:
    """Backward only sets gradients: lines for the parameters that it changed."""
    subject = case.subject
    changed = [name for name in names if not np.array_equal(case.after[name], case.values[name])]
    above = [path for path, layer in subject.parts if layer.updates_itself and children(layer)]
    if changed and all(any(n.startswith(f"{path}." if path else "") for path in above) for n in changed):
        twice = "its children step twice, in its backward_propagation and in the network, which descends with the "
        where = "hold them in an attribute of another name than layers"
        return [f"{', '.join(changed)}: {twice}gradients of all that is in layers: {where}"]
    return [f"{EARLY} backward changed a parameter, {name}: it only sets gradients" for name in changed]


def _rate_ignored(case: Case, names: list[str]) -> list[str]:
    """Half the learning rate must halve the step: lines for an article's layer's parameters for which it does not."""
    if not names:
        return []
    case.subject.forward(case.values)
    half = case.subject.backward(case.D, 0.5)
    lines = []
    for name in names:
        h, A = half[name], case.found[name]
        if np.any(A) and not same(h, 0.5 * A):
            how = f"at 0.5 it is {factor(h, A)[0]:.4g} times the one at 1"
            how = "learning_rate is not used" if same(h, A) else how
            lines.append(f"dE/d{name}: constant factor: the step does not follow the learning rate: {how}")
    return lines


def raised(error: Exception) -> str:
    """The likely cause of an exception in backward."""
    words = f"backward raised {type(error).__name__}: {error}"
    if isinstance(error, AttributeError) and str(error).startswith("xp has no"):
        return words
    if isinstance(error, (AttributeError, TypeError, KeyError)) or "forward" in str(error):
        return f"{STALE} {words} (does forward keep in training what backward needs?)"
    return f"{words} (shapes that do not fit: an array transposed, or a {STALE[:-1]})"


def not_repeatable(X: Array, Y: Array, D: Array, A: Any) -> str:
    """For a forward that returns two different Y: the mistake, including a backward that draws another mask."""
    text = "forward is not repeatable: the same x in training gave two different Y: draw the mask from self.step"
    if A is None or not A.shape == X.shape == Y.shape or not np.all(X) or len(np.unique(np.round(Y / X, 6))) > 2:
        return text
    if same(A, D):
        return f"{text}. dE/dX: {PASSED_ON}, without the mask"
    again = other_places(A / D, Y / X)
    return f"{text}. dE/dX: {STALE} backward draws the mask again" if again else text


class Gradient:
    """One derivative A, of X or a parameter, the measured one G, and everything that they may be compared with."""

    G: Array | None = None
    J: Array | None = None  # the Jacobian dY/d(array), (elements of the array, elements of Y)
    diagonal: Array | None = None  # of the Jacobian, where all other elements are zero

    def __init__(self, case: Case, name: str):
        self.case, self.name, self.A = case, name, case.found[name]
        self.x, self.X, self.Y, self.D = case.values[name], case.values["X"], case.Y, case.D
        self.parameters = {other: W for other, W in case.values.items() if other != "X"}
        self.word = "" if name == "X" else case.subject.word(name)
        self.by_step = name != "X" and case.subject.by_step(name)
        self.alike = name == "X" and self.A is not None and self.A.shape == self.Y.shape
        self.first = 1 if case.subject.has_batch_axis else 0  # the axis after that of the samples
        self.batch = self.X.shape[0] if self.first else 1
        self.h = STEP * min(scale_of(self.x), 10.0)
        self.vs = np.random.default_rng(3).standard_normal((6, *self.x.shape))
        self.fits = self.A is not None and self.A.shape == self.x.shape
        self.given = np.array([np.sum(self.A * v) for v in self.vs]) if self.fits else np.zeros(6)
        self.own = self.slopes({})
        self.G, self.J = self.measured(name)

    def measured(self, name: str) -> tuple[Array | None, Array | None]:
        """The derivative measured element by element, and the Jacobian."""
        x, values = self.case.values[name], self.case.values
        if name == "X" and x.shape == self.Y.shape:
            ones, v = (self.slope(name, values, v) for v in (np.ones(x.shape), self.vs[0]))
            if np.linalg.norm(v - ones * self.vs[0]) <= CLOSE * np.linalg.norm(v):
                self.diagonal = np.where(np.abs(ones) < 1e-9 * np.max(np.abs(ones)), 0.0, ones)
                small = x.size**2 <= 1_000_000
                return self.diagonal * self.D, np.diag(self.diagonal.reshape(-1)) if small else None
        started = perf_counter()
        self.case.subject.forward(values)
        seconds = 2 * x.size * (perf_counter() - started)
        too_many = x.size > MOST_NUMBERS or x.size * self.Y.size > MOST_ENTRIES
        if too_many or seconds > 0.6 * (self.case.until - started):
            return None, None
        units = (np.where(np.arange(x.size) == i, 1.0, 0.0).reshape(x.shape) for i in range(x.size))
        J = np.stack([self.slope(name, values, v).reshape(-1) for v in units])
        if not np.all(np.isfinite(J)):
            return None, None
        J[np.abs(J) < 1e-9 * np.max(np.abs(J))] = 0.0
        return np.matmul(J, self.D.reshape(-1)).reshape(x.shape), J

    def slope(self, name: str, values: Values, v: Array) -> Array:
        up, down = (self.case.subject.forward({**values, name: values[name] + step * v}) for step in (self.h, -self.h))
        return (up - down) / (2 * self.h)

    def slopes(self, changes: Values, D: Array | None = None) -> Array:
        """The derivative along six directions, at changed values or for another dE/dY."""
        values, D = {**self.case.values, **changes}, self.D if D is None else D
        return np.array([np.sum(D * self.slope(self.name, values, v)) for v in self.vs])

    def agrees(self, changes: Values, D: Array | None = None, plus: bool = False) -> float | None:
        """c, where A is c times the derivative at changed values or for another dE/dY (``plus``: added to its own)."""
        try:
            there = self.slopes(changes, D)
        except Exception:  # raised by the layer, which does not take these values
            return None
        return self.equals(there, self.given - self.own if plus else self.given)

    def equals(self, B: Any, A: Any = None) -> float | None:
        """c, where A = c B; with few elements anything is a multiple, so then c must be 1."""
        c, fits = factor(self.A if A is None else A, B)
        near = abs(c - 1) <= CLOSE
        return None if not fits or (self.x.size < 3 and not near) else 1.0 if near else c

    def same_as_right(self, B: Any) -> float | None:
        """c, where B is c times the measured derivative."""
        if B is None or B.shape != self.x.shape:
            return None
        return (
            self.equals(self.own, np.array([np.sum(B * v) for v in self.vs]))
            if self.G is None
            else self.equals(self.G, B)
        )

    def right(self, B: Any) -> bool:
        return self.same_as_right(B) == 1.0

    def rerun(self, changes: Values | None = None, rate: float = 1.0) -> Any:
        """A of another pass: with parameters changed from outside between forward and backward, or with another
        learning rate."""
        subject = self.case.subject
        subject.forward(self.case.before)  # as in the pass that was wrong
        subject.backward(self.case.D_before, rate)
        subject.forward(self.case.values)
        for name, W in (changes or {}).items():
            subject.write(name, W)
        A = subject.backward(self.D, rate)[self.name]
        return A / rate if self.by_step and A is not None else A

    def anew(self) -> Subject:
        """The layers as they were before any pass."""
        subject = self.case.fresh.copy()
        subject.forward({"X": self.X})
        subject.places = self.case.subject.places
        return subject

    def right_if_repeated(self) -> float | None:
        subject = self.anew()
        for _ in range(2):
            subject.forward(self.case.values)
            A = subject.backward(self.D)[self.name]
        return 1.0 if self.right(A) else None

    def right_as_made(self, uneven: bool) -> float | None:
        """Whether A is right for the initial parameters; with ``uneven``, for those that are not constant."""
        made = {
            n: W for n, W in self.case.start.items() if n != "X" and not (uneven and np.all(W.reshape(-1)[:1] == W))
        }
        if all(np.array_equal(W, self.case.values[n]) for n, W in made.items()):
            return None
        subject = self.anew()
        subject.forward({**self.case.values, **made})
        A = subject.backward(self.D)[self.name]
        return 1.0 if same(np.array([np.sum(A * v) for v in self.vs]), self.slopes(made)) else None

    @property
    def by_number(self) -> bool:
        return self.J is not None or self.diagonal is not None

    def pull(self, D: Array) -> Array | None:
        """The right derivative for another dE/dY."""
        if self.diagonal is not None:
            return self.diagonal * D
        return None if self.J is None else np.matmul(self.J, D.reshape(-1)).reshape(self.x.shape)

    def looks_like(self) -> str:
        """The first mistake that explains A. A guess that raises does not fit."""
        A = self.A
        if A is None:
            return f"{MISSING}: backward {'returned None' if self.name == 'X' else 'sets no gradient of this name'}"
        if A.shape != self.x.shape:
            return f"{self.wrong_shape()}: it has shape {A.shape}, for {self.name} of {self.x.shape}"
        if not np.any(A) or not np.all(np.isfinite(A)):
            return "it holds NaN or infinity" if np.any(A) else f"{MISSING}: it is zero everywhere"
        for kind, exact in [*((kind, True) for kind in EXACT), *((kind, False) for kind in SCALED)]:
            try:
                for text, c in kind(self):
                    if c == 1.0 or (c and not exact):
                        return text if c == 1.0 else f"{text}, times a constant factor {c:.6g}{self.called(c)}"
                    if perf_counter() > self.case.until:
                        break
            except Exception:
                continue
        return at_some_places(self) or self.multiple(any_size=True) or self.no_known()

    def wrong_shape(self) -> str:
        A, x, G = self.A, self.x, self.G
        if self.name != "X" and A.size > x.size and (A.shape[0] == self.batch or added_up(A, x.shape) is not None):
            return "not summed over the batch"
        if self.name == "X" and self.batch * A.size == x.size:
            return "wrong shape, dE/dX summed over the batch"
        if any(A.transpose(axes).shape == x.shape for axes in turns(A)):
            return "transposed"
        right = G is not None and same(A.reshape(-1), G.reshape(-1))
        return "wrong shape, the values are right" if right else "wrong shape"

    def multiple(self, any_size: bool = False) -> str:
        """The mistake if A is a multiple of G; with one element it always is."""
        c, fits = (self.equals(self.own, self.given), True) if self.G is None else factor(self.A, self.G)
        if c is None or not fits or (self.x.size == 1 and not any_size):
            return ""
        text = f"{'sign, and ' if c < 0 else ''}constant factor: it is {c:.6g} times what it should be"
        return "sign: it is the right one, negated" if abs(c + 1) < CLOSE else text + self.called(abs(c))

    def no_known(self) -> str:
        if self.G is None:
            return "no known mistake fits (there are too many elements to measure each)"
        a, g = np.linalg.norm(self.A), np.linalg.norm(self.G) or 1e-300
        return f"no known mistake fits: correlation {np.sum(self.A * self.G) / (a * g):.3f}, norm ratio {a / g:.4g}"

    def called(self, c: float) -> str:
        """The sizes or settings that a factor equals: "; 4 is the number of outputs"."""
        found = dict.fromkeys(text for value, text in self.quantities() if abs(c - value) <= 1e-4 * value)
        return f"; {c:.6g} is {' or '.join([*found][:2])}" if found else ""

    def quantities(self) -> Iterator[tuple[float, str]]:
        X, Y, first, ratio = self.X.shape, self.Y.shape or (1,), self.first, self.X.size / self.Y.size
        named = [(self.batch, "the batch size N"), (max(ratio, 1 / ratio), "the window size")]
        named += [(Y[-1], "the number of outputs (filters, units)"), (X[-1], "the number of input channels")]
        named += [
            (prod(Y[first:-1]), "the number of output positions"),
            (self.Y.size / Y[-1], "the number of rows of Y"),
        ]
        for W in self.parameters.values():
            sizes = (W.shape[:-2], W.shape[2:]) if W.ndim > 2 else ()
            named += [(prod(shape), "the kernel size") for shape in sizes]
        named += [(prod(X[first:]), "the size of a sample of X"), (prod(Y[first:]), "the size of a sample of Y")]
        named += [(W.size, f"the size of {name}") for name, W in self.parameters.items()]
        for n, text in ((n, text) for n, text in named if n > 1):
            mean = " (averaged over the batch instead of summed)" if text == named[0][1] else ""
            yield from ((float(n), text), (1.0 / n, f"1 / {text}{mean}"))
        yield from ((1 / n, f"1/{n}") for n in (2, 3, 4))
        for _, layer in self.case.subject.parts:
            for name, v in vars(layer).items():
                if type(v) in (int, float) and v not in (0, 1) and name not in ("seed", "learning_rate_now"):
                    words = (name, f"1 / {name}", f"1 - {name}", f"1 / (1 - {name})")
                    yield from zip((abs(v), 1 / abs(v), 1.0 - v, 1 / (1.0 - v)), words, strict=True)
