"""The command line as a process: closed pipes, terminals of other encodings, full disks, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import article_scripts as scripts
from documents import ROOT

pytestmark = pytest.mark.slow  # each starts processes

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "backends")]),
    "PYTHONWARNINGS": "error",
    "OMP_NUM_THREADS": "1",
}
COMMAND = [sys.executable, "-m", "portnn"]


def run(*arguments, environment=(), **options):
    options = {"capture_output": True, "text": True} | options
    return subprocess.run([*COMMAND, *map(str, arguments)], env=ENVIRONMENT | dict(environment), timeout=120, **options)


def test_the_module_is_the_command_line(tmp_path):
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    done = run("summary", "none", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "portnn summary: error: none: No such file or directory\n",
    )
    assert run(cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    "encoding", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}, {"PYTHONUTF8": "0", "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"}],
    ids=lambda value: next(iter(value.values())),
)  # fmt: skip
def test_any_terminal_takes_the_output(tmp_path, trained, digits, encoding):
    np.save(tmp_path / "Ä→.npy", digits[0][0])
    (tmp_path / "script.py").write_text(
        'print("∂E/∂W → Σ ·", "é")\nimport sys\nprint("→", file=sys.stderr)\n', encoding="utf-8"
    )
    done = run("predict", trained, "Ä→.npy", cwd=tmp_path, environment=encoding, text=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b".npy: 7, probability" in done.stdout
    done = run("run", "script.py", cwd=tmp_path, environment=encoding, text=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"dE/dW -> sum ")
    done = run("predict", trained, "Ö→.npy", cwd=tmp_path, environment=encoding, text=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="pipes close otherwise")
@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["summary", "MODEL"], ["explain", "MODEL", "IMAGE"], ["info"]], ids=" ".join)  # fmt: skip
def test_a_closed_pipe_ends_quietly(tmp_path, trained, digits, arguments):
    np.save(tmp_path / "one.npy", digits[0][0])
    named = {"MODEL": trained, "IMAGE": str(tmp_path / "one.npy")}
    process = subprocess.Popen(
        [*COMMAND, *(named.get(word, word) for word in arguments)],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()  # before it has printed anything
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), err) == (141, b"")


@pytest.mark.skipif(os.name != "posix", reason="pipes close otherwise")
def test_a_closed_pipe_ends_a_script(tmp_path):
    (tmp_path / "xor.py").write_text(scripts.XOR % {"epochs": 100_000})
    process = subprocess.Popen(
        [*COMMAND, "run", tmp_path / "xor.py"], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline().startswith(b"epoch 1/100000 ")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), err) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = run("info", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == "portnn info: error: No space left on device\n"


@pytest.mark.skipif(os.name != "posix", reason="descriptors are closed otherwise")
def test_without_stdout_or_stderr():
    assert run("info", preexec_fn=lambda: os.close(1), capture_output=False).returncode == 0
    assert run("summary", "none", preexec_fn=lambda: os.close(2), capture_output=False).returncode == 1


def test_a_script_that_closes_stdout(tmp_path):
    (tmp_path / "script.py").write_text("import sys\nprint('done')\nsys.stdout.close()\n")
    done = run("run", tmp_path / "script.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def interrupted(*arguments, until):
    """A process that gets SIGINT as soon as it has printed a line that begins so: status, the rest of stdout, stderr."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith(until):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.skipif(os.name != "posix", reason="SIGINT cannot be sent otherwise")
def test_ctrl_c_in_a_script(tmp_path):
    (tmp_path / "xor.py").write_text(scripts.XOR % {"epochs": 1_000_000})
    status, _, err = interrupted("run", tmp_path / "xor.py", until="epoch 1/")
    assert (status, err) == (130, "portnn run: interrupted\n")
    (tmp_path / "sleep.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    begun = time.monotonic()
    assert interrupted("run", tmp_path / "sleep.py", until="ready")[::2] == (130, "portnn run: interrupted\n")
    assert time.monotonic() - begun < 50


@pytest.mark.skipif(os.name != "posix", reason="SIGINT cannot be sent otherwise")
def test_ctrl_c_in_training(tmp_path):
    save = tmp_path / "net"
    status, _, err = interrupted(
        "train", "mnist", "--model", "fc", "--epochs", 10_000, "--save", save, until="epoch 1/"
    )
    assert status == 130
    assert err.count("\n") == 1
    assert f"kept in {save}; go on with --resume" in err
    done = run("summary", save)
    assert done.returncode == 0
    assert "trained: " in done.stdout


def test_the_command_line_loads_no_more_than_it_needs():
    """Parsing, and training without a plot, import nothing of the extras."""
    code = (
        "import sys; from portnn.cli import main; main(['info']); "
        "print([m for m in ('matplotlib', 'PIL', 'onnx', 'sklearn', 'pooch', 'webbrowser') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] in ("[]", "['webbrowser']")
