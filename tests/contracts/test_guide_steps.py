"""Steps of CONTRIBUTING.md that no other test would notice if they were left out."""

import copy
import importlib
import inspect
import pkgutil
import re
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import portnn
from cases import LAYERS, LOSSES, OPTIMIZERS, SCHEDULES
from portnn import activations, arguments, losses, metrics, names, optimizers, schedules
from portnn.backend import is_array
from portnn.files.arguments import arguments_of
from portnn.layers.attributes import Parameter
from portnn.settings import Setting

ROOT = Path(__file__).parents[2]
API = (ROOT / "docs" / "api.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()

# Base classes and helpers, which are not exported.
INNER = {"AdamArguments", "Clipping", "Common", "Optimizer", "GlobalPoolLayer", "NormLayer", "PoolLayer"}
INNER |= {"Kept", "OfNetwork", "Parameter", "Trainable"}


def test_everything_is_exported():
    inside = [importlib.import_module(f"portnn.layers.{m.name}") for m in pkgutil.iter_modules(portnn.layers.__path__)]
    found = {
        name
        for module in (losses, optimizers, schedules, *inside)
        for name, thing in vars(module).items()
        if inspect.isclass(thing) and thing.__module__ == module.__name__
    }
    for pairs in (activations.PAIRS, losses.PAIRS):
        found |= {f"{name}{end}" for name in pairs for end in ("", "_prime")}
    found |= set(metrics.METRICS) - {"top_5"}  # TopK(5)
    lacking = sorted(found - INNER - set(portnn.__all__))
    assert not lacking, f"portnn/__init__.py does not export {lacking}; list internal classes in INNER"


def test_every_optimizer_goes_by_name():
    classes = {thing for thing in vars(portnn).values() if inspect.isclass(thing)}
    own = {each for each in classes if issubclass(each, optimizers.Optimizer)}
    lacking = sorted(each.__name__ for each in own - set(arguments.OPTIMIZERS.values()))
    assert not lacking, f"OPTIMIZERS in portnn/arguments.py lacks {lacking}"
    lacking = [name for name in arguments.OPTIMIZERS if f'`"{name}"`' not in API]
    assert not lacking, f"the list of names below the optimizers in docs/api.md lacks {lacking}"


def test_the_error_for_an_unknown_loss_names_the_classes():
    classes = {type(case.loss).__name__ for case in LOSSES.values()} - {"function"}
    with pytest.raises(ValueError, match="unknown loss") as caught:
        portnn.Network().use("nonsense")
    lacking = [name for name in classes if f"{name}()" not in str(caught.value)]
    assert not lacking, f"_other in portnn/functions.py lacks {lacking}"


# -- layers ------------------------------------------------------------------------------------------------------------

CASES = [case for case in LAYERS if "OwnLayer" not in repr(case.make())]
layers = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@layers
def test_a_layer_declares_arguments_and_parameters(case):
    layer = case.make()
    layer.build(case.sample, portnn.get_backend("cpu"), "float32", 7, "0")
    for kinds, given in (((Setting, Parameter), arguments_of(layer)), (Parameter, layer.parameters)):
        for name in given:
            declared = inspect.getattr_static(type(layer), name, None)
            assert isinstance(declared, kinds), f"the class {type(layer).__name__} does not declare {name}"


@layers
def test_a_layer_shows_the_call_that_makes_it(case):
    shown = repr(case.make())
    try:
        again = repr(eval(shown, dict(vars(portnn))))
    except TypeError as error:
        again = str(error)
    assert again == shown, f"{type(case.make()).__name__}.__repr__ must show the call that makes the layer"


@layers
def test_a_layer_says_what_it_keeps_for_backward(case):
    layer = case.make()
    X = np.random.default_rng(0).standard_normal((5, *case.sample))
    layer.backward_propagation(layer.forward_propagation(X))
    for part in layer.walk():
        kept = [name for name, value in part.__getstate__().items() if is_array(value)]
        assert not kept, f"copies of {part} include {kept}: list them in _for_backward"


@layers
def test_a_layer_of_the_last_axis_says_so(case):
    layer = case.make()
    layer.build(case.sample, portnn.get_backend("cpu"), "float64", 7, "0")
    X = np.random.default_rng(0).standard_normal((2, 3, 4, case.sample[-1] if case.sample else 1))
    try:
        Y, rows = layer(X), layer(X.reshape(-1, X.shape[-1]))
    except ValueError:  # it takes other shapes
        return
    of_last_axis = Y.ndim == 4 and np.array_equal(Y.reshape(-1, Y.shape[-1]), rows)
    assert layer.last_axis_only or not of_last_axis, f"set last_axis_only = True in {type(layer).__name__}"


@layers
def test_a_layer_says_what_to_do_about_a_wrong_shape(case):
    layer = case.make()
    layer.build(case.sample, portnn.get_backend("cpu"), "float64", 7, "0")
    wrong = [(), (5,), (5, 5), (5, 5, 5), (5, 5, 5, 5), *((*case.sample[:-1], n) for n in (1, 2, 3, 4, 11))]
    for shape in wrong:
        with suppress(ValueError):
            layer.output_shape(shape)
            continue
        with pytest.raises(ValueError) as caught:
            layer.output_shape(shape)
        assert hasattr(caught.value, "fault"), f"{type(layer).__name__}.output_shape must raise checks.misfit"


@layers
def test_a_layer_counts_its_multiply_adds(case):
    layer = case.make()
    layer.build(case.sample, portnn.get_backend("cpu"), "float64", 7, "0")
    for part in layer.walk():
        if part.layers or not part.shapes or len(part.shapes.get("weights", ())) < 2:
            continue
        assert type(part).multiply_adds is not portnn.Layer.multiply_adds, (
            f"{type(part).__name__} multiplies matrices by its weights: write multiply_adds"
        )


@layers
def test_a_layer_tells_its_parameters_beforehand(case):
    layer, built = case.make(), case.make()
    built.build(case.sample, portnn.get_backend("cpu"), "float64", 7, "0")
    told = [portnn.Network([layer]).summary(case.sample), portnn.Network([built]).summary(case.sample)]
    assert told[0] == told[1], f"{type(layer).__name__} needs parameter_shapes: summary is called before it is built"


@layers
def test_parameters_of_a_wrong_shape_are_refused_when_it_is_built(case):
    layer = case.make()
    if layer.layers or layer.complete:  # the shapes are known before it is built, and checked when they are assigned
        return
    layer.parameters["weights"] = np.ones((case.sample[-1] + 1,), np.float32)
    refused = False
    try:
        layer.build(case.sample, portnn.get_backend("cpu"), "float32", 7, "0")
    except ValueError as error:
        refused = "weights has shape" in str(error)
    assert refused, f"{type(layer).__name__}.build calls self.learn_shapes, before it draws or assigns anything"
    layer.parameters["weights"] = np.ones((case.sample[-1],), np.float32)  # the layer is as it was, and can be built
    layer.build(case.sample, portnn.get_backend("cpu"), "float32", 7, "0")


def test_no_answer_says_that_a_part_is_missing():
    classes = {name for name in portnn.__all__ if inspect.isclass(getattr(portnn, name))}
    tables = {"activation": activations.PAIRS, "loss": losses.PAIRS, "metric": metrics.METRICS}
    for kind, others in names.OTHERS.items():
        there = {names.squeezed(name).removesuffix("layer") for name in classes | set(tables.get(kind, ()))}
        wrong = sorted(name for name, ours in others.items() if not ours and name in there)
        assert not wrong, f"OTHERS in portnn/names.py says of {wrong} that there is no such {kind}"


@layers
def test_what_a_layer_draws_differs_in_each_step(case, monkeypatch):
    drawn = []
    backend = portnn.get_backend("cpu")
    bits = type(backend).random_bits
    monkeypatch.setattr(type(backend), "random_bits", lambda *given: drawn.append(1) or bits(*given))
    layer = case.make()
    layer.build(case.sample, backend, "float64", 7, "0")
    X = np.random.default_rng(0).standard_normal((64, *case.sample))
    outputs = []
    for step in (0, 1):
        for part in layer.walk():
            part.step = step
        drawn.clear()
        outputs.append(layer.forward_propagation(X))
    random = drawn and not np.array_equal(outputs[0], layer(X))
    assert not random or not np.array_equal(*outputs), f"{type(layer).__name__} draws by self.step"


@layers
def test_gradients_of_many_samples_are_exact(case):
    """In float32, where a plain sum over the samples loses digits: ``ops.total`` and ``ops.column_sums`` do not,
    whatever ``xp.sum`` of a library does: NumPy's own is used here, not that of the backend "cpu", which is exact.

    Matrices of weights are left out: their gradients are products by the BLAS.
    """
    if np.prod(case.sample) > 64:
        return
    N = 1 << 13
    rng = np.random.default_rng(0)
    found = []
    X = 1.0 + rng.standard_normal((64, *case.sample)).astype(np.float32)
    X = np.concatenate([X] * (N // 64))
    for dtype in ("float32", "float64"):
        layer = case.make()
        layer.build(case.sample, portnn.get_backend(np), dtype, 7, "0")
        Y = layer.forward_propagation(X.astype(dtype))
        layer.backward_propagation(np.full(Y.shape, 0.1, np.float32).astype(dtype))
        found.append({f"{i}.{name}": g for i, part in enumerate(layer.walk()) for name, g in part.gradients.items()})
    sums = {name: g for name, g in found[1].items() if g.ndim == 1 or name.endswith("bias")}
    for name, exact in sums.items():
        apart = np.abs(found[0][name] - exact).max()
        assert apart <= 3e-6 * max(np.abs(exact).max(), 0.1 * N), f"{name}: sum by self.ops.total"


@pytest.mark.parametrize("name", sorted(name for name in portnn.__all__ if not name.endswith("_prime")))
def test_the_changelog_names_it(name):
    assert re.search(rf"\b{name}\b", CHANGELOG), f"CHANGELOG.md does not name {name}"


def test_random_shapes_are_drawn_of_every_layer():
    """Read from the text, since PyTorch need not be installed."""
    text = (Path(__file__).parent / "test_pytorch.py").read_text()
    drawers = text[text.index("def convolutions(") : text.index("def compare(")]
    lacking = {type(case.make()).__name__ for case in CASES} - set(re.findall(r"\w+Layer\b", drawers))
    lacking -= {"DropoutLayer"}  # its mask is compared in test_drawn.py
    assert not lacking, f"others() in test_pytorch.py draws no shapes of {sorted(lacking)}"


def test_random_settings_are_drawn_of_every_optimizer():
    text = (Path(__file__).parent / "test_pytorch.py").read_text()
    drawn = {name.split(",")[0] for name in OPTIMIZERS}
    lacking = sorted(drawn - set(re.findall(r'"(\w+)"', text[text.index("DRAWN = [") :].split("]")[0])))
    assert not lacking, f"DRAWN in test_pytorch.py lacks {lacking}"
    drawer = text[text.index("def descents(") :].split("@drawn")[0]
    common = {"learning_rate", "weight_decay", "clip_norm", "clip_value"}
    for name in drawn:
        own = set(arguments_of(getattr(portnn, name)(0.1))) - common
        lacking = sorted(setting for setting in own if f"{setting}=" not in drawer and f'"{setting}"' not in drawer)
        assert not lacking, f"descents() in test_pytorch.py draws no {lacking} for {name}"


def test_names_of_optimizers_are_known_everywhere():
    for name in arguments.OPTIMIZERS:
        with pytest.raises(ValueError, match=rf'optimizer="{name}"'):
            portnn.Network().use(name)


# -- settings ----------------------------------------------------------------------------------------------------------

THINGS = [make() for make in (*OPTIMIZERS.values(), *SCHEDULES.values())]
THINGS += [case.given for case in LOSSES.values() if not isinstance(case.given, str)]


def refuses(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except (TypeError, ValueError):
        return True
    return False


@layers
def test_a_layer_checks_its_arguments(case):
    layer = case.make()
    given = {} if layer.layers else arguments_of(layer)
    for name in given:
        assert refuses(type(layer), **given | {name: object()}), f"{type(layer).__name__} accepts any object as {name}"


@pytest.mark.parametrize("thing", THINGS, ids=lambda thing: type(thing).__name__)
def test_a_setting_is_checked(thing):
    for base in type(thing).__mro__:
        for name in [name for name, value in vars(base).items() if isinstance(value, Setting)]:
            assert refuses(partial(setattr, copy.copy(thing), name), object()), f"{thing} accepts any object as {name}"
