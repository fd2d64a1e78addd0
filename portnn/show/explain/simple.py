"""Layers whose calculation is that of single cells: fully connected, activations, and those that only move values."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from portnn import activations
from portnn.layers.dropout import WORDS
from portnn.show.explain.arithmetic import Expression, N, call, cell, equation, exp, products, sigmoid, total
from portnn.show.explain.cells import Index, cells, shaped
from portnn.show.explain.page import Section
from portnn.show.explain.trace import Pass

# -- fully connected ---------------------------------------------------------------------------------------------------


def fc_forward(at: Pass, section: Section) -> None:
    W, B = at.parameters["weights"], at.parameters.get("bias")
    plus = " + B" if B is not None else ""
    section.formula(f"Y = X W{plus},  Y[j] = sum over i of X[i] W[i, j]{plus and plus + '[j]'}")
    for place in cells(at.Y):
        *row, j = place
        weighted = products(at.X[tuple(row)], W[:, j])
        section.equation(equation(f"Y{cell(place)}", weighted if B is None else weighted + N(B[0, j]), at.Y[place]))


def fc_backward(at: Pass, section: Section) -> None:
    W, X, D = at.parameters["weights"], at.X.reshape(-1, at.X.shape[-1]), at.D.reshape(-1, at.D.shape[-1])
    section.formula("dE/dX = dE/dY W^T,  dE/dX[i] = sum over j of dE/dY[j] W[i, j]")
    for place in cells(at.input_error):
        *row, i = place
        section.equation(equation(f"dE/dX{cell(place)}", products(at.D[tuple(row)], W[i]), at.input_error[place]))
    if "weights" in at.gradients:
        of_rows = "" if D.shape[0] == 1 else "sum over the rows of "
        section.formula(f"dE/dW = X^T dE/dY,  dE/dW[i, j] = {of_rows}X[i] dE/dY[j]")
        dW = at.gradients["weights"]
        for i, j in cells(dW):
            section.equation(equation(f"dE/dW{cell((i, j))}", products(X[:, i], D[:, j]), dW[i, j]))
    if "bias" in at.gradients:
        dB = at.gradients["bias"]
        section.formula("dE/dB = dE/dY" if D.shape[0] == 1 else "dE/dB = sum of dE/dY over all rows")
        for place in cells(dB):
            j = place[-1]
            alone = f"dE/dY{cell((*(0,) * (at.D.ndim - 1), j))}" if D.shape[0] == 1 else total(D[:, j])
            section.equation(equation(f"dE/dB{cell(place)}", alone, dB[place]))


# -- activations -------------------------------------------------------------------------------------------------------

Put = Callable[[float], Expression | None]  # None: Y is X


def _sigmoid_prime(x: float) -> Expression:
    z = exp(N(-abs(x)))  # s (1 - s), which is the same for x and -x
    return z / (1 + z) ** 2


def _normal_below(x: float) -> Expression:
    """The normal distribution function."""
    return (1 + call("erf", N(x) / call("sqrt", 2))) / 2


def _gelu_inner(x: float) -> Expression:
    return N(activations.GELU_SLOPE) * (N(x) + activations.GELU_CUBE * N(x) ** 3)


def _gelu_tanh_prime(x: float) -> Expression:
    t = call("tanh", _value(_gelu_inner, x))
    inner_prime = N(activations.GELU_SLOPE) * (1 + N(3.0 * activations.GELU_CUBE) * N(x) ** 2)
    return 0.5 * (1 + t) + 0.5 * N(x) * (1 - t**2) * inner_prime


def _value(put: Callable[[float], Expression], x: float) -> N:
    return N(put(x).value(17))


_SCALE, _SCALED_ALPHA = activations.SELU_SCALE, activations.SELU_SCALE * activations.SELU_ALPHA


class Rule(NamedTuple):
    """The formulas of f and f', and both with a number put in; ``inner`` names a value that both contain."""

    formula: str
    derivative: str
    f: Put
    f_prime: Callable[[float], Expression]
    inner: tuple[str, Callable[[float], Expression]] | None = None


