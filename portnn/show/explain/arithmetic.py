"""Equations with numbers in them: how they are written, and with how many digits.

An expression is built with Python's operators, ``N(0.5) * N(0.25) + N(1.0)``, and printed with so many digits that the
equation holds for whoever calculates with the numbers as they are printed: the result differs by at most half a unit of
its last digit.

The grammar, which a program can read (``tests/support/equations.py`` does):

    equation = NAME " = " [ (expression or NAME) " = " ] NUMBER
    NAME     = a letter, then letters, digits, "_", "/", "*"; then, of an array's cell, its indices: dE/dW[0, 2]
    expression: numbers, + - * / **, parentheses, and the functions of ``FUNCTIONS``; as in Python, but for
                (rest of 781 terms: 0.25), which stands for the number after the colon

The result has at least four significant digits, where the terms do not cancel; an exact one may be written shorter:
0.5 is 0.5000.
"""

import math
from collections.abc import Callable, Sequence
from operator import add, mul, sub
from typing import Any

import numpy as np

SUM, PRODUCT, POWER, ATOM = range(4)  # how tightly an expression holds together
MOST_DIGITS = 17
SMALLEST = -300  # power of ten, of a unit: smaller ones are hardly numbers any more
EXACT = 5e-13  # a result that is shorter than its digits, 0.5 for 0.5000, is off by no more
SHORT = 7  # digits: what differs from a shorter number only beyond them is written as that

OPERATIONS: dict[str, Callable[[float, float], float]] = {"+": add, "-": sub, "*": mul, "**": pow}
FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs,
    "cos": math.cos,
    "erf": math.erf,
    "exp": math.exp,
    "log": math.log,
    "max": max,
    "min": min,
    "round": round,
    "sign": lambda x: float((x > 0) - (x < 0)),
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tanh": math.tanh,
}


class Expression:
    """A part of an equation: its text, and its value as somebody calculates it who reads the text."""

    level = ATOM

    def text(self, digits: int, first: bool = True) -> str:
        """The text with numbers of so many digits; where it is not ``first`` in a sum, no minus stands in front."""
        raise NotImplementedError

    def value(self, digits: int) -> float:
        """The value that the text has."""
        raise NotImplementedError

    def __add__(self, other: Any) -> "Expression":
        return _Binary("+", SUM, self, as_expression(other))

    def __radd__(self, other: Any) -> "Expression":
        return as_expression(other) + self

    def __sub__(self, other: Any) -> "Expression":
        return _Binary("-", SUM, self, as_expression(other))

    def __rsub__(self, other: Any) -> "Expression":
        return as_expression(other) - self

    def __mul__(self, other: Any) -> "Expression":
        return _Binary("*", PRODUCT, self, as_expression(other))

    def __rmul__(self, other: Any) -> "Expression":
        return as_expression(other) * self

    def __truediv__(self, other: Any) -> "Expression":
        return _Binary("/", PRODUCT, self, as_expression(other))

    def __rtruediv__(self, other: Any) -> "Expression":
        return as_expression(other) / self

    def __neg__(self) -> "Expression":
        return _Negative(self)

    def __pow__(self, other: Any) -> "Expression":
        return _Binary("**", POWER, self, as_expression(other))


class N(Expression):
    """A number of the network: printed with the digits of its equation."""

    def __init__(self, number: Any):
        self.number = float(number)

    def text(self, digits: int, first: bool = True) -> str:
        found = shown(self.number, digits)
        return found if first or found[0] != "-" else f"({found})"

    def value(self, digits: int) -> float:
        return float(shown(self.number, digits))


class _Exact(Expression):
    """A number of a formula, printed as it is."""

    def __init__(self, number: float):
        self.number = number

    def text(self, digits: int, first: bool = True) -> str:
        found = repr(self.number)
        return found if first or found[0] != "-" else f"({found})"

    def value(self, digits: int) -> float:
        return self.number


class _Rest(N):
    """The sum of the terms that are not written out; or the largest of them, in a maximum."""

    def __init__(self, number: float, terms: int):
        super().__init__(number)
        self.terms = terms

    def text(self, digits: int, first: bool = True) -> str:
        return f"(rest of {self.terms} term{'s' * (self.terms > 1)}: {shown(self.number, digits)})"


