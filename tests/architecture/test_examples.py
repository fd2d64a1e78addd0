"""Every example runs the way a user runs it; the README's code runs, and CI finds its test command."""

import os
import re
import signal

import numpy as np
import pytest

import software_gpu
from documents import ROOT, run
from portnn.backend import availability

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SHORT = {"xor": 20, "conv": 5, "mnist_fc": 1, "mnist_conv": 1, "own_layer": 20, "mnist_lenet": 1, "mnist_resnet": 1}
SHORT |= {"own_data": 3, "draw_digits": 1, "grid_search": 2, "from_pytorch": 1, "export_c": 1, "to_onnx": 1}
LONG = {
    "export_c",
    "from_pytorch",
    "mnist_conv",
    "mnist_lenet",
    "mnist_resnet",
    "own_data",
    "draw_digits",
    "grid_search",
}
NEEDS = {"own_data": "PIL", "grid_search": "sklearn", "to_onnx": "onnx"}  # modules that an example cannot do without
WRITTEN = {"draw_digits": ["digits.html"], "export_c": ["digits.c", "digits.py", "digits_test.c"]}


def test_every_example_has_its_place():
    assert {path.stem for path in EXAMPLES} == set(SHORT)


@pytest.mark.slow
@pytest.mark.parametrize(
    "example", [pytest.param(path, marks=[pytest.mark.slow] * (path.stem in LONG), id=path.stem) for path in EXAMPLES]
)
def test_example(example, tmp_path):
    pytest.importorskip(NEEDS.get(example.stem, "portnn"))
    done = run(str(example), "--epochs", str(SHORT[example.stem]), "--seed", "1", "--backend", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if example.stem.startswith("mnist") or example.stem in ("draw_digits", "export_c", "grid_search"):
        if example.stem == "grid_search":
            assert len(re.findall(r"^hidden=.*accuracy: \d+\.\d%$", done.stdout, re.MULTILINE)) == 9
        else:
            assert re.search(r"^epoch 1/1   error=\d\.\d{6}", done.stdout, re.MULTILINE)
        accuracy = re.search(r"^test accuracy: (\d+\.\d+)% of 1000 digits$", done.stdout, re.MULTILINE)
        assert float(accuracy.group(1)) > 40.0
        assert re.search(r"^predicted:( \d){10}\ntrue:     ( \d){10}$", done.stdout, re.MULTILINE)
    assert sorted(path.name for path in tmp_path.iterdir()) == WRITTEN.get(example.stem, [])


STOPPED = """
import os, runpy, signal, sys
import portnn
sys.argv = sys.argv[1:]
portnn.Checkpoint.on_step_end = lambda self, network, step: step == 50 and os.kill(os.getpid(), signal.SIGTERM)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGTERM")
def test_lenet_goes_on_after_sigterm_as_if_it_had_never_stopped(tmp_path):
    """Stopped in its second epoch of 36 steps, it saves; the same command resumes it, and a third run does nothing."""
    command = [str(ROOT / "examples" / "mnist_lenet.py"), "--epochs", "2", "--checkpoint", "lenet.safetensors"]
    whole = run(*command[:-2], cwd=tmp_path)
    stopped = run("-c", STOPPED, *command, cwd=tmp_path)
    assert stopped.returncode == -signal.SIGTERM, stopped.stderr
    again, finished = run(*command, cwd=tmp_path), run(*command, cwd=tmp_path)
    lines = [line for line in whole.stdout.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2
    assert re.search(r"   val_error=\d.*   val_accuracy=\d", lines[0])
    assert lines[0] in stopped.stdout
    assert lines[1] not in stopped.stdout
    assert [line for line in again.stdout.splitlines() if line.startswith("epoch")] == lines[1:]
    assert "epoch" not in finished.stdout
    results = [done.stdout[done.stdout.index("test accuracy") :] for done in (whole, again, finished)]
    assert results[0] == results[1] == results[2]


OWN_DATA = str(ROOT / "examples" / "own_data.py")
WITHOUT_PILLOW = "import runpy, sys; sys.modules['PIL'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"


@pytest.fixture
def table(tmp_path):
    """A table of 200 rows whose class depends on a > b; the columns differ in scale by a factor of a million."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 200))
    rows = [f"{1e6 * u},{'up' if u > v else 'down'},{v}" for u, v in zip(a, b, strict=True)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["a,kind,b", *rows]) + "\n")
    return str(path)