RULES = {
    "tanh": Rule(
        "f(x) = tanh(x)",
        "f'(x) = 1 - tanh(x)**2",
        lambda x: call("tanh", N(x)),
        lambda x: 1 - call("tanh", N(x)) ** 2,
    ),
    "sigmoid": Rule("f(x) = 1 / (1 + exp(-x))", "f'(x) = f(x) (1 - f(x))", sigmoid, _sigmoid_prime),
    "relu": Rule(
        "f(x) = max(x, 0)",
        "f'(x) = 1 where x > 0, else 0",
        lambda x: call("max", N(x), 0),
        lambda x: N(float(x > 0.0)),
    ),
    "leaky_relu": Rule(
        "f(x) = max(x, 0.01 x)",
        "f'(x) = 1 where x > 0, else 0.01",
        lambda x: call("max", N(x), activations.LEAK * N(x)),
        lambda x: N(1.0 if x > 0.0 else activations.LEAK),
    ),
    "elu": Rule(
        "f(x) = x where x > 0, else exp(x) - 1",
        "f'(x) = 1 where x > 0, else exp(x)",
        lambda x: None if x > 0.0 else exp(N(x)) - 1,
        lambda x: N(1.0) if x > 0.0 else exp(N(x)),
    ),
    "selu": Rule(
        "f(x) = 1.0507 x where x > 0, else 1.7581 (exp(x) - 1)",
        "f'(x) = 1.0507 where x > 0, else 1.7581 exp(x)",
        lambda x: N(_SCALE) * N(x) if x > 0.0 else N(_SCALED_ALPHA) * (exp(N(x)) - 1),
        lambda x: N(_SCALE) if x > 0.0 else N(_SCALED_ALPHA) * exp(N(x)),
    ),
    "gelu": Rule(
        "f(x) = x P,  P = (1 + erf(x / sqrt(2))) / 2",
        "f'(x) = P + x exp(-x**2 / 2) / sqrt(2 pi)",
        lambda x: N(x) * _value(_normal_below, x),
        lambda x: _value(_normal_below, x) + N(x) * exp(-0.5 * N(x) ** 2) / call("sqrt", N(2.0 * math.pi)),
        ("P", _normal_below),
    ),
    "gelu_tanh": Rule(
        "f(x) = x (1 + tanh(u)) / 2,  u = sqrt(2 / pi) (x + 0.044715 x**3)",
        "f'(x) = (1 + tanh(u)) / 2 + x (1 - tanh(u)**2) u' / 2,  u' = sqrt(2 / pi) (1 + 0.134145 x**2)",
        lambda x: 0.5 * N(x) * (1 + call("tanh", _value(_gelu_inner, x))),
        _gelu_tanh_prime,
        ("u", _gelu_inner),
    ),
    "silu": Rule(
        "f(x) = x s,  s = 1 / (1 + exp(-x))",
        "f'(x) = s + x s (1 - s)",
        lambda x: N(x) * _value(sigmoid, x),
        lambda x: _value(sigmoid, x) + N(x) * _value(sigmoid, x) * (1 - _value(sigmoid, x)),
        ("s", sigmoid),
    ),
    "softplus": Rule(
        "f(x) = log(1 + exp(x)), the same as x + log(1 + exp(-x))",
        "f'(x) = 1 / (1 + exp(-x))",
        lambda x: (N(x) + call("log", 1 + exp(N(-x)))) if x > 0.0 else call("log", 1 + exp(N(x))),
        sigmoid,
    ),
    "softsign": Rule(
        "f(x) = x / (1 + |x|)",
        "f'(x) = 1 / (1 + |x|)**2",
        lambda x: N(x) / (1 + call("abs", N(x))),
        lambda x: 1 / (1 + call("abs", N(x))) ** 2,
    ),
    "hard_sigmoid": Rule(
        "f(x) = x / 6 + 1/2, but at least 0 and at most 1",
        "f'(x) = 1/6 where -3 < x < 3, else 0",
        lambda x: call("min", call("max", N(x) / 6 + 0.5, 0), 1),
        lambda x: N(1.0) / 6 if abs(x) < 3.0 else N(0.0),
    ),
}


def rule_of(layer: Any) -> Rule | None:
    """The rule of an activation layer with one of our own functions and its own derivative."""
    for name, (f, f_prime) in activations.PAIRS.items():
        if f is layer.activation and f_prime is layer.activation_prime:
            return RULES[name]
    return None


