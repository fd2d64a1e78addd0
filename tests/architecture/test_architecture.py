"""The architecture rules: which modules may import which, and whether the public names match their documentation."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import portnn

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "portnn").rglob("*.py"))
BACKENDS = sorted((ROOT / "backends").rglob("*.py"))

# Modules that run on the host and may import NumPy: all but layers, activations, losses, optimizers and ops.
HOST_SIDE = {
    "article_modules",
    "backend",
    "confusion",
    "evaluation",
    "initializers",
    "metrics",
    "network",
    "preparation",
    "random",
    "samples",
    "sources",
    "torch",
    "transfer",
    "validation",
}
HOST_FOLDERS = {"cli", "datasets", "estimators", "exchange", "files", "show", "testing", "training"}
MAY_READ_THE_ENVIRONMENT = {"portnn/datasets/download.py"}  # and the command line


def tree(path):
    return ast.parse(path.read_text())


def imports(path):
    """Every module that a file imports, at the top or inside a function."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name)
def test_the_library_imports_no_backend(path):
    roots = {module.partition(".")[0] for module in imports(path)}
    backends = roots & {"cupy", "cupyx", "portnn_numpy", "portnn_cupy", "backends"}
    assert not backends, "portnn must not import a backend: get one from portnn.backend.get_backend"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_numpy_stays_on_the_hosts_side(path):
    parts = path.relative_to(ROOT / "portnn").with_suffix("").parts
    if parts[0] in HOST_SIDE | HOST_FOLDERS:
        return
    numpys = [module for module in imports(path) if module.partition(".")[0] == "numpy"]
    assert not numpys, "this module must run on every array library: use self.xp, or portnn.backend.namespace(x)"


PAGES = ["fc", "conv", "pooling", "batch_norm", "layer_norm", "dropout", "activation", "softmax", "flatten", "residual"]
PAGES += ["random_affine"]
FIRST_SCREEN = 40  # lines


