"""The page in a real browser: it computes what ``predict`` returns, fetches nothing, and can be drawn on."""

import base64
import time

import numpy as np
import pytest

from cases import LAYERS
from pages import browser, difference, draw, mouse, size, touch, touched, why_no_browser
from portnn import (
    ActivationLayer,
    Adam,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    MaxPoolLayer,
    Network,
    RandomAffineLayer,
    ReshapeLayer,
    ScaleLayer,
    load_mnist,
    to_categorical,
)
from portnn.datasets import prepare_digit
from portnn.ops import is_ours
from strokes import HANDS, SHAPES, drawn

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_no_browser()), reason=why_no_browser())]
FORWARD = "return Array.from(forward(tensor(ABOUT.inputShape, Numbers.from(arguments[0]))).data, String)"


@pytest.fixture(scope="module")
def lenet():
    """Trained on the bundled digits, which may be moved a little; it takes bytes."""
    (x, y), _ = load_mnist()
    network = Network(
        [
            ReshapeLayer((28, 28, 1)),
            ScaleLayer(1 / 255),
            RandomAffineLayer(shift=1.0, rotate=10.0, scale=0.1),
            ConvLayer((28, 28, 1), (5, 5), 6, padding="same", initializer="he_uniform"),
            ActivationLayer("relu"),
            MaxPoolLayer(2),
            ConvLayer((14, 14, 6), (5, 5), 16, initializer="he_uniform"),
            ActivationLayer("relu"),
            MaxPoolLayer(2),
            FlattenLayer(),
            FCLayer(400, 84, initializer="he_uniform"),
            ActivationLayer("relu"),
            FCLayer(84, 10),
        ],
        seed=1,
    )
    network.use("softmax_cross_entropy", optimizer=Adam(2e-3), metrics=["accuracy"])
    network.fit(x, y, epochs=3, batch_size=50, shuffle=True, verbose=0)
    return network


@pytest.fixture(scope="module")
def article():
    """As in the article: rows of numbers from 0 to 1, tanh, mse. It was hardly trained."""
    (x, y), _ = load_mnist()
    network = Network([FCLayer(784, 30), ActivationLayer("tanh"), FCLayer(30, 10), ActivationLayer("tanh")], seed=1)
    network.use("mse")
    network.fit(x[:300].reshape(-1, 1, 784) / 255, to_categorical(y[:300])[:, None], 1, 0.1, verbose=0)
    return network


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as driver:
        yield driver


@pytest.fixture
def page(chromium, tmp_path):
    """Shows a network's page; at the end nothing may have gone wrong in it."""

    def show(network, width=1000, height=900):
        network.export(tmp_path / "page.html")
        size(chromium, width, height)
        chromium.get((tmp_path / "page.html").as_uri())
        return chromium

    chromium.get_log("browser")
    yield show
    assert chromium.get_log("browser") == []


def text(driver, name):
    return driver.execute_script("return element(arguments[0]).textContent", name)


def said(driver, words, name="said"):
    """Waits until a screen reader is told something that begins with these words."""
    end = time.monotonic() + 10
    while not (found := text(driver, name)).startswith(words):
        assert time.monotonic() < end, f"told {found!r} instead of {words!r}"
        time.sleep(0.05)


def image(driver):
    """The bytes of the small picture, (28, 28)."""
    found = driver.execute_script(
        "return Array.from(element('image').getContext('2d').getImageData(0, 0, 28, 28).data).filter((_, k) => k % 4 === 0)"
    )
    return np.array(found).reshape(28, 28)


def surface(driver):
    """What is drawn on the pad, (448, 448): 0 is paper."""
    found = driver.execute_script(
        "const data = surface.getImageData(0, 0, SIZE, SIZE).data;"
        "return btoa(String.fromCharCode.apply(null, []) + Array.from({length: SIZE * SIZE}, (_, k) => "
        "String.fromCharCode(data[4 * k])).join(''))"
    )
    return np.frombuffer(base64.b64decode(found), np.uint8).reshape(448, 448)


def settled(driver):
    """Waits until what is waiting for the next frame has been drawn."""
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


# -- it computes what predict returns --------------------------------------------------------------------------------------


def test_two_hundred_digits(page, lenet):
    x = load_mnist()[1][0][:200]
    driver = page(lenet)
    assert driver.execute_script("return element('most').value") == "255"
    found = [np.array(driver.execute_script(FORWARD, digit.reshape(-1).tolist()), float) for digit in x]
    expected = lenet.predict(x)
    assert max(difference(y, e) for y, e in zip(found, expected, strict=True)) < 1e-5


