"""The page of an explanation in a real browser: wide and narrow, light and dark, folded and unfolded."""

import re

import pytest

from explained import lenet, residual, xor
from pages import browser, size, why_no_browser

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_no_browser()), reason=why_no_browser())]

# The text's colours and the one behind it, of some elements of each kind.
COLOURS = """
const behind = (e) => { const c = getComputedStyle(e).backgroundColor;
  return c === "rgba(0, 0, 0, 0)" && e.parentElement ? behind(e.parentElement) : c; };
return ["p", ".formula", ".equation", ".equation b", ".equation i", "summary", ".order b", ".order span", "h2", ".grid td",
  ".marked", "caption", "figcaption", "thead th"].flatMap(
  (s) => [...document.querySelectorAll(s)].slice(0, 40).map((e) => [s, getComputedStyle(e).color, behind(e)]));
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture
def show(chromium, tmp_path):
    """Shows an explanation; at the end nothing may have gone wrong in the page."""

    def shown(make, width, dark=False):
        net, x, y = make()
        explanation = net.explain(x[0], y[0])
        explanation.save(tmp_path / "page.html")
        size(chromium, width, 900)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        chromium.get((tmp_path / "page.html").as_uri())
        return chromium, explanation

    chromium.get_log("browser")
    yield shown
    assert chromium.get_log("browser") == []


@pytest.mark.parametrize("width", [320, 768, 1600])
@pytest.mark.parametrize("make", [xor, lenet, residual])
def test_the_page_is_as_wide_as_the_screen(show, make, width):
    driver, explanation = show(make, width)
    for fold in (True, False):
        driver.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = arguments[0]; })", fold)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    found = driver.execute_script("return [...document.querySelectorAll('.equation')].map((e) => e.textContent)")
    assert found == explanation.equations


def luminance(colour):
    def linear(c):
        return c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4

    r, g, b = (linear(int(value) / 255) for value in re.findall(r"\d+", colour)[:3])
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("dark", [False, True])
def test_everything_can_be_read_in_both_themes(show, dark):
    """The contrast is at least 4.5 to 1, as the WCAG ask."""
    driver, _ = show(lenet, 1000, dark)
    found = driver.execute_script(COLOURS)
    assert len({kind for kind, _, _ in found}) == 14
    for kind, text, ground in found:
        low, high = sorted((luminance(text), luminance(ground)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (kind, text, ground)
    assert (luminance(found[0][2]) < 0.1) == dark


def test_links_lead_to_their_layer_and_sections_fold(show):
    driver, _ = show(residual, 1000)
    driver.execute_script("document.querySelector('a[href=\"#backward-4\"]').click()")
    top = driver.execute_script("return document.getElementById('backward-4').getBoundingClientRect().top")
    assert abs(top) < 5
    tall = "return document.getElementById('backward-4').offsetHeight"
    before = driver.execute_script(tall)
    driver.execute_script("document.querySelector('#backward-4 > summary').click()")
    assert driver.execute_script(tall) < before / 3
