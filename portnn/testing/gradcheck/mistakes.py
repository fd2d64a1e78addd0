"""The usual mistakes of a backward pass: what each would give, compared with what backward gave.

Each function takes a ``diagnosis.Gradient`` and yields mistakes of one kind, with c where A is c times what the mistake
would give: ``EXACT`` ones fit where c is 1, ``SCALED`` ones for any c.
"""

from collections.abc import Callable, Iterator
from itertools import combinations, permutations, product
from math import prod
from typing import Any

import numpy as np

Array = np.ndarray
Guesses = Iterator[tuple[str, float | None]]

CLOSE = 1e-5  # the relative difference below which two measured arrays are equal
PASSED_ON = "a derivative left out: the error is passed through unchanged"
PARTLY, SIGN = "a derivative left out:", "sign within the formula:"
STALE, MISSING = "stale or missing cache:", "gradient missing or left at zero"
EARLY, IDENTITY = "update made before the input gradient:", "softmax taken for the identity"
BATCH, AGAIN, MORE = (
    "not summed over the batch:",
    "bias added more than once:",
    "the step holds more than the gradient:",
)


def factor(A: Any, B: Any) -> tuple[float, bool]:
    """c of the best fit A = c B, and whether the fit is close enough."""
    if A is None or B is None or np.shape(A) != np.shape(B) or not np.any(A) or not np.any(B):
        return 0.0, False
    c = float(np.sum(A * B) / np.sum(B * B))
    return c, bool(np.linalg.norm(A - c * B) <= CLOSE * np.linalg.norm(A))


def same(A: Any, B: Any) -> bool:
    c, fits = factor(A, B)
    return fits and abs(c - 1.0) <= CLOSE


def factor_along(A: Array, B: Array, axes: tuple[int, ...], close: float = CLOSE) -> float | None:
    """1.0 where A is B times a factor that is constant along these axes."""
    c = np.sum(A * B, axis=axes, keepdims=True) / (np.sum(B * B, axis=axes, keepdims=True) + 1e-300)
    return 1.0 if np.linalg.norm(A - c * B) <= close * np.linalg.norm(A) else None


def added_up(D: Array, shape: tuple[int, ...]) -> Array | None:
    """D summed over the axes along which an array of that shape is broadcast to it; None if it cannot be."""
    full = (1,) * (D.ndim - len(shape)) + shape
    if len(full) != D.ndim or any(n not in (1, m) for n, m in zip(full, D.shape, strict=True)):
        return None
    return np.sum(D, axis=tuple(a for a, n in enumerate(full) if n == 1), keepdims=True).reshape(shape)


def other_places(r: Array, g: Array) -> bool:
    """Whether r and g have the same two values, one of them zero, but at different positions."""
    a, b = (np.unique(np.round(ratio, 6)) for ratio in (r, g))
    return len(a) == len(b) == 2 and np.allclose(a, b) and 0.0 in b and not np.allclose(r, g)


def subsets(A: Array) -> list[tuple[int, ...]]:
    axes = [a for a in range(A.ndim) if A.shape[a] > 1]
    return [s for n in range(len(axes), 0, -1) for s in combinations(axes, n)]


def turns(A: Array) -> list[tuple[int, ...]]:
    return list(permutations(range(A.ndim)))[1:] if A.ndim < 6 else []


def probable(Y: Array) -> bool:
    """Whether each row holds probabilities, as softmax returns them."""
    return bool(Y.ndim and Y.shape[-1] > 1 and np.all(Y > 0) and np.allclose(Y.sum(axis=-1), 1.0))


def where_true(fits: Any) -> float | None:
    return 1.0 if fits else None


# -- mistakes of the layer as a whole ----------------------------------------------------------------------------------


