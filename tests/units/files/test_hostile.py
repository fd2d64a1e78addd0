"""Hostile files: each is rejected with a clear error, within one second and 200 MB, and nothing in it is executed."""

import json
import re
import subprocess
import sys

import pytest

import hostile_files
from documents import ROOT


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """The reports of a separate process that tried to load them all."""
    folder = tmp_path_factory.mktemp("hostile")
    path = [str(ROOT), str(ROOT / "backends"), str(ROOT / "tests" / "support")]
    program = ROOT / "tests" / "support" / "hostile_files.py"
    done = subprocess.run(
        [sys.executable, str(program), str(folder)],
        cwd=folder,
        env={"PYTHONPATH": ":".join(path), "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["good"]  # nothing else was written
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    before, sys.argv = sys.argv, ["", str(folder)]
    try:
        return {name: pattern for name, (_, pattern) in hostile_files.files(hostile_files.good()).items()}
    finally:
        sys.argv = before


@pytest.mark.slow
def test_every_one_is_refused_with_a_clear_error(reports, words):
    assert len(reports) == len(words) >= 50
    for report in reports:
        assert report["kind"] == "FileError", report
        assert re.search(words[report["name"]], report["said"]), report
        assert ".safetensors: " in report["said"]
        assert len(report["said"]) < 2500


def test_nothing_is_executed_or_written(reports):
    assert [report for report in reports if report["seen"]] == []


def test_little_time_and_little_memory(reports):
    assert [report for report in reports if report["seconds"] > 1.0 or report["memory"] > 200e6] == []


def test_the_watch_sees_what_it_should(tmp_path):
    """The audit hook would notice execution of code, imports and writing."""
    program = (
        "import hostile_files as h, sys\n"
        "seen = []\n"
        "def watch(event, arguments):\n"
        "    if event.startswith(h.EVENTS) or h._writes(event, arguments): seen.append(event)\n"
        "sys.addaudithook(watch)\n"
        "exec('1')\n"
        "import fractions, os, pickle\n"
        "open('x', 'w').close()\n"
        "os.remove('x')\n"
        "print(*dict.fromkeys(seen))\n"
    )
    path = ":".join(map(str, [ROOT, ROOT / "backends", ROOT / "tests" / "support"]))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert {"exec", "import", "open", "os.remove"} <= set(done.stdout.split()), done.stderr
