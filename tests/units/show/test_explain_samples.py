"""What ``explain`` takes: one sample, with or without an axis of samples; layers, losses and optimizers of a user's own."""

import copy

import array_api_strict
import numpy as np
import pytest

import portnn
from article_layers import FCLayer as ArticleFC
from article_layers import XpTanhLayer
from cases import OwnLayer
from equations import by_place, equations, faults
from explained import lenet, xor
from portnn import (
    SGD,
    ActivationLayer,
    Callback,
    FCLayer,
    FlattenLayer,
    Layer,
    LayerNormLayer,
    Network,
    ParallelLayer,
    to_categorical,
)


def check(explanation):
    found = equations(explanation.text)
    wrong = [fault for text in found for fault in faults(text)]
    assert not wrong
    assert len(found) > 3
    return by_place(explanation.text)


# -- one sample --------------------------------------------------------------------------------------------------------


def test_a_sample_with_and_without_an_axis_of_samples():
    net, x, y = xor()
    texts = {
        net.explain(*given).text
        for given in [
            (x[1], y[1]),
            (x[1:2, 0], y[1:2, 0]),
            (x[1, 0], y[1, 0]),
            ([0, 1], 1),
            ([[0.0, 1.0]], [[1]]),
            (x[1, 0], y[1:2, 0]),
        ]
    }
    assert len(texts) == 1
    as_rows = check(net.explain(x[1:2], y[1:2]))  # (1, 1, 2) is a batch of one row
    assert "Y[0, 2]" in as_rows["forward", "0"]


def test_class_numbers_and_one_hot_rows():
    net, x, y = lenet()
    first = net.explain(x[0], y[0])
    assert net.explain(x[:1], y[:1]).text == first.text
    assert net.explain(x[0], int(y[0])).text == first.text
    assert net.explain(x[0], to_categorical(y, 10)[0]).equations == first.equations
    assert "class 5" in first.text


def test_a_sample_that_could_not_be_a_batch_needs_no_axis():
    net = Network([FlattenLayer(), FCLayer(12, 2)], seed=1)
    net.use("mse")
    x = np.random.default_rng(3).standard_normal((3, 2, 2))
    assert net.explain(x, [0.0, 1.0]).text == net.explain(x[None], [[0.0, 1.0]]).text


@pytest.mark.parametrize("k", [2, 4])
def test_several_samples_are_an_error_that_says_how_to_give_one(k):
    net, x, y = xor()
    for given in ((x[:k], y[:k]), (x[:k, 0], y[:k, 0]), (x[:k], y[0])):
        with pytest.raises(ValueError, match=rf"x holds {k} samples.*takes one: give x\[:1\] and y\[:1\], or x\[0\]"):
            net.explain(*given)
    net, x, y = lenet()
    with pytest.raises(ValueError, match=rf"x holds {k} samples, of shape \(28, 28\)"):
        net.explain(x[:k], y[:k])


def test_a_sample_of_several_rows_is_given_with_its_axis():
    net, x, y = xor()
    with pytest.raises(ValueError, match=r"If it is one sample of shape \(4, 2\), give x\[None\] and y\[None\]"):
        net.explain(x[:, 0], y[:, 0])
    found = check(net.explain(x[None, :, 0], y[None, :, 0]))
    assert "Y[3, 0]" in found["forward", "2"]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([0, 1, 2], 1, r"the network takes \(2,\)"),
        (3.0, 1, r"the network takes \(2,\)"),
        ([0, 1], [1, 2], r"a target has shape \(2,\)"),
        ([0, np.nan], 1, r"x\[0, 1\] is nan, and no calculation"),
        ([0, 1], np.inf, r"y\[0\] is inf, and no calculation"),
        ([0, 1], None, r"explain\(x\[0\], y\[0\]\)"),
        ("ab", 1, "x must be real numbers"),
        ([[0, 1], [2]], 1, "x cannot be made an array"),
        (np.zeros((0, 2)), np.zeros((0, 1)), "holds no values"),
    ],
)
def test_data_that_does_not_fit(x, y, message):
    net, _, _ = xor()
    with pytest.raises((ValueError, TypeError), match=message):
        net.explain(x, y)


