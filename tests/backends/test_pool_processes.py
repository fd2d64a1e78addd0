"""Bits do not depend on the number of threads, nor on what else runs; and processes that are forked.

Each program of ``pool_runs.py`` runs in a process of its own, with as many of Numba's threads as its environment says.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import loop_inputs
import pool_runs
from portnn_numpy import blas, compiled

pytestmark = [
    pytest.mark.skipif(compiled.trouble() is not None, reason=f"Numba cannot be used: {compiled.trouble()!r}"),
    pytest.mark.skipif(not blas.can_be_told(), reason="NumPy's BLAS cannot be told to use one thread"),
]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
SUPPORT = Path(pool_runs.__file__).parent
NUMBERS = {"OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_THREADING_LAYER"}


ALL_LAYERS = ("omp", "tbb", "workqueue")


def layers():
    """Numba's layers of threads that can be loaded here."""
    if compiled.trouble() is not None:
        return []
    found = []
    for layer in ALL_LAYERS:
        try:
            __import__(f"numba.np.ufunc.{layer if layer == 'workqueue' else f'{layer}pool'}")
        except ImportError:
            continue
        found.append(layer)
    return found


LAYERS = layers()
EACH_LAYER = [
    pytest.param(
        layer, marks=pytest.mark.skipif(layer not in LAYERS, reason=f"Numba cannot load its layer {layer} here")
    )
    for layer in ALL_LAYERS
]


@cache
def program(name, *, file="pool_runs.py", **environment):
    """What a program prints; at least two threads for BLAS and for Numba, unless the environment given says otherwise."""
    plain = {key: value for key, value in os.environ.items() if key not in NUMBERS}
    path = os.pathsep.join(p for p in sys.path if p)
    given = {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"} | environment
    given = {key: value for key, value in given.items() if value != "unset"}
    command = [sys.executable, "-W", "error", str(SUPPORT / file), name]
    done = subprocess.run(command, capture_output=True, text=True, env=plain | given, timeout=900)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


# -- bits ----------------------------------------------------------------------------------------------------------------

OTHERS = {
    "2 threads": {},
    "3 threads": {"NUMBA_NUM_THREADS": "3"},
    "BLAS on one thread anyway": {"OPENBLAS_NUM_THREADS": "1"},
    "OMP_NUM_THREADS=1": {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "3"},
    "as the machine has it": {"OPENBLAS_NUM_THREADS": "unset", "NUMBA_NUM_THREADS": "unset"},
}


@pytest.mark.slow
@pytest.mark.parametrize("other", OTHERS)
def test_training_and_prediction_give_the_same_bits_whatever_the_number_of_threads(other):
    one, several = program("bits", NUMBA_NUM_THREADS="1"), program("bits", **OTHERS[other])
    differ = [name for name, bits in one["bits"].items() if several["bits"][name] != bits]
    assert not differ
    assert len(one["bits"]) == len(several["bits"]) == 3 * len(list(pool_runs.networks()))


@pytest.mark.slow
@pytest.mark.parametrize("layer", EACH_LAYER)
def test_every_layer_of_threads_gives_the_same_bits(layer):
    one, several = program("bits", NUMBA_NUM_THREADS="1"), program("bits", NUMBA_THREADING_LAYER=layer)
    assert several["divided"]
    assert several["layer"] == layer
    assert several["bits"] == one["bits"]


@pytest.mark.slow
def test_the_threads_are_used():
    """The test above would mean nothing if no loop were ever divided."""
    one, three = program("bits", NUMBA_NUM_THREADS="1"), program("bits", NUMBA_NUM_THREADS="3")
    assert (one["threads"], one["divided"]) == (1, [])
    assert three["threads"] == 3
    assert set(three["divided"]) > {
        "multiply",
        "_adam",
        "_gather",
        "gradient_sums",
        "largest_backward",
        "add_each",
        "normalize",
        "backward",
    }
    assert one["BLAS"] == three["BLAS"] == 2


@pytest.fixture(scope="module")
def each_alone():
    return program("", file="loop_inputs.py", NUMBA_NUM_THREADS="3")


@pytest.mark.slow
@pytest.mark.parametrize("key", loop_inputs.INPUTS)
def test_both_forms_of_a_loop_give_the_same_bits(each_alone, key):
    """The serial one, and the parallel one with one to three threads."""
    for dtype in loop_inputs.INPUTS[key][1]:
        for special in ("", ", special"):
            before, *results = each_alone[f"{key}, {dtype}{special}"]
            assert len(results) == 4
            assert len(set(results)) == 1, f"{dtype}{special}"
            assert results[0] != before
            assert "outside" not in results[0]


def test_every_loop_has_inputs():
    names = {key.partition(":")[0] for key in loop_inputs.INPUTS}
    found = set(loop_inputs.loops())
    assert len(found) > 15
    assert not found - names, f"give {', '.join(sorted(found - names))} inputs in tests/support/loop_inputs.py"
    assert not names - found, f"{', '.join(sorted(names - found))} in tests/support/loop_inputs.py: no longer a loop"


# -- threads and processes beside each other ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("layer", EACH_LAYER)
def test_two_networks_trained_at_once(layer):
    """Numba's layer ``workqueue`` ends a process in which two threads use it at once."""
    found = program("at_once", NUMBA_THREADING_LAYER=layer)
    assert found["layer"] == layer
    assert found["found"] == found["expected"]
    assert found["BLAS"] == 2


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("layer", EACH_LAYER)
def test_a_forked_process_trains_on(layer):
    """GNU's OpenMP (layer ``omp``) would end it if it started its threads again."""
    found = program("forked", NUMBA_THREADING_LAYER=layer)
    assert found["found"] == found["expected"]
    assert found["BLAS"] == [2] * 3


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("layer", EACH_LAYER)
def test_multiprocessing_that_forks(layer):
    found = program("multiprocessed", NUMBA_THREADING_LAYER=layer)
    assert found["after"] == found["within"] == found["expected"]
    assert found["itself"][0] == found["itself"][1]
    assert found["BLAS"] == [2] * 3


@pytest.mark.slow
@needs_fork
def test_a_process_that_another_thread_forks_within_a_call():
    """That thread is in no call, so in its child BLAS has its threads at once."""
    found = program("forked_beside")
    assert found == {"within": 1, "child": 2, "after": 2, "bits": found["bits"][:1] * 2}


# -- limits and failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({"NUMBA_NUM_THREADS": "3"}, 3),
        ({"NUMBA_NUM_THREADS": "3", "OMP_NUM_THREADS": "2"}, 2),
        ({"NUMBA_NUM_THREADS": "3", "OMP_NUM_THREADS": "1"}, 1),
    ],
    ids=str,
)
def test_limits_of_the_environment(environment, threads):
    found = program("limits", **environment)
    assert found["within"] == [[threads, 1, 3], [threads, 1, 2]]
    assert (found["before"], found["user"], found["left"]) == (3, 2, 2)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity mask")
