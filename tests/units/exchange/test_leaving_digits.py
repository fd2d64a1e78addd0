"""Networks that were trained on digits leave the library, and read 1,000 digits as ``predict`` does.

In Python where there is nothing but NumPy, in C under the sanitizers, in a browser. The digits are the bundled ones, or
MNIST's own where the environment variable PORTNN_MNIST names the folder with its files.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from c_files import SANITIZED, STRICT, cc, needs_cc
from leaving import lenet, residual
from pages import browser, difference, why_no_browser
from portnn import (
    ActivationLayer,
    Adam,
    ConvLayer,
    FCLayer,
    FlattenLayer,
    GlobalAvgPoolLayer,
    MaxPoolLayer,
    Network,
    ScaleLayer,
    load_mnist,
)

pytestmark = pytest.mark.slow
READ = 1000


def mlp():
    """Rows of numbers from 0 to 1."""
    return [FCLayer(784, 100), ActivationLayer("tanh"), FCLayer(100, 50), ActivationLayer("relu"), FCLayer(50, 10)]


def sequence():
    """A digit as a sequence of 28 rows: convolutions along one axis."""
    return [
        ScaleLayer(1 / 255),
        ConvLayer((28, 28), (5,), 24, padding="same"),
        ActivationLayer("silu"),
        MaxPoolLayer(2),
        ConvLayer((14, 24), (3,), 32, stride=2, padding=1),
        ActivationLayer("relu"),
        GlobalAvgPoolLayer(),
        FCLayer(32, 10),
    ]


def numbers():
    """An MLP of images, which takes bytes."""
    return [ScaleLayer(1 / 255), FlattenLayer(), FCLayer(784, 32), ActivationLayer("gelu"), FCLayer(32, 10)]


MADE = {"MLP": mlp, "MLP of images": numbers, "LeNet": lenet, "residual": residual, "1-D": sequence}


def given(name, images):
    """Images as a network takes them."""
    return images.reshape(-1, 784).astype(np.float32) / np.float32(255) if name == "MLP" else images.astype(np.float32)


@pytest.fixture(scope="module")
def trained():
    """Each network after two epochs, the digits to read, and what it makes of them."""
    (x, y), (digits, labels) = load_mnist(folder=os.environ.get("PORTNN_MNIST"))
    digits, labels = digits[:READ], labels[:READ]
    assert len(digits) == READ
    found = {}
    for name, make in MADE.items():
        network = Network(make(), seed=1)
        network.use("softmax_cross_entropy", optimizer=Adam(2e-3), metrics=["accuracy"])
        network.fit(given(name, x[:2000]), y[:2000], epochs=2, batch_size=20, shuffle=True, verbose=0)
        taken = given(name, digits)
        assert network.evaluate(taken, labels)["accuracy"] > 0.25, (
            name
        )  # it has learned: weights and values are no noise
        found[name] = network, digits, taken, network.predict(taken)
    return found


# Nothing can be imported but Python's own modules and NumPy.
ALONE = """
import runpy, sys

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "numpy"}:
            raise ModuleNotFoundError(f"not here: {name}")

sys.meta_path.insert(0, Nothing())
for name in ("portnn", "numba", "cupy"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} could be imported")
sys.argv = ["net.py", *sys.argv[1:]]
runpy.run_path("net.py", run_name="__main__")
"""


@pytest.mark.parametrize("name", MADE)
def test_python_with_numpy_alone(trained, name, tmp_path):
    network, _, x, expected = trained[name]
    network.export(tmp_path / "net.py")
    np.save(tmp_path / "x.npy", x)
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", ALONE, "x.npy", "y.npy"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    found = np.load(tmp_path / "y.npy")
    assert found.dtype == np.float32
    assert difference(found, expected) < 1e-5


DRIVER = """#include <stdio.h>

void net_predict(const float *x, float *y);

int main(void)
{
    static float x[784], y[10];
    FILE *from = fopen("x.bin", "rb"), *to = fopen("y.bin", "wb");
    if (from == NULL || to == NULL) {
        return 2;
    }
    while (fread(x, sizeof(float), 784, from) == 784) {
        net_predict(x, y);
        fwrite(y, sizeof(float), 10, to);
    }
    fclose(from);
    return fclose(to);
}
"""


@needs_cc
@pytest.mark.parametrize("flags", [[*SANITIZED, "-O1"], ["-O3"], ["-O0"]], ids=["sanitizers", "-O3", "-O0"])
@pytest.mark.parametrize("name", MADE)
def test_c_without_a_library(trained, name, flags, tmp_path):
    network, _, x, expected = trained[name]
    network.export(tmp_path / "net.c")
    (tmp_path / "driver.c").write_text(DRIVER)
    x.tofile(tmp_path / "x.bin")
    cc(*STRICT, *flags, "net.c", "driver.c", "-lm", "-o", "driver", cwd=tmp_path)
    done = subprocess.run(["./driver"], cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert (done.returncode, done.stderr) == (0, "")
    found = np.fromfile(tmp_path / "y.bin", np.float32).reshape(READ, 10)
    assert difference(found, expected) < 1e-5


@pytest.mark.skipif(bool(why_no_browser()), reason=why_no_browser())
@pytest.mark.parametrize("name", MADE)
def test_the_page_in_a_browser(trained, name, tmp_path, tmp_path_factory):
    """The page has a pad, since all take digits; it gets what the pad would give it, the bytes of an image."""
    network, digits, _, expected = trained[name]
    network.export(tmp_path / "page.html")
    read = (
        "return arguments[0].map((digit) => Array.from(forward(given(Uint8Array.from(digit))).data, String).join(' '))"
    )
    found = []
    with browser(tmp_path_factory.mktemp("browser")) as driver:
        driver.get((tmp_path / "page.html").as_uri())
        assert driver.execute_script("return element('most').value") == ("1" if name == "MLP" else "255")
        for first in range(0, READ, 250):
            some = digits[first : first + 250].reshape(-1, 784).tolist()
            found += [row.split() for row in driver.execute_script(read, some)]
        assert driver.get_log("browser") == []
    assert difference(np.array(found, float), expected) < 1e-5
