"""Every layer, activation, loss, metric and optimizer in a step that is recorded once and replayed, as on a GPU."""

import numpy as np
import pytest

from cases import ACTIVATIONS, LAYERS, LOSSES, METRICS, OPTIMIZERS
from portnn import SGD, ActivationLayer, FCLayer, FlattenLayer, Layer, Network
from replay import CaptureError, ReplayBackend

SAMPLES, BATCH = 25, 5


def train(backend, layers, sample, *, loss="mse", optimizer=None, n=SAMPLES, metrics=(), epochs=2, targets=None):
    """Trains for two epochs of five steps by default. Returns all parameters, buffers and slots, and the history."""
    net = Network(layers, backend=backend, dtype="float64", seed=3)
    net.use(loss, optimizer=optimizer or SGD(0.1), metrics=metrics)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, *sample))
    outputs = net.predict(x[:1]).shape[1:]
    y = targets(rng, n, *outputs) if targets else rng.standard_normal((n, *outputs))
    history = net.fit(x, y, epochs=epochs, batch_size=BATCH, shuffle=True, verbose=0)
    leaves = {path: net.backend.to_numpy(array) for path, array in net.parameters.items()}
    for layer in net.walk():
        leaves |= {f"{layer.path}.{name}": net.backend.to_numpy(array) for name, array in layer.buffers.items()}
    for kind, home in net.slots.items():
        leaves |= {f"{kind} of {path}": net.backend.to_numpy(array) for path, array in home.items()}
    return leaves, history


def assert_replays_equal_eager_steps(make_layers, sample, **options):
    optimizer = options.pop("optimizer", lambda: SGD(0.1))
    eager, eager_history = train(ReplayBackend(capture=False), make_layers(), sample, optimizer=optimizer(), **options)
    replayed, history = train(ReplayBackend(), make_layers(), sample, optimizer=optimizer(), **options)
    assert history == eager_history
    assert replayed.keys() == eager.keys()
    for path, array in eager.items():
        assert np.array_equal(replayed[path], array), path
    return replayed


@pytest.mark.parametrize("case", LAYERS, ids=lambda case: case.name)
def test_layer(case):
    inside = assert_replays_equal_eager_steps(lambda: [case.make(), FlattenLayer(), OwnTail()], case.sample)
    assert inside


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(activation):
    assert_replays_equal_eager_steps(lambda: [FCLayer(4, 3), ActivationLayer(activation)], (4,))


@pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES.keys())
def test_loss(case):
    assert_replays_equal_eager_steps(
        lambda: [FCLayer(4, 3)], (4,), loss=case.given, targets=case.targets, metrics=["accuracy"]
    )


@pytest.mark.parametrize("metric", METRICS)
def test_metric(metric):
    assert_replays_equal_eager_steps(
        lambda: [FCLayer(4, 3)], (4,), loss="softmax_cross_entropy", targets=METRICS[metric], metrics=[metric]
    )


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_optimizer(optimizer):
    assert_replays_equal_eager_steps(
        lambda: [FCLayer(4, 3), ActivationLayer("tanh"), FCLayer(3, 2)], (4,), optimizer=optimizer
    )


def test_a_smaller_last_batch_is_a_second_recording():
    assert_replays_equal_eager_steps(lambda: [FCLayer(4, 3)], (4,), n=23, epochs=5)


def test_replays_equal_the_cpu_backend():
    layers = (
        [FCLayer(4, 3), ActivationLayer("tanh"), FCLayer(3, 2)],
        [FCLayer(4, 3), ActivationLayer("tanh"), FCLayer(3, 2)],
    )
    replayed, _ = train(ReplayBackend(), layers[0], (4,))
    plain, _ = train("cpu", layers[1], (4,))
    for path, array in plain.items():
        assert np.allclose(replayed[path], array, rtol=1e-13), path


