"""What a backend lays over the library is looked up by name: a misspelt one would be passed over in silence.

So the names are read from the source, without the array library (CuPy need not be installed), and compared with what
they are meant to name.
"""

import ast
import importlib
import inspect
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from portnn import activations, training
from portnn.backend import BUILT_IN, STANDARD, Backend, thin_namespace
from portnn.ops import Ops, _convolution, _portable
from portnn_cupy.graph import Driver
from portnn_cupy.kernels import source

BACKENDS = Path(__file__).parents[1] / "backends"
FILES = sorted(BACKENDS.rglob("*.py"))
GIVEN = {"xp", "ops", "plain"}  # parameters that ``ops.bind`` fills in
EXTRAS = {"memory", "release"}  # what a backend offers beyond the contract
DTYPES = {"float32", "float64"}
FUNCTIONS = {name for name, f in vars(activations).items() if inspect.isfunction(f) and not name.startswith("_")}
# Tables looked up by the name of an activation, of a derivative, of a dtype.
ACTIVATIONS, PRIMES = {"KINDS", "ALONG_ROWS", "EACH_ROW"}, {"CHAINS", "_CHAINS"}
DTYPE_TABLES = {"KINDS_OF_ROWS", "REALS", "ROUTINES"}


def faults(path, text):
    """What is wrong with the names in the source of one file of a backend."""
    tree = ast.parse(text)
    checks = (
        twins,
        launches,
        namespaces,
        tables,
        compared_names,
        packages,
        backend_classes,
        drivers,
        attributes_by_name,
    )
    return [fault for check in checks for fault in check(path, tree)]


