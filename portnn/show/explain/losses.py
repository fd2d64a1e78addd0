"""The error E of the sample, and dE/dY, by the loss's formula with the numbers put in."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from portnn import losses
from portnn.functions import name_of
from portnn.losses import Huber, SoftmaxCrossEntropy
from portnn.show.explain.arithmetic import Expression, N, call, cell, equation, exp, largest, sigmoid, total
from portnn.show.explain.cells import cells, described
from portnn.show.explain.norms import exponentials, sum_of_exponentials
from portnn.show.explain.page import Section
from portnn.show.explain.trace import Trace

ROWS = 3  # of logits that are written out


def show_error(traced: Trace, section: Section) -> None:
    """The error of the last layer's Y."""
    loss = traced.network.loss
    Y = traced.passes[-1].Y
    compared = f"Y of the last layer, {described(Y)}, with the target Y*, {_target(traced)}"
    section.note(f"The loss {name_of(loss)} compares {compared}.")
    if losses.takes_classes(loss) and _own(loss):
        _cross_entropy(traced, section)
        return
    rule = _rule(loss)
    if rule is None:
        section.note(f"Your loss {name_of(loss)} makes E of Y* and Y: E is {N(traced.E).text(5)}.")
        return
    n, target = Y.size, traced.target.reshape(Y.shape).astype(np.float64)
    section.formula(f"E = 1/n sum of e,  {rule.formula},  n = {n}, the number of cells of Y")
    errors = rule.errors(target, Y)
    for place in cells(errors):
        put_in = rule.error(float(target[place]), float(Y[place]))
        section.equation(equation(f"e{cell(place)}", put_in, errors[place]))
    section.equation(equation("E", total(errors) / n, traced.E))


def show_derivative(traced: Trace, section: Section) -> None:
    """dE/dY of the last layer's Y, with which the way back begins."""
    loss, D = traced.network.loss, traced.D
    Y = traced.passes[-1].Y
    if losses.takes_classes(loss) and _own(loss):
        _cross_entropy_prime(traced, section)
        return
    rule = _rule(loss)
    if rule is None:
        section.note(f"Your {name_of(traced.network.loss_prime)} gives:")
        for place in cells(D):
            section.note(f"dE/dY{cell(place)} is {N(D[place]).text(5)}.")
        return
    target = traced.target.reshape(Y.shape)
    section.formula(f"dE/dY = 1/n de/dY,  {rule.derivative}")
    for place in cells(D):
        section.equation(
            equation(f"dE/dY{cell(place)}", rule.prime(float(target[place]), float(Y[place]), Y.size), D[place])
        )


def _own(loss: Any) -> bool:
    """Whether it is a loss of ours, not of a class derived from one."""
    return loss in [f for f, _ in losses.PAIRS.values()] or type(loss) in (Huber, SoftmaxCrossEntropy)


def _target(traced: Trace) -> str:
    if traced.classes and traced.target.size == 1:
        return f"class {int(traced.target.ravel()[0])}"
    return described(np.asarray(traced.target, np.float64))


# -- losses that are means over the cells of Y -------------------------------------------------------------------------


class _Rule(NamedTuple):
    """The error e of a cell and its derivative; both are put in for a target t and an output y."""

    formula: str
    derivative: str
    errors: Callable[[np.ndarray, np.ndarray], np.ndarray]  # of all cells
    error: Callable[[float, float], Expression]
    prime: Callable[[float, float, int], Expression]


def _bce_error(t: float, y: float) -> Expression:
    """The second of the loss's two forms, which does not overflow."""
    away = 1 - N(t) if y >= 0.0 else N(t)
    return away * N(abs(y)) + call("log", 1 + exp(N(-abs(y))))


def _huber(loss: Huber) -> _Rule:
    delta = float(loss.delta)

    def error(t: float, y: float) -> Expression:
        d = call("abs", N(t) - N(y))
        return (N(y) - N(t)) ** 2 / 2 if abs(t - y) <= delta else N(delta) * (d - N(delta) / 2)

    def prime(t: float, y: float, n: int) -> Expression:
        return call("max", call("min", N(y) - N(t), N(delta)), N(-delta)) / n

    near = "e = (Y - Y*)**2 / 2 where |Y - Y*| is at most delta"
    formula = f"{near}, else delta (|Y - Y*| - delta / 2),  delta: {delta:g}"

    def errors(t: np.ndarray, y: np.ndarray) -> np.ndarray:
        near = np.minimum(np.abs(t - y), delta)
        return np.asarray(near * (np.abs(t - y) - 0.5 * near))

    return _Rule(formula, "de/dY = Y - Y*, but at least -delta and at most delta", errors, error, prime)


_RULES: dict[Any, _Rule] = {
    losses.mse: _Rule(
        "e = (Y* - Y)**2",
        "de/dY = 2 (Y - Y*)",
        lambda t, y: (t - y) ** 2,
        lambda t, y: (N(t) - N(y)) ** 2,
        lambda t, y, n: 2 * (N(y) - N(t)) / n,
    ),
    losses.mae: _Rule(
        "e = |Y* - Y|",
        "de/dY = sign(Y - Y*)",
        lambda t, y: np.abs(t - y),
        lambda t, y: call("abs", N(t) - N(y)),
        lambda t, y, n: call("sign", N(y) - N(t)) / n,
    ),
    losses.hinge: _Rule(
        "e = max(0, 1 - Y* Y)",
        "de/dY = -Y* where Y* Y < 1, else 0",
        lambda t, y: np.maximum(0.0, 1.0 - t * y),
        lambda t, y: call("max", 0, 1 - N(t) * N(y)),
        lambda t, y, n: N(-t if t * y < 1.0 else 0.0) / n,
    ),
    losses.binary_cross_entropy: _Rule(
        "e = -(Y* log p + (1 - Y*) log(1 - p)) = R |Y| + log(1 + exp(-|Y|)),  p = 1 / (1 + exp(-Y)),  "
        "R = 1 - Y* where Y >= 0, else Y*",
        "de/dY = p - Y*",
        lambda t, y: np.where(y >= 0.0, 1.0 - t, t) * np.abs(y) + np.log1p(np.exp(-np.abs(y))),
        _bce_error,
        lambda t, y, n: (sigmoid(y) - N(t)) / n,
    ),
}