def test_weights_assigned_between_two_fits_are_seen_by_the_replays():
    results = []
    for backend in (ReplayBackend(capture=False), ReplayBackend()):
        net = Network([FCLayer(2, 2)], backend=backend, dtype="float64", seed=0)
        net.use("mse")
        x = np.random.default_rng(0).standard_normal((8, 2))
        net.fit(x, x, epochs=1, learning_rate=0.1, verbose=0)
        net.layers[0].weights = [[1.0, 2.0], [3.0, 4.0]]
        net.fit(x, x, epochs=1, learning_rate=0.1, verbose=0)
        results.append(backend.to_numpy(net.layers[0].weights))
    assert np.array_equal(*results)


class OwnTail(Layer):
    """Multiplies by one trainable number, so that every case has a parameter after it."""

    def __init__(self):
        self.parameters["factor"] = [1.0]

    def forward(self, X, *, training=False):
        if training:
            self.input = X
        return X * self.parameters["factor"]

    def backward(self, output_error, *, need_input_error=True):
        self.gradients["factor"] = self.xp.reshape(self.xp.sum(output_error * self.input), (1,))
        return output_error * self.parameters["factor"]


# -- deliberate mistakes: each must be caught --------------------------------------------------------------------------


class ReboundTooEarly(OwnTail):
    def backward(self, output_error, *, need_input_error=True):
        input_error = super().backward(output_error)
        self.parameters["factor"] = self.parameters["factor"] - 0.1 * self.gradients["factor"]
        return input_error


class HiddenFloat(OwnTail):
    def forward(self, X, *, training=False):
        return super().forward(X) / max(1.0, float(self.xp.sum(X)))


class HiddenUpload(OwnTail):
    def forward(self, X, *, training=False):
        return super().forward(X) * self.backend.asarray([2.0])


class ForeignProduct(OwnTail):
    def forward(self, X, *, training=False):
        return super().forward(X @ self.backend.xp.eye(X.shape[1]))


class WritesIntoItsParameter(OwnTail):
    def backward(self, output_error, *, need_input_error=True):
        input_error = super().backward(output_error)
        self.parameters["factor"][...] = self.parameters["factor"] * 0.9
        return input_error


class StuckStep(OwnTail):
    """Counts its steps in Python, but a replay runs no Python."""

    count = 0

    def forward(self, X, *, training=False):
        if training:
            self.count += 1
        return super().forward(X) * (1.0 + self.count)


class BakedLearningRate(SGD):
    """Computes the rate in ``update``, where the capture freezes it, instead of in ``hyper``."""

    count = 0

    def update(self, parameters, gradients, slots, hyper):
        self.count += 1
        return super().update(parameters, gradients, slots, (0.1 / self.count,))


@pytest.mark.parametrize("layer", [ReboundTooEarly, HiddenFloat, HiddenUpload, ForeignProduct])
def test_a_step_that_cannot_be_captured_is_refused(layer):
    with pytest.raises(CaptureError):
        assert_replays_equal_eager_steps(lambda: [FCLayer(4, 3), layer()], (4,))


@pytest.mark.parametrize("layer", [StuckStep, WritesIntoItsParameter])
def test_a_step_that_replays_wrongly_is_noticed(layer):
    with pytest.raises(AssertionError):
        assert_replays_equal_eager_steps(lambda: [FCLayer(4, 3), layer()], (4,))


def test_a_baked_in_learning_rate_is_noticed():
    with pytest.raises(AssertionError):
        assert_replays_equal_eager_steps(lambda: [FCLayer(4, 3)], (4,), optimizer=lambda: BakedLearningRate(0.1))


def test_a_layer_may_use_the_step_number():
    class ByStep(OwnTail):
        def forward(self, X, *, training=False):
            factor = 1.0 / (1.0 + self.step) if training else 1.0
            return super().forward(X) * factor

    assert_replays_equal_eager_steps(lambda: [FCLayer(4, 3), ByStep()], (4,))