def bias_again(grad: Any) -> Guesses:
    """Whether Y changes by a multiple of a bias's change; followed by a function, whether A is G / k."""
    if not grad.word.startswith(("b", "offset", "shift")):
        return
    moves = grad.case.subject.forward({**grad.case.values, grad.name: grad.x + 1.0}) - grad.Y
    k = round(float(np.median(moves)))
    if k > 0 and np.allclose(moves, k, rtol=1e-6):
        c, fits = factor(grad.A, added_up(grad.D, grad.x.shape))
        odd = fits and abs(c - 1.0) > CLOSE
        instead = f"; backward has a constant factor {c:.6g}{grad.called(c)} instead" if odd else ""
        yield f"{AGAIN} forward adds it {k} times{grad.called(k)}{instead}", where_true(k > 1)
        return
    c, fits = factor(grad.A, grad.G)
    k = round(1.0 / c) if fits and 0.01 < c < 0.6 else 0
    told = times_added(grad) if k > 1 and abs(c * k - 1.0) <= CLOSE else 1
    text = f"{AGAIN} forward adds it {k} times{grad.called(k)}"
    yield text, where_true(told == k)
    yield f"{grad.multiple()}, or {text}", where_true(told == 0)


def times_added(grad: Any) -> int:
    """How often a bias is added, judged by its effect on Y compared with that of the weights; 0 if that is unclear."""
    X, m = grad.X.reshape(-1, grad.X.shape[-1]), grad.x.size
    for other, W in grad.parameters.items():
        if grad.J is not None and W.shape == (X.shape[1], m) and grad.Y.size == X.shape[0] * m:
            of_weights = grad.measured(other)[1]
            if of_weights is not None:
                w = of_weights.reshape(*W.shape, X.shape[0], m)[0]
                b = grad.J.reshape(m, X.shape[0], m) * X[:, :1]
                return round(float(np.median(b[w != 0] / w[w != 0])))
    return 0


def early(grad: Any) -> Guesses:
    """The step comes first: with a tiny learning rate all is right."""
    case = grad.case
    if case.subject.learns_by_steps:
        yield f"{EARLY} at a learning rate of 0 it is right", where_true(grad.right(grad.rerun(rate=1e-7)))
    if grad.name == "X" and any(not np.array_equal(W, grad.parameters[n]) for n, W in case.after.items()):
        yield f"{EARLY} it belongs to the parameters after the step", grad.agrees(case.after)


def passed_on(grad: Any) -> Guesses:
    """A is dE/dY."""
    A, D, G, J, of_g = grad.A, grad.D, grad.G, grad.J, grad.multiple()
    if grad.alike:
        turned = G is not None and any(same(G, D.transpose(a)) for a in turns(D) if D.transpose(a).shape == D.shape)
        yield "transposed: A = dE/dY, but Y is X with its axes in another order", turned and grad.equals(D)
        yield f"{IDENTITY}: A = dE/dY", grad.equals(D) if probable(grad.Y) else None
        yield f"{PASSED_ON}: A = dE/dY{f' ({of_g})' if of_g else ''}", grad.equals(D)
    elif grad.name != "X" and not (J is not None and len(np.unique(np.round(J[J != 0], 6))) == 1):
        text = IDENTITY if probable(grad.Y) else PASSED_ON
        yield f"{text}: it is the sum of dE/dY, without the factors in between", grad.equals(added_up(D, A.shape))


def of_the_pass_before(grad: Any) -> Guesses:
    X_before, D_before = {"X": grad.case.before["X"]}, grad.case.D_before
    # After a relu, for example, it may fit another input by chance: it must be right where that input came before.
    text = f"{STALE} it belongs to the input of the pass before"
    yield text, grad.agrees(X_before) and grad.right_if_repeated()
    yield f"{STALE} it belongs to dE/dY of the pass before", grad.agrees({}, D_before) and grad.right_if_repeated()
    yield f"{STALE} it belongs to the pass before", grad.agrees(X_before, D_before) and grad.right_if_repeated()
    yield f"{STALE} that of the pass before is added to it", grad.agrees(X_before, D_before, plus=True)


