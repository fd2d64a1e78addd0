"""Equations as they are printed, and the reader that checks them, which must see what is wrong."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equations import Range, faults, half_unit, read, significant
from portnn.show.explain.arithmetic import N, call, equation, exp, maximum, products, shown, total

numbers = st.floats(-1e6, 1e6, width=32).filter(lambda x: x == 0.0 or abs(x) > 1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        "Y[0] = 0.5123*1.2000 + (-0.3)*0.25 + 0.1 = 0.6399",
        "Y[0] = 0.5123*1.2000 - 0.3*0.25 + 0.1 = 0.5397",
        "Y[0] = tanh(0.6397) = 0.5657",
        "Y[0] = 0.5*0.5 = 0.3",  # a short result is an exact one
        "Y[0] = 1.0000 - 0.0004 = 1",
        "Y[0] = 0.1 + (rest of 3 terms: 0.2) + 0.1000 = 0.3001",
        "E = -log(0.2500) = 1.388",
        "Y = max(0.5000, 0.7000) = 0.5000",
        "v = 0.001*0.02000**2 = 4.010e-07",
    ],
)
def test_the_reader_sees_what_is_wrong(wrong):
    assert faults(wrong)


@pytest.mark.parametrize(
    "right",
    [
        "Y[0] = 0.5123*1.2000 + (-0.3)*0.25 + 0.1 = 0.6398",
        "Y[0] = tanh(0.6397) = 0.5647",
        "Y[0] = 0.5*0.5 = 0.25",
        "Y[0, 2] = 0.1 + (rest of 1 term: 0.2) = 0.3",
        "E = -log(0.2500) = 1.386",
        "dE/dW[0] = dE/dY[0] = 0.1",
        "lr = 0.1",
        "v_new[0] = (-0.5)**2/4 = 0.0625",
        "Y[0] = exp(-3.0000) - (0.0498 - 1e-06) = -0.0000",
    ],
)
def test_the_reader_accepts_what_is_right(right):
    assert not faults(right)


@pytest.mark.parametrize(
    "text",
    ["Y[0] = 0.5", "0.5 = 0.5", "Y[0] = ", "Y(0) = 1 = 1", "Y[0] = __import__('os') = 1", "Y = X W + B", "Y = 1 = a"],
)
def test_the_reader_refuses_what_is_no_equation(text):
    if text == "Y[0] = 0.5":
        assert read(text).value == 0.5
        return
    with pytest.raises((AssertionError, SyntaxError, AttributeError)):
        faults(text)


def test_half_units():
    assert half_unit("0.5123") == 0.00005
    assert half_unit("1.2e-07") == pytest.approx(0.5e-8)
    assert half_unit("12") == 0.0
    assert significant("0.0120") == 3
    assert Range(-1.0, 2.0).bent(abs, 0.0) == (0.0, 2.0)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *((0.0, "0"), (-0.0, "0"), (0.1, "0.1"), (float(np.float32(0.1)), "0.1"), (1.0, "1"), (255.0, "255")),
        *((-0.5, "-0.5"), (1 / 3, "0.3333"), (0.5000004, "0.5000"), (1e-7, "1e-07"), (1.23456e-9, "1.235e-09")),
        *((123456.7, "1.235e+05"), (2.0**31, "2.147e+09"), (1234567.0, "1234567"), (-99.996, "-100.0")),
        *((9999.7, "1.000e+04"), (1234.4, "1.234e+03")),
    ],
)
def test_numbers_are_shown_with_their_digits_or_whole(number, text):
    assert shown(number, 4) == text


def test_expressions_are_written_so_that_they_can_be_read():
    assert (N(0.5) * N(-0.25) + N(-1.0)).text(4) == "0.5*(-0.25) + (-1)"
    assert (N(-0.5) - (N(1.0) - N(-2.0))).text(4) == "-0.5 - (1 - (-2))"
    assert (N(-0.5) ** 2 / (N(1.0) + N(2.0))).text(4) == "(-0.5)**2/(1 + 2)"
    assert (1 / (N(2.0) * N(3.0))).text(4) == "1/(2*3)"
    assert (-(N(1.0) + N(2.0))).text(4) == "-(1 + 2)"
    assert (N(1.0) - -call("log", N(2.0))).text(4) == "1 - (-log(2))"
    assert ((N(1.0) + N(2.0)) ** 2).text(4) == "(1 + 2)**2"


def test_long_sums_show_their_largest_terms_and_the_rest():
    a = np.arange(1.0, 11.0)
    assert products(a, np.ones(10)).text(4) == "8*1 + 9*1 + 10*1 + (rest of 7 terms: 28)"
    assert products(a[:4], a[:4]).text(4) == "1*1 + 2*2 + 3*3 + 4*4"
    assert products([0.0, 3.0, 0.0, 0.0, 0.0, 0.0], np.ones(6)).text(4) == "3*1 + (rest of 5 terms: 0)"
    assert total(a).text(4) == "6 + 7 + 8 + 9 + 10 + (rest of 5 terms: 15)"
    assert total([]).text(4) == "0"
    assert maximum(np.arange(12.0)).text(4) == "max(9, 10, 11, (rest of 9 terms: 8))"


def test_a_result_at_the_edge_of_rounding_gets_another_digit():
    text = equation("B", 0 - 0.1 * N(float(np.float32(1.1945))), np.float32(-0.11945))
    assert not faults(text)
    assert significant(read(text).result) >= 4


def test_where_terms_cancel_the_result_has_the_digits_that_hold():
    text = equation("Y", N(0.1) + N(0.2) - N(0.3), 2.98e-8)  # float32's answer
    assert not faults(text)
    assert abs(read(text).value) < 1e-6


def test_an_inexact_result_is_not_written_as_an_exact_one():
    assert equation("Y", N(1 / 255) * N(255.0), 1.0).endswith("= 1.000")


def test_what_cannot_be_calculated_with_printed_numbers_is_shown_alone():
    assert equation("Y", call("log", N(0.0)), 3.0) == "Y = 3"
    assert equation("Y", N(1.0) / N(0.0), 3.0) == "Y = 3"
    assert equation("Y", exp(N(1e5)), 3.0) == "Y = 3"
    assert equation("Y", N(1e200) ** 2 / N(1e300), 3.0) == "Y = 3"


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1e-45, 1e30, 1e150])
def test_very_small_and_very_large_numbers_hold(size):
    x = size * 1.2345678
    for expression, result in [
        (N(x) * N(0.987654321), x * 0.987654321),
        (N(x) + N(x) / 3, x + x / 3),
        (N(x) - N(x), 0.0),
    ]:
        found = read(equation("Y", expression, result))
        assert found.value == pytest.approx(result, rel=1e-2, abs=1e-300)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30), numbers)
def test_every_sum_of_products_holds(pairs, bias):
    a, b = (np.array(side, np.float32) for side in zip(*pairs, strict=True))
    result = np.float32(np.dot(a, b)) + np.float32(bias)
    if np.isfinite(result):
        assert not faults(equation("Y[0]", products(a, b) + N(bias), result))


@settings(max_examples=200, deadline=None)
@given(numbers, numbers, st.integers(3, 12))
def test_every_rule_of_two_numbers_holds(x, y, digits):
    for expression, result in [
        (N(x) - N(y), x - y),
        (N(x) * N(y), x * y),
        (call("tanh", N(x)), math.tanh(x)),
        (exp(N(-abs(x))), math.exp(-abs(x))),
        (N(x) / (1 + call("abs", N(y))), x / (1 + abs(y))),
        (call("max", N(x), N(y)), max(x, y)),
        (N(x) ** 2 / 3, x**2 / 3),
        (call("log", 1 + exp(N(-abs(y)))), math.log1p(math.exp(-abs(y)))),
        (-call("sqrt", N(abs(x)) + 1e-5), -math.sqrt(abs(x) + 1e-5)),
    ]:
        assert not faults(equation("Y", expression, np.float32(result), digits))