@pytest.mark.parametrize("page", PAGES)
def test_a_layers_page_begins_with_formula_forward_and_backward(page):
    layers = [node for node in tree(ROOT / "portnn" / "layers" / f"{page}.py").body if isinstance(node, ast.ClassDef)]
    for layer in layers:
        docstring, forward, backward = layer.body[:3]
        assert " = " in ast.unparse(docstring) or "dE/dX" in ast.unparse(docstring), "the docstring needs the formula"
        assert (forward.name, backward.name) == ("forward", "backward"), (
            "forward and backward come right after the docstring"
        )
        assert backward.end_lineno <= FIRST_SCREEN


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name in ("layers", "ops")], ids=name)
def test_products_are_written_matmul(path):
    for node in ast.walk(tree(path)):
        assert not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)), (
            f"line {node.lineno}: write xp.matmul instead of @"
        )
        other = isinstance(node, ast.Attribute) and node.attr in ("tensordot", "einsum", "dot", "vecdot")
        assert not other, f"line {node.lineno}: write xp.matmul instead of {node.attr}"


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name == "layers"], ids=name)
def test_the_shelf_names_no_device(path):
    strings = {
        node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert not [s for s in strings if re.search(r"\b(cuda|cupy|gpu)\b", s, re.IGNORECASE)]


@pytest.mark.parametrize("path", BACKENDS, ids=name)
def test_backends_know_only_the_contract_and_the_plans(path):
    allowed = ("portnn.backend", "portnn.ops.windows", "portnn_numpy", "portnn_cupy")
    ours = [module for module in imports(path) if module.startswith("portnn")]
    others = [module for module in ours if not module.startswith(allowed)]
    assert not others, "a backend imports from portnn only portnn.backend and portnn.ops.windows"
    package = path.relative_to(ROOT / "backends").parts[0]
    assert not [m for m in ours if m.startswith(("portnn_numpy", "portnn_cupy")) and not m.startswith(package)]


@pytest.mark.parametrize("path", FILES, ids=name)
def test_the_environment_is_read_in_few_places(path):
    if name(path) in MAY_READ_THE_ENVIRONMENT or path.parent.name == "cli":
        return
    reads = [n for n in ast.walk(tree(path)) if isinstance(n, ast.Attribute) and n.attr in ("environ", "getenv")]
    assert not reads


LOOK_AT_SIGNATURES = {"portnn/checks.py", "portnn/functions.py", "portnn/layers/layer.py"}


@pytest.mark.parametrize("path", [*FILES, *BACKENDS], ids=name)
def test_signatures_are_looked_at_in_few_places(path):
    text = ast.unparse(tree(path))
    looks = "inspect.signature" in text or "inspect.signature" in imports(path)
    assert not looks or name(path) in LOOK_AT_SIGNATURES, "checks.signature_of says what a function takes"


@pytest.mark.parametrize("root", [ROOT, ROOT / "backends"], ids=["portnn", "backends"])
def test_no_import_circle(root):
    """In backends, imports inside functions count too, except in a package's ``__init__``, which imports lazily."""
    graph = {}
    for path in FILES if root == ROOT else BACKENDS:
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        found = set()
        for node in tree(path).body if root == ROOT or path.name == "__init__.py" else ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("portnn"):
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    is_module = (root / inner.replace(".", "/")).with_suffix(".py").exists() or (
                        root / inner.replace(".", "/")
                    ).is_dir()
                    found.add(inner if is_module else node.module)
        graph[module] = found
    assert len(graph) > 10

    def visit(module, trail):
        assert module not in trail, f"import cycle: {' -> '.join([*trail, module])}"
        for other in graph.get(module, ()):
            visit(other, [*trail, module])

    for module in graph:
        visit(module, [])


def is_type_only(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def is_for_notebooks(node):
    return isinstance(node, ast.FunctionDef) and re.fullmatch(r"_repr_\w+_", node.name)


def imports_of_rooms(files=FILES, root=ROOT / "portnn"):
    """A room is a top-level folder or file of ``portnn/``. Imports inside functions count, type-only ones do not.

    Nor do those of ``show`` within a method that a notebook calls: whatever a room holds may be looked at.
    """
    graph = {}
    for path in files:
        room = path.relative_to(root).parts[0].removesuffix(".py")
        nodes = list(ast.walk(tree(path)))
        shown = {id(part) for node in nodes if is_for_notebooks(node) for part in ast.walk(node)}
        left_out = shown | {id(part) for node in nodes if is_type_only(node) for part in ast.walk(node)}
        graph.setdefault(room, set())
        for node in nodes:
            if isinstance(node, ast.Import) and room != "cli":
                assert "portnn" not in [alias.name for alias in node.names], (
                    "import the submodule that is needed, not portnn"
                )
            if isinstance(node, ast.ImportFrom):
                first, *rest = (node.module or "").split(".")
                others = set(rest[:1] or (alias.name for alias in node.names)) if first == "portnn" else set()
                if id(node) in shown:
                    assert others <= {"show"}, "what a notebook shows is made in portnn.show"
                if id(node) not in left_out:
                    graph[room] |= others
    return {room: others - {room} for room, others in graph.items()}


def floors():
    """For each room the row of CONTRIBUTING's table that it stands in, counted from the top."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    table = text[text.index("## The rooms of the library") : text.index("## Rules that tests enforce")]
    rows = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    return {room: floor for floor, row in enumerate(rows) for room in re.findall(r"`(\w+)`", row)}


def test_no_room_imports_one_above_it():
    """Nor one beside it, so that there is no import cycle of rooms either."""
    floor, graph = floors(), imports_of_rooms()
    assert set(floor) == set(graph), "CONTRIBUTING.md, 'The rooms of the library', names each room"
    upwards = [
        (room, other)
        for room, others in graph.items()
        for other in others & floor.keys()
        if floor[other] <= floor[room]
    ]
    assert not upwards, "the second room of each pair stands no lower than the first, which imports it"
    assert len(set(floor.values())) > 10, "the floors were read"


def test_what_a_person_looks_at_is_loaded_when_it_is_looked_at():
    """Only the network and methods for notebooks import ``show``, inside functions; only its canvas imports matplotlib."""
    above = {"show", "plot", "cli", "__main__"}
    for path in FILES:
        room = path.relative_to(ROOT / "portnn").parts[0].removesuffix(".py")
        top = [module for node in tree(path).body for module in imports_in(node)]
        if room not in above:
            assert not [module for module in top if module.startswith("portnn.show")]
        assert name(path) == "portnn/show/plots/canvas.py" or not [m for m in top if m.startswith("matplotlib")]
        assert not [module for module in imports(path) if module.startswith("matplotlib.pyplot")]
        assert "portnn.show.plots.canvas" not in top, "importing it loads matplotlib"
    users = {room for room, others in imports_of_rooms().items() if "show" in others}
    assert users - above <= {"network"}


def imports_in(node):
    """What a statement imports, if it is an import."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def test_the_walls_are_seen_to_stand(tmp_path):
    """The helpers above find forbidden imports and the ``@`` operator."""
    breach = tmp_path / "breach.py"
    breach.write_text("def f(x):\n    import cupy.cuda\n    from numpy import dot\n    return x @ x\n")
    assert set(imports(breach)) == {"cupy.cuda", "numpy.dot"}
    assert any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.MatMult) for n in ast.walk(tree(breach)))
    breach.write_text(
        "if TYPE_CHECKING:\n    from portnn.cli import a\n"
        "class A:\n    def _repr_html_(self):\n        from portnn.show.pages import b\n"
        "    def f(self):\n        from portnn.layers import c\n"
    )
    assert imports_of_rooms([breach], tmp_path) == {"breach": {"layers"}}