def test_two_hundred_digits_from_0_to_1(page, article):
    x = load_mnist()[1][0][:200].reshape(-1, 1, 784)
    driver = page(article)
    assert driver.execute_script("return element('most').value") == "1"
    given = "return Array.from(forward(given(Uint8Array.from(arguments[0]))).data, String)"
    found = [np.array(driver.execute_script(given, digit.reshape(-1).tolist()), float) for digit in x]
    expected = article.predict(x / 255)[:, 0]
    assert max(difference(y, e) for y, e in zip(found, expected, strict=True)) < 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_row_of_the_table(page, dtype):
    shown = 0
    for case in LAYERS:
        if not all(is_ours(type(part)) for part in case.make().walk()):
            continue
        x = np.random.default_rng(1).standard_normal((2, *case.sample))
        network = touched(Network([case.make()], dtype=dtype, seed=1), x)
        driver = page(network)
        found = [driver.execute_script(FORWARD, sample.reshape(-1).tolist()) for sample in x]
        expected = network.predict(x)
        assert difference(np.array(found, float), expected.reshape(2, -1)) < 1e-5, case.name
        shown += 1
    assert shown > 50


# -- it needs nothing else -------------------------------------------------------------------------------------------------


def test_offline_and_nothing_is_fetched(page, chromium, lenet):
    chromium.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    chromium.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        driver = page(lenet)
        draw(driver, drawn(next(iter(SHAPES[4].values())), HANDS[0], 448), 448)
        settled(driver)
        assert text(driver, "answer") == "4"
        assert driver.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)") == []
        blocked = driver.execute_async_script(
            "fetch('https://localhost/').then(() => arguments[0]('fetched'), (error) => arguments[0](error.name))"
        )
        assert blocked == "TypeError"
        refused = [entry["message"] for entry in driver.get_log("browser")]
        assert refused
        assert all("Content Security Policy" in message for message in refused)
    finally:
        chromium.execute_cdp_cmd(
            "Network.emulateNetworkConditions", offline | {"offline": False, "downloadThroughput": -1}
        )


# -- it can be seen and used at any width ----------------------------------------------------------------------------------

