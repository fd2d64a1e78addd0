"""How the fast version of a function is found, and what happens in the cases that it does not handle."""

import sys
from functools import partial
from types import ModuleType

import numpy as np
import pytest

import portnn
from portnn import activations, losses, ops
from portnn.backend import Backend, fast_version
from portnn.ops import composed, portable
from portnn.training import batches, fusion, step
from portnn_numpy.backend import NumpyBackend

PLAIN = NumpyBackend(compile=False)


@pytest.fixture
def package(monkeypatch):
    """Creates a package with one module, as in ``package("quick", "losses", mse=...)``."""

    def make(name, module, **members):
        for full in (name, f"{name}.{module}"):
            made = ModuleType(full)
            made.__path__, made.__spec__ = [], type(sys.__spec__)(full, None)
            monkeypatch.setitem(sys.modules, full, made)
        vars(made).update(members)
        portnn.backend.versions._is_module.cache_clear()
        return name

    yield make
    portnn.backend.versions._is_module.cache_clear()


def test_the_plain_backend_has_none():
    backend = Backend(np)
    for function in (losses.mse, activations.tanh_chain, portnn.SGD.update, partial(portable.total, xp=np)):
        assert backend.implementation(function) is function


def test_a_function_of_the_same_module_and_name():
    import portnn_numpy.losses
    import portnn_numpy.ops
    import portnn_numpy.training

    assert PLAIN.implementation(losses.mse) is portnn_numpy.losses.mse
    assert PLAIN.implementation(step.update_counters) is portnn_numpy.training.update_counters
    assert PLAIN.implementation(activations.tanh) is np.tanh
    assert PLAIN.implementation(losses.mae) is losses.mae
    assert PLAIN.implementation(batches.rows) is batches.rows  # the package has no such module
    for routine in (portable.patches, portable.total, composed.normalize):  # from submodules of portnn.ops
        found = PLAIN.implementation(partial(routine, xp=np))
        assert found is getattr(portnn_numpy.ops, routine.__name__)


def test_what_has_no_fast_version_is_itself_with_what_is_bound_to_it():
    bound = partial(composed.dropout, xp=np, ops=None)
    assert PLAIN.implementation(bound) is bound


def test_ops_implementation_takes_what_is_not_wrapped_for_use_alone():
    assert losses.mae.__wrapped__ is ops.implementation(PLAIN, "auto", losses.mae)
    assert ops.implementation(PLAIN, "portable", losses.mae) is losses.mae
    huber = portnn.Huber()
    assert ops.implementation(PLAIN, "auto", huber) is huber
    assert ops.implementation(PLAIN, "auto", len) is len


def test_versions_are_asked_in_turn_until_one_answers(package):
    asked = []

    def version(name, answers):
        def mse(y_true, y_pred):
            asked.append(name)
            return name if answers(y_true) else NotImplemented

        return mse

    quickest = package("quickest", "losses", mse=version("quickest", lambda y: y > 2))
    quick = package("quick", "losses", mse=version("quick", lambda y: y > 1))
    call = fast_version(losses.mse.__wrapped__, (quickest, quick))
    assert (call(3, None), asked) == ("quickest", ["quickest"])
    asked.clear()
    assert (call(2, None), asked) == ("quick", ["quickest", "quick"])
    nothing = fast_version(
        losses.mse.__wrapped__, (package("none", "losses", mse=version("none", lambda y: y is None)),)
    )
    assert nothing(np.full(3, 2.0), np.zeros(3)) == 4.0


@pytest.mark.parametrize("packages", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["total", "biased", "patches", "dropout", "max_pool_backward"])
def test_whatever_the_number_of_arguments(package, packages, name):
    """Every version gets all arguments, defaults included; if all of them decline, the routine itself is called."""

    def leave(*arguments):
        seen.append(arguments)

    routine, seen = getattr(portable, name, None) or getattr(composed, name), []
    count = routine.__code__.co_argcount
    parameters = ", ".join(
        f"{p}=None" if i >= count - len(routine.__defaults__ or ()) else p
        for i, p in enumerate(routine.__code__.co_varnames[:count])
    )
    code = f"lambda {parameters}: (leave({parameters.replace('=None', '')}), NotImplemented)[1]"
    leaving = eval(code, {"leave": leave})
    made = [package(f"package{i}", "ops", **{name: leaving}) for i in range(packages)]

    def plain(*arguments):
        return arguments

    plain.__module__, plain.__qualname__ = routine.__module__, name
    call = fast_version(partial(plain), made)
    given = tuple(range(count))
    assert call(*given) == given
    assert seen == [given] * packages
    fewest = given[: count - len(leaving.__defaults__ or ())]
    assert call(*fewest)[: len(fewest)] == fewest


def test_a_version_that_leaves_no_case_is_called_directly(package):
    def mse(y_true, y_pred):
        return 7.0

    quick = package("quick", "losses", mse=mse)
    assert fast_version(losses.mse, (quick,)) is mse
    assert fast_version(losses.mse, (quick, package("slow", "losses", mse=lambda a, b: NotImplemented))) is mse


def test_methods_are_found_by_class_and_name(package):
    class SGD:
        @staticmethod
        def update(sgd, parameters, gradients, slots, hyper):
            return "quick"

    quick = package("quick", "optimizers", SGD=SGD)
    assert fast_version(portnn.SGD.update, (quick,)) is SGD.update
    assert fast_version(portnn.AdaGrad.update, (quick,)) is portnn.AdaGrad.update
    assert portnn.AdamW.update is portnn.Adam.update  # a class that inherits update gets its fast version too


def test_a_module_that_cannot_be_imported_is_not_passed_over(monkeypatch, tmp_path):
    """Otherwise its fast versions would silently disappear."""
    (tmp_path / "broken_package").mkdir()
    (tmp_path / "broken_package" / "losses.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        fast_version(losses.mse, ("broken_package",))


def test_a_package_that_cannot_be_imported_is_not_passed_over(monkeypatch, tmp_path):
    (tmp_path / "other_broken_package").mkdir()
    (tmp_path / "other_broken_package" / "__init__.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        fast_version(losses.mse, ("other_broken_package",))


def test_neighbours_are_joined_where_both_fast_versions_are_there():
    layers = [portnn.FCLayer(3, 4), portnn.ActivationLayer("tanh")]
    net = portnn.Network(layers, backend=PLAIN)
    assert [type(layer) for layer in fusion.fuse(net.layers, PLAIN, "auto")] == [fusion.Fused]
    assert fusion.fuse(net.layers, PLAIN, "portable") == net.layers
    assert fusion.fuse(net.layers, Backend(np), "auto") == net.layers


def test_an_update_that_overflows_is_left_to_the_portable_one():
    w, g = [np.ones(3, np.float32)], [np.full(3, 3e38, np.float32)]
    optimizer = portnn.Adam(0.1)
    arguments = w, g, optimizer.slots(w), optimizer.hyper(0)
    import portnn_numpy.optimizers

    with PLAIN.scope():
        assert portnn_numpy.optimizers.Adam.update(optimizer, *arguments) is NotImplemented
        (found,), _ = ops.implementation(PLAIN, "auto", portnn.Adam.update)(optimizer, *arguments)
        (expected,), _ = optimizer.update(*arguments)
    assert np.array_equal(found, expected)
    assert np.isfinite(found).all()
