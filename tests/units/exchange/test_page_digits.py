"""The page centres a drawing as ``prepare_digit`` does, to the byte."""

import numpy as np
import pytest

from pages import NODE, WITHOUT_NODE, node
from portnn import load_mnist
from portnn.datasets.digits import prepared
from portnn.exchange.page.assemble import asset
from strokes import drawn, many, painted

pytestmark = pytest.mark.skipif(NODE is None, reason=WITHOUT_NODE)


def pictures():
    """Drawn pads, digits of MNIST, and what an algorithm may trip over."""
    rng = np.random.default_rng(7)
    for canvas, n in ((448, 5), (97, 50)):
        for _, shape, hand in many(n, seed=canvas):
            yield painted(drawn(shape, hand, canvas), hand.pen * canvas, canvas)
    yield from load_mnist()[1][0][:60]
    for _ in range(60):  # scribbles of any shape and gray, dark or light
        image = np.full(rng.integers(1, 60, 2), rng.integers(0, 256), np.uint8)
        for _ in range(rng.integers(1, 5)):
            top, left = (rng.integers(0, n) for n in image.shape)
            image[top : top + rng.integers(1, 30), left : left + rng.integers(1, 30)] = rng.integers(0, 256)
        yield image
    for shape in ((1, 1), (1, 9), (9, 1), (2, 2), (3, 3), (40, 30)):
        yield rng.integers(0, 256, shape).astype(np.uint8)  # noise
        yield np.full(shape, 255, np.uint8)  # blank
    yield np.clip(rng.normal(200, 10, (50, 50)), 0, 255).astype(np.uint8)  # uneven paper
    for noise in np.linspace(1, 30, 20):  # photographs
        page = np.linspace(150, 220, 60)[None] + rng.normal(0, noise, (60, 60))
        page[20:40, 28:33] = 30
        yield np.clip(page, 0, 255).astype(np.uint8)
    even = np.zeros((400, 400), np.uint8)
    even[100:300, 100:300] = np.indices((200, 200)).sum(axis=0) % 2 * 255  # every mean is a half
    even[100:110, 100:300] = 255
    yield even


def test_the_same_bytes():
    program = asset("digits.js") + (
        "\nconst pictures = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        "const made = pictures.map(([gray, height, width]) => prepareDigit(gray, height, width));"
        "process.stdout.write(JSON.stringify(made.map(({ image, ink }) => [Array.from(image), ink])));"
    )
    images = list(pictures())
    assert len(images) > 175
    found = node(program, [[image.reshape(-1).tolist(), *image.shape] for image in images])
    inks = set()
    for image, (bytes_, ink) in zip(images, found, strict=True):
        expected = prepared(image)
        assert ink == expected.ink, image.shape
        assert np.array_equal(np.array(bytes_).reshape(28, 28), expected.image), image.shape
        inks.add(ink)
    assert inks == {"none", "dark on light", "light on dark"}