def test_a_network_that_is_not_ready():
    with pytest.raises(RuntimeError, match="no layers: add them first"):
        Network().explain([1.0], [1.0])
    with pytest.raises(RuntimeError, match=r'no loss: call net.use\("mse"\) before explain'):
        Network([FCLayer(2, 1)]).explain([0.0, 1.0], [1.0])
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        xor()[0].explain([0.0, 1.0])


def test_layers_that_are_built_by_data_are_built_on_a_copy():
    net = Network([LayerNormLayer(), ActivationLayer("tanh")])
    net.use("mse")
    check(net.explain([1.0, 2.0, 4.0], [0.0, 0.0, 1.0]))
    assert not net.layers[0].complete
    assert not net.parameters


def test_numbers_that_are_not_finite_are_an_error_that_names_the_layer():
    net = Network([FCLayer(1, 1), ActivationLayer("tanh"), FCLayer(1, 1)], seed=1)
    net.use("mse")
    net.layers[2].weights = [[3e38]]
    net.layers[2].bias = [[3e38]]
    with pytest.raises((ValueError, RuntimeError), match=r"layer 2 \(FCLayer\) holds infinity|error|infinit"):
        net.explain([5.0], [1.0])


def test_zeros_everywhere():
    net = Network([FCLayer(3, 2, initializer="zeros"), ActivationLayer("relu")])
    net.use("mse", optimizer=SGD(0.0))
    check(net.explain(np.zeros(3), np.zeros(2)))


# -- code of a user's own ----------------------------------------------------------------------------------------------


def fourth(y_true, y_pred):
    return ((y_true - y_pred) ** 4).mean()


def fourth_prime(y_true, y_pred):
    return 4.0 * (y_pred - y_true) ** 3 / y_pred.size


class Momentumless:
    """A user's optimizer: half the gradient."""

    def slots(self, parameters):
        return {}

    def hyper(self, step):
        return (0.5,)

    def update(self, parameters, gradients, slots, hyper):
        return [w - hyper[0] * g for w, g in zip(parameters, gradients, strict=True)], slots


class Twice(Layer):
    """A user's composite layer, whose children are entered by the doors."""

    def __init__(self, layer):
        self.layers = [layer]

    def forward(self, X, *, training=False):
        (layer,) = self.layers
        return 2.0 * (layer.forward_propagation(X) if training else layer(X))

    def backward(self, output_error):
        return self.layers[0].backward_propagation(2.0 * output_error)


class Derived(FCLayer):
    """Derived from a layer of portnn's: its forward is another, and must not be shown as X W + B."""

    def forward(self, X):
        return 3.0 * super().forward(X)

    def backward(self, output_error, *, need_input_error=True):
        return super().backward(3.0 * output_error, need_input_error=need_input_error)


def test_layers_losses_and_optimizers_of_a_users_own():
    layers = [FCLayer(2, 3), Twice(FCLayer(3, 3)), Derived(3, 3), ParallelLayer([], XpTanhLayer())]
    square = ActivationLayer(lambda x: x**2, lambda x: 2.0 * x)
    net = Network([*layers, square, OwnLayer(6)], seed=1)
    net.use(fourth, fourth_prime, optimizer=Momentumless())
    explanation = net.explain([0.5, 1.0], np.ones(6))
    found = check(explanation)
    for name in ("Twice", "Derived", "XpTanhLayer", "OwnLayer"):
        assert f"{name} computes Y by its own rule" in explanation.text
    assert "Your loss fourth" in explanation.text
    assert "Your fourth_prime gives" in explanation.text
    assert "Momentumless" in explanation.text
    assert "your f makes" in explanation.text
    assert "dE/dX[0]" in found["backward", "1.0"]
    step = copy.deepcopy(net)
    step.fit([[0.5, 1.0]], np.ones((1, 6)), 1, verbose=0)
    for path, part in (("0", step.layers[0]), ("1.0", step.layers[1].layers[0])):
        shown = found["the update", path]["W_new[0, 0]"].value
        assert shown == pytest.approx(float(part.weights[0, 0]), rel=1e-3)


