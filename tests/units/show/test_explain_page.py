"""The two forms of an explanation: the same equations in both, a page that fetches nothing, names that are escaped."""

import base64
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from equations import equations
from explained import lenet, residual, xor
from portnn import ActivationLayer, FCLayer, Layer, Network

NO_END = {"meta", "img", "link", "br"}


class Page(HTMLParser):
    """The elements of a page: equations, ids, links, addresses; AssertionError where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.equations, self.ids, self.links, self.sources, self.said = [], [], [], [], [], ""
        self.tags = set()
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.add(tag)
        if tag not in NO_END:
            self.open.append((tag, found.get("class")))
        if found.get("class") == "equation":
            self.equations.append("")
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found["src"]] if "src" in found else []

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        inside = [tag for tag, _ in self.open]
        if "style" not in inside:
            self.said += data
        if ("code", "equation") in self.open:
            self.equations[-1] += data


class Named(Layer):
    """A user's layer with a name that must not become part of the page."""

    def forward(self, X):
        return 2.0 * X

    def backward(self, output_error):
        return 2.0 * output_error

    def __repr__(self):
        return "<script>alert('&')</script>\n    Y[0] = 1 = 2"


@pytest.mark.parametrize("make", [xor, lenet, residual])
def test_page_and_text_hold_the_same_equations(make):
    net, x, y = make()
    explanation = net.explain(x[0], y[0])
    page = Page(explanation.html)
    assert page.equations == equations(explanation.text) == explanation.equations
    assert len(page.equations) > 40


@pytest.mark.parametrize("make", [xor, lenet, residual])
def test_the_page_fetches_nothing_and_its_links_lead_somewhere(make):
    net, x, y = make()
    html = net.explain(x[0], y[0]).html
    page = Page(html)
    assert len(set(page.ids)) == len(page.ids)
    assert page.links
    assert all(link[0] == "#" and link[1:] in page.ids for link in page.links)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not re.search(r"https?:|@import|url\(|javascript:", html)
    assert not page.tags & {"script", "link", "object", "embed", "form"}
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    assert len(html.encode()) < 300_000


def test_every_layer_is_in_the_contents_and_has_its_sections():
    net, x, y = residual()
    page = Page(net.explain(x[0], y[0]).html)
    for layer in net.walk():
        ways = ["forward", "backward", *(["update"] if layer.parameters else [])]
        for way in ways:
            assert f"{way}-{layer.path}" in page.ids
            assert f"#{way}-{layer.path}" in page.links
    assert {"sample", "forward", "error", "backward", "update"} <= set(page.ids)


def test_layers_inside_others_are_folded_on_long_pages():
    net, x, y = residual()
    html = net.explain(x[0], y[0]).html
    assert '<details open id="forward-4">' in html
    assert '<details id="forward-4.0">' in html
    net, x, y = xor()
    assert "<details id" not in net.explain(x[0], y[0]).html


def test_the_digit_is_drawn():
    net, x, y = lenet()
    first = Page(net.explain(x[0], y[0]).html).sources[0]
    data = base64.b64decode(first.partition(",")[2])
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start], "big")
    rows = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + length]), np.uint8).reshape(28, 29)
    assert (rows[:, 1:] == x[0]).all()
    assert int.from_bytes(data[start + 4 + length : start + 8 + length], "big") == zlib.crc32(
        data[start : start + 4 + length]
    )


def test_names_are_escaped_and_stay_on_their_line():
    def loss(y_true, y_pred):
        return ((y_true - y_pred) ** 2).mean()

    def prime(y_true, y_pred):
        return 2.0 * (y_pred - y_true) / y_pred.size

    loss.__name__ = prime.__name__ = "<b>&bold"
    net = Network([FCLayer(2, 2), Named()], seed=1)
    net.use(loss, prime)
    explanation = net.explain([0.5, 1.0], [1.0, 0.0])
    page = Page(explanation.html)
    assert "script" not in page.tags
    assert "<script>alert('&')</script>" in page.said
    assert "<b>&bold" in page.said
    assert page.equations == equations(explanation.text)
    assert "Y[0] = 1 = 2" not in equations(explanation.text)


def test_the_text_is_for_any_terminal():
    net, x, y = lenet()
    net.explain(x[0], y[0]).text.encode("ascii")


def test_save(tmp_path):
    net, x, y = xor()
    explanation = net.explain(x[1], y[1])
    for name, content in (("a.html", explanation.html), ("a.TXT", explanation.text), ("a.htm", explanation.html)):
        explanation.save(tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8") == content
        explanation.save(str(tmp_path / name))
    for wrong in ("a.pdf", "a", "a.md"):
        with pytest.raises(ValueError, match=r"saved as \.html or \.txt.*save\('a\.html'\)"):
            explanation.save(tmp_path / wrong)
    with pytest.raises(TypeError, match="path must be a file's path"):
        explanation.save(3)
    with pytest.raises(OSError, match="No such file"):
        explanation.save(tmp_path / "nowhere" / "a.html")


def test_it_shows_itself():
    net, x, y = xor()
    explanation = net.explain(x[1], y[1])
    assert str(explanation) == repr(explanation) == explanation.text
    shown = explanation._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert "<style>" not in shown  # the page's own style stays within the frame
    assert "tanh(" in shown


def test_pictures_of_a_large_network_leave_room():
    net = Network([ActivationLayer("tanh") for _ in range(40)])
    net.use("mse")
    x = np.random.default_rng(0).standard_normal((1, 20, 20, 6))
    page = Page(net.explain(x, x).html)
    assert 40 < len(page.sources) <= 90