def functions_of(tree):
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def calls_of(tree, name):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def assigned(tree):
    """Name and value of each assignment at the top of a file."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            yield from ((target.id, node.value) for target in targets if isinstance(target, ast.Name))


def keys_of(value):
    return [key.value if isinstance(key, ast.Constant) else ast.unparse(key) for key in value.keys]


# -- twins -------------------------------------------------------------------------------------------------------------


def twins(path, tree):
    for name, value in assigned(tree):
        if name == "TWINS" and isinstance(value, ast.Dict):
            for key, given in zip(keys_of(value), value.values, strict=True):
                portable = named(key)
                if portable is None:
                    yield f"{key} names no function of portnn"
                else:
                    yield from differences(key, portable, given, functions_of(tree))


def named(key):
    """The portable function of that name, or None: found as ``ops.bind`` and ``ops.twin`` look it up."""
    if key.startswith("ops."):
        name, _, dtype = key.removeprefix("ops.").partition(":")
        if name not in Ops._fields or (":" in key and dtype not in DTYPES):
            return None
        return getattr(_convolution, name, None) or getattr(_portable, name)
    parts = key.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            thing = importlib.import_module(".".join(["portnn", *parts[:cut]]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            thing = getattr(thing, part, None)
        own = thing is not None and f"{thing.__module__.removeprefix('portnn.')}.{thing.__qualname__}"
        return thing if own == key and inspect.isfunction(thing) else None
    return None


def differences(key, portable, given, functions):
    if isinstance(given, ast.Attribute):  # one of the library's own, np.tanh
        library = {"np": np}.get(given.value.id)
        if library is not None and not hasattr(library, given.attr):
            yield f"{key}: {ast.unparse(given)} does not exist"
        return
    twin = functions.get(getattr(given, "id", None))
    if twin is None:
        yield f"{key}: {ast.unparse(given)} is not a function of this file"
        return
    theirs = [
        (p.name, p.default is not p.empty)
        for p in inspect.signature(portable).parameters.values()
        if p.name not in GIVEN
    ]
    arguments = twin.args.posonlyargs + twin.args.args
    optional = [False] * (len(arguments) - len(twin.args.defaults)) + [True] * len(twin.args.defaults)
    mine = [(a.arg, o) for a, o in zip(arguments, optional, strict=True) if a.arg not in GIVEN]
    if "." in portable.__qualname__:  # a method: the object comes first, under a name that says what it is
        theirs, mine = theirs[1:], mine[1:]
    if theirs != mine:
        yield f"{key} takes {theirs}, its twin {mine}"
    for a in twin.args.kwonlyargs:
        if a.arg not in GIVEN:
            yield f"{key}: nobody gives its twin {a.arg}"


# -- kernels -----------------------------------------------------------------------------------------------------------


@cache
def kernels():
    return set(re.findall(r"^KERNEL void (\w+)\(", source("float"), re.MULTILINE))


def launches(path, tree):
    """Kernels by name: a string, one that is put together, or what a helper was called with."""
    for function in [tree, *functions_of(tree).values()]:
        own = function.body if function is not tree else [n for n in tree.body if not isinstance(n, ast.FunctionDef)]
        for call in calls_of(ast.Module(own, []), "launch"):
            for name in names_given(tree, function, call.args[0]):
                if isinstance(name, ast.Constant):
                    pattern = re.escape(name.value)
                elif isinstance(name, ast.JoinedStr):
                    pattern = "".join(
                        re.escape(v.value) if isinstance(v, ast.Constant) else r"\w+" for v in name.values
                    )
                else:
                    yield f"launch({ast.unparse(name)}, ...): which kernel is that?"
                    continue
                if not any(re.fullmatch(pattern, kernel) for kernel in kernels()):
                    yield f"there is no kernel {ast.unparse(name)}"


def names_given(tree, function, name):
    """The expression itself; of a parameter, what the function is called with in this file."""
    if not isinstance(name, ast.Name) or function is tree:
        return [name]
    parameters = [a.arg for a in function.args.args]
    if name.id not in parameters:
        return [name]
    return [call.args[parameters.index(name.id)] for call in calls_of(tree, function.name)]


# -- the namespace, tables of names, names that are compared ------------------------------------------------------------


def namespaces(path, tree):
    for call in calls_of(tree, "thin_namespace"):
        for keyword in call.keywords:
            if keyword.arg not in STANDARD.split():
                yield f"the standard has no {keyword.arg}"


def tables(path, tree):
    for name, value in assigned(tree):
        if not isinstance(value, ast.Dict):
            continue
        for key in keys_of(value):
            if name in ACTIVATIONS and key is not None and key not in FUNCTIONS:
                yield f"{name}: there is no activation {key}"
            if name in PRIMES and not (key in FUNCTIONS and key.endswith("_prime")):
                yield f"{name}: there is no derivative {key}"
            if name in DTYPE_TABLES and not is_dtype(key):
                yield f"{name}: there is no dtype {key}"


def is_dtype(name):
    try:
        return np.dtype(name).name == name
    except TypeError:
        return False


def compared_names(path, tree):
    """``activation.__name__ == "relu"``, also by way of a variable called ``name``."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Eq, ast.NotEq))):
            continue
        sides = [node.left, node.comparators[0]]
        text = next((s.value for s in sides if isinstance(s, ast.Constant) and isinstance(s.value, str)), None)
        other = next((s for s in sides if not isinstance(s, ast.Constant)), None)
        if text is None or other is None:
            continue
        if getattr(other, "attr", "") in ("__name__", "__qualname__") and text not in FUNCTIONS:
            yield f"there is no activation {text}"
        if getattr(other, "attr", "") == "__module__" and not importlib.util.find_spec(text):
            yield f"there is no module {text}"


# -- packages and backends ---------------------------------------------------------------------------------------------


def packages(path, tree):
    if path.name == "__init__.py" and path.parent.parent == BACKENDS:
        for name in ("probe", "create"):
            function = functions_of(tree).get(name)
            if function is None or function.args.args:
                yield f"{path.parent.name} has no {name}()"