VISIBLE = """
const names = arguments[0];
return names.filter((name) => {
  const box = element(name).getBoundingClientRect();
  return !(box.width > 0 && box.height > 0 && box.left >= 0 && box.right <= innerWidth);
});
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 760, 1600])
def test_widths_and_themes(page, chromium, lenet, width, theme):
    feature = {"name": "prefers-color-scheme", "value": theme}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    driver = page(lenet, width)
    draw(driver, drawn(next(iter(SHAPES[7].values())), HANDS[0], 448), 448)
    driver.execute_script("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    settled(driver)
    assert text(driver, "answer") == "7"
    assert driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]") == [width, width]
    names = ["pad", "clear", "undo", "width", "image", "most", "answer", "sureness", "bars", "layers", "code"]
    assert driver.execute_script(VISIBLE, names[:-1]) == []
    assert driver.execute_script(
        "return [...document.querySelectorAll('#layers canvas')].every((c) => c.getBoundingClientRect().right <= innerWidth)"
    )
    light = driver.execute_script("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (min(light) > 200) == (theme == "light")
    targets = driver.execute_script(
        "return [...document.querySelectorAll('button, select')].map((each) => each.getBoundingClientRect().height)"
    )
    assert min(targets) >= 44  # pixels, for a finger


def test_the_answer_is_in_sight_on_a_phone(page, lenet):
    driver = page(lenet, 390, 844)
    assert driver.execute_script("return element('answer').getBoundingClientRect().bottom") < 844


# -- it can be drawn on ----------------------------------------------------------------------------------------------------


def test_the_mouse(page, lenet):
    driver = page(lenet)
    assert text(driver, "answer") == "\u2013"
    draw(driver, drawn(SHAPES[3]["two bows"], HANDS[0], 448), 448)
    settled(driver)
    assert text(driver, "answer") == "3"
    assert np.array_equal(image(driver), prepare_digit(surface(driver)))
    assert image(driver).max() == 255
    best = driver.execute_script("return document.querySelector('#bars .best .name').textContent")
    assert best == "3"
    shares = driver.execute_script("return [...document.querySelectorAll('#bars .number')].map((n) => n.textContent)")
    expected = lenet.predict_proba(image(driver)[None])[0]
    assert np.abs(np.array([float(s.removesuffix(" %")) for s in shares]) - 100 * expected).max() <= 0.051


def test_a_stroke_may_leave_the_pad_and_other_buttons_do_nothing(page, lenet):
    driver = page(lenet)
    left, top = driver.execute_script("const b = pad.getBoundingClientRect(); return [b.left, b.top]")
    mouse(driver, "mouseMoved", (left + 100, top + 100))  # no button is pressed
    settled(driver)
    assert not surface(driver).any()
    mouse(driver, "mousePressed", (left + 100, top + 100), button="right")
    mouse(driver, "mouseReleased", (left + 100, top + 100), button="right")
    assert not surface(driver).any()
    mouse(driver, "mousePressed", (left + 100, top + 100))
    mouse(driver, "mouseMoved", (left - 40, top + 100))
    mouse(driver, "mouseMoved", (left - 40, top + 200))
    mouse(driver, "mouseReleased", (left - 40, top + 200))
    mouse(driver, "mouseMoved", (left + 200, top + 200))  # released, though outside
    settled(driver)
    drawn_here = surface(driver)
    assert drawn_here[:, 0].any()
    assert not drawn_here[:, 200:].any()
    assert driver.execute_script("return strokes.length") == 1


def test_a_dot_is_drawn_too(page, lenet):
    driver = page(lenet)
    draw(driver, [[(224.0, 224.0)]], 448)
    settled(driver)
    assert surface(driver)[224, 224] == 255
    assert text(driver, "answer") in "0123456789"


def test_clear_undo_and_the_pens_width(page, lenet):
    driver = page(lenet)
    buttons = "return ['undo', 'clear'].map((name) => element(name).disabled)"
    assert driver.execute_script(buttons) == [True, True]
    draw(driver, [[(100, 60), (100, 300)]], 448)
    settled(driver)
    first = surface(driver)
    driver.execute_script("element('width').value = 72; element('width').dispatchEvent(new Event('input'))")
    draw(driver, [[(300, 60), (300, 300)]], 448)
    settled(driver)
    assert driver.execute_script(buttons) == [False, False]
    both = surface(driver)
    assert [int((both[200, part] > 127).sum()) for part in (slice(0, 200), slice(200, None))] == [36, 72]
    driver.find_element("id", "undo").click()
    assert np.array_equal(surface(driver), first)
    driver.find_element("id", "clear").click()
    assert not surface(driver).any()
    assert driver.execute_script(buttons) == [True, True]
    assert text(driver, "answer") == "\u2013"
    assert not image(driver).any()


def test_a_finger(page, lenet):
    driver = page(lenet, 390, 844)
    driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        touch(driver, drawn(next(iter(SHAPES[1].values())), HANDS[0], 448), 448)
        settled(driver)
        assert text(driver, "answer") == "1"
        assert driver.execute_script("return [scrollX, scrollY]") == [0, 0]  # it draws, it does not scroll
    finally:
        driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def keys(driver, *names):
    """Presses keys on what has the focus; several in a tuple at once."""
    from selenium.webdriver import ActionChains

    for name in names:
        together = name if isinstance(name, tuple) else (name,)
        chain = ActionChains(driver, duration=0)
        for each in together:
            chain.key_down(each)
        for each in together:
            chain.key_up(each)
        chain.perform()


def test_the_keyboard_alone(page, lenet):
    """From the page's beginning: to the pad by the tabulator, a seven, undone, drawn again, cleared."""
    from selenium.webdriver.common.keys import Keys

    driver = page(lenet)
    keys(driver, Keys.TAB)
    assert driver.execute_script("return document.activeElement.id") == "pad"
    ring = "return getComputedStyle(document.querySelector('.surface')).boxShadow"
    assert driver.execute_script(ring) != "none"
    keys(driver, Keys.SPACE, Keys.SPACE)
    said(driver, "Pen up.", "pen-said")
    keys(driver, (Keys.CONTROL, "z"))
    left = [Keys.LEFT] * 7
    seven = [Keys.SPACE, *[Keys.RIGHT] * 12, *[(Keys.LEFT, Keys.DOWN)] * 8, *[Keys.DOWN] * 8, Keys.SPACE]
    keys(driver, *left, *seven)
    settled(driver)
    assert text(driver, "answer") == "7"
    assert driver.execute_script("return [scrollX, scrollY]") == [0, 0]
    said(driver, "Read as 7, ")
    before = surface(driver)
    keys(driver, (Keys.CONTROL, "z"))
    assert not surface(driver).any()
    assert driver.execute_script("return [pen.x, pen.down]")[1] is False
    driver.execute_script("pen = null")
    keys(driver, *left, *seven)
    settled(driver)
    assert np.array_equal(surface(driver), before)
    keys(driver, Keys.SHIFT)
    keys(driver, Keys.DELETE)
    assert not surface(driver).any()
    keys(driver, Keys.TAB)
    assert driver.execute_script("return document.activeElement.id") != "pad"
    assert driver.execute_script("return element('pen').hidden")