@pytest.mark.slow
def test_own_images():
    pytest.importorskip("PIL", reason="Pillow is not installed")
    done = run(OWN_DATA)
    assert done.returncode == 0, done.stderr
    assert float(re.findall(r"val_accuracy=(\d\.\d+)", done.stdout)[-1]) > 0.9
    assert len(re.findall(r"^(across|upright): predicted \1 \(\d+%\)$", done.stdout, re.MULTILINE)) >= 4


def test_own_table_needs_no_pillow(table):
    done = run("-c", WITHOUT_PILLOW, OWN_DATA, "--table", table, "--target", "kind")
    assert done.returncode == 0, done.stderr
    assert "classes: down up" in done.stdout
    assert float(re.findall(r"val_accuracy=(\d\.\d+)", done.stdout)[-1]) > 0.9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "pip install pillow"),
        (["--images", "."], "pip install pillow"),
        (["--table", "table.csv"], "give --target, one of the columns a, kind, b"),
        (["--table", "table.csv", "--target", "Kind"], "give --target, one of the columns a, kind, b"),
    ],
)
def test_own_data_says_what_is_missing(arguments, said, table, tmp_path):
    done = run("-c", WITHOUT_PILLOW, OWN_DATA, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


FEW_DIGITS = """
import runpy, sys
import portnn
load = portnn.load_mnist
portnn.load_mnist = lambda **options: tuple(tuple(array[:150] for array in pair) for pair in load(**options))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.gpu
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_on_the_gpu(example, tmp_path):
    pytest.importorskip(NEEDS.get(example.stem, "portnn"))
    start = ["-c", FEW_DIGITS] if software_gpu.is_wanted() else []
    done = run(*start, str(example), "--epochs", "1", "--backend", "gpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_example_without_a_gpu_says_why():
    if availability("gpu").ok:
        pytest.skip("this machine has a GPU")
    done = run(str(ROOT / "examples" / "xor.py"), "--backend", "gpu")
    assert done.returncode != 0
    assert "backend 'gpu' is not available: step" in done.stderr
    assert "To fix it:" in done.stderr


README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
TITLES = ["XOR", "convolutions", "see", "callbacks", "own layer", "gradcheck"]


def test_every_block_of_the_readme_has_its_title():
    assert len(BLOCKS) == len(TITLES)


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["short", "whole"])
@pytest.mark.parametrize(("title", "code"), list(zip(TITLES, BLOCKS, strict=False)), ids=TITLES)
def test_the_readmes_code_runs(title, code, whole, tmp_path):
    """Each block runs in its own process, for as many epochs as it says ("whole") or for one ("short")."""
    if not whole:
        code = re.sub(r"epochs=\d+", "epochs=1", code)
    if "Layer):" in code and "net.fit" in code:
        code += 'print(net.history["error"][-1])\n'
    done = run("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    written = {"see": ["network.svg"], "callbacks": ["digits.portnn.safetensors"]}
    assert [path.name for path in tmp_path.iterdir()] == written.get(title, [])
    lines = done.stdout.splitlines()
    if title == "XOR":
        said = (
            re.search(r"the last line: (epoch 1000/1000   error=0\.000)\d{3}$", code, re.MULTILINE) if whole else None
        )
        assert any(re.fullmatch(rf"{said.group(1)}\d{{3}}" if said else r"epoch 1/1 .*", line) for line in lines)
    elif title == "convolutions":
        accuracy = float(re.search(r"'accuracy': (0\.\d+)", lines[-1]).group(1))
        assert accuracy > (0.9 if whole else 0.4)
    elif title == "callbacks":
        assert re.match(r"epoch 1/\d+   error=.*   val_error=.*   val_accuracy=.*   val_f1=", lines[0])
        stopped, ended = len(lines) - 1, int(re.match(r"epoch 1/(\d+)", lines[0]).group(1))
        assert 3 < stopped < ended if whole else stopped == ended == 1
    elif title == "gradcheck":
        assert lines == re.findall(r"^It prints `(.+)`\.$", README, re.MULTILINE)
    elif title == "see":
        assert any("dE/dW" in line for line in lines)
    elif title == "own layer":
        assert float(lines[-1]) < (0.05 if whole else 5.0)


def test_ci_finds_the_readmes_test_command():
    readme = (ROOT / "README.md").read_text()
    command = re.search(r"<!-- test command -->\n```bash\n(.*)\n```", readme).group(1)
    assert command.startswith("python3 -m venv .venv && ")
    assert command.count("\n") == 0
