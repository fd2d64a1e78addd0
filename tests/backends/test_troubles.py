"""Failures of Numba: none ends a training run, each is reported once, and hints name only packages that pip finds."""

import ast
import importlib
import json
import os
import pickle
import pkgutil
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import loop_inputs
import portnn
from portnn import activations, ops
from portnn_numpy import compiled
from portnn_numpy.backend import NumpyBackend
from portnn_numpy.compiled import troubles

ROOT = Path(__file__).parents[2]
needs_numba = pytest.mark.skipif(compiled.trouble() is not None, reason=f"Numba cannot be used: {compiled.trouble()!r}")

# Compiles one loop in a separate process, and prints the warnings, the description and the error of the result.
PROGRAM = """
import json, sys, warnings
import numpy as np
import portnn
from portnn import ops
{before}
from portnn_numpy import compiled
w, g = (np.random.default_rng(seed).standard_normal(9000).astype("float32") for seed in (0, 1))
optimizer, cpu = portnn.AdaGrad(0.1), portnn.get_backend("cpu")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for _ in range(3):
        update = ops.implementation(cpu, "auto", portnn.AdaGrad.update)
        (found,), _ = update(optimizer, [w], [g], optimizer.slots([w]), (0.1,))
(expected,), _ = optimizer.update([w], [g], optimizer.slots([w]), (0.1,))
said = [str(c.message) for c in caught if issubclass(c.category, compiled.CompiledLoopsWarning)]
print(json.dumps([said, compiled.describe(), float(abs(found - expected).max())]))
"""