# -- public names ----------------------------------------------------------------------------------------------------------

API = (ROOT / "docs" / "api.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \| `(\(.*?\)|)` \|", API, re.MULTILINE))


def parameters_of(thing):
    """The parameters; if a class takes ``**kwargs``, its base class's parameters replace them."""
    parameters = [p for p in inspect.signature(thing).parameters.values() if p.name not in ("self", "unknown")]
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD and isinstance(thing, type):
        named = {p.name for p in parameters}
        parameters[-1:] = [p for p in parameters_of(thing.__base__) if p.name not in named]
    return parameters


def signature(thing):
    """The signature as text: names, order and defaults, without annotations and ``self``."""
    parameters = parameters_of(thing)
    return str(inspect.Signature([p.replace(annotation=inspect.Parameter.empty) for p in parameters])).replace("'", '"')


def test_every_public_name_is_documented():
    missing, left = set(portnn.__all__) - set(ROWS), set(ROWS) - set(portnn.__all__)
    assert not missing, f"add rows to docs/api.md for {sorted(missing)}: | `name` | `(arguments)` | what it does |"
    assert not left, f"docs/api.md has rows for {sorted(left)}, which portnn/__init__.py does not export"


@pytest.mark.parametrize("public", portnn.__all__)
def test_signatures_are_as_documented(public):
    thing = getattr(portnn, public)
    assert inspect.getdoc(thing), f"{public} needs a docstring"
    if (isinstance(thing, type) and issubclass(thing, dict)) or not callable(thing):
        assert ROWS[public] == ""
        return
    found = signature(thing.__init__ if thing is portnn.Layer else thing)
    assert ROWS.get(public) == found, f"its row in docs/api.md begins with | `{public}` | `{found}` |"


@pytest.mark.parametrize("method", re.findall(r"^\| `Network\.(\w+)` \|", API, re.MULTILINE))
def test_methods_are_as_documented(method):
    documented = re.search(rf"^\| `Network\.{method}` \| `(\(.*?\))` \|", API, re.MULTILINE).group(1)
    assert documented == signature(getattr(portnn.Network, method))
