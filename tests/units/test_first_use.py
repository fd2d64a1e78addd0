"""First use of the library: accuracy, initial weights, the memory that predict needs, schedules in fit."""

import copy

import numpy as np
import pytest

import portnn
from classifiers import LABELS, RNG, X10, Doubled, classifier
from portnn import (
    SGD,
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DropoutLayer,
    FCLayer,
    FlattenLayer,
    Layer,
    MaxPoolLayer,
    Network,
    ReshapeLayer,
    SoftmaxLayer,
    StepDecay,
)
from replay import ReplayBackend

# -- what new users tried ----------------------------------------------------------------------------------------------


def test_accuracy_counts_what_the_outputs_stand_for():
    from portnn.metrics import accuracy

    logits = RNG.standard_normal((6, 4, 3, 5))
    truth = logits.argmax(axis=-1)
    half = np.where(np.arange(4)[None, :, None] < 2, truth, (truth + 1) % 5)
    assert accuracy(truth, logits).tolist() == [1.0] * 6
    assert accuracy(half, logits).tolist() == accuracy(np.eye(5)[half], logits).tolist() == [0.5] * 6
    for loss, no, threshold in (("binary_cross_entropy", 0.0, 0.0), ("hinge", -1.0, 0.0), ("mse", 0.0, 0.5)):
        net = classifier(FCLayer(6, 1), loss=loss, metrics=["accuracy"])
        right = np.where(net.predict(X10) > threshold, 1.0, no)
        assert net.evaluate(X10, right)["accuracy"] == 1.0
        assert net.evaluate(X10, np.where(right == 1.0, no, 1.0))["accuracy"] == 0.0
    net = classifier(FCLayer(6, 4), loss="binary_cross_entropy", metrics=["accuracy"])
    answers = (net.predict(X10) > 0).astype(float)
    answers[:, 0] = 1.0 - answers[:, 0]
    assert net.evaluate(X10, answers)["accuracy"] == pytest.approx(0.75)


def test_weights_once_changed_are_never_drawn_again():
    for backend in ("cpu", ReplayBackend()):
        net = Network([FCLayer(6, 4)], seed=1, backend=backend)
        net.use("mse")
        net.fit(X10, np.ones((20, 4)), epochs=2, learning_rate=0.1, verbose=0)
        copied = Network([copy.deepcopy(net.layers[0])], seed=9, backend=backend)
        assert np.array_equal(*(portnn.to_numpy(n.backend.to_numpy(n.layers[0].weights)) for n in (net, copied)))
    layer = FCLayer(2, 1)
    layer(np.ones((1, 2)))
    drawn = layer.weights.copy()
    layer.weights[:] = 5.0  # in place
    assert Network([layer], seed=1).layers[0].weights.tolist() == [[5.0], [5.0]]
    fresh = FCLayer(2, 1)
    fresh(np.ones((1, 2)))
    assert not np.array_equal(
        Network([fresh], seed=1).layers[0].weights, drawn
    )  # unchanged, so drawn again, for seed 1


def test_weights_that_run_away_in_the_last_step_are_noticed():
    net = classifier(FCLayer(6, 1), loss="mse", optimizer=SGD(1e39))
    with (
        np.errstate(all="ignore"),
        pytest.raises(portnn.training.DivergedError, match=r"0\.weights holds NaN or infinity"),
    ):
        net.fit(X10, np.ones((20, 1)), epochs=1, batch_size=20, verbose=0)


def test_small_batches_behind_a_layer_that_says_nothing_are_refused_before_the_first_step():
    net = classifier(Doubled(), BatchNormLayer(), FCLayer(12, 4))
    with pytest.raises(ValueError, match="needs batches of at least 2"):
        net.fit(X10[:9], LABELS[:9], epochs=1, batch_size=4, verbose=0)
    assert net.step == 0


def test_predict_never_gives_the_callers_memory_away():
    x = np.ones((2, 6), np.float32)
    for layers in ([FlattenLayer()], [ReshapeLayer((3, 2))], [DropoutLayer(0.5)]):
        Network(layers).predict(x)[...] = 7.0
        assert (x == 1.0).all()


def test_an_articles_layer_is_not_asked_beforehand_what_it_need_not_say():
    class Counting(Layer):
        def __init__(self):
            self.calls = 0

        def forward_propagation(self, input):
            self.calls += 1
            return input

        def backward_propagation(self, output_error, learning_rate):
            return output_error

    layer = Counting()
    classifier(layer, FCLayer(6, 4), ReshapeLayer((4,))).fit(X10, LABELS, epochs=2, verbose=0)
    assert layer.calls == 40


