"""What networks, histories, summaries and reports show in a notebook."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from pictures import digits, three_classes, xor
from portnn import ActivationLayer, FCLayer, History, Layer, Network, ResidualLayer, gradcheck

VOID = {"br", "img", "hr", "input", "meta", "link"}


class Page(HTMLParser):
    """Reads HTML strictly: every element is closed, in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.rows = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, "every element is closed"

    def handle_starttag(self, tag, attributes):
        assert tag not in VOID
        self.elements.append((tag, dict(attributes)))
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data


def read(thing):
    """The page, after checks that hold for all: nothing fetched, heads with a scope, no colours that a theme hides."""
    text = thing._repr_html_()
    assert not re.findall(r"<script|<link|<img|src=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    page = Page(text)
    for tag, attributes in page.elements:
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
        if tag in ("table", "td", "th"):
            assert not re.search(r"(?<![-\w])(color|background): (?!inherit|transparent)", attributes["style"])
    return page


def test_summary():
    net = digits()[0]
    summary = net.summary()
    page = read(summary)
    assert page.rows[0] == ["layer", "output shape", "parameters", "bytes", "multiply-adds"]
    found = [[cell.strip() for cell in row] for row in page.rows[1:-1]]
    assert found == [
        [f"{row['path']} {row['layer']}", str(row["output shape"] or "?"), *(f"{row[h]:,}" for h in page.rows[0][2:])]
        for row in summary.rows
    ]
    assert page.rows[-1] == ["total", "", *(f"{number:,}" for number in summary.total.values())]
    assert str(summary) == repr(summary), "the text stays what it was"


def test_history():
    history = three_classes()[3]
    page = read(history)
    assert [row[0] for row in page.rows] == ["value", *history]
    for row, numbers in zip(page.rows[1:], history.values(), strict=True):
        there = [v for v in numbers if v == v]
        assert row[1:4] == [f"{there[0]:.6g}", f"{there[-1]:.6g}", f"{min(there):.6g} to {max(there):.6g}"]
    lines = [attributes["points"].split() for tag, attributes in page.elements if tag == "polyline"]
    assert [len(points) for points in lines] == [sum(v == v for v in numbers) for numbers in history.values()]
    heights = [float(point.split(",")[1]) for point in lines[0]]
    assert np.argmin(history["error"]) == np.argmax(heights), "the least error is the lowest point"


@pytest.mark.parametrize(
    "values",
    [{}, {"error": []}, {"error": [0.5]}, {"error": [float("nan")]}, {"error": [0.5, 0.5]}, {"<&\">": [1.0, float("inf"), 2]},
     {"error": list(np.linspace(1, 0, 5000))}],
    ids=lambda values: f"{len(values)}-{sum(map(len, values.values()))}",
)  # fmt: skip
def test_history_of_few_many_and_odd_values(values):
    page = read(History(values))
    assert [row[0] for row in page.rows[1:]] == list(values)
    assert len(History(values)._repr_html_()) < 12_000


def test_report_of_gradcheck():
    good, bad = gradcheck(xor()[0]), gradcheck(ActivationLayer(np.square, lambda x: x), input_shape=(3,))
    page = read(good)
    assert page.rows[1:] == [[f"dE/d{name}", f"{error:.1e}", "right"] for name, error in good.errors.items()]
    assert "gradcheck passed" in good._repr_html_()
    assert read(bad).rows[1][2] == "WRONG"
    assert "gradcheck FAILED" in bad._repr_html_()
    assert "constant factor" in bad._repr_html_()


class Odd(Layer):
    """A layer whose class and text are no harmless HTML."""

    def forward(self, X):
        return X

    def backward(self, output_error):
        return output_error

    def __repr__(self):
        return "<script>alert('&')</script>"


def test_network():
    net = xor()[0]
    read(net)
    text = net._repr_html_()
    assert net.diagram().svg in text
    assert "13 parameters, backend cpu, float32, seed 1, loss mse" in text
    read(digits()[0])
    read(Network())
    odd = Network([Odd(), ResidualLayer(Odd())])
    read(odd)
    assert "&lt;script&gt;" in odd._repr_html_()


def test_a_network_whose_layers_do_not_fit_is_shown_as_text():
    net = Network([FCLayer(2, 3), FCLayer(3, 1)], seed=1)
    net.layers.pop(0)
    net.layers.append(FCLayer(2, 3))
    assert net._repr_html_() is None


def test_notebooks_show_all_of_them():
    formatters = pytest.importorskip("IPython.core.formatters")
    for thing in (xor()[0], xor()[3], xor()[0].summary(), gradcheck(xor()[0])):
        data, _ = formatters.DisplayFormatter().format(thing)
        assert data["text/html"] == thing._repr_html_()
        assert data["text/plain"]