def test_the_affinity_mask():
    """Also if the process gives away its cores when Numba has long been imported."""
    cores = len(os.sched_getaffinity(0))
    found = program("masked", NUMBA_NUM_THREADS="unset", OPENBLAS_NUM_THREADS="unset")
    assert found["threads"] == [cores, 1, cores]
    assert len(set(found["bits"])) == 1


@pytest.mark.slow
@pytest.mark.skipif("tbb" in LAYERS, reason="TBB is installed")
def test_a_layer_that_is_not_installed():
    """One warning, and the loops run on one thread."""
    found = program("warned", NUMBA_THREADING_LAYER="tbb")
    (said,) = found["said"]
    assert said.startswith("compiled loops run on one thread: Numba cannot start its threads (ValueError: No threading")
    assert found["info"] == f"1: {said}"
    assert found["bits"] == program("warned", NUMBA_NUM_THREADS="1")["bits"]
    assert found["others"] == 0


def test_where_all_is_well_nothing_is_said():
    found = program("warned")
    assert (found["said"], found["others"]) == ([], 0)
    assert found["info"].startswith("2, of Numba's layer ")


@pytest.mark.slow
def test_numba_switched_off():
    found = program("warned", NUMBA_DISABLE_JIT="1")
    (said,) = found["said"]
    assert "NUMBA_DISABLE_JIT is set" in said
    assert found["outputs"] == pytest.approx(program("warned")["outputs"], abs=1e-4)


# -- what fit tells of compiling -------------------------------------------------------------------------------------------

TRAINED = """
import sys
import numpy as np
import portnn
net = portnn.Network([portnn.FCLayer(64, 300), portnn.ActivationLayer("tanh"), portnn.FCLayer(300, 2)])
net.use("mse")
x, y = np.zeros((64, 64), "f"), np.zeros((64, 2), "f")
for _ in range(2):
    net.fit(x, y, epochs=2, learning_rate=0.1, batch_size=64, verbose=int(sys.argv[1]))
"""


@pytest.mark.slow
def test_compiling_is_told_once_where_a_bar_is_shown(tmp_path):
    def told(verbose):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", TRAINED, str(verbose)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=300)
        lines = [line for line in done.stderr.replace("\r", "\n").splitlines() if "compiling loops" in line]
        assert "compiling" not in done.stdout
        return lines

    assert told(1) == []  # nobody looks on: stderr is no terminal
    for file in tmp_path.rglob("*.nb?"):
        file.unlink()
    (line,) = told(2)
    assert line.strip().startswith("compiling loops for this processor")
    assert str(tmp_path) in line
    assert told(2) == []  # they were kept