def test_predict_lets_go_of_what_lies_between():
    import tracemalloc

    net = Network([FCLayer(100, 1000), *(ActivationLayer("softsign") for _ in range(12))], seed=0)
    x = np.zeros((1000, 100), np.float32)
    net.predict(x)  # so that lazy imports and compilation are not measured
    tracemalloc.start()
    net.predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 4_000_000  # an array between two layers has 4 MB, and a layer allocates two or three


def test_predict_of_a_million_rows_takes_the_memory_of_its_answer():
    import tracemalloc

    net = Network([FCLayer(8, 64), ActivationLayer("relu"), FCLayer(64, 2)], seed=0)
    x = np.broadcast_to(np.ones((1, 8), np.float32), (1_000_000, 8))  # a view that takes almost no memory
    net.predict(x[:1000])  # so that lazy imports and compilation are not measured
    tracemalloc.start()
    y = net.predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert y.shape == (1_000_000, 2)
    assert (
        peak < 2.5 * y.nbytes
    )  # the outputs of all batches and their concatenation; intermediate arrays exist for one batch only


def test_boolean_targets_of_hinge_are_refused():
    with pytest.raises(ValueError, match=r"y\[\d, 0\] is 0, but hinge takes targets that are -1 or 1"):
        classifier(FCLayer(6, 1), loss="hinge").fit(X10, X10[:, :1] > 0, epochs=1, verbose=0)


def test_backward_before_forward_of_an_unbuilt_layer():
    for layer in (
        ConvLayer((4, 4, 1), (2, 2), 1),
        MaxPoolLayer(2),
        BatchNormLayer(),
        DropoutLayer(0.5),
        SoftmaxLayer(),
    ):
        with pytest.raises(RuntimeError, match="before a pass in training"):
            layer.backward_propagation(np.ones((1, 3, 3, 1)))


def test_pooling_of_large_windows_is_made_at_once():
    layer = MaxPoolLayer(100_000)
    assert layer.window == 100_000
    assert MaxPoolLayer(3, padding=((0, 1),)).output_shape((6, 2)) == (2, 2)


def test_growing_schedules_end_in_an_error_that_names_the_step():
    net = classifier(FCLayer(6, 1), loss="mse", optimizer=SGD(portnn.ExponentialDecay(1e-300, 10.0)))
    net.step = 700
    with pytest.raises(ValueError, match="the schedule gave inf for step 700"):
        net.fit(X10, np.ones((20, 1)), epochs=1, batch_size=20, verbose=0)


# -- schedules in fit ----------------------------------------------------------------------------------------------------------------


def test_a_schedule_goes_on_with_the_updates():
    net, plain = (Network([FCLayer(6, 1)], seed=0, dtype="float64") for _ in range(2))
    rates = StepDecay(0.1, 3, 0.1)
    net.use("mse")
    plain.use("mse")
    y = RNG.standard_normal((20, 1))
    for _ in range(2):  # two fits of 4 updates each: the second starts with update 4
        net.fit(X10, y, epochs=1, learning_rate=rates, batch_size=5, verbose=0)
    for k in range(8):
        part = slice(5 * (k % 4), 5 * (k % 4) + 5)
        plain.fit(X10[part], y[part], epochs=1, learning_rate=rates(k), batch_size=5, verbose=0)
    assert np.allclose(net.layers[0].weights, plain.layers[0].weights, rtol=1e-12)


def test_a_parameter_without_a_gradient_is_left_alone_by_every_optimizer():
    class Frozen(Layer):
        def __init__(self):
            self.parameters["fixed"] = [2.0]

        def forward(self, X, *, training=False):
            return X * self.parameters["fixed"]

        def backward(self, output_error, *, need_input_error=True):
            return output_error * self.parameters["fixed"]

    for make in (portnn.SGD, portnn.AdaGrad, portnn.RMSprop, portnn.Adam, portnn.AdamW):
        net = classifier(FCLayer(6, 4), Frozen(), optimizer=make(0.1, weight_decay=0.5, clip_norm=1.0))
        net.fit(X10, LABELS, epochs=2, batch_size=5, verbose=0)
        assert net.layers[1].parameters["fixed"].tolist() == [2.0]