def backend_classes(path, tree):
    """Classes derived from Backend: each public member, and each attribute that is set, is one of the contract's."""
    for node in tree.body:
        if not (isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Backend" for base in node.bases)):
            continue
        methods = {m.name: m for m in node.body if isinstance(m, ast.FunctionDef)}
        for name, method in methods.items():
            theirs = (
                vars(Backend).get(name) or getattr(object, name, None)
                if name.startswith("__")
                else vars(Backend).get(name)
            )
            is_public = not name.startswith("_") or name.startswith("__")
            if is_public and name not in EXTRAS and name not in vars(Backend) and name not in vars(object):
                yield f"{node.name}.{name} is no member of a backend"
            if not name.startswith("__") and inspect.isfunction(theirs):
                expected, found = list(inspect.signature(theirs).parameters), arguments_of(method)
                if expected != found:
                    yield f"{node.name}.{name} takes {found}, the contract has {expected}"
        made = {
            t.attr
            for n in ast.walk(methods.get("__init__", ast.Module([], [])))
            for target in getattr(n, "targets", [])
            for t in (target.elts if isinstance(target, ast.Tuple) else [target])
            if isinstance(t, ast.Attribute) and ast.unparse(t.value) == "self"
        }
        for name in ("name", "xp", "device"):
            if name not in made:
                yield f"{node.name} sets no {name}"
        if "faster" not in made | set(methods):
            yield f"{node.name} sets no faster"
        for name in ("asarray", "to_numpy", "owns", "describe"):
            if name not in methods:
                yield f"{node.name} leaves {name} to the plain backend, which is slow"


def arguments_of(function):
    a = function.args
    return [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)]


