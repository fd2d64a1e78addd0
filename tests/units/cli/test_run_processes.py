"""``portnn run``: scripts that are folders or come from stdin, and what outlives a script's last line."""

import os
import subprocess
import sys
import zipfile

import pytest

import portnn
from portnn import load

pytestmark = pytest.mark.slow  # each starts processes

COMMAND = [sys.executable, "-m", "portnn", "run"]


def run(folder, *arguments, **options):
    """Runs ``portnn run`` in a process of its own; returns what it printed."""
    options = {"capture_output": True, "text": True, "cwd": folder, "timeout": 120} | options
    done = subprocess.run([*COMMAND, *map(str, arguments)], **options)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


MAIN = "import sys, helper, fc_layer\nprint(__name__, __package__, __file__, sys.path[0], sys.argv, helper.x)\n"


def test_a_folder_and_a_zip_file(tmp_path):
    """The same lines as Python's, whose own sys.path has the folder first."""
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "__main__.py").write_text(MAIN)
    (folder / "helper.py").write_text("x = 1\n")
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as file:
        for name in ("__main__.py", "helper.py"):
            file.write(folder / name, name)
    beside = tmp_path / "fc_layer.py"  # so that Python finds it, too
    beside.write_text("")
    for name in ("program", "program.zip"):
        expected = subprocess.run(
            [sys.executable, name, "a"], capture_output=True, text=True, cwd=tmp_path, timeout=60,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )  # fmt: skip
        assert expected.returncode == 0, expected.stderr
        assert run(tmp_path, name, "a") == expected.stdout


def test_a_folder_without_main(fails, tmp_path):
    assert fails("run", tmp_path) == f"{tmp_path}: it holds no __main__.py to run"


def test_stdin(tmp_path):
    text = "import sys\nfrom losses import mse\nprint(sys.argv, '__file__' in globals(), mse.__name__)\n"
    assert run(tmp_path, "-", "--seed", "3", input=text) == "['-', '--seed', '3'] False mse\n"


PROCESSES = """
import multiprocessing
from network import Network
from fc_layer import FCLayer

def drawn(i):
    net = Network()
    net.add(FCLayer(2, 3))
    return net.seed, net.dtype, net.layers[0].weights.tolist()

if __name__ == "__main__":
    here = drawn(0)
    for how in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(how).Pool(1) as pool:
            print(pool.map(drawn, [1]) == [here])
"""


def test_new_processes_find_the_modules_and_the_defaults(tmp_path):
    (tmp_path / "script.py").write_text(PROCESSES)
    out = run(tmp_path, "--seed", 3, "--dtype", "float64", "script.py")
    assert set(out.splitlines()) == {"True"}


LATE = """
import atexit, threading, time

def late(who):
    from losses import mse_prime
    print(who, mse_prime.__name__)

def thread():
    time.sleep(0.3)
    late("thread")

atexit.register(late, "exit")
threading.Thread(target=thread).start()
print("end")
"""


def test_threads_and_exit_functions_find_the_modules(tmp_path):
    (tmp_path / "script.py").write_text(LATE)
    assert run(tmp_path, "script.py") == "end\nthread mse_prime\nexit mse_prime\n"


def test_only_a_missing_script_is_named(fails):
    assert "required: SCRIPT (" in fails("run", status=2)


def test_a_star_gives_what_users_know_only(tmp_path):
    text = "from activations import *\nfrom losses import *\nprint(*sorted(n for n in dir() if n[0] != '_'))\n"
    (tmp_path / "script.py").write_text(text)
    names = run(tmp_path, "script.py").split()
    assert {"tanh", "tanh_prime", "mse", "mse_prime", "softmax", "Huber"} <= set(names)
    assert set(names) <= set(dir(portnn))


SAVED = """
import numpy as np
from network import Network
from fc_layer import FCLayer
from conv_layer import ConvLayer
from flatten_layer import FlattenLayer
from losses import mse, mse_prime

net = Network()
net.add(ConvLayer((4, 4, 1), (2, 2), 1))
net.add(FlattenLayer())
net.add(FCLayer(9, 3))
net.use(mse, mse_prime)
x = np.random.rand(3, 4, 4, 1)
net.fit(x, np.ones((3, 3)), epochs=1, learning_rate=0.1)
net.save("net.portnn.safetensors")
net.export("net.html")
np.savez("what.npz", x=x, y=net.predict(x))
"""


def test_networks_of_original_weights_are_files_and_pages(tmp_path):
    """Those of the layer and the loss that they compute, which rounds otherwise."""
    import numpy as np

    (tmp_path / "script.py").write_text(SAVED)
    run(tmp_path, "--original-weights", "--seed", 0, "--dtype", "float64", "script.py")
    net, what = load(tmp_path / "net.portnn.safetensors"), np.load(tmp_path / "what.npz")
    assert type(net.layers[0]) is portnn.ConvLayer
    assert net.loss is portnn.mse
    np.testing.assert_allclose(net.predict(what["x"]), what["y"], rtol=1e-13)
    assert "convolution(" in (tmp_path / "net.html").read_text()


@pytest.mark.parametrize("made", [lambda: portnn.FCLayer(2, 3)])
def test_weights_assigned_before_add_keep_their_digits(made):
    import numpy as np

    values = np.random.default_rng(1).random((2, 3))
    layer = made()
    layer.weights = values
    net = portnn.Network([layer], dtype="float64")
    assert (net.layers[0].weights == values).all()
    layer = made()
    layer.weights = values
    assert portnn.Network([layer]).layers[0].weights.dtype == np.float32


def test_one_hot_rows_of_any_shape(tmp_path):
    text = (
        "from keras.utils import to_categorical as f\n"
        "print(f(3, 5).tolist(), f([[1], [0]]).tolist(), f([[0, 1], [1, 0]], 3).shape, f([0, 1], dtype='int32').dtype)\n"
    )
    (tmp_path / "script.py").write_text(text)
    expected = "[0.0, 0.0, 0.0, 1.0, 0.0] [[0.0, 1.0], [1.0, 0.0]] (2, 2, 3) int32\n"
    assert run(tmp_path, "script.py") == expected


@pytest.mark.parametrize("code", [2**70, -(2**70), 256, -1, True])
def test_an_exit_status_is_cut_as_python_cuts_it(tmp_path, code):
    (tmp_path / "script.py").write_text(f"import sys\nsys.exit({code})\n")
    expected = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, timeout=60).returncode
    assert subprocess.run([*COMMAND, "script.py"], cwd=tmp_path, timeout=60).returncode == expected
