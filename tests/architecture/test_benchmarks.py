"""The benchmark scripts run. The timings that they report are not checked."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(p.name for p in (ROOT / "benchmarks").glob("*.py") if "ArgumentParser" in p.read_text())
pytestmark = pytest.mark.slow


def output(*arguments):
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_benchmark_explains_itself(script):
    assert "usage:" in output(f"benchmarks/{script}", "--help")


def test_the_profile_names_the_layers():
    found = output("benchmarks/profile_step.py", "a128", "c128", "--rounds", "1")
    assert "FCLayer forward" in found
    assert "ConvLayer backward" in found
    assert "optimizer" in found


def test_a_checkout_is_as_fast_as_itself():
    found = output("benchmarks/before_after.py", ".", "a128", "predict", "--pairs", "2")
    assert "| a128 |" in found
    assert "| predict, 128 |" in found


def test_watching_changes_no_bit():
    found = output("benchmarks/watching.py", "a128", "--pairs", "2")
    assert "| a128 |" in found


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler, cc, on the path")
def test_exported_c_is_compared_with_predict():
    found = output("benchmarks/exported_c.py", "1-D", "wide", "--pairs", "2", "--threads", "1")
    assert "| 1-D: " in found
    assert "| wide: " in found


def test_frameworks_are_compared():
    found = output("benchmarks/compare.py", "a128", "--only", "portnn", "--rounds", "1")
    assert "portnn" in found
