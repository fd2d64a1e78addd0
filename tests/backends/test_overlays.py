"""What a backend overrides in the library is looked up by name: a misspelled name would be ignored silently.

So these tests read the names from the backends' source, without importing the array library (CuPy need not be
installed), and compare them with what they should refer to.
"""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from misspelt import MISSPELT
from portnn import activations
from portnn.backend import BUILT_IN, STANDARD, Backend, thin_namespace
from portnn.ops import COMPOSED, Ops, portable
from portnn.training.step import TrainStep
from portnn_cupy.graph import Driver
from portnn_cupy.kernels import source

BACKENDS = Path(__file__).parents[2] / "backends"
FILES = sorted(BACKENDS.rglob("*.py"))
BOUND = {"xp", "ops"}  # parameters of a portable routine that ``ops.bind`` fills in
EXTRAS = {"direct_up_to", "memory", "release"}  # public members of a backend that the contract does not have
FUNCTIONS = {name for name, f in vars(activations).items() if inspect.isfunction(f) and not name.startswith("_")}
# Tables keyed by the name of an activation, and tables keyed by the name of a dtype.
ACTIVATIONS = {"CHAINS", "KINDS", "_ALONG_ROWS", "_EACH_ROW"}
DTYPE_TABLES = {"REALS", "ROUTINES"}


