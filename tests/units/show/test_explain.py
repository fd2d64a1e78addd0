"""``Network.explain``: every equation, of every layer, loss, optimizer and some networks, is calculated again."""

import copy
import pickle
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import ACTIVATIONS, LAYERS, LOSSES, OPTIMIZERS
from drawn_networks import Drawer
from equations import by_place, equations, faults, half_unit
from explained import article, digits, lenet, residual, small_images, xor
from portnn import (
    ActivationLayer,
    BatchNormLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    Network,
    layers,
)
from portnn.show.explain.explaining import SHELF


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def check(explanation):
    """Every equation holds, and there are some; returns them by place."""
    found = equations(explanation.text)
    assert found == explanation.equations
    assert len(found) > 3
    wrong = [fault for text in found for fault in faults(text)]
    assert not wrong
    return by_place(explanation.text)


def agree(found, name, array):
    """The printed cells of an array are its numbers, rounded; returns how many there are."""
    cells = [(n, e) for n, e in found.items() if n.split("[")[0] == name]
    for text, equation in cells:
        place = tuple(map(int, text[len(name) + 1 : -1].split(","))) if "[" in text else ()
        value = float(array[place])
        assert abs(equation.value - value) <= half_unit(equation.result) + 2e-6 * abs(value) + 1e-7, (text, value)
    return len(cells)


def network_of(case, dtype, loss="mse", **options):
    net = Network([case.make()], dtype=dtype, seed=3)
    net.use(loss, **options)
    return net


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_every_equation_of_every_layer_holds(case, dtype, rng):
    net = network_of(case, dtype)
    x = rng.standard_normal((1, *case.sample))
    y = net.predict(x) * 0.3
    check(net.explain(x, y))


def test_every_layer_of_the_shelf_has_its_own_explanation():
    public = {getattr(layers, name) for name in layers.__all__} - {layers.Layer}
    assert set(SHELF) == public


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 1e4])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_hold_for_small_and_large_inputs(name, size, rng):
    net = Network([ActivationLayer(name)], dtype="float64")
    net.use("mse")
    found = check(net.explain(rng.standard_normal((1, 5)) * size, np.zeros((1, 5))))
    assert len(found["forward", "0"]) >= 5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_equation_of_every_loss_holds(name, dtype, rng):
    case = LOSSES[name]
    for outputs in (2, 5, 12):
        net = Network([FCLayer(4, outputs)], dtype=dtype, seed=outputs)
        net.use(case.given)
        x, y = rng.standard_normal((1, 4)), case.targets(rng, 1, outputs)
        found = check(net.explain(x, y))
        E = net.evaluate(x, y)["error"]
        assert agree(found["the error", ""], "E", np.array(E)) == 1
        derivative = case.prime(y, net.predict(x).astype(np.float64))[0]
        assert agree(found["backward", ""], "dE/dY", derivative) >= 2


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "SoftmaxCrossEntropy"])
def test_cross_entropy_of_several_rows(name, rng):
    net = Network([FCLayer(3, 4)], seed=1)
    net.use(LOSSES[name].given)
    for shape in ((2, 3), (5, 3), (2, 3, 3)):
        x, y = rng.standard_normal((1, *shape)), rng.integers(0, 4, (1, *shape[:-1]))
        check(net.explain(x, y))


@pytest.mark.parametrize("logit", [30.0, 300.0, 3000.0])
def test_cross_entropy_of_a_hopeless_case(logit):
    net = Network([FCLayer(1, 3)], dtype="float64")
    net.layers[0].weights = [[logit, 0.0, -logit]]
    net.use("softmax_cross_entropy")
    found = check(net.explain([1.0], 2))
    assert found["the error", ""]["E"].value == pytest.approx(2 * logit)


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_new_weights_are_those_of_the_next_step(name, before, rng):
    net = Network([FCLayer(4, 5), ActivationLayer("tanh"), FCLayer(5, 2)], seed=3)
    net.use("mse", optimizer=OPTIMIZERS[name]())
    x, y = rng.standard_normal((8, 4)), rng.standard_normal((8, 2))
    if before:
        net.fit(x, y, before, batch_size=4, verbose=0)
    found = check(net.explain(x[:1], y[:1]))
    net.fit(x[:1], y[:1], 1, verbose=0)
    shown = 0
    for layer in (net.layers[0], net.layers[2]):
        new = found["the update", layer.path]
        shown += agree(new, "W_new", layer.weights) + agree(new, "B_new", layer.bias)
    assert shown >= 6