def activation_forward(at: Pass, section: Section) -> None:
    rule = rule_of(at.layer)
    section.formula(f"Y = f(X),  {rule.formula}" if rule else "Y = f(X)")
    for place in cells(at.Y):
        name, x = f"Y{cell(place)}", f"X{cell(place)}"
        if rule is None:
            section.note(f"{x} is {N(at.X[place]).text(5)}: your f makes {name} {N(at.Y[place]).text(5)} of it.")
            continue
        put_in = rule.f(float(at.X[place]))
        _show_inner(rule, at, section, place)
        section.equation(equation(name, x if put_in is None else put_in, at.Y[place]))


def _show_inner(rule: Rule, at: Pass, section: Section, place: Index) -> None:
    if rule.inner:
        name, put = rule.inner
        put_in = put(float(at.X[place]))
        section.equation(equation(f"{name}{cell(place)}", put_in, put_in.value(17)))


def activation_backward(at: Pass, section: Section) -> None:
    rule, slopes = rule_of(at.layer), None
    section.formula("dE/dX = dE/dY f'(X)" + (f",  {rule.derivative}" if rule else ""))
    if rule is None:
        backend = at.layer.backend
        slopes = np.array(backend.to_numpy(at.layer.f_prime(at.layer.input)), np.float64)[0]
    for place in cells(at.input_error):
        x = float(at.X[place])
        if rule is None:
            assert slopes is not None
            slope = float(slopes[place])
            section.note(f"Your f' makes dY/dX{cell(place)} {N(slope).text(5)} of X{cell(place)}, {N(x).text(5)}.")
        else:
            put_in = rule.f_prime(x)
            slope = put_in.value(17)
            plain = None if isinstance(put_in, N) else put_in
            section.equation(equation(f"dY/dX{cell(place)}", plain, slope))
        section.equation(equation(f"dE/dX{cell(place)}", N(at.D[place]) * N(slope), at.input_error[place]))


# -- layers that only move, scale or drop values -----------------------------------------------------------------------


def scale_forward(at: Pass, section: Section) -> None:
    factor, offset = float(at.layer.factor), float(at.layer.offset)
    section.formula("Y = factor X + offset" if offset else "Y = factor X")
    for place in cells(at.Y):
        scaled = N(factor) * N(at.X[place])
        section.equation(equation(f"Y{cell(place)}", scaled + N(offset) if offset else scaled, at.Y[place]))


def scale_backward(at: Pass, section: Section) -> None:
    section.formula("dE/dX = factor dE/dY")
    for place in cells(at.input_error):
        section.equation(equation(f"dE/dX{cell(place)}", N(at.layer.factor) * N(at.D[place]), at.input_error[place]))


def reshape_forward(at: Pass, section: Section) -> None:
    section.formula(f"Y: the numbers of X in the shape {at.Y.shape}, the last axis varies fastest")
    for place in cells(at.Y):
        source = np.unravel_index(int(np.ravel_multi_index(place, at.Y.shape)), at.X.shape)
        section.equation(equation(f"Y{cell(place)}", f"X{cell(tuple(map(int, source)))}", at.Y[place]))


def reshape_backward(at: Pass, section: Section) -> None:
    section.formula(f"dE/dX: the numbers of dE/dY in the shape of X, {at.X.shape}")
    for place in cells(at.input_error):
        source = np.unravel_index(int(np.ravel_multi_index(place, at.X.shape)), at.Y.shape)
        section.equation(
            equation(f"dE/dX{cell(place)}", f"dE/dY{cell(tuple(map(int, source)))}", at.input_error[place])
        )


def dropout_forward(at: Pass, section: Section) -> None:
    rate, threshold = float(at.layer.rate), at.layer.threshold
    section.formula("Y = X M,  M = 1 / (1 - rate) where a random word of 32 bits is at least rate * 2**32, else 0")
    section.note(f"These are the random words of the network's next step: seed {at.layer.seed}, step {at.layer.step}.")
    section.equation(f"threshold = round({rate!r}*{WORDS}) = {threshold}")
    if at.mask is None:
        return
    words = at.words.reshape(at.X.shape)
    for place in cells(at.Y):
        kept = int(words[place]) >= threshold
        section.note(
            f"word{cell(place)} is {int(words[place])}, {'at least' if kept else 'less than'} the threshold: "
            f"X{cell(place)} is {'kept' if kept else 'dropped'}."
        )
        if kept:
            section.equation(equation(f"M{cell(place)}", 1 / (1 - N(rate)), at.mask[place]))
        section.equation(equation(f"Y{cell(place)}", N(at.X[place]) * N(at.mask[place]), at.Y[place]))