def more_than_the_gradient(grad: Any) -> Guesses:
    """The step of an article's layer that has momentum or weight decay."""
    yield grad.multiple(), where_true(grad.multiple())
    if not grad.by_step or grad.x.size < 4:
        return
    momentum = grad.slopes(grad.case.before, grad.case.D_before)
    decay = np.array([np.sum(grad.x * v) for v in grad.vs])
    words = ("times that of the pass before (momentum?)", f"times {grad.name} (weight decay?)")
    for text, other in zip(words, (momentum, decay), strict=True):
        both = np.stack([grad.own, other], axis=1)
        a, c = np.linalg.lstsq(both, grad.given, rcond=None)[0]
        fits = np.linalg.norm(np.matmul(both, [a, c]) - grad.given) <= 1e-6 * np.linalg.norm(grad.given)
        yield f"{MORE} it is {a:.4g} times it, and {c:.4g} {text}", where_true(fits and min(abs(a), abs(c)) > 1e-5)


def kept_too_long(grad: Any) -> Guesses:
    """Right where the pass before was the same, or for the parameters that the layer was created with."""
    yield f"{STALE} it depends on the pass before, and is right only where that was the same", grad.right_if_repeated()
    text = f"{STALE} it is right for the initial parameters, not for the current ones: a copy of them is kept"
    yield text, grad.right_as_made(uneven=True)


def perhaps_a_copy(grad: Any) -> Guesses:
    """The same for constant parameters; other mistakes give the right values there too, so this guess comes last."""
    yield f"{STALE} it is right for the initial parameters: is a copy of them kept?", grad.right_as_made(uneven=False)


# -- mistakes of elementwise functions ---------------------------------------------------------------------------------


def element_by_element(grad: Any) -> Guesses:
    A, D, X, Y, G, own = grad.A, grad.D, grad.X, grad.Y, grad.G, grad.diagonal
    if not grad.alike or G is None:
        return
    J = np.diag(grad.J).reshape(Y.shape) if own is None and grad.J is not None else None
    yield "only the diagonal of its Jacobian: each Y depends on other X too", grad.equals(None if J is None else D * J)
    if own is not None:
        for mask in (D > 0, (D > 0) & (own != 0)):
            yield f"{PARTLY} the mask is made from dE/dY, not from X, A = max(dE/dY, 0)", grad.equals(D * mask)
    yield f"{STALE} the derivative is taken at Y instead of X", grad.agrees({"X": Y})
    yield f"{MISSING}: the term of a skip connection is missing, A = G - dE/dY", grad.equals(G - D)
    yield "a term too many: A = G + dE/dY, the error is added once more", grad.equals(G + D)
    yield f"{SIGN} the term besides the skip connection is subtracted, A = 2 dE/dY - G", grad.equals(2 * D - G)
    mask = where_true(other_places(A / D, G / D))
    yield "sign: the mask is inverted, zero where it should not be", mask and grad.equals(np.max(G / D) * D - G)
    yield f"{STALE} the same multiples of dE/dY at other positions: is the mask drawn again?", mask
    if own is not None:
        yield from ((text, grad.equals(D * u)) for text, u in slips(Y, X))


def softmax_alone(grad: Any) -> Guesses:
    D, Y = grad.D, grad.Y
    if grad.alike and probable(Y):
        yield f"{PARTLY} A = Y * dE/dY, only a part, without the sum over the others", grad.equals(D * Y)
        for axes, total in ((axes, np.sum(D * Y, axis=axes, keepdims=True)) for axes in subsets(Y)):
            yield f"softmax's sum goes over the wrong axes {axes}", grad.equals(Y * (D - total))
            yield f"{SIGN} softmax's sum is added, not subtracted", grad.equals(Y * (D + total))


