"""The table of ``benchmarks/compare.py``, with workers that play frameworks, one of which ends in the middle."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from unittest.mock import MagicMock

import pytest

ROOT = Path(__file__).parents[2]
WORKER = """
import json, sys
name = sys.argv[1]
print(json.dumps({"about": name}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if name.startswith(DYING) and request.get("round", request.get("predict", 0)) >= 2:
        sys.exit(7)
    print(json.dumps({"seconds": 1.0, "steps": 10, "calls": 10, "error": 0.5, "peak": 1 << 20}), flush=True)
"""


@pytest.fixture
def compare(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    import compare

    def with_workers(dying):
        (tmp_path / "worker.py").write_text(f"DYING = {dying!r}\n{WORKER}")
        monkeypatch.setattr(compare, "Worker", partial(compare.Worker, home=tmp_path))
        return compare

    yield with_workers
    sys.modules.pop("compare")


OPTIONS = argparse.Namespace(backend="cpu", rounds=3, folder=None, core_type=None, only=None, portable=False)


@pytest.mark.parametrize("work", ["a128", "predict"])
def test_a_framework_that_ends_does_not_take_the_table_with_it(compare, work):
    made = compare("torch")
    text = made.predict(OPTIONS) if work == "predict" else made.train(work, OPTIONS)
    assert "| portnn | 100,000 | 1.00 | 1.00 | 1 MiB |" in text
    assert "| jax | 100,000 | 1.00 |" in text
    assert "torch ended without an answer, with exit code 7: it is not in the table" in text
    assert text.count("| torch |") == (work == "predict")  # in the first of three tables


def test_the_second_form_may_end_as_well(compare):
    text = compare("portnn, NumPy").train("a128", OPTIONS)
    assert "| torch | 100,000 | 1.00 |  | 1 MiB |" in text


def test_without_portnn_there_is_no_table(compare):
    text = compare("portnn").train("a128", OPTIONS)
    assert "portnn ended without an answer" in text
    assert "us per step" not in text


@pytest.fixture
def peer(monkeypatch):
    """Imports a module of ``frameworks`` with a library that is not there."""

    def imported(name, *libraries):
        monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
        for library in libraries:
            monkeypatch.setitem(sys.modules, library, MagicMock())
        monkeypatch.delitem(sys.modules, f"frameworks.{name}", raising=False)
        return __import__(f"frameworks.{name}", fromlist=[name])

    yield imported
    for name in [name for name in sys.modules if name.startswith("frameworks")]:
        del sys.modules[name]


def test_pytorch_computes_in_float32(peer):
    torch = peer("pytorch", "torch", "torch.nn").torch
    assert torch.backends.cudnn.allow_tf32 is False
    assert torch.backends.cuda.matmul.allow_tf32 is False


def test_jax_leaves_memory_to_others_and_computes_in_float32(peer, monkeypatch):
    names = ("XLA_PYTHON_CLIENT_PREALLOCATE", "JAX_DEFAULT_MATMUL_PRECISION")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    peer("jaxed", "jax", "jax.numpy", "jax.lax")
    assert [os.environ.pop(name) for name in names] == ["false", "highest"]