def dropout_backward(at: Pass, section: Section) -> None:
    section.formula("dE/dX = dE/dY M")
    for place in cells(at.input_error):
        section.equation(equation(f"dE/dX{cell(place)}", N(at.D[place]) * N(at.mask[place]), at.input_error[place]))


# -- layers that contain layers, and those that are nobody's but the user's --------------------------------------------


def sequential_forward(at: Pass, section: Section) -> None:
    if at.children:
        section.note("Its layers run one after another: X goes into the first, and Y is that of the last.")
        return
    section.formula("Y = X")
    for place in cells(at.Y):
        section.equation(equation(f"Y{cell(place)}", f"X{cell(place)}", at.Y[place]))


def sequential_backward(at: Pass, section: Section) -> None:
    if at.children:
        section.note("Its layers run backwards: dE/dY goes into the last, and dE/dX is that of the first.")
        return
    section.formula("dE/dX = dE/dY")
    for place in cells(at.input_error):
        section.equation(equation(f"dE/dX{cell(place)}", f"dE/dY{cell(place)}", at.input_error[place]))


def residual_forward(at: Pass, section: Section) -> None:
    F = shaped(at.children[-1].Y, at.Y)
    section.formula("Y = X + F(X),  F(X): Y of the last layer inside")
    for place in cells(at.Y):
        section.equation(equation(f"Y{cell(place)}", N(at.X[place]) + N(F[place]), at.Y[place]))


def residual_backward(at: Pass, section: Section) -> None:
    dF = shaped(at.children[0].input_error, at.input_error)
    section.formula("dE/dX = dE/dY + dF,  dF: dE/dX of the first layer inside")
    for place in cells(at.input_error):
        section.equation(equation(f"dE/dX{cell(place)}", N(at.D[place]) + N(dF[place]), at.input_error[place]))


def parallel_forward(at: Pass, section: Section) -> None:
    names = ", ".join(f"F{k}" for k in range(len(at.children)))
    if at.layer.merge == "add":
        outputs = [shaped(child.Y, at.Y) for child in at.children]
        section.formula(f"Y = the sum of {names}, which are Y of the branches")
        for place in cells(at.Y):
            section.equation(equation(f"Y{cell(place)}", total([F[place] for F in outputs]), at.Y[place]))
        return
    section.formula(f"Y = [{names}] side by side along the last axis; they are Y of the branches")
    sizes = [child.Y.shape[-1] for child in at.children]
    for place in cells(at.Y):
        k, j = 0, place[-1]
        while j >= sizes[k]:
            k, j = k + 1, j - sizes[k]
        section.equation(equation(f"Y{cell(place)}", f"F{k}{cell((*place[:-1], j))}", at.Y[place]))


def parallel_backward(at: Pass, section: Section) -> None:
    part = "dE/dY" if at.layer.merge == "add" else "its part of dE/dY"
    section.formula(f"dE/dX = the sum of the branches' dE/dX; each of them gets {part}")
    inputs = [shaped(child.input_error, at.input_error) for child in at.children]
    for place in cells(at.input_error):
        section.equation(equation(f"dE/dX{cell(place)}", total([dX[place] for dX in inputs]), at.input_error[place]))


def other_forward(at: Pass, section: Section) -> None:
    section.note(f"{type(at.layer).__name__} computes Y by its own rule, which is not known here; its numbers are:")
    for place in cells(at.Y):
        before = f"X{cell(place)} is {N(at.X[place]).text(5)}, " if at.X.shape == at.Y.shape else ""
        section.note(f"{before}Y{cell(place)} is {N(at.Y[place]).text(5)}.")


def other_backward(at: Pass, section: Section) -> None:
    section.note(f"The derivatives are those that backward of {type(at.layer).__name__} gives:")
    found = [("dE/dX", at.input_error), *((f"dE/d{name}", g) for name, g in at.gradients.items())]
    for name, array in found:
        for place in cells(array) if array is not None else ():
            section.note(f"{name}{cell(place)} is {N(array[place]).text(5)}.")
