"""Exported pages: their scripts run by Node without a browser, and a browser for what needs one."""

import json
import re
import shutil
import subprocess
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np

NODE = shutil.which("node")
WITHOUT_NODE = "Node is not on the path: it runs the pages' scripts without a browser"

# Reads [[scripts, [[shape, values], ...]], ...], a page and its samples each; prints what forward returns for each.
RUN = """
const pages = JSON.parse(require("fs").readFileSync(0, "utf8"));
const plain = (t) => ({ shape: t.shape, data: Array.from(t.data, String) });
const answers = pages.map(([scripts, samples]) => {
  const context = { atob };
  const calling = "(shape, values, seen) => forward(tensor(shape, Numbers.from(values, Number)), seen)";
  const run = require("vm").runInNewContext(`const start = () => {}; ${scripts.join("\\n")} ${calling}`, context);
  return samples.map(([shape, values]) => {
    const seen = {};
    const y = plain(run(shape, values, seen));
    return [y, Object.fromEntries(Object.entries(seen).map(([path, t]) => [path, plain(t)]))];
  });
});
process.stdout.write(JSON.stringify(answers));
"""


def exported(network, folder):
    """The text of the network's page."""
    path = folder / "page.html"
    network.export(path)
    return path.read_text(encoding="utf-8")


def scripts(text):
    """The page's scripts: the network, the page, the weights."""
    found = re.findall(r'<script>\n"use strict";\n(.*?)</script>', text, re.DOTALL)
    assert len(found) == 3, "a text that ends a script would make more"
    return found


def node(program, data):
    """What a program prints, as JSON, which reads data as JSON."""
    done = subprocess.run([NODE, "-e", program], input=json.dumps(data), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def computed(pages):
    """For pairs of a page's text and samples x (N, ...): what its ``forward`` returns for each sample, as an array,
    and what each layer returns, by path."""
    given = []
    for text, x in pages:
        network, _, weights = scripts(text)
        given.append([[network, weights], [[s.shape, [_spelt(v) for v in s.reshape(-1)]] for s in np.asarray(x)]])
    return [[(array(y), {p: array(t) for p, t in seen.items()}) for y, seen in page] for page in node(RUN, given)]


def _spelt(value):
    """A number in JavaScript's spelling."""
    return repr(float(value)).replace("inf", "Infinity").replace("nan", "NaN")


def array(plain):
    """An array from its shape and its numbers."""
    return np.array([float(v.replace("Infinity", "inf")) for v in plain["data"]]).reshape(plain["shape"])


def difference(y, expected):
    """The largest difference, as a share of the largest value."""
    y, expected = np.asarray(y, float), np.asarray(expected, float)
    assert y.shape == expected.shape
    return float(np.abs(y - expected).max() / max(np.abs(expected).max(), 1e-300))


def touched(network, x, seed=0):
    """The network with other numbers in its parameters and buffers than it was born with, built for samples x."""
    rng = np.random.default_rng(seed)
    network.predict(x)
    for layer in network.walk():
        for name, old in layer.parameters.items():
            layer.assign(name, rng.standard_normal(old.shape))
        for name, old in layer.buffers.items():
            layer.buffers[name] = rng.uniform(0.5, 2.0, old.shape).astype(old.dtype)
    return network


# -- a browser ---------------------------------------------------------------------------------------------------------

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--hide-scrollbars",
]


def why_no_browser():
    """The reason why there is no browser for the tests; an empty text if there is one."""
    if find_spec("selenium") is None:
        return "selenium is not installed: pip install -e '.[test]'"
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"not on the path: {', '.join(missing)} (Debian: apt install chromium chromium-driver)" if missing else ""


@contextmanager
def browser(folder, width=1000, height=900):
    """A chromium of its own, with its data in an empty folder."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


def size(driver, width, height):
    """Makes the page that wide: windows have a least width, phones do not."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def on_the_pad(driver, strokes, canvas):
    """Strokes (n, 2), in pixels of a square canvas of that size, as points of the window."""
    left, top, width = driver.execute_script("const b = pad.getBoundingClientRect(); return [b.left, b.top, b.width]")
    return [[(left + x * width / canvas, top + y * width / canvas) for x, y in stroke] for stroke in strokes]


def draw(driver, strokes, canvas):
    """Draws strokes on the pad with the mouse."""
    for first, *others in on_the_pad(driver, strokes, canvas):
        mouse(driver, "mousePressed", first)
        for point in others:
            mouse(driver, "mouseMoved", point)
        mouse(driver, "mouseReleased", ([first, *others])[-1])


def mouse(driver, kind, point, button="left"):
    x, y = map(float, point)
    event = {"type": kind, "x": x, "y": y, "button": button, "clickCount": int(kind != "mouseMoved")}
    driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def touch(driver, strokes, canvas):
    """Draws strokes on the pad with a finger."""
    for stroke in on_the_pad(driver, strokes, canvas):
        for kind, points in (("touchStart", stroke[:1]), ("touchMove", stroke[1:])):
            for x, y in points:
                event = {"type": kind, "touchPoints": [{"x": float(x), "y": float(y)}]}
                driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)
        driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