def _rule(loss: Any) -> _Rule | None:
    """The rule of a loss that is a mean over the cells of Y; None for a user's."""
    if type(loss) is Huber:
        return _huber(loss)
    return next((rule for own, rule in _RULES.items() if own is loss), None)


# -- cross-entropy of logits -------------------------------------------------------------------------------------------


def _smoothing(loss: Any) -> float:
    return float(getattr(loss, "label_smoothing", 0.0))


def _rows(traced: Trace) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, the targets' rows before smoothing, and after it, all (rows, classes)."""
    Y, s = traced.passes[-1].Y, _smoothing(traced.network.loss)
    logits = Y.reshape(-1, Y.shape[-1])
    if traced.classes:
        given = np.eye(logits.shape[1])[np.asarray(traced.target, np.int64).ravel()]
    else:
        given = np.asarray(traced.target, np.float64).reshape(logits.shape)
    return logits, given, (1.0 - s) * given + s / logits.shape[1] if s else given


def _cross_entropy(traced: Trace, section: Section) -> None:
    logits, given, T = _rows(traced)
    s, rows = _smoothing(traced.network.loss), logits.shape[0]
    section.formula(
        "E = -sum over i of T[i] log p[i],  p[i] = exp(Y[i] - m) / s,  s = sum over j of exp(Y[j] - m)",
        "m, the largest Y[j], changes nothing, but keeps exp from overflowing",
        f"T = (1 - a) Y* + a / (number of classes),  label smoothing a: {s:g}" if s else "T = Y*, as a row",
    )
    if rows == 1:
        _one_row(section, logits[0], given[0], T[0], "", "E", traced.E, s)
        return
    errors = [-math.fsum(np.where(t == 0.0, 0.0, t * _log_p(row))) for row, t in zip(logits, T, strict=True)]
    for r in range(rows) if rows <= ROWS else largest(errors, ROWS):
        name = _name(traced, r)
        _one_row(section, logits[r], given[r], T[r], name, f"e[{name}]", errors[r], s)
    section.formula("E = the sum of e, the errors of the rows")
    section.equation(equation("E", total(errors), traced.E))


def _log_p(row: np.ndarray) -> np.ndarray:
    m, _, S = exponentials(row)
    return np.asarray(row - m - math.log(S))


def _name(traced: Trace, r: int) -> str:
    """The index of a row of logits, without the last axis; empty for one row alone."""
    shape = traced.passes[-1].Y.shape[:-1]
    return "" if math.prod(shape) == 1 else ", ".join(str(int(i)) for i in np.unravel_index(r, shape))


def _one_row(
    section: Section,
    row: np.ndarray,
    given: np.ndarray,
    T: np.ndarray,
    name: str,
    called: str,
    error: float,
    smoothing: float,
) -> None:
    """The error of one row of logits: -sum of T log p."""
    m, S = sum_of_exponentials(section, f"s[{name}]" if name else "s", row)
    wanted = [i for i in range(row.size) if T[i] != 0.0]
    log_p = _log_p(row)
    for i in wanted if len(wanted) <= ROWS else largest(T, ROWS):
        inside = f"[{name}, {i}]" if name else f"[{i}]"
        if smoothing:
            section.equation(equation(f"T{inside}", (1 - N(smoothing)) * N(given[i]) + N(smoothing) / row.size, T[i]))
        section.equation(equation(f"p{inside}", exp(N(row[i]) - N(m)) / N(S), math.exp(row[i] - m) / S))

    def term(k: int) -> Expression:
        i = wanted[k]
        underflows = log_p[i] < -600.0  # then p is zero, and its logarithm is written instead
        log = N(log_p[i]) if underflows else call("log", N(math.exp(log_p[i])))
        return log if T[i] == 1.0 else N(T[i]) * log

    section.equation(equation(called, -total(T[wanted] * log_p[wanted], term), error))


def _cross_entropy_prime(traced: Trace, section: Section) -> None:
    logits, _, T = _rows(traced)
    D, shape = traced.D, traced.passes[-1].Y.shape
    sums = np.ones(len(T)) if traced.classes else T.sum(axis=1)
    section.formula("dE/dY = p - T" if np.allclose(sums, 1.0, atol=1e-7) else "dE/dY = p (sum of T) - T")
    for place in cells(D):
        r = int(np.ravel_multi_index(place[:-1], shape[:-1])) if len(shape) > 1 else 0
        i = place[-1]
        m, z, S = exponentials(logits[r])
        p = N(np.asarray(z[i] / S, traced.network.dtype))  # it may underflow there
        left = p if abs(sums[r] - 1.0) <= 1e-7 else p * N(sums[r])
        section.equation(equation(f"p{cell(place)}", exp(N(logits[r][i]) - N(m)) / N(S), p.number))
        section.equation(equation(f"dE/dY{cell(place)}", left - N(T[r][i]), D[place]))