def test_what_a_screen_reader_is_told(page, lenet):
    driver = page(lenet)
    tree = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = {(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if "role" in n}
    wanted = {("application", "Drawing pad"), ("button", "Clear"), ("button", "Undo"), ("slider", "Pen")}
    assert wanted <= named
    assert any(role == "image" and name.startswith("Output of layer 3, ConvLayer") for role, name in named)
    assert ("heading", "Draw a digit") in named
    pad = next(n for n in tree if n.get("name", {}).get("value") == "Drawing pad")
    assert "arrow keys" in pad["description"]["value"]


def test_pixels_from_0_to_1_by_hand(page, lenet):
    driver = page(lenet)
    draw(driver, drawn(SHAPES[3]["two bows"], HANDS[0], 448), 448)
    driver.execute_script("element('most').value = '1'; element('most').dispatchEvent(new Event('change'))")
    found = driver.execute_script("return Array.from(forward(given(prepared())).data)")
    assert difference(found, lenet.predict(image(driver)[None] / 255)[0]) < 1e-5


def test_the_code_that_is_shown_runs(page, lenet):
    driver = page(lenet)
    found = driver.execute_script(
        "const copy = eval(`(${element('code').textContent})`);"
        "const x = tensor(ABOUT.inputShape, new Numbers(784).fill(100));"
        "return [Array.from(copy(x).data), Array.from(forward(x).data)]"
    )
    assert found[0] == found[1]
    assert len(found[0]) == 10


# -- numbers instead of a pad ----------------------------------------------------------------------------------------------


def test_fields(page):
    network = Network([FCLayer(4, 5), ActivationLayer("tanh"), FCLayer(5, 3)], seed=3)
    driver = page(network, 320)
    assert driver.execute_script("return document.documentElement.scrollWidth") == 320
    fields = driver.find_elements("css selector", "#fields input")
    x = ["0.5", "\u22122", "1e-1", ".25"]  # the second with the minus sign that the page prints
    for field, value in zip(fields, x, strict=True):
        field.clear()
        field.send_keys(value)
    expected = network.predict([[float(v.replace("\u2212", "-")) for v in x]])[0]
    numbers = driver.execute_script("return [...document.querySelectorAll('#bars .number')].map((n) => n.textContent)")
    found = [float(n.replace("\u2212", "-")) for n in numbers]
    assert difference(found, expected) < 1e-3  # four digits are shown
    fields[2].clear()
    fields[2].send_keys("two")
    assert text(driver, "fault") == "x[2] is \u201ctwo\u201d: it must be a number."
    assert fields[2].get_attribute("aria-invalid") == "true"
    assert driver.execute_script("return document.querySelector('#bars .number').textContent") == ""
    driver.find_element("id", "zeros").click()
    assert text(driver, "fault") == ""
    assert fields[2].get_attribute("aria-invalid") == "false"
    driver.find_element("id", "random").click()
    values = [float(field.get_attribute("value")) for field in fields]
    assert all(-1 <= value <= 1 for value in values)
    assert any(values)


def test_fields_of_a_classifier(page):
    network = Network([FCLayer(2, 3)], seed=3)
    network.layers[0].weights = np.eye(2, 3)
    network.use("softmax_cross_entropy")
    driver = page(network)
    driver.find_element("id", "x1").clear()
    driver.find_element("id", "x1").send_keys("2")
    assert text(driver, "answer") == "1"
    assert text(driver, "sureness") == "78.7 %"  # e^2 / (e^2 + 2)
    said(driver, "Class 1, 78.7 %.")


def test_an_autoencoder_reads_nothing(page):
    driver = page(Network([FCLayer(784, 4), FCLayer(4, 784), ActivationLayer("sigmoid")], seed=3))
    draw(driver, drawn(SHAPES[3]["two bows"], HANDS[0], 448), 448)
    settled(driver)
    assert text(driver, "answer") == ""
    assert len(text(driver, "numbers").split(", ")) == 784
    pictures = driver.execute_script(
        "return [...document.querySelectorAll('#layers canvas')].map((c) => [c.width, c.height])"
    )
    assert pictures[-1] == [28, 28]


def test_many_numbers(page):
    network = Network([ConvLayer((6, 6, 2), (3, 3), 3), ActivationLayer("gelu"), FlattenLayer()], seed=3)
    driver = page(network, 320)
    assert driver.execute_script("return document.documentElement.scrollWidth") == 320
    x = np.random.default_rng(0).standard_normal((6, 6, 2)).round(3)
    set_list = "element('list').value = arguments[0]; element('list').dispatchEvent(new Event('input'))"
    for written in (str(x.tolist()), " ".join(map(str, x.reshape(-1))), "\n".join(map(str, x.reshape(-1)))):
        driver.execute_script(set_list, written)
        assert text(driver, "fault") == ""
        found = [float(n.replace("\u2212", "-")) for n in text(driver, "numbers").split(", ")]
        assert difference(found, network.predict(x[None])[0]) < 1e-3
        driver.execute_script(set_list, "1, 2")
        assert text(driver, "fault") == "The network takes 72 numbers, these are 2."
        assert text(driver, "numbers") == ""
