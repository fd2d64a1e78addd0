"""Reads the equations of an explanation, and calculates them again, with the numbers as they are printed.

Written for itself: it knows the grammar (``Explanation``'s docstring), not the code that prints.
"""

import ast
import math
import re
from decimal import Decimal
from typing import NamedTuple

NAME = re.compile(r"[A-Za-z][\w/*]*(\[\d+(, \d+)*\])?")
REST = re.compile(r"\(rest of \d+ terms?: ([^()]+)\)")
DIGITS = 4  # of a result, at least: a shorter number is an exact one


class Range(NamedTuple):
    """All values that an expression may have while its numbers move within half a unit of their last digits."""

    low: float
    high: float

    @classmethod
    def of(cls, values):
        return cls(min(values), max(values))

    def both_ways(self, other, f):
        return Range.of([f(a, b) for a in self for b in other])

    def bent(self, f, *turns):
        """Of a function that turns only at some points."""
        return Range.of([f(v) for v in (*self, *(t for t in turns if self.low < t < self.high))])


def sign(x):
    return float((x > 0) - (x < 0))


def log(x):
    return math.log(x) if x > 0.0 else -math.inf


def exp(x):
    return math.exp(x) if x < 700.0 else math.inf


RISING = {"erf": math.erf, "exp": exp, "log": log, "sqrt": lambda x: math.sqrt(max(x, 0.0)), "tanh": math.tanh}
RISING |= {"sign": sign, "round": round}


def half_unit(text):
    """Half a unit of the last digit of a printed number; a whole number is exact."""
    number = Decimal(text)
    return 0.0 if re.fullmatch(r"-?\d+", text) else float(Decimal(5).scaleb(number.as_tuple().exponent - 1))


class Calculation(ast.NodeVisitor):
    """The range of an expression; with ``exact`` its numbers do not move."""

    def __init__(self, text, exact):
        self.text, self.exact = text, exact
        self.largest = 0.0  # of the numbers, and of what is computed on the way

    def run(self):
        return self.visit(ast.parse(self.text, mode="eval").body)

    def visit(self, node):
        found = super().visit(node)
        self.largest = max([self.largest, *(abs(end) for end in found if math.isfinite(end))])
        return found

    def visit_Constant(self, node):
        text = ast.get_source_segment(self.text, node)
        assert type(node.value) in (int, float), text
        half = 0.0 if self.exact else half_unit(text)
        return Range(float(text) - half, float(text) + half)

    def visit_UnaryOp(self, node):
        assert isinstance(node.op, ast.USub)
        low, high = self.visit(node.operand)
        return Range(-high, -low)

    def visit_BinOp(self, node):
        a, b = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, ast.Add):
            return Range(a.low + b.low, a.high + b.high)
        if isinstance(node.op, ast.Sub):
            return Range(a.low - b.high, a.high - b.low)
        if isinstance(node.op, ast.Mult):
            return a.both_ways(b, lambda x, y: x * y)
        if isinstance(node.op, ast.Div):
            if b.low <= 0.0 <= b.high:
                return Range(-math.inf, math.inf)
            return a.both_ways(b, lambda x, y: x / y)
        assert isinstance(node.op, ast.Pow)
        assert b.low == b.high
        assert b.low == int(b.low)
        return a.bent(lambda x: x ** int(b.low), 0.0)

    def visit_Call(self, node):
        arguments, name = [self.visit(argument) for argument in node.args], node.func.id
        if name in ("max", "min"):
            f = max if name == "max" else min
            return Range(f(a.low for a in arguments), f(a.high for a in arguments))
        (argument,) = arguments
        if name in (
            "cos",
            "sin",
        ):  # between turns that no short range reaches beyond, it is as far as the slope takes it
            value, reach = getattr(math, name)((argument.low + argument.high) / 2), (argument.high - argument.low) / 2
            return Range(value - reach, value + reach)
        return argument.bent(abs, 0.0) if name == "abs" else argument.bent(RISING[name])

    def generic_visit(self, node):
        raise AssertionError(f"{type(node).__name__} is not in the grammar: {self.text}")


class Equation(NamedTuple):
    name: str
    middle: str  # an expression, a name, or ""
    result: str

    @property
    def value(self):
        return float(self.result)

    @property
    def is_calculated(self):
        return bool(self.middle) and not NAME.fullmatch(self.middle)


def read(text):
    """The parts of an equation; AssertionError for what the grammar does not have."""
    parts = text.split(" = ")
    assert len(parts) in (2, 3), text
    assert NAME.fullmatch(parts[0]), text
    assert re.fullmatch(r"-?\d+(\.\d+)?(e[+-]\d+)?", parts[-1]), text
    return Equation(parts[0], parts[1] if len(parts) == 3 else "", parts[-1])


def faults(text):
    """What is wrong with an equation; empty if it holds.

    It must hold within half a unit of the result's last digit, with the numbers moving within their half units, and,
    which is more, with the numbers as they are printed. A result of fewer than three digits is an exact one, 0.5 for
    0.5000, unless terms have cancelled.
    """
    found = read(text)
    if not found.is_calculated:
        return []
    plain = REST.sub(r"(\1)", found.middle)
    value, half = found.value, half_unit(found.result) + 1e-12 * abs(found.value)
    moving = Calculation(plain, exact=False)
    low, high = moving.run()
    wrong = []
    if not low - half <= value <= high + half:
        wrong.append(f"{text}: between {low} and {high}")
    at_face = Calculation(plain, exact=True).run().low
    if significant(found.result) < 3 and half > 1e-4 * moving.largest:
        half = 0.5 * 10.0 ** (math.floor(math.log10(abs(value))) - DIGITS + 1) if value else 0.0
    if not abs(at_face - value) <= half:
        wrong.append(f"{text}: {at_face}")
    return wrong


def significant(text):
    """The number of significant digits of a printed number."""
    return len(re.sub(r"e.*|[-.]", "", text).lstrip("0"))


def equations(text):
    """The equations of an explanation's text, in order."""
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


def by_place(text):
    """The equations of an explanation's text: (part, path of the layer) -> name -> Equation; "" before the layers."""
    found, part, path = {}, "", ""
    for line, below in zip(text.splitlines(), [*text.splitlines()[1:], ""], strict=True):
        if line.isupper() and below and not below.strip("-"):
            part, path = line.lower(), ""
        elif line.startswith("-- "):
            path = line.split()[1]
        elif line.startswith("    "):
            equation = read(line.strip())
            found.setdefault((part, path), {})[equation.name] = equation
    return found
