"""``network.diagram``: SVG that parses, boxes that do not overlap, texts that fit into their boxes."""

import re
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest

from cases import LAYERS, OwnLayer
from drawn import NETWORKS
from drawn_networks import Drawer
from portnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    Layer,
    MaxPoolLayer,
    Network,
    ParallelLayer,
    ResidualLayer,
    ScaleLayer,
    SequentialLayer,
)
from portnn.arrangement import named
from portnn.show.markup import columns

SVG = "{http://www.w3.org/2000/svg}"
WIDEST = 0.61  # em: the columns of the widest of the common monospaced fonts, Courier's and Menlo's are 0.60


def parsed(diagram):
    """The tree, and its rectangles by kind: (left, top, right, bottom)."""
    root = ElementTree.fromstring(diagram.svg)
    found = {}
    for rect in root.iter(f"{SVG}rect"):
        x, y, width, height = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
        found.setdefault(rect.get("class"), []).append((x, y, x + width, y + height))
    return root, found


def inside(small, large):
    return large[0] <= small[0] and large[1] <= small[1] and small[2] <= large[2] and small[3] <= large[3]


def apart(one, other):
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def check(diagram):
    """Nothing overlaps but what is nested; every text lies in the box that it is written in, and in no other."""
    root, found = parsed(diagram)
    (card,) = found["card"]
    assert card[2] <= float(root.get("width"))
    assert card[3] <= float(root.get("height"))
    solid = found.get("box", []) + found["pill"]
    assert all(apart(a, b) for a, b in combinations(solid, 2))
    frames = found.get("frame", [])
    assert all(apart(a, b) or inside(a, b) or inside(b, a) for a, b in combinations(frames, 2))
    assert all(apart(box, frame) or inside(box, frame) for box in solid for frame in frames)
    assert all(inside(rect, card) for rect in solid + frames)
    for text in root.iter(f"{SVG}text"):
        size = float(root.get("font-size"))
        half = columns(text.text) * size * WIDEST / 2
        middle, base = float(text.get("x")), float(text.get("y"))
        extent = (middle - half, base - size, middle + half, base + size / 4)
        around = [box for box in solid + frames if not apart(extent, box)]
        assert around, "every text is in a box"
        assert all(inside(extent, box) for box in around), text.text
        assert sum(box in solid for box in around) <= 1
    return root, found


