"""The wheel, installed outside the checkout, contains what it should and runs the examples.

CI builds the wheel and passes its path in PORTNN_WHEEL.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WHEEL = os.environ.get("PORTNN_WHEEL")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WHEEL, reason="set PORTNN_WHEEL to a built wheel (bash .ci/run does)"),
]


def test_the_wheel_holds_three_packages_and_the_sample():
    names = zipfile.ZipFile(WHEEL).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "portnn",
        "portnn_numpy",
        "portnn_cupy",
    }
    assert len([name for name in names if name.startswith("portnn/datasets/sample/") and name.endswith(".gz")]) == 4
    assert {"portnn/py.typed", "portnn_numpy/py.typed", "portnn_cupy/py.typed"} <= set(names)
    licences = [name for name in names if "licenses/" in name]
    assert len(licences) == 2
    assert Path(WHEEL).stat().st_size < 2e6


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A fresh virtual environment with only the wheel and its dependencies installed."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", WHEEL], check=True)
    return python, folder


def outside(installed, *arguments):
    python, folder = installed
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_info(installed):
    assert "cpu: works" in outside(installed, "-m", "portnn", "info")


def test_entry_points(installed):
    code = "from importlib.metadata import entry_points as e; print(sorted((p.name, p.value) for p in e(group='portnn.backends')))"
    assert outside(installed, "-c", code).strip() == "[('cpu', 'portnn_numpy'), ('gpu', 'portnn_cupy')]"


def test_the_library_comes_from_the_wheel(installed):
    where = outside(installed, "-c", "import portnn, portnn_numpy; print(portnn.__file__, portnn_numpy.__file__)")
    assert where.count("site-packages") == 2


@pytest.mark.parametrize(
    "example",
    [
        "xor",
        "conv",
        "mnist_fc",
        "mnist_conv",
        "mnist_lenet",
        "mnist_resnet",
        "own_layer",
        "draw_digits",
        "from_pytorch",
    ],
)
def test_example(installed, example):
    outside(installed, ROOT / "examples" / f"{example}.py", "--epochs", "1")
