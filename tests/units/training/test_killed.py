"""A run that is killed at random moments and resumed in new processes gives bitwise the same result."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import runs

needs_signals = pytest.mark.skipif(os.name != "posix", reason="this system has no SIGKILL")
UNITS, EPOCHS = ("step", "epoch"), 60


def start(folder, unit):
    root = Path(runs.__file__).parents[2]
    paths = [str(root), str(root / "backends"), str(Path(runs.__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, runs.__file__, str(folder), unit, str(EPOCHS)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finished(folder, unit):
    process = start(folder, unit)
    message = process.communicate(timeout=120)[1]
    assert process.returncode == 0, message.decode()
    with np.load(folder / "arrays.npz") as arrays:
        found = {name: arrays[name].copy() for name in arrays.files}
    return found, (folder / "numbers.json").read_text(), (folder / "log.csv").read_bytes()


def until(condition, process):
    while not condition() and process.poll() is None:
        time.sleep(0.002)


def killed_runs(tmp_path, kills, seed=0):
    """Kills runs at random moments after the first checkpoint of each process, and compares their final states."""
    draw, expected = random.Random(seed), {}
    for unit in UNITS:
        (tmp_path / unit).mkdir()
        expected[unit] = finished(tmp_path / unit, unit)
    done = struck = turn = 0
    while done < kills:
        unit, folder = UNITS[turn % 2], tmp_path / f"killed {turn}"
        folder.mkdir()
        turn += 1
        for _ in range(min(2, kills - done)):
            number, checkpoint = draw.choice([signal.SIGKILL, signal.SIGTERM]), folder / "run"
            before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
            process = start(folder, unit)
            until(lambda path=checkpoint, then=before: path.exists() and path.stat().st_mtime_ns != then, process)
            time.sleep(draw.uniform(0.0, 0.15))
            process.send_signal(number)
            message = process.communicate(timeout=60)[1].decode()
            assert process.returncode in (0, -number), message
            assert message == ""
            done, struck = done + 1, struck + (process.returncode != 0)
        arrays, numbers, log = finished(folder, unit)
        assert runs.same(arrays, expected[unit][0])
        assert (numbers, log) == expected[unit][1:]
        assert {path.name for path in folder.iterdir()} >= {"run", "log.csv", "arrays.npz", "numbers.json"}
    assert struck >= kills // 2  # the other signals came after the run had finished


@needs_signals
@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path):
    killed_runs(tmp_path, 1)


@needs_signals
@pytest.mark.slow
def test_fifty_kills(tmp_path):
    killed_runs(tmp_path, 50, seed=1)