def written(diagram):
    return [text.text for text in ElementTree.fromstring(diagram.svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_every_layer(case):
    layer = case.make()
    net = Network([layer], seed=1)
    for diagram in (net.diagram(), net.diagram(case.sample)):
        check(diagram)
        words = written(diagram)
        assert any(type(layer).__name__ in word for word in words)
    assert words[0] == f"X {case.sample}"
    after = layer.output_shape(case.sample)
    assert words[-1] == f"Y {'?' if after is None else after}"
    total = net.summary(case.sample).total["parameters"]
    counted = "".join(words)
    assert not total or f"{total:,} parameter" in counted


@pytest.mark.parametrize("name", NETWORKS)
def test_deep_networks(name):
    make, sample = NETWORKS[name]
    check(Network(make(), seed=1).diagram(sample))


class Own(OwnLayer):
    def output_shape(self, input_shape):
        return input_shape


@pytest.mark.parametrize("seed", range(30))
def test_random_networks(seed):
    layers, sample = Drawer(seed, also=(lambda shape: Own(shape[-1]),)).network()
    net = Network(layers, seed=1)
    diagram = net.diagram(sample)
    root, _ = check(diagram)
    titles = [title.text for title in root.iter(f"{SVG}title")]
    for path, layer in named(net.layers):
        times = titles.count(f"{path} {layer!r}")
        assert times == 1 or (times == 0 and type(layer) is SequentialLayer), "once; a branch's layers without a frame"


def nested(depth):
    """Branches in branches."""
    if depth == 0:
        return FCLayer(3, 3)
    return ParallelLayer(
        [ResidualLayer(nested(depth - 1), ActivationLayer("tanh")), SequentialLayer(nested(depth - 1))],
        [],
        SequentialLayer(),
        nested(depth - 1),
        merge="add",
    )


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_nested_branches(depth):
    net = Network([nested(depth), BatchNormLayer()], seed=1)
    _, found = check(net.diagram())
    leaves = sum(not layer.layers for layer in net.walk()) - sum(
        type(x) is SequentialLayer and not x.layers for x in net.walk()
    )
    identities = written(net.diagram()).count("identity")
    assert len(found["box"]) == leaves + identities
    assert identities == sum(
        isinstance(layer, ResidualLayer) or (type(layer) is SequentialLayer and not layer.layers)
        for layer in net.walk()
    )


def test_branches_stand_side_by_side():
    net = Network([ParallelLayer([FCLayer(3, 2), ActivationLayer("tanh")], FCLayer(3, 4), [])], seed=1)
    diagram = net.diagram()
    _, found = check(diagram)
    first, below, second, identity = found["box"]
    assert first[1] == second[1] == identity[1], "one height"
    assert first[2] < second[0]
    assert second[2] < identity[0]
    assert below[1] > first[3]
    assert written(diagram)[1:3] == ["0 ParallelLayer", "→ (9,) · 24 parameters"]
    assert "concat" in written(diagram)
    assert ["add" in written(Network([ResidualLayer(FCLayer(3, 3))]).diagram())] == [True]


def test_what_stands_in_the_boxes():
    net = Network(
        [
            ConvLayer((28, 28, 1), (5, 5), 8, stride=2, padding="same", dilation=1),
            MaxPoolLayer(2),
            FlattenLayer(),
            FCLayer(392, 10),
        ],
        seed=1,
    )
    net.layers[0].trainable = False
    assert written(net.diagram()) == [
        "X (28, 28, 1)",
        "0 ConvLayer",
        "(28, 28, 1), (5, 5), 8, stride=2,",
        "padding='same'",
        "→ (14, 14, 8) · 208 parameters · frozen",
        "1 MaxPoolLayer(2)",
        "→ (7, 7, 8)",
        "2 FlattenLayer()",
        "→ (392,)",
        "3 FCLayer(392, 10)",
        "→ (10,) · 3,930 parameters",
        "Y (10,)",
    ]


def test_a_network_that_is_not_built_and_an_empty_one():
    net = Network([BatchNormLayer(), ActivationLayer("relu")], seed=1)
    assert written(net.diagram()) == [
        "X ?", "0 BatchNormLayer()", "→ ? · ? parameters", "1 ActivationLayer(relu)", "→ ?", "Y ?",
    ]  # fmt: skip
    assert "→ (4, 4, 2) · 4 parameters" in written(net.diagram((4, 4, 2)))
    net.predict(np.zeros((2, 3)))
    assert "→ ? · 6 parameters" in written(net.diagram())
    check(Network().diagram())
    assert written(Network().diagram((3,))) == ["X (3,)", "no layers yet", "Y (3,)"]
    with pytest.raises(ValueError, match="ConvLayer"):
        Network([ConvLayer((4, 4, 1), (2, 2), 1)]).diagram((5, 5, 1))
    with pytest.raises(TypeError, match="input_shape must be the shape of one sample"):
        net.diagram(4)
    with pytest.raises(TypeError, match="input_shape"):
        net.diagram(input_size=(4,))


class Gain(Layer):
    """A layer as in the article."""

    def __init__(self):
        self.weights = np.ones((1, 3))

    def forward_propagation(self, input):
        return input * self.weights

    def backward_propagation(self, output_error, learning_rate):
        return output_error * self.weights


class Both(Layer):
    """A composite of somebody's own: what it does with its layers nobody else knows."""

    def __init__(self, *layers):
        self.layers = list(layers)

    def forward(self, X):
        return self.layers[0](X) + self.layers[1](X)

    def backward(self, output_error):
        return output_error


class Wordy(Layer):
    """A layer whose name and text are hard to write into XML."""

    def __init__(self, text):
        self.text = text

    def forward(self, X):
        return X

    def backward(self, output_error):
        return output_error

    def __repr__(self):
        return self.text


def test_layers_of_ones_own():
    net = Network([Gain(), OwnLayer(3), Both(FCLayer(3, 3), ActivationLayer("tanh"))], seed=1)
    diagram = net.diagram()
    _, found = check(diagram)
    words = written(diagram)
    assert words[1:5] == ["0 Gain()", "→ ? · updates its own weights", "1 OwnLayer()", "→ ? · 3 parameters"]
    assert words[5:7] == ["2 Both", "→ ? · 12 parameters"]
    assert len(found["frame"]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "<b>&'\"</b>", "]]>", "a" * 500, "日本語の層" * 30, "two\nlines\tand a tab", "\x00\x1b[31mred\ud800", "",
        "Wordy(" + ", ".join(f"argument_{i}={i}" for i in range(30)) + ")", "e\u0301" * 60,
    ],
)  # fmt: skip
def test_texts_are_escaped_shortened_and_whole_in_the_title(text):
    diagram = Network([ResidualLayer(Wordy(text)), Wordy(text)], seed=1).diagram()
    root, _ = check(diagram)
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert titles[-1] == "1 " + re.sub("[^\n\t -\ud7ff\ue000-\ufffd]", "\ufffd", text)
    assert diagram.svg.encode("utf-8")


def test_names_in_other_scripts():
    name = "日本語" * 30
    check(Network([type(name, (Wordy,), {})("x")], seed=1).diagram())


def test_it_describes_itself_and_fetches_nothing():
    diagram = Network([ScaleLayer(2.0), FCLayer(3, 1)], seed=1).diagram()
    root, _ = parsed(diagram)
    ids = {element.get("id"): element for element in root.iter() if element.get("id")}
    named = [ids[key].text for key in root.get("aria-labelledby").split()]
    assert root.get("role") == "img"
    assert named == ["Diagram of a network of 2 layers", "X ?; 0 ScaleLayer(2) → ?; 1 FCLayer(3, 1) → ?; Y ?"]
    assert "prefers-color-scheme: dark" in diagram.svg
    assert not re.findall(r"href|url\(|<script|<image|@import|https?://(?!www\.w3\.org/2000/svg)", diagram.svg)
    (style,) = root.iter(f"{SVG}style")
    rules = re.findall(r"[^{}]+(?={[^{}]*})", style.text.partition("{")[2])
    assert all(rule.startswith(f"#{root.get('id')} .") for rule in rules), "the style is for this drawing only"
    assert diagram.svg == Network([ScaleLayer(2.0), FCLayer(3, 1)], seed=2).diagram().svg, "the same again"


def test_saving(tmp_path):
    diagram = Network([FCLayer(2, 3)], seed=1).diagram()
    for name in ("net.svg", "net.SVG"):
        diagram.save(tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8") == diagram.svg == diagram._repr_svg_()
    for name in ("net.png", "net", "net.svg.gz"):
        with pytest.raises(ValueError, match=r"saved as SVG, .*got '.*': write 'net.*\.svg'"):
            diagram.save(str(tmp_path / name))
        assert not (tmp_path / name).exists()
    with pytest.raises(TypeError, match="path must be a file's path"):
        diagram.save(3)
    assert "svg" in repr(diagram)


def test_a_notebook_shows_it():
    formatters = pytest.importorskip("IPython.core.formatters")
    data, _ = formatters.DisplayFormatter().format(Network([FCLayer(2, 3)]).diagram())
    assert data["image/svg+xml"].startswith("<svg")