def test_layers_written_as_in_the_article_show_what_they_change():
    net = Network([ArticleFC(2, 3), ActivationLayer("tanh"), FCLayer(3, 1)], seed=1)
    net.use("mse")
    before = net.layers[0].weights.copy()
    explanation = net.explain([0.25, 1.0], [1.0])
    found = check(explanation)
    assert (net.layers[0].weights == before).all()
    assert "written as in the article: it updates its own arrays" in explanation.text
    net.fit([[0.25, 1.0]], [[1.0]], 1, 0.1, verbose=0)
    for i, j in np.ndindex(2, 3):
        shown = found["the update", "0"][f"W_new[{i}, {j}]"].value
        assert shown == pytest.approx(float(net.layers[0].weights[i, j]), abs=1e-4)


def test_a_method_that_was_replaced_on_a_layer_is_not_shown_as_ours():
    net = Network([FCLayer(2, 2)], seed=1)
    net.use("mse")
    net.layers[0].forward = lambda X: X * 1.0
    assert "FCLayer computes Y by its own rule" in net.explain([0.5, 1.0], [1.0, 0.0]).text


def test_within_a_fit_it_shows_the_state_between_two_steps():
    seen = []

    class Explains(Callback):
        def on_step_end(self, network, step):
            if step == 2:
                seen.append((network.explain(x[0], y[0]), copy.deepcopy(network)))

    net, x, y = xor()
    net.fit(x, y, 1, 0.1, verbose=0, callbacks=[Explains()])
    (explanation, then), *_ = seen
    assert then.step == 2
    assert explanation.text == then.explain(x[0], y[0]).text
    assert net.step == 4


# -- other places ------------------------------------------------------------------------------------------------------


def test_on_another_array_library():
    net, x, y = xor()
    strict = Network(copy.deepcopy(net.layers), backend=portnn.get_backend(array_api_strict), seed=1)
    strict.use("mse")
    assert check(strict.explain(x[1], y[1])) == check(net.explain(x[1], y[1]))


def test_data_may_be_arrays_of_the_backend():
    net, x, y = xor()
    there = portnn.to_device(x[1].astype(np.float32), net.backend)
    assert net.explain(there, y[1]).text == net.explain(x[1], y[1]).text


def test_portable_kernels_show_the_same_sums():
    net, x, y = xor()
    portable = Network(copy.deepcopy(net.layers), kernels="portable", seed=1)
    portable.use("mse")
    assert check(portable.explain(x[1], y[1])).keys() == check(net.explain(x[1], y[1])).keys()


class Counting(Layer):
    """A user's layer whose output depends on how often it has run."""

    def __init__(self):
        self.runs = 0

    def forward(self, X, *, training=False):
        if training:
            self.runs += 1
        return X * (1.0 + self.runs)

    def backward(self, output_error):
        return output_error * (1.0 + self.runs)

    def output_shape(self, input_shape):
        return input_shape


def test_a_layer_that_counts_its_passes_is_shown_as_it_would_run_next():
    net = Network([FCLayer(2, 2), portnn.BatchNormLayer(), Counting()], seed=1)
    net.use("mse", optimizer="sgd")
    for runs in (1, 1):
        found = check(net.explain([0.5, 1.0], [0.0, 0.0]))
        assert net.layers[2].runs == 0
        slope = found["backward", ""]["dE/dY[0]"].value
        assert slope == pytest.approx((1 + runs) * float(net.predict([[0.5, 1.0]])[0, 0]), rel=1e-3)


def test_single_numbers_are_samples_too():
    net = Network([ActivationLayer("tanh")])
    net.use("mse")
    found = check(net.explain([0.5], [0.25]))
    assert found["forward", "0"]["Y"].value == pytest.approx(np.tanh(0.5), abs=1e-4)
