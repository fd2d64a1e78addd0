"""Exported pages: their scripts run by Node without a browser, and a browser for what needs one."""

import json
import re
import shutil
import subprocess
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np

NODE = shutil.which("node")
RUN = """
const fs = require("fs");
const { scripts, inputs } = JSON.parse(fs.readFileSync(0, "utf8"));
globalThis.start = () => {};
const made = inputs.map(([shape, values]) => `[${JSON.stringify(shape)}, ${JSON.stringify(values)}]`);
const code = `${scripts.join("\\n")}
  const numbers = (values) => Numbers.from(values, Number);
  JSON.stringify([${made.join(",")}].map(([shape, values]) => {
    const seen = {};
    const y = forward(tensor(shape, numbers(values)), seen);
    const plain = (t) => ({ shape: t.shape, data: Array.from(t.data, String) });
    return { y: plain(y), seen: Object.fromEntries(Object.entries(seen).map(([path, t]) => [path, plain(t)])) };
  }));`;
process.stdout.write((0, eval)(code));
"""


def scripts(text):
    """The page's scripts: the network, the page, the weights."""
    found = re.findall(r'<script>\n"use strict";\n(.*?)</script>', text, re.DOTALL)
    assert len(found) == 3, "a text that ends a script would make more"
    return found


def node(program, data):
    done = subprocess.run([NODE, "-e", program], input=json.dumps(data), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def computed(text, x):
    """What the page's ``forward`` returns for each of the samples x (N, ...), and what each layer returns by path."""
    network, _, weights = scripts(text)
    inputs = [[sample.shape, [repr(float(v)) for v in sample.reshape(-1)]] for sample in np.asarray(x)]
    answers = node(RUN, {"scripts": [network, weights], "inputs": inputs})
    return [_array(a["y"]) for a in answers], [{p: _array(t) for p, t in a["seen"].items()} for a in answers]


def _array(plain):
    spelt = {"Infinity": "inf", "-Infinity": "-inf"}
    return np.array([float(spelt.get(v, v)) for v in plain["data"]]).reshape(plain["shape"])


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


def draw(driver, strokes, canvas):
    """Draws strokes (n, 2), in pixels of a square canvas of that size, on the page's pad with the mouse."""
    box = driver.execute_script("const b = element('pad').getBoundingClientRect(); return [b.left, b.top, b.width];")
    left, top, width = box
    for stroke in strokes:
        points = [(left + x * width / canvas, top + y * width / canvas) for x, y in stroke]
        mouse(driver, "mousePressed", points[0])
        for point in points[1:]:
            mouse(driver, "mouseMoved", point)
        mouse(driver, "mouseReleased", points[-1])


def mouse(driver, kind, point):
    event = {"type": kind, "x": float(point[0]), "y": float(point[1]), "button": "left", "clickCount": 1, "buttons": 1}
    driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)