def slips(Y: Array, X: Array | None = None) -> list[tuple[str, Array]]:
    """The factors that usual slips with the derivatives of tanh and sigmoid give, in terms of Y and X."""
    s, at_y = 1.0 / (1.0 + np.exp(-Y)), f"{STALE} the derivative is taken at Y instead of X,"
    part, text = f"{PARTLY} a part of it,", f"{STALE} X is used where Y belongs, A = dE/dY *"
    found = [(f"{at_y} 1 - tanh(Y)**2", 1.0 - np.tanh(Y) ** 2), (f"{at_y} s(Y) (1 - s(Y))", s * (1.0 - s))]
    found += [(f"{part} A = dE/dY * Y", Y), (f"{part} A = dE/dY * (1 - Y)", 1.0 - Y)]
    found += [(f"{part} A = dE/dY * Y**2", Y**2), (f"{SIGN} A = dE/dY * (1 + Y**2)", 1.0 + Y**2)]
    found += [(f"{SIGN} A = dE/dY * Y * (1 + Y)", Y * (1.0 + Y))]
    if X is not None:
        found += [(f"{part} A = dE/dY * Y / X", Y / X), (f"{PARTLY} A = dE/dY * X", X)]
        found += [(f"{text} (1 - X**2)", 1.0 - X**2), (f"{text} X * (1 - X)", X - X**2)]
    return found


# -- the right values at other positions, or some of them --------------------------------------------------------------


def passed_on_scaled(grad: Any) -> Guesses:
    text = IDENTITY if probable(grad.Y) else PASSED_ON
    yield f"{text} except for a number", grad.equals(grad.D) if grad.name == "X" else None


def parameters_turned(grad: Any) -> Guesses:
    """Another parameter transposed or flipped: A is right for that one, or where backward gets that one."""
    ways: list[tuple[str, str, Array]] = []
    for name, W in ((n, W) for n, W in grad.parameters.items() if W.ndim > 1 and n != grad.name):
        turned = ((f"with axes in the order {axes}", W.transpose(axes)) for axes in turns(W))
        ways += [(f"transposed: it is the one for {name} {how}", name, T) for how, T in turned if T.shape == W.shape]
        flipped = ((f"flipped along axes {axes}", np.flip(W, axes)) for axes in subsets(W))
        ways += [(f"flipped kernel: it is the one for {name} {how}", name, F) for how, F in flipped]
    if grad.name == "X":
        yield from ((text, where_true(grad.right(grad.rerun({name: W})))) for text, name, W in ways)
    yield from ((text, grad.agrees({name: W})) for text, name, W in ways)


def in_part(grad: Any) -> Guesses:
    """Only the contribution of some elements of Y."""
    D, Y, first = grad.D, grad.Y, grad.first
    among = [a for a in range(Y.ndim if grad.by_number else first) if Y.shape[a] > 1]
    for axis, i in ((a, i) for a in among for i in range(Y.shape[a])):
        text = f"{BATCH} only sample {i} of {Y.shape[0]} counts"
        text = text if axis < first else f"not summed over axis {axis} of Y: the part of index {i} of {Y.shape[axis]}"
        only = np.where(np.indices(Y.shape, sparse=True)[axis] == i, D, 0.0)
        yield text, grad.equals(grad.pull(only)) if grad.by_number else grad.agrees({}, only)
    for axes in (axes for n in (2, 3) for axes in combinations(among, n)):
        for places in product(*((0, Y.shape[a] - 1) for a in axes)):
            only = np.zeros(Y.shape)
            there = tuple(dict(zip(axes, places, strict=True)).get(a, slice(None)) for a in range(Y.ndim))
            only[there] = D[there]
            text = f"not summed over axes {axes} of Y: only the part of index {places}"
            yield text, grad.equals(grad.pull(only))


