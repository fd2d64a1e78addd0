"""The network that examples/draw_digits.py trains reads digits drawn on its page."""

import runpy
import sys

import numpy as np
import pytest

import pages
import strokes
from documents import ROOT
from portnn.datasets import prepare_digit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The network, and its page."""
    page = tmp_path_factory.mktemp("page") / "digits.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["draw_digits.py", "--page", str(page)])
        return runpy.run_path(str(ROOT / "examples" / "draw_digits.py"), run_name="__main__")["net"], page


@pytest.mark.parametrize("canvas", [28, 448])
@pytest.mark.parametrize(
    ("make", "least"), [(strokes.sixty, 55), (lambda: strokes.many(600), 555)], ids=["sixty", "at random"]
)
def test_drawn_digits_are_read(trained, make, least, canvas):
    digits, pictures = [], []
    for digit, shape, hand in make():
        pen = max(hand.pen * canvas, 1.5)
        pictures.append(prepare_digit(strokes.painted(strokes.drawn(shape, hand, canvas), pen, canvas)))
        digits.append(digit)
    right = int((trained[0].predict_classes(np.stack(pictures)) == digits).sum())
    assert right >= least, f"{right} of {len(digits)} read"


def test_sixty_digits_drawn_with_the_mouse_are_read(trained, tmp_path):
    if reason := pages.why_no_browser():
        pytest.skip(reason)
    network, page = trained
    read, images = [], []
    with pages.browser(tmp_path) as driver:
        driver.get(page.as_uri())
        for digit, shape, hand in strokes.sixty():
            driver.execute_script("clear(); element('width').value = arguments[0];", round(hand.pen * 448))
            pages.draw(driver, strokes.drawn(shape, hand, 448), 448)
            driver.execute_script("refresh();")
            read.append((digit, int(driver.execute_script("return element('answer').textContent;"))))
            images.append(driver.execute_script("return Array.from(prepared());"))
    right = sum(digit == found for digit, found in read)
    assert right >= 55, f"{right} of {len(read)} read: {read}"
    expected = network.predict_classes(np.array(images, np.uint8).reshape(-1, 28, 28))
    assert [found for _, found in read] == list(expected)