def run(before="", **environment):
    """The warnings of the program, run in a separate process, and the description that ``info`` shows."""
    path = os.pathsep.join(p for p in sys.path if p)
    program = [sys.executable, "-c", PROGRAM.replace("{before}", before)]
    environment = {"PYTHONPATH": path} | environment
    done = subprocess.run(program, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    said, info, difference = json.loads(done.stdout.splitlines()[-1])
    assert difference < 1e-6
    return said, info


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A cache folder with the compiled loop, written by a process in which nothing failed."""
    folder = tmp_path_factory.mktemp("kept")
    said, info = run(NUMBA_CACHE_DIR=str(folder))
    assert said == []
    assert re.fullmatch(r"Numba [\w.]+", info)
    return folder


@pytest.mark.slow
@needs_numba
def test_without_troubles_nothing_is_said(kept):
    files = {path.suffix for path in kept.rglob("*.nb?")}
    assert files == {".nbi", ".nbc"}


FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))"  # no file may grow beyond 600 bytes


@needs_numba
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.slow
def test_a_full_disk(tmp_path):
    said, info = run(FULL, NUMBA_CACHE_DIR=str(tmp_path))
    assert len(said) == 1
    assert re.search(r"cannot be cached in .* \(OSError: .*every process compiles it again.*NUMBA_CACHE_DIR", said[0])
    assert re.search(r"^Numba [\w.]+; what Numba compiles cannot be cached in", info)


@needs_numba
@pytest.mark.slow
def test_info_finds_out_by_itself_that_the_disk_is_full(tmp_path):
    """Even if its trial loop was cached while there was still space."""
    run(NUMBA_CACHE_DIR=str(tmp_path))
    code = f"{FULL}\nfrom portnn_numpy import compiled\nprint(compiled.describe())"
    path = os.pathsep.join(p for p in sys.path if p)
    environment = os.environ | {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, env=environment)
    assert "cannot be cached in" in done.stdout, done.stderr


def shorter(content):
    return content[: len(content) // 2]


def other(content):
    return bytes(7 * i % 251 for i in range(500))


DAMAGES = {
    "cut data": (".nbc", shorter),
    "other data": (".nbc", other),
    "empty data": (".nbc", lambda content: b""),
    "cut index": (".nbi", shorter),
    "other index": (".nbi", other),
    "empty index": (".nbi", lambda content: b""),
    "right version, then nonsense": (
        ".nbi",
        lambda content: pickle.dumps(pickle.loads(content)) + pickle.dumps([1, 2, 3]),
    ),
}


@pytest.mark.slow
@needs_numba
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_replaced(kept, damage):
    suffix, change = DAMAGES[damage]
    for path in kept.rglob(f"*{suffix}"):
        path.write_bytes(change(path.read_bytes()))
    said, _ = run(NUMBA_CACHE_DIR=str(kept))
    assert len(said) == 1
    assert re.search(r"a file of Numba's cache in .* is damaged \(\w+: .*\): it is replaced", said[0])
    assert run(NUMBA_CACHE_DIR=str(kept))[0] == []


@needs_numba
@pytest.mark.slow
def test_the_files_of_another_version_are_no_trouble(kept):
    for path in kept.rglob("*.nbi"):
        path.write_bytes(pickle.dumps("0.50.0") + b"whatever that version wrote")
    assert run(NUMBA_CACHE_DIR=str(kept))[0] == []


@needs_numba
@pytest.mark.slow
def test_a_folder_in_the_place_of_a_file(tmp_path):
    run(NUMBA_CACHE_DIR=str(tmp_path))
    for path in tmp_path.rglob("*.nbi"):
        path.unlink()
        path.mkdir()
    said, info = run(NUMBA_CACHE_DIR=str(tmp_path))
    assert len(said) == 1
    assert "cannot be cached in" in said[0]
    assert "cannot be cached in" in info


@pytest.mark.slow
@needs_numba
def test_a_cache_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    said, info = run(NUMBA_CACHE_DIR=str(tmp_path / "file"))
    assert len(said) == 1
    assert re.search(r"NUMBA_CACHE_DIR=.*file cannot be used: what Numba compiles is cached in .* instead", said[0])
    assert said[0] in info


@needs_numba
@pytest.mark.slow
def test_no_place_for_a_cache_at_all():
    said, info = run(NUMBA_CACHE_LOCATOR_CLASSES="Nowhere")
    assert len(said) == 1
    assert "what Numba compiles cannot be cached on disk (RuntimeError: " in said[0]
    assert said[0] in info


@needs_numba
def test_numba_switched_off():
    said, info = run(NUMBA_DISABLE_JIT="1")
    assert said == [f"loops compiled by Numba, which are faster, are {info}"]
    assert (
        info == "not used: Numba does not work here (RuntimeError: the environment variable NUMBA_DISABLE_JIT is set)"
    )


REFUSES = """
import numba.core.dispatcher
def refuse(self, signature):
    raise ValueError("LLVM does\\nnot like it")
numba.core.dispatcher.Dispatcher.compile = refuse
"""


@needs_numba
def test_numba_compiles_nothing():
    said, info = run(REFUSES)
    assert said == [
        "NumPy, which is slower, replaces the compiled loop squares: Numba could not compile a loop "
        "(ValueError: LLVM does not like it)"
    ]
    assert re.fullmatch(r"not used: Numba [\w.]+ does not compile here \(ValueError: LLVM does not like it\)", info)


def test_numba_does_not_import(tmp_path):
    (tmp_path / "numba.py").write_text("raise SystemError('built for another NumPy')")
    said, info = run(f"sys.path.insert(0, {str(tmp_path)!r})")
    assert said == [f"loops compiled by Numba, which are faster, are {info}"]
    assert info == "not used: Numba does not work here (SystemError: built for another NumPy)"


def test_numba_is_not_installed():
    said, info = run("sys.modules['numba'] = None")
    assert said == []
    assert info == "not used: Numba is not installed; python -m pip install numba installs it"


def test_numba_lacks_a_part_of_its_own(tmp_path):
    """A Numba that is only partly installed does not count as missing."""
    (tmp_path / "numba.py").write_text("import llvmlite_that_nobody_has")
    said, _ = run(f"sys.path.insert(0, {str(tmp_path)!r})")
    assert len(said) == 1


# -- in this process ---------------------------------------------------------------------------------------------------


@pytest.fixture
def afresh(monkeypatch):
    """No problems recorded and no warnings given so far."""
    monkeypatch.setattr(troubles, "_found", {})
    monkeypatch.setattr(troubles, "_said", set())


MISSING = ModuleNotFoundError("No module named 'numba'", name="numba")


def uses_loops(backend):
    """Whether a compiled function is used instead of NumPy's."""
    return backend.implementation(activations.tanh) is not np.tanh


def test_a_missing_numba_is_told_to_those_who_asked_for_it(monkeypatch, afresh):
    monkeypatch.setattr(compiled, "trouble", lambda: MISSING)
    assert not uses_loops(NumpyBackend())
    with pytest.warns(compiled.CompiledLoopsWarning, match="Numba is not installed; python -m pip install numba"):
        assert not uses_loops(NumpyBackend(compile=True))
    uses_loops(NumpyBackend(compile=True))  # warns once per process


def test_where_it_is_not_wanted_nothing_is_said(monkeypatch, afresh):
    monkeypatch.setattr(compiled, "trouble", lambda: ImportError("Numba needs NumPy 2.0 or less"))
    assert not uses_loops(NumpyBackend(compile=False))
    with pytest.warns(compiled.CompiledLoopsWarning, match="Numba needs NumPy 2.0 or less"):
        uses_loops(NumpyBackend())


@needs_numba
def test_with_numba_they_are_used():
    assert uses_loops(NumpyBackend())


def network(backend, optimizer):
    """A network whose layers use all compiled loops in LOOPS other than those of optimizers."""
    layers = [
        portnn.ConvLayer((24, 24, 2), (3, 3), 4, padding="same"),
        portnn.ActivationLayer("relu"),
        portnn.AvgPoolLayer((1, 2)),
        portnn.BatchNormLayer(),
        portnn.ActivationLayer("relu"),
        portnn.ConvLayer((24, 12, 4), (3, 3), 6, padding="same"),
        portnn.ActivationLayer("tanh"),
        portnn.MaxPoolLayer((2, 1)),
        portnn.ConvLayer((12, 12, 6), (3, 3), 6),
        portnn.ActivationLayer("tanh"),
        portnn.RandomAffineLayer(shift=1.0, rotate=10.0, scale=0.1),
        portnn.AvgPoolLayer(2, stride=1, padding="same"),
        portnn.MaxPoolLayer(2),
        portnn.ConvLayer((5, 5, 6), (5, 5), 24, padding="same"),
        portnn.ConvLayer((5, 5, 24), (3, 3), 8, groups=2),
        portnn.ActivationLayer("relu"),
        portnn.AvgPoolLayer(3),
        portnn.FlattenLayer(),
        portnn.FCLayer(8, 1200),
        portnn.ActivationLayer("relu"),
        portnn.ScaleLayer(1.0),
        portnn.ActivationLayer("tanh"),
        portnn.FCLayer(1200, 64),
        portnn.FCLayer(64, 4),
    ]
    net = portnn.Network(layers, seed=1, backend=backend)
    net.use("mse", optimizer=optimizer)
    return net


# Each loop, and the optimizer that runs it; None if any optimizer will do.
LOOPS = {
    "_convolution._gather": None,
    "_convolution.gradient_sums": None,
    "_strips.strips": None,
    "_pooling.largest_of": None,
    "_pooling.largest_backward": None,
    "_pooling.mean_of": None,
    "_pooling.mean_backward": None,
    "_pooling.chain": None,
    "_pooling.largest_chain": None,
    "_pooling.mean_chain": None,
    "_products.multiply": None,
    "_resampling.gather": None,
    "_resampling.scatter": None,
    "_activations.add_relu": None,
    "_normalization.normalize": None,
    "_normalization.backward": None,
    "_normalization.scaled": None,
    "jit._turn": None,
    "_activations.relu_all": None,
    "_activations.tanh_all": None,
    "_activations.tanh_chain": None,
    "_activations.relu_chain": None,
    "optimizers._momentum": portnn.SGD(0.01, momentum=0.9),
    "optimizers._nesterov": portnn.SGD(0.01, momentum=0.9, nesterov=True),
    "optimizers._squares": portnn.AdaGrad(0.01),
    "optimizers._adam": portnn.Adam(0.01),
}


def modules():
    """Every module of compiled loops."""
    return [importlib.import_module(f"{compiled.__name__}.{m.name}") for m in pkgutil.iter_modules(compiled.__path__)]


def loop_of(name):
    module, _, loop = name.partition(".")
    return getattr(importlib.import_module(f"portnn_numpy.compiled.{module}"), loop)


@pytest.fixture
def nothing_lost(monkeypatch, afresh):
    """No loop has failed to compile so far; failures in the test are forgotten after it."""
    from portnn_numpy.compiled import jit

    monkeypatch.setattr(jit, "_lost", set())


def refuse(monkeypatch, loop, calls):
    """Makes Numba fail to compile a loop, as if for the first time."""
    from portnn_numpy.compiled import jit

    plain_ran = jit.ran

    def ran(one, *arguments):
        if one is not loop:
            return plain_ran(one, *arguments)

        def broken(*arguments):
            calls.append(arguments)
            raise jit.LoopError("Numba could not compile a loop (of this test)")

        broken.__name__ = loop.__name__
        stand_in = stand_ins.setdefault(one, broken)
        return plain_ran(stand_in, *arguments)

    stand_ins = {}
    for module in modules():
        if hasattr(module, "ran"):
            monkeypatch.setattr(module, "ran", ran)


@needs_numba
@pytest.mark.parametrize("name", LOOPS)
def test_numpys_function_takes_the_place_of_each_compiled_one(monkeypatch, nothing_lost, name):
    loop, calls = loop_of(name), []
    refuse(monkeypatch, loop, calls)
    optimizer = LOOPS[name] or portnn.SGD(0.01, momentum=0.9)
    net, expected = network(NumpyBackend(), optimizer), network(NumpyBackend(compile=False), optimizer)
    x = np.random.default_rng(0).standard_normal((64, 24, 24, 2)).astype("float32")
    y = np.random.default_rng(1).standard_normal((64, 4)).astype("float32")
    words = f"replaces the compiled loop {loop.__name__.strip('_')}: "
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net.fit(x, y, epochs=3, batch_size=32, verbose=0)
    assert calls, f"network() does not run {name}: give it a layer that does"
    assert [(w.category, words in str(w.message)) for w in caught] == [(compiled.CompiledLoopsWarning, True)]
    assert len(calls) == 1, "compiled only once"
    expected.fit(x, y, epochs=3, batch_size=32, verbose=0)
    assert np.abs(net.predict(x) - expected.predict(x)).max() < 1e-4


@needs_numba
def test_the_loops_above_are_all_there_are():
    """Except for the ways to add a bias, and to copy, that the network above does not use, and for large outputs and
    batches, which ``test_compiled_norms_and_losses.py`` has, or for one sample, which ``test_descent.py`` tries.
    """
    others = {f"_activations.{name}" for name in ("add", "add_tanh", "add_each", "add_each_relu", "add_each_tanh")} | {
        "_convolution.copied",
        "_losses.alone",
        "_losses.softmax",
        "_batches.rows",
        "_descent.descend",
    }
    new = set(loop_inputs.loops()) - set(LOOPS) - others
    assert not new, f"put {', '.join(sorted(new))} into LOOPS, and a layer that runs it into network()"
    assert set(loop_inputs.loops()) == set(LOOPS) | others


@needs_numba
def test_a_users_own_error_is_not_taken_for_numbas(afresh):
    from portnn_numpy.compiled.ops import biased

    with pytest.raises(ValueError, match="reshape"):
        biased(np.ones((100, 100), np.float32), np.ones(7, np.float32))
    assert troubles.found(troubles.LOOPS) == []


@needs_numba
def test_a_loop_that_is_compiled_is_called_without_a_detour(monkeypatch):
    """The code that catches compile errors is not part of later calls."""
    from portnn_numpy.compiled.jit import jit

    loop = jit(lambda x: x + 1.0)
    assert loop(1.0) == 2.0
    monkeypatch.setattr(loop, "_compile_for_args", lambda *arguments: pytest.fail("compiled again"))
    assert loop(2.0) == 3.0


@needs_numba
def test_a_warning_made_an_error_costs_no_more_than_the_step(monkeypatch, nothing_lost):
    refuse(monkeypatch, loop_of("optimizers._momentum"), [])
    net = portnn.Network([portnn.FCLayer(100, 100)], seed=1, backend=NumpyBackend())
    net.use("mse", optimizer=portnn.SGD(0.1, momentum=0.9))
    x, before = np.ones((4, 100), np.float32), net.parameters["0.weights"].copy()
    with pytest.raises(compiled.CompiledLoopsWarning):  # the test settings turn warnings into errors
        net.fit(x, x, epochs=1, batch_size=4, verbose=0)
    assert np.array_equal(net.parameters["0.weights"], before)
    net.fit(x, x, epochs=1, batch_size=4, verbose=0)
    assert net.step == 1


# -- hints -------------------------------------------------------------------------------------------------------------

SOURCES = [*(ROOT / "portnn").rglob("*.py"), *(ROOT / "backends").rglob("*.py"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_hints_name_no_package_that_pip_does_not_find(path):
    """portnn is not on PyPI: its extras can only be installed from a checkout."""
    text = path.read_text()
    if path.suffix == ".py":
        strings = (n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant))
        text = "\n".join(s for s in strings if isinstance(s, str))
        hints = re.findall(r"(?:python -m )?pip (?:un)?install", text)
        assert set(hints) <= {"python -m pip install", "python -m pip uninstall"}  # for the Python that is running
    assert "portnn[" not in text
    assert not re.search(r"pip install [^.,;:\n]*\bportnn\b", text)


def test_the_portable_function_is_left_as_it_is():
    assert ops.implementation(NumpyBackend(), "portable", portnn.AdaGrad.update) is portnn.AdaGrad.update