def last_sample_of_each(grad: Any) -> Guesses:
    """Where several samples add to one element, as to a row of a table, only the last one does."""
    N = grad.batch
    if not grad.first or N < 2 or grad.name == "X":
        return
    parts = [
        grad.pull(np.where(np.arange(N).reshape(-1, *[1] * (grad.D.ndim - 1)) == i, grad.D, 0.0)) for i in range(N)
    ]
    for text, order in (("last", parts), ("first", parts[::-1])):
        found = np.zeros(grad.A.shape)
        for part in order:
            found = np.where(part != 0, part, found)
        yield f"{BATCH} only the {text} sample of those that add to a place counts (repeated rows?)", grad.equals(found)


def numbers_turned(grad: Any) -> Guesses:
    A, G = grad.A, grad.G
    if G is not None and 2 * np.count_nonzero(G) <= G.size and grad.name == "X":
        return  # few values, as after a window: many guesses would fit
    for axes in turns(A):
        back = A.transpose(np.argsort(axes))
        yield f"transposed: it is the right one, axes in the order {axes}", grad.same_as_right(back)
    yield "transposed: the right numbers, laid out column by column", grad.same_as_right(A.reshape(A.T.shape).T)
    for axes in subsets(A):
        yield f"flipped kernel: it is the right one flipped along axes {axes}", grad.same_as_right(np.flip(A, axes))
    if G is None:
        return
    for axis, by in ((a, by) for a in range(G.ndim) if G.shape[a] > 2 for by in (1, -1)):
        a, g = (np.take(z, np.arange(G.shape[axis] - 1) + (by > 0), axis) for z in (A, np.roll(G, by, axis)))
        yield f"shifted by one position along axis {axis}", where_true(grad.equals(g, a) == 1.0)
    total = np.broadcast_to(G.sum(axis=0, keepdims=True), G.shape) if grad.name == "X" and grad.batch > 1 else None
    yield "dE/dX is summed over the batch: each sample has the sum of all", grad.equals(total)


def factors(grad: Any) -> Guesses:
    """One factor too many or too few."""
    A, D, G = grad.A, grad.D, grad.G
    for name, B in [*grad.case.values.items(), ("Y", grad.Y)]:
        if G is not None and name != grad.name and added_up(G, B.shape) is not None:
            yield f"a factor too many, {name}", grad.equals(G * B)
            yield f"{PARTLY} the factor {name} is missing", grad.equals(G / B) if np.all(B) else None
        if name in ("X", "Y") and grad.name != "X" and B.shape == D.shape:
            yield f"{STALE} {name} is used where another array belongs", grad.equals(added_up(D * B, A.shape))


# -- layers of several steps -------------------------------------------------------------------------------------------


