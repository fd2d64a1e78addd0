"""What a wrong derivative looks like: the usual mistakes, each with what it would give, held against what was given."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, permutations
from math import prod
from time import perf_counter
from typing import Any

import numpy as np

Array = np.ndarray
Values = dict[str, Array]
Guesses = Iterator[tuple[str, float | None]]  # a mistake in words, and c where A = c times what it would give

CLOSE, STEP = 1e-5, 2e-5  # two arrays are the same one but for the error of measuring with that step
MOST_NUMBERS, MOST_ENTRIES, MOST_SECONDS = 20_000, 20_000_000, 15.0  # more is not measured number by number
PASSED_ON = "a derivative left out: the error is passed through unchanged"
PARTLY, SIGN = "a derivative left out:", "sign within the formula:"
STALE, MISSING = "stale or missing cache:", "gradient missing or left at zero"


@dataclass
class Case:
    """One forward and backward, and the one before it: what went in, and what came out."""

    subject: Any  # what was run: layers one after the other
    values: Values  # "X" and the parameters
    D: Array
    Y: Array
    before: Values
    D_before: Array
    found: dict[str, Any]  # what backward gave for each leaf
    after: Values  # the parameters after backward


def explain(case: Case, wrong: Iterable[str]) -> list[str]:
    """A line for each leaf whose derivative is wrong: what it looks like, with the numbers."""
    with np.errstate(all="ignore"):
        return [f"dE/d{name}: {Leaf(case, name).looks_like()}" for name in wrong]


def broken_rules(case: Case, leaves: Iterable[str]) -> list[str]:
    """Lines for what is wrong though the derivatives may be right: parameters changed, a learning rate not heeded."""
    learned = [name for name in leaves if name != "X"]
    article = [name for name in learned if case.subject.places[name][0].written_as_in_the_article]
    text = "update made before the input gradient: backward changed a parameter, {}: it only sets gradients"
    kept = [name for name in learned if name in article or np.array_equal(case.after[name], case.values[name])]
    lines = [text.format(name) for name in learned if name not in kept]
    if lines or not article:
        return lines
    case.subject.forward(case.values)
    half = case.subject.backward(case.D, 0.5)
    text = "dE/d{}: constant factor: the step does not follow the learning rate, at 0.5 it is {:.4g} times the one at 1"
    steps = [(name, half[name], case.found[name]) for name in article if np.any(case.found[name])]
    return [text.format(name, factor(h, A)[0]) for name, h, A in steps if not same(h, 0.5 * A)]


def raised(error: Exception) -> str:
    """What an exception in backward seems to come from."""
    words = f"backward raised {type(error).__name__}: {error}"
    if isinstance(error, (AttributeError, TypeError, KeyError)) or "forward" in str(error):
        return f"{STALE} {words} (does forward keep in training what backward needs?)"
    return f"{words} (shapes that do not fit: an array transposed, or a {STALE[:-1]})"


def not_repeatable(case: Case) -> str:
    """A forward that gives two answers; and where the mask of backward is another one again."""
    text = "forward is not repeatable: the same x in training gave two different Y: draw the mask from self.step"
    A, X, Y, D = case.found["X"], case.values["X"], case.Y, case.D
    alike = A is not None and A.shape == X.shape == Y.shape and np.all(X)
    if alike and same(A, D):
        return f"{text}. dE/dX: {PASSED_ON}, without the mask"
    again = alike and other_places(A / D, Y / X)
    return f"{text}. dE/dX: {STALE} backward draws the mask again" if again else text


def factor(A: Any, B: Any) -> tuple[float, bool]:
    """c of the nearest A = c B, and whether it is near enough."""
    if A is None or B is None or np.shape(A) != np.shape(B) or not np.any(A) or not np.any(B):
        return 0.0, False
    c = float(np.sum(A * B) / np.sum(B * B))
    return c, bool(np.linalg.norm(A - c * B) <= CLOSE * np.linalg.norm(A))


def same(A: Any, B: Any) -> bool:
    c, fits = factor(A, B)
    return fits and abs(c - 1.0) <= CLOSE


def factor_along(A: Array, B: Array, axes: tuple[int, ...], close: float = CLOSE) -> float | None:
    """1.0 where A is B times something that does not change along these axes."""
    c = np.sum(A * B, axis=axes, keepdims=True) / (np.sum(B * B, axis=axes, keepdims=True) + 1e-300)
    return 1.0 if np.linalg.norm(A - c * B) <= close * np.linalg.norm(A) else None


def added_up(D: Array, shape: tuple[int, ...]) -> Array | None:
    """D summed over the axes along which something of that shape would be broadcast to it; None if it would not."""
    full = (1,) * (D.ndim - len(shape)) + shape
    if len(full) != D.ndim or any(n not in (1, m) for n, m in zip(full, D.shape, strict=True)):
        return None
    return np.sum(D, axis=tuple(a for a, n in enumerate(full) if n == 1), keepdims=True).reshape(shape)


def other_places(r: Array, g: Array) -> bool:
    """Whether r and g take the same two values, one of them zero, but at other places."""
    a, b = (np.unique(np.round(ratio, 6)) for ratio in (r, g))
    return len(a) == len(b) == 2 and np.allclose(a, b) and 0.0 in b and not np.allclose(r, g)


def subsets(A: Array) -> list[tuple[int, ...]]:
    axes = [a for a in range(A.ndim) if A.shape[a] > 1]
    return [s for n in range(len(axes), 0, -1) for s in combinations(axes, n)]


def turns(A: Array) -> list[tuple[int, ...]]:
    return list(permutations(range(A.ndim)))[1:] if A.ndim < 6 else []


def scale_of(values: Array) -> float:
    """How far the numbers lie apart: the measure of a small step."""
    spread = float(np.std(values)) or float(np.sqrt(np.mean(values**2))) or 1.0
    return min(max(spread, 1e-3), 1e4)


class Leaf:
    """One leaf's derivative A, the measured one G, and all that they may be compared with."""

    def __init__(self, case: Case, name: str):
        self.case, self.name, self.A = case, name, case.found[name]
        self.x, self.X, self.Y, self.D = case.values[name], case.values["X"], case.Y, case.D
        self.parameters = {other: W for other, W in case.values.items() if other != "X"}
        self.first = 1 if case.subject.has_batch_axis else 0  # the axis behind that of the samples
        self.batch = self.X.shape[0] if self.first else 1
        self.h = STEP * min(scale_of(self.x), 10.0)
        self.G, self.J = self.measured(name)

    def measured(self, name: str) -> tuple[Array | None, Array | None]:
        """The derivative number by number, and the Jacobian dY/d(leaf), (numbers of the leaf, numbers of Y)."""
        x, start = self.case.values[name], perf_counter()
        self.case.subject.forward(self.case.values)
        seconds = 2 * x.size * (perf_counter() - start)
        if x.size > MOST_NUMBERS or x.size * self.Y.size > MOST_ENTRIES or seconds > MOST_SECONDS:
            return None, None
        units = (np.where(np.arange(x.size) == i, 1.0, 0.0).reshape(x.shape) for i in range(x.size))
        J = np.stack([self.slope(name, self.case.values, v).reshape(-1) for v in units])
        J[np.abs(J) < 1e-9 * np.max(np.abs(J))] = 0.0
        return np.matmul(J, self.D.reshape(-1)).reshape(x.shape), J

    def slope(self, name: str, values: Values, v: Array) -> Array:
        up, down = (self.case.subject.forward({**values, name: values[name] + step * v}) for step in (self.h, -self.h))
        return (up - down) / (2 * self.h)

    def agrees(self, changes: Values, D: Array | None = None, plus: bool = False) -> float | None:
        """c, where A is c times the derivative at changed values or for another dE/dY (``plus``: added to its own)."""
        vs, values = np.random.default_rng(3).standard_normal((6, *self.x.shape)), {**self.case.values, **changes}
        given, D = np.array([np.sum(self.A * v) for v in vs]), self.D if D is None else D
        try:
            there = np.array([np.sum(D * self.slope(self.name, values, v)) for v in vs])
        except Exception:  # the layer's own code, which does not take these values
            return None
        own = [np.sum(self.D * self.slope(self.name, self.case.values, v)) if plus else 0.0 for v in vs]
        return self.equals(there, given - own)

    def equals(self, B: Any, A: Any = None) -> float | None:
        """c, where A = c B; few numbers are a multiple of anything, and must be B itself."""
        c, fits = factor(self.A if A is None else A, B)
        near = abs(c - 1) <= CLOSE
        return None if not fits or (self.x.size < 3 and not near) else 1.0 if near else c

    def looks_like(self) -> str:
        """The first mistake that explains A."""
        A = self.A
        if A is None:
            return f"{MISSING}: backward {'returned None' if self.name == 'X' else 'sets no gradient of this name'}"
        if A.shape != self.x.shape:
            return f"{self.wrong_shape()}: it has shape {A.shape}, for {self.name} of {self.x.shape}"
        if not np.any(A) or not np.all(np.isfinite(A)):
            return "it holds NaN or infinity" if np.any(A) else f"{MISSING}: it is zero everywhere"
        for guesses, exact in ((self.bias_again(), True), (self.something_else(), True), (self.multiples(), False)):
            for text, c in guesses:
                if c == 1.0 or (c is not None and not exact):
                    return text if c == 1.0 else f"{text}, times a constant factor {c:.6g}{self.called(c)}"
        return self.at_some_places() or self.multiple(any_size=True) or self.no_known()

    def wrong_shape(self) -> str:
        A, x, G = self.A, self.x, self.G
        if self.name != "X" and A.size > x.size and (A.shape[0] == self.batch or added_up(A, x.shape) is not None):
            return "not summed over the batch"
        if self.name == "X" and self.batch * A.size == x.size:
            return "wrong shape, dE/dX summed over the batch"
        if any(A.transpose(axes).shape == x.shape for axes in turns(A)):
            return "transposed"
        right = G is not None and same(A.reshape(-1), G.reshape(-1))
        return "wrong shape, the numbers are right" if right else "wrong shape"

    def bias_again(self) -> Guesses:
        """Whether Y moves by a multiple of what a bias moves by."""
        if not self.name.rpartition(".")[2].lower().strip("_").startswith(("b", "offset", "shift")):
            return
        moves = self.case.subject.forward({**self.case.values, self.name: self.x + 1.0}) - self.Y
        k = round(float(np.median(moves)))
        if k > 1 and np.allclose(moves, k, rtol=1e-6):
            c, fits = factor(self.A, added_up(self.D, self.x.shape))
            again = f"; backward has a constant factor {c:.6g}{self.called(c)} instead" if fits and c != 1.0 else ""
            yield f"bias added more than once: forward adds it {k} times{self.called(k)}{again}", 1.0

    def something_else(self) -> Guesses:
        """A is another thing exactly."""
        A, D, X, Y, G, J, case = self.A, self.D, self.X, self.Y, self.G, self.J, self.case
        probable = bool(Y.ndim and np.all(Y > 0) and np.allclose(Y.sum(axis=-1), 1.0))
        alike, of_g = self.name == "X" and A.shape == Y.shape, self.multiple()
        if self.name == "X" and any(not np.array_equal(W, self.parameters[n]) for n, W in case.after.items()):
            yield "update made before the input gradient: it is the one after the step", self.agrees(case.after)
        if alike:
            yield "softmax taken for the identity: A = dE/dY", self.equals(D) if probable else None
            yield f"{PASSED_ON}: A = dE/dY{f' ({of_g})' if of_g else ''}", self.equals(D)
        elif self.name != "X" and not (J is not None and len(np.unique(np.round(J[J != 0], 6))) == 1):
            yield f"{PASSED_ON}: it is the sum of dE/dY, without what stands between", self.equals(added_up(D, A.shape))
        X_before, D_before = {"X": case.before["X"]}, case.D_before
        yield f"{STALE} it is the one for the input of the pass before", self.agrees(X_before)
        yield f"{STALE} it is the one for dE/dY of the pass before", self.agrees({}, D_before)
        yield f"{STALE} it is the one of the pass before", self.agrees(X_before, D_before)
        yield f"{STALE} the one of the pass before is added to it", self.agrees(X_before, D_before, plus=True)
        yield of_g, 1.0 if of_g else None
        if not alike or G is None or J is None:
            return
        alone, own = same(J, np.diag(np.diag(J))), self.equals(D * np.diag(J).reshape(Y.shape))
        yield "only the diagonal of its derivative: each Y leans on other X too", None if alone else own
        yield f"{STALE} the derivative is taken at Y instead of X", self.agrees({"X": Y})
        yield f"{MISSING}: the share of a skip connection is missing, A = G - dE/dY", self.equals(G - D)
        yield "a share too much: A = G + dE/dY, the error is added once more", self.equals(G + D)
        mask = 1.0 if other_places(A / D, G / D) else None
        yield "sign: the mask is inverted, zero where it should not be", mask and self.equals(np.max(G / D) * D - G)
        yield f"{STALE} the same multiples of dE/dY at other places: is the mask drawn again?", mask
        if alone:
            yield from ((text, self.equals(D * u)) for text, u in slips(Y, X))
        if probable:
            yield f"{PARTLY} A = Y * dE/dY, only a part, without the sum over the others", self.equals(D * Y)
            for axes, total in ((axes, np.sum(D * Y, axis=axes, keepdims=True)) for axes in subsets(Y)):
                yield f"softmax's sum goes over the wrong axes {axes}", self.equals(Y * (D - total))
                yield f"{SIGN} softmax's sum is added, not taken off", self.equals(Y * (D + total))

    def multiples(self) -> Guesses:
        """A is another thing, or a multiple of it."""
        A, D, Y, G, J = self.A, self.D, self.Y, self.G, self.J
        yield f"{PASSED_ON} but for a number", self.equals(D) if self.name == "X" else None
        for name, W in ((n, W) for n, W in self.parameters.items() if W.ndim > 1 and n != self.name):
            for axes, T in ((axes, W.transpose(axes)) for axes in turns(W)):
                fits = self.agrees({name: T}) if T.shape == W.shape else None
                yield f"transposed: it is the one for {name} with axes in the order {axes}", fits
            for axes, F in ((axes, np.flip(W, axes)) for axes in subsets(W)):
                yield f"flipped kernel: it is the one for {name} flipped along axes {axes}", self.agrees({name: F})
        among = range(self.first if J is None else Y.ndim)
        for axis, i in ((a, i) for a in among for i in range(Y.shape[a]) if Y.shape[a] > 1):
            only = np.where(np.arange(Y.shape[axis]).reshape((-1,) + (1,) * (Y.ndim - 1 - axis)) == i, D, 0.0)
            text = f"not summed over {'the batch' if axis < self.first else f'axis {axis} of Y'}: the part of index"
            part = None if J is None else np.matmul(J, only.reshape(-1)).reshape(A.shape)
            yield f"{text} {i} of {Y.shape[axis]}", self.agrees({}, only) if J is None else self.equals(part)
        if G is None or J is None:
            return
        for axes in turns(G):
            yield f"transposed: it is the right one, axes in the order {axes}", self.equals(G.transpose(axes))
        yield "transposed: the right numbers, laid out column by column", self.equals(G.T.reshape(G.shape))
        for axes in subsets(G):
            yield f"flipped kernel: it is the right one flipped along axes {axes}", self.equals(np.flip(G, axes))
        for axis, by in ((a, by) for a in range(G.ndim) if G.shape[a] > 2 for by in (1, -1)):
            a, g = (np.take(z, np.arange(G.shape[axis] - 1) + (by > 0), axis) for z in (A, np.roll(G, by, axis)))
            yield f"shifted by one position along axis {axis}", self.equals(g, a)
        total = np.broadcast_to(G.sum(axis=0, keepdims=True), G.shape) if self.name == "X" and self.batch > 1 else None
        yield "dE/dX is summed over the batch: each sample has the sum of all", self.equals(total)
        yield from self.without_statistics(G)
        yield from self.fused(J)
        for name, B in [*self.case.values.items(), ("Y", Y)]:
            if name != self.name and added_up(G, B.shape) is not None:
                yield f"a factor too much, {name}", self.equals(G * B)
                yield f"{PARTLY} the factor {name} is missing", self.equals(G / B) if np.all(B) else None
            if name in ("X", "Y") and self.name != "X" and B.shape == D.shape:
                yield f"{STALE} {name} stands where another array belongs", self.equals(added_up(D * B, A.shape))

    def without_statistics(self, G: Array) -> Guesses:
        """Layers that take off a mean and divide by a deviation: one of the two, or both, taken for fixed."""
        A, X, first, last = self.A, self.X, self.first, self.X.ndim - 1
        choices = [range(last), (last,), range(first, last + 1), range(first, last), range(1)]
        for axes in (tuple(c) for c in choices if prod(X.shape[a] for a in c) > 1):
            if self.name != "X" or A.shape != self.D.shape:
                return
            if np.max(np.abs(G.sum(axis=axes))) > CLOSE * np.max(np.abs(G)):  # no mean is taken off along these
                yield f"{PARTLY} that of a number common to axes {axes}", factor_along(A, self.D, axes)
                continue
            Z = X - X.mean(axis=axes, keepdims=True)
            Z = Z / np.sqrt((Z**2).mean(axis=axes, keepdims=True))
            scales = [W for W in (*self.parameters.values(), np.ones(1)) if added_up(self.D, W.shape) is not None]
            for D in (self.D * W for W in scales):
                m, v = D.mean(axis=axes, keepdims=True), Z * (D * Z).mean(axis=axes, keepdims=True)
                yield f"{PARTLY} those of mean and variance, as if both were fixed", factor_along(A, D, axes)
                yield f"{PARTLY} that of the variance", factor_along(A, D - m, axes)
                # Nearly: the layer's own Z is a little smaller, by the epsilon under its root.
                yield f"{PARTLY} that of the mean", factor_along(A, D - v, axes, 1e-3)
                sums = D - (m + v) * (D.size // m.size)
                yield "constant factor: sums stand where means belong", factor_along(A, sums, axes, 1e-3)
                yield f"{SIGN} the variance's part", factor_along(A, D - m + v, axes, 1e-3)
                yield f"{SIGN} the mean's part", factor_along(A, D + m - v, axes, 1e-3)
                yield f"{PARTLY} the scale's, or the deviation's factor", factor_along(A, D - m - v, axes, 1e-3)

    def fused(self, own: Array) -> Guesses:
        """Layers that end in a function of each element, f(Z): what is left when f' is wrong or missing."""
        D, A, wrong = self.D, self.A, [(f"{PASSED_ON} by the function at the end", np.ones(1)), *slips(self.Y)]
        for other, W in self.parameters.items():
            if W.shape == (self.X.shape[-1], self.Y.shape[-1]) and self.name in ("X", other):
                for text, dZ in ((text, (D * u).reshape(-1, W.shape[1])) for text, u in wrong):
                    dW = np.matmul(self.X.reshape(-1, W.shape[0]).T, dZ)
                    yield text, self.equals(np.matmul(dZ, W.T).reshape(A.shape) if self.name == "X" else dW)
                Y_rows, D_rows = (Z.reshape(-1, W.shape[1]) for Z in (self.Y, D))
                yield f"{STALE} Y stands where X belongs", self.equals(np.matmul(Y_rows.T, D_rows))
            J = self.measured(other)[1] if added_up(D, W.shape) is not None else None
            f = np.zeros(D.size) if J is None else J.sum(axis=0)  # f'(Z), if this one is a bias
            for text, u in wrong if J is not None else ():
                yield text, self.equals(added_up(D * u, W.shape)) if other == self.name else None
                dZ = (D * u).reshape(-1) / f if np.all(np.abs(f) > 1e-7) else np.zeros(f.shape)
                yield text, self.equals(np.matmul(own, dZ).reshape(A.shape))
            yield wrong[0][0], self.agrees({other: W + 1e3})  # relu, where all of Z is positive

    def multiple(self, any_size: bool = False) -> str:
        """What A is if it is a multiple of G; of one number everything is."""
        c, fits = (self.agrees({}), True) if self.G is None else factor(self.A, self.G)
        if c is None or not fits or (self.x.size == 1 and not any_size):
            return ""
        text = f"{'sign, and ' if c < 0 else ''}constant factor: it is {c:.6g} times what it should be"
        return "sign: it is the right one, negated" if abs(c + 1) < CLOSE else text + self.called(abs(c))

    def at_some_places(self) -> str:
        """A that is right at some places: what the others have in common."""
        A, D, G = self.A, self.D, self.G
        if G is None or not np.any(off := np.abs(A - G) > CLOSE * np.max(np.abs(G))):
            return ""
        if not np.any(G[~off]):
            others = {
                a: tuple(b for b in range(G.ndim) if b != a) for a in range(G.ndim) if 1 < G.shape[a] < G.size / 2
            }
            found = [a for a, rest in others.items() if factor_along(A, G, rest)]
            return f"constant factor, another one for each index of axis {found[0]}" if found else ""
        where = f"at {np.sum(off)} of {A.size} places, the first at {np.argwhere(off)[0].tolist()}; right elsewhere"
        c, fits = factor(A[off], G[off])
        if not np.any(A[off]) or (A.shape == D.shape and same(A[off], D[off])):
            return f"{PASSED_ON if np.any(A[off]) else MISSING} {where}"
        if not np.any(G[off]):
            return f"{PARTLY} which element of a window was chosen; it is not zero, as it should be, {where}"
        if fits and np.sum(off) > 2:
            return f"{'sign' if c < 0 else 'constant factor'}: {c:.6g} times what it should be {where}"
        if same(np.sort(A, axis=None), np.sort(G, axis=None)):
            return f"the right numbers at other places: transposed, or the wrong element of a window; wrong {where}"
        return f"{self.no_known()}; wrong {where}"

    def no_known(self) -> str:
        if self.G is None:
            return "no known mistake fits (there are too many numbers to measure each)"
        a, g = np.linalg.norm(self.A), np.linalg.norm(self.G) or 1e-300
        return f"no known mistake fits: correlation {np.sum(self.A * self.G) / (a * g):.3f}, norm ratio {a / g:.4g}"

    def called(self, c: float) -> str:
        """What a factor equals: "; 4 is the number of outputs"."""
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
            named += [(prod(W.shape[:-2]), "the kernel size"), (prod(W.shape[-2:]), "the kernel size")]
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


def slips(Y: Array, X: Array | None = None) -> list[tuple[str, Array]]:
    """Factors that stand for the usual slips with the derivatives of tanh and sigmoid, in terms of Y and X."""
    s, at_y = 1.0 / (1.0 + np.exp(-Y)), f"{STALE} the derivative is taken at Y instead of X,"
    part, text = f"{PARTLY} a part of it,", f"{STALE} X stands where Y belongs, A = dE/dY *"
    found = [(f"{at_y} 1 - tanh(Y)**2", 1.0 - np.tanh(Y) ** 2), (f"{at_y} s(Y) (1 - s(Y))", s * (1.0 - s))]
    found += [(f"{part} A = dE/dY * Y", Y), (f"{part} A = dE/dY * (1 - Y)", 1.0 - Y)]
    found += [(f"{part} A = dE/dY * Y**2", Y**2), (f"{SIGN} A = dE/dY * (1 + Y**2)", 1.0 + Y**2)]
    found += [(f"{SIGN} A = dE/dY * Y * (1 + Y)", Y * (1.0 + Y))]
    if X is not None:
        found += [(f"{part} A = dE/dY * Y / X", Y / X), (f"{PARTLY} A = dE/dY * X", X)]
        found += [(f"{text} (1 - X**2)", 1.0 - X**2), (f"{text} X * (1 - X)", X - X**2)]
    return found