def test_without_an_optimizer_the_step_is_the_articles():
    net, x, y = xor()
    found = check(net.explain(x[1], y[1]))
    net.fit(x[1:2], y[1:2], epochs=1, learning_rate=0.1, verbose=0)
    assert agree(found["the update", "0"], "W_new", net.layers[0].weights) == 6
    assert agree(found["the update", "2"], "B_new", net.layers[2].bias) == 1


NETWORKS = {"xor": xor, "article": article, "lenet": lenet, "residual": residual}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_number_is_the_networks_own(name):
    """The numbers of a pass through copies of the layers, by the methods that anybody may call."""
    net, x, y = NETWORKS[name]()
    found = check(net.explain(x[:1], y[:1]))
    step = copy.deepcopy(net)
    Y, outputs = np.asarray(x[:1], step.dtype), []
    for layer in step.layers:
        layer.step = net.step
        Y = layer.forward_propagation(Y)
        outputs.append(Y)
    D = net.loss_prime(np.asarray(y[:1]), Y)
    counted = 0
    for layer, Y in zip(step.layers[::-1], outputs[::-1], strict=True):
        D = layer.backward_propagation(D)
        forward, backward = (found.get((part, layer.path), {}) for part in ("forward", "backward"))
        counted += agree(forward, "Y", Y[0]) + agree(backward, "dE/dX", D[0])
        for short, long in (("W", "weights"), ("B", "bias")):
            if long in layer.gradients:
                counted += agree(backward, f"dE/d{short}", layer.gradients[long])
    assert counted >= 3 * len(net.layers)


def test_a_wrong_gradient_is_seen(monkeypatch):
    """The numbers are the layer's, the sums beside them are not: they disagree where the layer is wrong."""
    right = FCLayer.backward

    def wrong(self, output_error, **options):
        answer = right(self, output_error, **options)
        self.gradients["weights"] = self.gradients["weights"] * 1.01
        return answer

    monkeypatch.setattr(FCLayer, "backward", wrong)
    net, x, y = xor()
    found = [fault for text in net.explain(x[1], y[1]).equations for fault in faults(text)]
    assert len([fault for fault in found if fault.startswith("dE/dW")]) >= 3


def test_a_wrong_output_is_seen(monkeypatch):
    right = ActivationLayer.forward
    monkeypatch.setattr(ActivationLayer, "forward", lambda self, X: right(self, X) * 1.003)
    net, x, y = xor()
    found = [fault for text in net.explain(x[1], y[1]).equations for fault in faults(text)]
    assert len([fault for fault in found if fault.startswith("Y[")]) >= 3


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_is_not_changed(name):
    net, x, y = NETWORKS[name]()
    net.fit(x, y, 1, None if net.optimizer else 0.1, batch_size=2, verbose=0)
    twin = copy.deepcopy(net)
    arrays = {path: id(array) for path, array in net.parameters.items()}
    before, drawn = pickle.dumps(net), np.random.get_state()[1].tobytes()  # noqa: NPY002
    first = net.explain(x[:1], y[:1])
    assert pickle.dumps(net) == before
    assert {path: id(array) for path, array in net.parameters.items()} == arrays
    assert np.random.get_state()[1].tobytes() == drawn  # noqa: NPY002
    assert net.explain(x[:1], y[:1]).text == first.text
    for trained in (net, twin):
        trained.fit(x, y, 1, None if net.optimizer else 0.1, batch_size=2, shuffle=True, verbose=0)
    for path, array in net.parameters.items():
        assert (array == twin.parameters[path]).all()


def test_dropout_shows_the_words_of_the_next_step():
    net = Network([DropoutLayer(0.4)], seed=11)
    net.use("mse", optimizer="sgd")
    x, y = np.ones((1, 6)), np.zeros((1, 6))
    net.fit(x, y, 3, verbose=0)
    text = net.explain(x, y).text
    found = check(net.explain(x, y))
    words = net.backend.random_bits(net.layers[0].key, 3, 6)
    assert all(f"word[{i}] is {int(word)}," in text for i, word in enumerate(words))
    assert found["forward", "0"]["threshold"].value == round(0.4 * 2**32)
    kept = [int(word) >= round(0.4 * 2**32) for word in words]
    assert [found["forward", "0"][f"Y[{i}]"].value != 0.0 for i in range(6)] == kept
    assert 0 < sum(kept) < 6


