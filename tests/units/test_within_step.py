"""Users' code that runs during a step and calls layers of the same network."""

import numpy as np
import pytest

from portnn import Adam, Callback, FCLayer, Layer, Network, ParallelLayer, ScaleLayer

X = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
Y = np.random.default_rng(1).standard_normal((16, 3)).astype(np.float32)
PLACES = ["loss", "loss_prime", "metric", "optimizer", "sibling's forward", "sibling's backward"]


class Calls(Layer):
    """The identity; calls a function in each forward or backward pass in training."""

    def __init__(self, in_forward=lambda: None, in_backward=lambda: None):
        self.in_forward, self.in_backward = in_forward, in_backward

    def forward(self, X, *, training=False):
        if training:
            self.in_forward()
        return X

    def backward(self, output_error):
        self.in_backward()
        return output_error


class Descent:
    """Plain gradient descent; calls a function in each update."""

    def __init__(self, act):
        self.act = act

    def slots(self, parameters):
        return {}

    def hyper(self, step):
        return (0.01,)

    def update(self, parameters, gradients, slots, hyper):
        self.act()
        return [w - hyper[0] * g for w, g in zip(parameters, gradients, strict=True)], slots


def network(place, act):
    """A network that calls ``act`` at the given place in each step."""

    def at(here):
        return act if here == place else lambda: None

    def loss(y_true, y_pred):
        at("loss")()
        return ((y_true - y_pred) ** 2).mean()

    def loss_prime(y_true, y_pred):
        at("loss_prime")()
        return (y_pred - y_true) * np.float32(2 / y_pred.size)

    def metric(y_true, y_pred):
        at("metric")()
        return y_pred[:, 0]

    layers = [FCLayer(8, 5), Calls(at("sibling's forward"), at("sibling's backward")), FCLayer(5, 3)]
    net = Network(layers, seed=1)
    net.use(loss, loss_prime, metrics=[metric], optimizer=Descent(at("optimizer")))
    return net


def train(net, **options):
    net.fit(X, Y, epochs=2, batch_size=4, verbose=0, **options)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("method", ["forward_propagation", "backward_propagation"])
def test_a_layer_is_not_trained_within_a_step_that_needs_what_it_keeps(place, method):
    def act():
        if net.turns.held() is not None:
            getattr(net.layers[0], method)(np.ones((4, 8 if method == "forward_propagation" else 5), np.float32))

    net = network(place, act)
    net.layers[0].forward_propagation(X[:4])
    before = net.predict(X)
    with pytest.raises(RuntimeError, match=r"layer 0 \(FCLayer\(8, 5\)\) was trained within a step.*call layer\(X\)"):
        train(net)
    assert net.step == 0
    assert np.array_equal(net.predict(X), before)


@pytest.mark.parametrize("place", PLACES)
def test_a_layer_that_predicts_within_a_step_changes_no_bit(place):
    plain = network("nowhere", None)
    train(plain)
    net = network(place, lambda: (net.layers[0](X), net.predict(X)))
    train(net)
    assert all(np.array_equal(net.parameters[path], array) for path, array in plain.parameters.items())


class Composite(Layer):
    """Runs its child through the child's public methods."""

    def __init__(self, child):
        self.layers = [child]

    def forward(self, X, *, training=False):
        return self.layers[0].forward_propagation(X) if training else self.layers[0](X)

    def backward(self, output_error):
        return self.layers[0].backward_propagation(output_error)


@pytest.mark.parametrize("within", [lambda layer: layer, lambda layer: ParallelLayer(layer, ScaleLayer(1.0))])
def test_a_composite_layer_may_call_its_own_children(within):
    nets = [Network([within(FCLayer(8, 3))], seed=1), Network([within(Composite(FCLayer(8, 3)))], seed=1)]
    start = [np.array(array) for array in nets[0].parameters.values()]
    for net in nets:
        net.parameters.update(dict(zip(net.parameters, start, strict=True)))
        net.use("mse", optimizer=Adam(0.01))
        shape = net.predict(X).shape
        net.fit(X, np.ones(shape), epochs=2, batch_size=4, verbose=0)
    assert np.array_equal(nets[0].predict(X), nets[1].predict(X))


def test_between_two_steps_a_layer_may_be_trained_by_hand():
    class ByHand(Callback):
        def on_step_end(self, network, step):
            network.layers[0].forward_propagation(X)
            network.layers[0].backward_propagation(np.ones((16, 5), np.float32))

    plain, net = network("nowhere", None), network("nowhere", None)
    train(plain)
    train(net, callbacks=[ByHand()])
    assert np.array_equal(net.predict(X), plain.predict(X))