def without_statistics(grad: Any) -> Guesses:
    """Layers that subtract a mean and divide by a deviation: one of them, or both, treated as constant."""
    A, X, G, first, last = grad.A, grad.X, grad.G, grad.first, grad.X.ndim - 1
    choices = [range(last), (last,), range(first, last + 1), range(first, last), range(1)]
    for axes in (tuple(c) for c in choices if prod(X.shape[a] for a in c) > 1):
        if grad.name != "X" or A.shape != grad.D.shape or G is None:
            return
        if np.max(np.abs(G.sum(axis=axes))) > CLOSE * np.max(np.abs(G)):  # no mean is subtracted along these
            yield f"{PARTLY} that of a value common to axes {axes}", factor_along(A, grad.D, axes)
            continue
        Z = X - X.mean(axis=axes, keepdims=True)
        Z = Z / np.sqrt((Z**2).mean(axis=axes, keepdims=True))
        scales = [W for W in (*grad.parameters.values(), np.ones(1)) if added_up(grad.D, W.shape) is not None]
        for D in (grad.D * W for W in scales):
            m, v = D.mean(axis=axes, keepdims=True), Z * (D * Z).mean(axis=axes, keepdims=True)
            yield f"{PARTLY} those of mean and variance, as if both were constant", factor_along(A, D, axes)
            yield f"{PARTLY} that of the variance", factor_along(A, D - m, axes)
            # Approximately: the layer's own Z is a little smaller, by the epsilon under its root.
            yield f"{PARTLY} that of the mean", factor_along(A, D - v, axes, 1e-3)
            sums = D - (m + v) * (D.size // m.size)
            yield "constant factor: sums are used where means belong", factor_along(A, sums, axes, 1e-3)
            yield f"{SIGN} the variance's part", factor_along(A, D - m + v, axes, 1e-3)
            yield f"{SIGN} the mean's part", factor_along(A, D + m - v, axes, 1e-3)
            yield f"{PARTLY} the scale's, or the deviation's factor", factor_along(A, D - m - v, axes, 1e-3)


def ends_in_a_function(grad: Any) -> Guesses:
    """Layers that end in a function of each element, f(Z), or in softmax: what is left when f' is wrong or missing."""
    D, A, X, Y, own = grad.D, grad.A, grad.X, grad.Y, grad.J
    wrong = [(f"{PASSED_ON} by the function at the end", np.ones(1)), *slips(Y)]
    if probable(Y):
        diagonal = "only the diagonal of softmax's Jacobian, dE/dY * Y * (1 - Y): each Y depends on other inputs too"
        wrong = [(f"{IDENTITY} at the end", np.ones(1)), (diagonal, Y * (1.0 - Y)), *wrong[1:]]
    for other, W in grad.parameters.items():
        rows = W.ndim == 2 and X.size // X.shape[-1] == Y.size // Y.shape[-1]
        if rows and W.shape == (X.shape[-1], Y.shape[-1]) and grad.name in ("X", other):
            for text, dZ in ((text, (D * u).reshape(-1, W.shape[1])) for text, u in wrong):
                dW = np.matmul(X.reshape(-1, W.shape[0]).T, dZ)
                yield text, grad.equals(np.matmul(dZ, W.T).reshape(A.shape) if grad.name == "X" else dW)
            Y_rows, D_rows = (Z.reshape(-1, W.shape[1]) for Z in (Y, D))
            yield f"{STALE} Y is used where X belongs", grad.equals(np.matmul(Y_rows.T, D_rows))
        J = grad.measured(other)[1] if added_up(D, W.shape) is not None else None
        f = np.zeros(D.size) if J is None else J.sum(axis=0)  # f'(Z), if this one is a bias
        for text, u in wrong if J is not None else ():
            yield text, grad.equals(added_up(D * u, W.shape)) if other == grad.name else None
            dZ = (D * u).reshape(-1) / f if np.all(np.abs(f) > 1e-7) else np.zeros(f.shape)
            yield text, grad.equals(np.matmul(own, dZ).reshape(A.shape)) if own is not None else None
        yield wrong[0][0], grad.agrees({other: W + 1e3})  # relu, where all of Z is positive


# -- when none of them fits --------------------------------------------------------------------------------------------


def at_some_places(grad: Any) -> str:
    """For A that is right at some elements: what the others have in common."""
    A, D, G = grad.A, grad.D, grad.G
    if G is None or not np.any(off := np.abs(A - G) > CLOSE * np.max(np.abs(G))):
        return ""
    if same(np.sort(A, axis=None), np.sort(G, axis=None)):
        where = f"wrong at {np.sum(off)} of {A.size} places, the first at {np.argwhere(off)[0].tolist()}"
        return f"the right numbers at other places: transposed, or the wrong element of a window; {where}"
    if not np.any(G[~off]):
        others = {a: tuple(b for b in range(G.ndim) if b != a) for a in range(G.ndim) if 1 < G.shape[a] < G.size / 2}
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
    return f"{grad.no_known()}; wrong {where}"


Kind = Callable[[Any], Guesses]
EXACT: list[Kind] = [bias_again, early, passed_on, of_the_pass_before, more_than_the_gradient, element_by_element]
EXACT += [softmax_alone, kept_too_long]
SCALED: list[Kind] = [passed_on_scaled, numbers_turned, parameters_turned, in_part, last_sample_of_each]
SCALED += [without_statistics, ends_in_a_function, factors, perhaps_a_copy]