def test_batch_norm_of_one_value_is_shown_with_its_running_averages(rng):
    net = Network([FCLayer(3, 4), BatchNormLayer()], seed=1)
    net.use("mse", optimizer="sgd")
    x, y = rng.standard_normal((8, 3)), rng.standard_normal((8, 4))
    net.fit(x, y, 2, batch_size=8, verbose=0)
    explanation = net.explain(x[0], y[0])
    found = check(explanation)
    assert agree(found["forward", "1"], "Y", net.predict(x[:1])[0]) == 3
    assert "a variance needs two" in explanation.text
    assert ("the update", "1") not in found
    assert net.layers[1].trainable


def test_batch_norm_shows_its_new_running_averages(rng):
    net = Network([BatchNormLayer(momentum=0.3)], dtype="float64")
    net.use("mse", optimizer="sgd")
    x = rng.standard_normal((1, 3, 2, 2))
    found = check(net.explain(x, x))
    net.fit(x, x, 1, verbose=0)
    for name in ("running_mean", "running_var"):
        assert agree(found["the update", "0"], f"{name}_new", net.layers[0].buffers[name]) == 2


def test_a_frozen_layer_has_no_gradient_and_stays(rng):
    net = Network([FCLayer(3, 4), ActivationLayer("relu"), FCLayer(4, 2)], seed=1)
    net.layers[0].trainable = False
    net.use("mse", optimizer="adam")
    explanation = net.explain(rng.standard_normal(3), [0.0, 1.0])
    found = check(explanation)
    assert not [name for name in found["backward", "0"] if name.startswith("dE/dW")]
    assert ("the update", "0") not in found
    assert "frozen" in explanation.text


def test_the_learning_rate_factor_counts(rng):
    net = Network([FCLayer(3, 2)], seed=1)
    net.use("mse", optimizer="sgd")
    net.learning_rate_factor = 0.5
    x, y = rng.standard_normal((1, 3)), rng.standard_normal((1, 2))
    found = check(net.explain(x, y))
    assert found["the update", ""]["lr"].value == 0.005
    net.fit(x, y, 1, verbose=0)
    assert agree(found["the update", "0"], "W_new", net.layers[0].weights) == 6


def test_layers_that_were_moved_are_explained_by_their_place(rng):
    net = Network([FCLayer(3, 3), ActivationLayer("tanh"), FCLayer(3, 2)], seed=1)
    net.use("mse")
    net.layers.pop(1)
    found = check(net.explain(rng.standard_normal(3), [0.0, 1.0]))
    assert {path for _, path in found} == {"", "0", "1"}


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 12),
    st.sampled_from(["mse", "mae", "hinge", "binary_cross_entropy", "softmax_cross_entropy"]),
    st.sampled_from(["sgd", "adam", "adamw", "rmsprop", "adagrad"]),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from([0.01, 1.0, 50.0]),
    st.integers(0, 2**32),
)
def test_every_equation_of_drawn_networks_holds(count, n, loss, optimizer, dtype, size, seed):
    drawn, shape = Drawer(seed).chain((n,), count)
    net = Network([*drawn, FlattenLayer(), FCLayer(prod(shape), 3)], dtype=dtype, seed=seed)
    net.use(loss, optimizer=optimizer)
    draws = np.random.default_rng(seed)
    check(net.explain(size * draws.standard_normal((1, n)), LOSSES[loss].targets(draws, 1, 3)))


def test_images_of_two_sizes_and_several_samples():
    net, x, y = small_images()
    for k in range(3):
        check(net.explain(x[k], y[k]))


def test_the_page_of_a_larger_network_is_small():
    net, x, y = lenet()
    explanation = net.explain(x[0], y[0])
    assert len(explanation.html.encode()) < 300_000
    assert max(map(len, explanation.text.splitlines())) < 160


def test_the_digits_are_those_that_are_bundled():
    x, y = digits()
    assert x.shape[1:] == (28, 28)
    assert int(y[0]) == 5
