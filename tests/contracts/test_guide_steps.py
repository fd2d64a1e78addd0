"""Steps of CONTRIBUTING.md that no other test would notice if they were left out."""

import copy
import importlib
import inspect
import pkgutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import portnn
from cases import LAYERS, LOSSES, OPTIMIZERS, SCHEDULES
from portnn import activations, arguments, losses, metrics, optimizers, schedules
from portnn.backend import is_array
from portnn.files.arguments import arguments_of
from portnn.layers.attributes import Parameter
from portnn.settings import Setting

API = (Path(__file__).parents[2] / "docs" / "api.md").read_text()

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
    for kinds, names in (((Setting, Parameter), arguments_of(layer)), (Parameter, layer.parameters)):
        for name in names:
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