class _Binary(Expression):
    def __init__(self, symbol: str, level: int, left: Expression, right: Expression):
        self.symbol, self.level, self.left, self.right = symbol, level, left, right

    def text(self, digits: int, first: bool = True) -> str:
        left = self.left.text(digits, first and self.symbol != "**")
        right = self.right.text(digits, False)
        if self.left.level < self.level or (self.symbol == "**" and self.left.level < ATOM):
            left = f"({self.left.text(digits)})"
        if self.right.level < self.level or (self.right.level == self.level and self.symbol != "+"):
            right = f"({self.right.text(digits)})"
        space = " " if self.level == SUM else ""
        return f"{left}{space}{self.symbol}{space}{right}"

    def value(self, digits: int) -> float:
        a, b = self.left.value(digits), self.right.value(digits)
        if self.symbol == "/":
            return a / b if b else math.nan
        try:
            return float(OPERATIONS[self.symbol](a, b))
        except OverflowError:
            return math.inf


class _Negative(Expression):
    level = PRODUCT

    def __init__(self, inside: Expression):
        self.inside = inside

    def text(self, digits: int, first: bool = True) -> str:
        found = self.inside.text(digits, False)
        found = f"-({self.inside.text(digits)})" if self.inside.level < PRODUCT else f"-{found}"
        return found if first else f"({found})"

    def value(self, digits: int) -> float:
        return -self.inside.value(digits)


class _Call(Expression):
    def __init__(self, name: str, arguments: Sequence[Expression]):
        self.name, self.arguments = name, arguments

    def text(self, digits: int, first: bool = True) -> str:
        return f"{self.name}({', '.join(argument.text(digits) for argument in self.arguments)})"

    def value(self, digits: int) -> float:
        try:
            return float(FUNCTIONS[self.name](*(argument.value(digits) for argument in self.arguments)))
        except (ValueError, OverflowError):  # log(0), exp(1000): with more digits, or another form, it may hold
            return math.nan


def as_expression(value: Any) -> Expression:
    """A plain number of Python's belongs to the formula; a number of the network is made with ``N``."""
    return value if isinstance(value, Expression) else _Exact(value)


def call(name: str, *arguments: Any) -> Expression:
    """A function of ``FUNCTIONS``, written by its name."""
    return _Call(name, [as_expression(argument) for argument in arguments])


def exp(x: Any) -> Expression:
    return call("exp", x)


def sigmoid(x: float) -> Expression:
    """1 / (1 + exp(-x)), in the form that does not overflow."""
    return 1 / (1 + exp(N(-x))) if x >= 0.0 else exp(N(x)) / (1 + exp(N(x)))


# -- sums of many terms ------------------------------------------------------------------------------------------------

WRITTEN = 4  # terms of a sum of products that are written out; of longer sums only the largest are
WRITTEN_ALONE = 6  # the same for terms that are single numbers


def added(terms: Sequence[Expression]) -> Expression:
    """The sum of a few terms."""
    found = terms[0]
    for term in terms[1:]:
        found = found + term
    return found


def total(values: Any, term: Callable[[int], Expression] | None = None, most: int = 0) -> Expression:
    """The sum of ``values`` (n,): ``term(i)`` writes one of them; the smaller ones of many are put together."""
    values = np.asarray(values, np.float64).ravel()
    most = most or (WRITTEN_ALONE if term is None else WRITTEN)
    write = term or (lambda i: N(values[i]))
    if values.size == 0:
        return _Exact(0)
    if values.size <= most:
        return added([write(i) for i in range(values.size)])
    kept = [i for i in largest(values, most - 1) if values[i] != 0.0] or [0]
    rest = np.delete(values, kept)
    return added([*(write(i) for i in kept), _Rest(math.fsum(rest), rest.size)])


def products(a: Any, b: Any) -> Expression:
    """The sum of products a[i] b[i]."""
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    return total(a * b, lambda i: N(a[i]) * N(b[i]))


def maximum(values: Any) -> Expression:
    """The largest of ``values`` (n,); of many, the smaller ones are represented by the largest of them."""
    values = np.asarray(values, np.float64).ravel()
    if values.size == 1:
        return N(values[0])
    if values.size <= WRITTEN_ALONE + 3:
        return call("max", *(N(v) for v in values))
    kept = sorted(np.argsort(-values, kind="stable")[: WRITTEN - 1].tolist())
    rest = np.delete(values, kept)
    return call("max", *(N(values[i]) for i in kept), _Rest(rest.max(), rest.size))