def faults(path, text):
    """The wrong names in the source of one file of a backend."""
    tree = ast.parse(text)
    checks = (
        fast_versions,
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
    """Name and value of each module-level assignment."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            yield from ((target.id, node.value) for target in targets if isinstance(target, ast.Name))


def keys_of(value):
    return [key.value if isinstance(key, ast.Constant) else ast.unparse(key) for key in value.keys]


# -- fast versions -----------------------------------------------------------------------------------------------------

# Modules that mirror no module of the library. A module that is neither listed here nor mirrors one would be ignored.
HELPERS = {
    "portnn_cupy": {
        "availability",
        "blas",
        "backend",
        "convolutions",
        "copies",
        "direct",
        "driver",
        "graph",
        "in_place",
        "kept",
        "kernels",
        "launch",
        "philox",
        "reductions",
        "shapes",
        "standard",
        "sums",
    },
    "portnn_numpy": {"blas", "layout", "memory", "namespace", "backend"},
    "portnn_numpy/compiled": {"jit", "pool", "troubles", "vectors"},
    "portnn_numpy/uncompiled": set(),
}


def fast_versions(path, tree):
    """If a module mirrors one of the library's, each public function has a counterpart with the same signature."""
    name = path.stem
    if name == "__init__" or name.startswith("_"):
        yield from leaving(path, tree, helpers_only=True)
        return
    is_helper = name in HELPERS[path.parent.relative_to(BACKENDS).as_posix()]
    library = namesakes(name)
    if is_helper or library is None:
        if not is_helper:
            yield f"{name}.py mirrors no module of portnn: if it is a helper, name it in HELPERS"
        yield from leaving(path, tree, helpers_only=True)
        return
    for key, given in public(defined(path, tree)):
        portable = library.get(key)
        if isinstance(given, str):  # imported: a helper, unless the library has that name
            if portable is None:
                continue
            there = BACKENDS / given.replace(".", "/")
            given = functions_of(ast.parse(there.with_suffix(".py").read_text())).get(key)
            if given is None:
                yield f"{key} is imported from a module that does not define it"
                continue
        if portable is None:
            yield f"portnn.{name} has no {key}, so nothing calls it: misspelled? A helper's name begins with _"
        elif isinstance(given, ast.Attribute):  # a function of the array library, such as np.tanh
            if not hasattr({"np": np}[given.value.id], given.attr):
                yield f"{key}: {ast.unparse(given)} does not exist"
        else:
            yield from differences(key, portable, given)
    yield from leaving(path, tree, helpers_only=False)


@cache
def namesakes(name):
    """The functions of a module of the library, methods as ``Class.method``; None if there is no such module."""
    if name == "ops":
        modules = (*COMPOSED, portable)
        return {n: next(getattr(m, n) for m in modules if hasattr(m, n)) for n in Ops._fields}
    if importlib.util.find_spec(f"portnn.{name}") is None:
        return None
    package = importlib.import_module(f"portnn.{name}")
    inside = [part.name for part in pkgutil.iter_modules(getattr(package, "__path__", []))]
    found = {}
    for module in [package, *(importlib.import_module(f"portnn.{name}.{part}") for part in inside)]:
        for key, thing in vars(module).items():
            if getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(thing):
                found[key] = thing
            elif inspect.isclass(thing):
                found |= {f"{key}.{m}": f for m, f in vars(thing).items() if inspect.isfunction(f)}
    return found


def defined(path, tree):
    """The functions, methods and aliases that a module defines; for an import, the name of its module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{m.name}", m) for m in node.body if isinstance(m, ast.FunctionDef))
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and node.targets[0].id.islower():
            yield node.targets[0].id, node.value
        elif isinstance(node, ast.ImportFrom) and node.module.startswith("portnn_"):
            yield from ((alias.asname or alias.name, node.module) for alias in node.names)


def public(named):
    return ((key, given) for key, given in named if not key.startswith("_"))


def differences(key, portable, given):
    theirs = [
        (p.name, p.default is not p.empty)
        for p in inspect.signature(portable).parameters.values()
        if p.name not in BOUND
    ]
    arguments = given.args.posonlyargs + given.args.args
    optional = [False] * (len(arguments) - len(given.args.defaults)) + [True] * len(given.args.defaults)
    mine = [(a.arg, o) for a, o in zip(arguments, optional, strict=True)]
    if "." in portable.__qualname__:  # a method: its first argument is the object, which may have any name
        theirs, mine = theirs[1:], mine[1:]
        if [ast.unparse(d) for d in given.decorator_list] != ["staticmethod"]:
            yield f"{key} is not a staticmethod"
    if theirs != mine:
        yield f"{key} takes {theirs}, its fast version {mine}"
    for a in given.args.kwonlyargs:
        yield f"{key}: nothing passes {a.arg} to its fast version"


def leaving(path, tree, helpers_only):
    """``NotImplemented`` appears only in the body of a fast version, never in a helper or an inner function."""
    for node in tree.body:
        functions = node.body if isinstance(node, ast.ClassDef) else [node]
        for function in functions:
            helper = helpers_only or getattr(function, "name", "_").startswith("_")
            says = any(isinstance(n, ast.Name) and n.id == "NotImplemented" for n in ast.walk(function))
            inner = [
                n for n in ast.walk(function) if isinstance(n, (ast.FunctionDef, ast.Lambda)) and n is not function
            ]
            if says and helper:
                yield f"{function.name} contains NotImplemented, but is not a fast version: it would have no effect"
            if any(isinstance(n, ast.Name) and n.id == "NotImplemented" for i in inner for n in ast.walk(i)):
                yield f"{function.name} contains NotImplemented in an inner function: it would have no effect"


# -- kernels -----------------------------------------------------------------------------------------------------------


@cache
def kernels():
    return set(re.findall(r"^KERNEL void (\w+)\(", source("float"), re.MULTILINE))


def launches(path, tree):
    """Kernel names: a string, an f-string, or the argument that a helper was called with."""
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
    """The expression itself, or, for a parameter, the arguments that the function is called with in this file."""
    if not isinstance(name, ast.Name) or function is tree:
        return [name]
    parameters = [a.arg for a in function.args.args]
    if name.id not in parameters:
        return [name]
    return [call.args[parameters.index(name.id)] for call in calls_of(tree, function.name)]


# -- the namespace, tables of names, comparisons with names ------------------------------------------------------------


def namespaces(path, tree):
    given = [keyword.arg for call in calls_of(tree, "thin_namespace") for keyword in call.keywords]
    if path.name == "standard.py":  # its functions are replacements by their own names
        given += [name for name in functions_of(tree) if not name.startswith("_")]
    for name in given:
        if name is not None and name not in STANDARD.split():  # None stands for **replaced
            yield f"the standard has no {name}"


def tables(path, tree):
    for name, value in assigned(tree):
        if not isinstance(value, ast.Dict):
            continue
        for key in keys_of(value):
            if name in ACTIVATIONS and key is not None and key not in FUNCTIONS:
                yield f"{name}: there is no activation {key}"
            if name in DTYPE_TABLES and not is_dtype(key):
                yield f"{name}: there is no dtype {key}"


def is_dtype(name):
    try:
        return np.dtype(name).name == name
    except TypeError:
        return False


def compared_names(path, tree):
    """Comparisons such as ``activation.__name__ == "relu"``."""
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


# -- packages and backends ---------------------------------------------------------------------------------------------


def packages(path, tree):
    if path.name == "__init__.py" and path.parent.parent == BACKENDS:
        for name in ("probe", "create"):
            function = functions_of(tree).get(name)
            if function is None or function.args.args:
                yield f"{path.parent.name} has no {name}()"


def backend_classes(path, tree):
    """A subclass of Backend has only members of the contract, sets its attributes and overrides slow defaults."""
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
                yield f"{node.name}.{name} is not a member of a backend"
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
                yield f"{node.name} does not set {name}"
        for name in ("asarray", "to_numpy", "owns", "describe", "implementation"):
            if name not in methods:
                yield f"{node.name} inherits {name} from the plain backend, which is slow"


def arguments_of(function):
    a = function.args
    return [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)]


def drivers(path, tree):
    """CuPy's driver has the methods that a captured step calls."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Driver") and not node.bases:
            methods = {m.name: arguments_of(m) for m in node.body if isinstance(m, ast.FunctionDef)}
            for name, member in vars(Driver).items():
                if inspect.isfunction(member) and not name.startswith("_"):
                    expected = list(inspect.signature(member).parameters)
                    if methods.get(name) != expected:
                        yield f"{node.name}.{name} takes {methods.get(name)}, a captured step passes {expected}"


def attributes_by_name(path, tree):
    """``getattr(step, "size", None)`` of a train step: with a misspelled name it would always be None."""
    step = ast.parse(inspect.getsource(TrainStep))
    known = {n.attr for n in ast.walk(step) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "self"}
    known |= set(vars(TrainStep))
    for which in ("getattr", "hasattr"):
        for call in calls_of(tree, which):
            if ast.unparse(call.args[0]) in ("step", "self.step") and call.args[1].value not in known:
                yield f"a train step has no {call.args[1].value}"


# -- the tests ---------------------------------------------------------------------------------------------------------


def short(path):
    return path.relative_to(BACKENDS).as_posix()


@pytest.mark.parametrize("path", FILES, ids=short)
def test_every_name_names_something(path):
    found = faults(path, path.read_text())
    assert not found, "\n".join(found)


def test_every_backend_is_a_package_here():
    assert {path.parent.name for path in FILES if path.parent.parent == BACKENDS} == set(BUILT_IN.values())


def test_what_is_read_is_there():
    """The tests above would mean nothing if they found no names."""
    trees = {path: ast.parse(path.read_text()) for path in FILES}
    found = {name for tree in trees.values() for name, value in assigned(tree) if isinstance(value, ast.Dict)}
    assert found >= ACTIVATIONS | DTYPE_TABLES
    counts = [sum(len(list(calls_of(tree, name))) for tree in trees.values()) for name in ("launch", "thin_namespace")]
    assert counts[0] > 10
    assert counts[1] == len(BUILT_IN)
    assert len(kernels()) >= 20
    assert {path.stem for path in FILES} >= {"ops", "activations", "losses", "optimizers", "training"}
    found = [key for path, tree in trees.items() if namesakes_of(path) for key, _ in public(defined(path, tree))]
    assert len(found) > 50
    assert {"total", "tanh", "SGD.update", "convolution", "gathered", "update_counters"} <= set(found)
    assert sum("NotImplemented" in path.read_text() for path in FILES) >= 8


def namesakes_of(path):
    is_private = path.stem.startswith("_")
    return (
        None
        if is_private or path.stem in HELPERS[path.parent.relative_to(BACKENDS).as_posix()]
        else namesakes(path.stem)
    )


# The fast versions that the contracts do not run (they need large arrays or a GPU), and the file in which each is
# compared with the library's function. That file compares all activations and chain rules, so they are not listed.
COMPARED = {
    "portnn_cupy": (
        "tests/gpu/test_cupy_fused.py",
        "avg_pool avg_pool_backward biased convolution convolution_backward convolution_gradient dropout fold max_pool "
        "max_pool_backward normalize normalize_backward patches random_maps resample resample_backward total mse mse_prime softmax_cross_entropy "
        "softmax_cross_entropy_prime SGD.update AdaGrad.update RMSprop.update Adam.update addresses_of gathered update_counters chained chained_image convolved differentiated pooled whole",
    ),
    "portnn_numpy/compiled": (
        "tests/backends/test_compiled.py or test_compiled_norms_and_losses.py (convolved: test_strips.py; descended: test_descent.py)",
        "affine avg_pool avg_pool_backward biased convolution convolution_backward convolution_gradient convolved chained_image whole "
        "descended max_pool max_pool_backward patches pooled resample resample_backward scaled scaled_backward normalize "
        "normalize_backward taken binary_cross_entropy binary_cross_entropy_prime softmax_cross_entropy "
        "softmax_cross_entropy_prime SGD.update AdaGrad.update RMSprop.update Adam.update",
    ),
    "portnn_numpy/uncompiled": (
        "tests/backends/test_uncompiled.py",
        "convolution convolution_backward convolution_gradient pooled whole",
    ),
}


@pytest.mark.parametrize("package", COMPARED)
def test_every_fast_version_is_compared(package):
    file, names = COMPARED[package]
    found = set()
    for path in (BACKENDS / package).glob("*.py"):
        if path.stem != "activations" and (library := namesakes_of(path)):
            found |= {key for key, _ in public(defined(path, ast.parse(path.read_text()))) if key in library}
    new, gone = sorted(found.difference(names.split())), sorted(set(names.split()) - found)
    assert not new, f"compare {', '.join(new)} with the library's function in {file}, then name it in COMPARED"
    assert not gone, f"{', '.join(gone)} in COMPARED: no longer a fast version"


def test_every_compiled_module_is_tried():
    """``trouble()`` reports a module that cannot be imported; found later, it would end a training run."""
    tree = ast.parse((BACKENDS / "portnn_numpy/compiled/__init__.py").read_text())
    imported = [node for node in ast.walk(functions_of(tree)["trouble"]) if isinstance(node, ast.ImportFrom)]
    mirrors = {path.stem for path in FILES if path.parent.name == "compiled" and namesakes_of(path)}
    lacking = mirrors - {alias.name for node in imported for alias in node.names}
    assert not lacking, f"trouble() in compiled/__init__.py does not import {', '.join(lacking)}"


@pytest.mark.parametrize(("file", "right", "wrong", "words"), MISSPELT, ids=[f"{m[0]}: {m[2]}" for m in MISSPELT])
def test_a_misspelt_name_is_found(file, right, wrong, words):
    path = BACKENDS / file
    text = path.read_text()
    assert right in text
    found = faults(path, text.replace(right, wrong))
    assert any(words in fault for fault in found), found


@pytest.mark.parametrize("name", ["optimizer.py", "compiled/losess.py"])
def test_a_module_that_mirrors_nothing_is_found(name):
    assert any(
        "mirrors no module" in fault for fault in faults(BACKENDS / "portnn_numpy" / name, "def f():\n    pass\n")
    )


def test_a_namespace_takes_no_replacement_that_the_standard_does_not_have():
    quick = thin_namespace(np, matmul=np.dot)
    assert quick.matmul is np.dot
    with pytest.raises(TypeError, match=r"replacements for dot, matmull, which the array API standard does not have"):
        thin_namespace(np, matmull=np.dot, dot=np.dot, sum=np.sum)