def drivers(path, tree):
    """What a captured step asks of its driver, CuPy's driver has."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Driver") and not node.bases:
            methods = {m.name: arguments_of(m) for m in node.body if isinstance(m, ast.FunctionDef)}
            for name, member in vars(Driver).items():
                if inspect.isfunction(member) and not name.startswith("_"):
                    expected = list(inspect.signature(member).parameters)
                    if methods.get(name) != expected:
                        yield f"{node.name}.{name} takes {methods.get(name)}, a captured step gives {expected}"


def attributes_by_name(path, tree):
    """``getattr(step, "size", None)`` of a train step: a misspelt one would be None for ever."""
    step = ast.parse(inspect.getsource(training.TrainStep))
    known = {n.attr for n in ast.walk(step) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "self"}
    known |= set(vars(training.TrainStep))
    for which in ("getattr", "hasattr"):
        for call in calls_of(tree, which):
            if ast.unparse(call.args[0]) in ("step", "self.step") and call.args[1].value not in known:
                yield f"a train step has no {call.args[1].value}"


# -- the tests ---------------------------------------------------------------------------------------------------------


def short(path):
    return path.relative_to(BACKENDS).as_posix()


@pytest.mark.parametrize("path", FILES, ids=short)
def test_every_name_names_something(path):
    assert faults(path, path.read_text()) == []


def test_every_backend_is_a_package_here():
    assert {path.parent.name for path in FILES if path.parent.parent == BACKENDS} == set(BUILT_IN.values())


def test_what_is_read_is_there():
    """The tests above mean nothing if they read nothing."""
    trees = {path: ast.parse(path.read_text()) for path in FILES}
    found = {name for tree in trees.values() for name, value in assigned(tree) if isinstance(value, ast.Dict)}
    assert found >= {"TWINS"} | ACTIVATIONS | PRIMES | DTYPE_TABLES
    counts = [sum(len(list(calls_of(tree, name))) for tree in trees.values()) for name in ("launch", "thin_namespace")]
    assert counts[0] > 20
    assert counts[1] == len(BUILT_IN)
    assert len(kernels()) > 20
    tables = [v for tree in trees.values() for name, v in assigned(tree) if name == "TWINS" and isinstance(v, ast.Dict)]
    assert len(tables) >= 8
    assert sum(len(table.keys) for table in tables) > 50


# File, what stands there, what it is misspelt to, a word of the fault.
MISSPELT = [
    ("portnn_cupy/twins.py", '"ops.patches": patches', '"ops.patch": patches', "ops.patch names no function"),
    ("portnn_cupy/twins.py", '"ops.dropout": dropout', '"ops.dropout:float16": dropout', "names no function"),
    ("portnn_cupy/twins.py", '"activations.chain"', '"activation.chain"', "names no function"),
    ("portnn_cupy/twins.py", '"activations.chain"', '"activations.chains"', "names no function"),
    ("portnn_cupy/twins.py", '"feed.rows"', '"feed.row"', "names no function"),
    ("portnn_cupy/twins.py", '"training.tally"', '"trainings.tally"', "names no function"),
    ("portnn_cupy/twins.py", '"losses.mse_prime"', '"losses.mse_prim"', "names no function"),
    ("portnn_cupy/twins.py", '"optimizers.SGD.update"', '"optimizers.Sgd.update"', "names no function"),
    ("portnn_cupy/twins.py", '"optimizers.Adam.update"', '"optimizers.Adam.updat"', "names no function"),
    ("portnn_cupy/twins.py", '"optimizers.Adam.update"', '"optimizers.AdamW.update"', "names no function"),
    ("portnn_cupy/twins.py", '"ops.fold": fold', '"ops.fold": folds', "is not a function of this file"),
    ("portnn_cupy/twins.py", "def fold(parts: list[Array], plan", "def fold(part: list[Array], plan", "ops.fold takes"),
    (
        "portnn_cupy/twins.py",
        "def max_pool(x: Array, plan: Any)",
        "def max_pool(plan: Any, x: Array)",
        "max_pool takes",
    ),
    (
        "portnn_cupy/twins.py",
        "plan: Any, groups: int = 1) -> list",
        "plan: Any, groups: int) -> list",
        "ops.patches takes",
    ),
    ("portnn_cupy/twins.py", "y_pred: Array, *, plain: Any", "y_pred: Array, *, plan: Any", "nobody gives"),
    (
        "portnn_cupy/twins.py",
        "def sgd_update(sgd: Any, parameters",
        "def sgd_update(sgd: Any, weights",
        "SGD.update takes",
    ),
    ("portnn_cupy/twins.py", 'launch("biased"', 'launch("biasd"', "no kernel 'biasd'"),
    ("portnn_cupy/twins.py", 'launch(f"rows_', 'launch(f"row_', "no kernel f'row_"),
    ("portnn_cupy/twins.py", '_pool("max_pool"', '_pool("maxpool"', "no kernel 'maxpool'"),
    ("portnn_cupy/twins.py", '_each_difference("squares"', '_each_difference("square"', "no kernel 'square'"),
    ("portnn_cupy/philox.py", 'launch("philox_bits"', 'launch("philox_bit"', "no kernel 'philox_bit'"),
    ("portnn_cupy/twins.py", '{None: 0, "relu": 1', '{None: 0, "rely": 1', "no activation rely"),
    ("portnn_cupy/twins.py", '"tanh_prime": 2', '"tanh_prim": 2', "no derivative tanh_prim"),
    ("portnn_cupy/twins.py", '"tanh_prime": 2', '"tanh": 2', "no derivative tanh"),
    ("portnn_cupy/twins.py", '{"uint8": "byte"', '{"uint08": "byte"', "no dtype uint08"),
    ("portnn_cupy/twins.py", '== "portnn.activations"', '== "portnn.activation"', "no module portnn.activation"),
    ("portnn_cupy/launch.py", '"float32": "float"', '"single": "float"', "no dtype single"),
    ("portnn_cupy/blas.py", '{"float32": ("cublasSgemm', '{"flot32": ("cublasSgemm', "no dtype flot32"),
    ("portnn_numpy/elementwise.py", '"relu_prime": _chain_relu', '"relu_": _chain_relu', "no derivative relu_"),
    ("portnn_numpy/elementwise.py", '__name__ == "relu"', '__name__ == "Relu"', "no activation Relu"),
    ("portnn_numpy/elementwise.py", "np.tanh,", "np.tan_h,", "np.tan_h does not exist"),
    ("portnn_numpy/elementwise.py", '"ops.biased"', '"ops.bias"', "ops.bias names no function"),
    ("portnn_numpy/updates.py", '"optimizers.RMSprop.update"', '"optimizers.RMSProp.update"', "names no function"),
    ("portnn_numpy/images.py", '"ops.columns"', '"ops.colums"', "names no function"),
    ("portnn_numpy/compiled/elementwise.py", '"activations.chain"', '"activations.chian"', "names no function"),
    (
        "portnn_numpy/compiled/elementwise.py",
        'ALONG_ROWS = {None: _add, "relu"',
        'ALONG_ROWS = {None: _add, "re"',
        "no activation re",
    ),
    ("portnn_numpy/compiled/pooling.py", '"ops.avg_pool"', '"ops.mean_pool"', "names no function"),
    ("portnn_numpy/compiled/convolution.py", '"ops.convolution"', '"ops.convolutions"', "names no function"),
    (
        "portnn_numpy/compiled/updates.py",
        '"optimizers.AdaGrad.update"',
        '"optimizers.Adagrad.update"',
        "names no function",
    ),
    ("portnn_cupy/cupy_backend.py", "clip=clip", "clipped=clip", "the standard has no clipped"),
    ("portnn_numpy/numpy_backend.py", "matmul=namespace", "matmull=namespace", "the standard has no matmull"),
    ("portnn_cupy/cupy_backend.py", "def to_numpy(", "def to_nunpy(", "CupyBackend.to_nunpy is no member"),
    ("portnn_cupy/cupy_backend.py", "def synchronize(", "def synchronise(", "synchronise is no member"),
    ("portnn_cupy/cupy_backend.py", "def random_bits(self, key", "def random_bits(self, keys", "random_bits takes"),
    ("portnn_cupy/cupy_backend.py", "def __hash__", "def __hsh__", "__hsh__ is no member"),
    ("portnn_cupy/cupy_backend.py", "self.faster =", "self.fast =", "sets no faster"),
    ("portnn_cupy/cupy_backend.py", 'self.name = "gpu"', 'self.names = "gpu"', "sets no name"),
    ("portnn_numpy/numpy_backend.py", "def owns(", "def own(", "NumpyBackend.own is no member"),
    ("portnn_numpy/numpy_backend.py", "def describe(", "def descripe(", "descripe is no member"),
    ("portnn_cupy/__init__.py", "def probe(", "def prob(", "portnn_cupy has no probe()"),
    ("portnn_numpy/__init__.py", "def create(", "def make(", "portnn_numpy has no create()"),
    ("portnn_cupy/driver.py", "def release(", "def releas(", "CupyDriver.release takes None"),
    ("portnn_cupy/driver.py", "def copy(self, pairs", "def copy(self, pair", "CupyDriver.copy takes"),
    ("portnn_cupy/cupy_backend.py", 'getattr(step, "size"', 'getattr(step, "sise"', "a train step has no sise"),
    ("portnn_cupy/graph.py", 'hasattr(self.step, "where")', 'hasattr(self.step, "were")', "a train step has no were"),
]


@pytest.mark.parametrize(("file", "right", "wrong", "words"), MISSPELT, ids=[f"{m[0]}: {m[2]}" for m in MISSPELT])
def test_a_misspelt_name_is_found(file, right, wrong, words):
    path = BACKENDS / file
    text = path.read_text()
    assert right in text
    found = faults(path, text.replace(right, wrong))
    assert any(words in fault for fault in found), found


def test_a_namespace_takes_no_replacement_that_the_standard_does_not_have():
    quick = thin_namespace(np, matmul=np.dot)
    assert quick.matmul is np.dot
    with pytest.raises(TypeError, match=r"replacements for dot, matmull, which the array API standard does not have"):
        thin_namespace(np, matmull=np.dot, dot=np.dot, sum=np.sum)