def largest(values: Any, most: int) -> list[int]:
    """The places of the largest values by magnitude, in order of their places; of equal ones the first."""
    places: list[int] = np.argsort(-np.abs(np.asarray(values).ravel()), kind="stable")[:most].tolist()
    return sorted(places)


# -- numbers and equations ---------------------------------------------------------------------------------------------


def shown(number: float, digits: int) -> str:
    """A number with so many significant digits; with fewer where they say it all: 0.5, not 0.50000."""
    if number == 0.0:
        return "0"
    short = f"{number:.{max(SHORT, digits)}g}"
    if "." in short or "e" in short:
        head = short.partition("e")[0].replace("-", "").replace(".", "").strip("0")
        fits = len(head) <= min(digits, SHORT)
    else:
        fits = True  # a whole number
    if fits:
        return short
    return _padded(number, digits)


def _padded(number: float, digits: int) -> str:
    """All of so many digits; a rounded number is never written as a whole one, which would be exact."""
    text = f"{number:#.{digits}g}"
    return f"{number:.{digits - 1}e}" if text.endswith(".") else text.replace(".e", "e")


def _unit(number: float, digits: int) -> float:
    """One unit of the last of so many significant digits."""
    return float(10.0 ** (math.floor(math.log10(abs(number))) - digits + 1))


def _choices(digits: int) -> list[tuple[int, int]]:
    """How many digits terms and result may have: the first pair with which the equation holds is taken."""
    d = digits
    pairs = [(d + 1, d), (d + 2, d), (d + 1, d + 1), (d + 2, d + 1), (d + 3, d), (d + 4, d), (d + 3, d - 1), (d + 5, d)]
    return [*pairs, (d + 5, d - 1), (MOST_DIGITS, d), (MOST_DIGITS, d - 1)]


def equation(name: str, expression: Expression | str | None, result: Any, digits: int = 4) -> str:
    """``name = expression = result``, with as many digits as it takes for the equation to hold.

    ``result`` is the network's own number. ``digits`` are those of the result; it gets fewer only where the network's
    rounding differs from exact arithmetic, as where terms cancel. ``expression`` may be a name, or None.
    """
    actual = float(result)
    if expression is None or isinstance(expression, str):
        middle = "" if expression is None else f"{expression} = "
        return f"{name} = {middle}{shown(actual, digits)}"
    for of_terms, of_result in _choices(digits):
        value = expression.value(of_terms)
        text = shown(actual, of_result)
        if abs(value - float(text)) > EXACT * abs(value) and actual:
            text = _padded(actual, of_result)  # 1.000, not 1
        room = 0.0 if actual == 0.0 else 0.499 * _unit(actual, of_result)
        if abs(value - float(text)) <= room:
            return f"{name} = {expression.text(of_terms)} = {text}"
    of_terms = digits + 5
    value = expression.value(of_terms)
    if not math.isfinite(value):  # 1 / 0, say, in a term that the network computes in another way
        return f"{name} = {shown(actual, digits)}"
    return f"{name} = {expression.text(of_terms)} = {_rounded(actual, value)}"


def _rounded(actual: float, value: float) -> str:
    """The network's number, rounded so far that it agrees with the value of the expression."""
    apart = abs(actual - value)
    power = -12 if apart == 0.0 else max(SMALLEST, math.floor(math.log10(apart)))
    while abs(round(actual / 10.0**power) * 10.0**power - value) > 0.499 * 10.0**power:
        power += 1
    count = round(actual / 10.0**power)
    if count == 0:
        return f"{0.0:.{-power}f}" if -12 <= power < 0 else f"0e{power:+03d}"
    if -12 <= power < 0:
        return f"{count * 10.0**power:.{-power}f}"
    return f"{count * 10.0**power:.{len(str(abs(count))) - 1}e}"


def cell(index: Sequence[int]) -> str:
    """The indices of a cell as they stand after an array's name: ``[0, 2]``."""
    return f"[{', '.join(map(str, index))}]" if len(index) else ""
