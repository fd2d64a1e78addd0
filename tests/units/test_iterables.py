"""Iterables of batches: results bitwise equal to those of an array, where epochs end, and errors."""

import itertools
import threading

import numpy as np
import pytest

from article_layers import FCLayer as ArticleFCLayer
from portnn import SGD, ActivationLayer, BatchNormLayer, Callback, FCLayer, Network
from portnn.training import DivergedError

N, SIZE = 22, 5


def network(loss="mse", dtype="float32", metrics=("r2", "mean_absolute_error"), layers=()):
    net = Network([*layers, FCLayer(4, 5), ActivationLayer("tanh"), FCLayer(5, 3)], seed=1, dtype=dtype)
    net.use(loss, optimizer=SGD(0.05, momentum=0.5), metrics=metrics)
    return net


def data(dtype=np.float32):
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, 4)).astype(dtype), rng.standard_normal((N, 3)).astype(dtype)


X, Y = data()
WEIGHTS = np.arange(N) / 5


def batches(*arrays, size=SIZE):
    return [tuple(a[i : i + size] for a in arrays) for i in range(0, N, size)]


def same(one, other):
    for path, array in one.parameters.items():
        assert np.array_equal(array, other.parameters[path]), path


def fit(net, *given, **options):
    return net.fit(*given, **{"epochs": 3, "verbose": 0} | options)


class Loader:
    """An iterable that is not a sequence, like other libraries' data loaders."""

    def __init__(self, items):
        self.items, self.begun = items, 0

    def __iter__(self):
        self.begun += 1
        return iter(self.items)


class Numbered:
    """Batches by index; iteration over it would never end."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i % len(self.items)]


def refilled(items):
    """A generator that yields the same two arrays every time, refilled with new values."""
    x, y = (np.zeros_like(a) for a in items[0][:2])
    for batch in items:
        n = len(batch[0])
        x[:n], y[:n] = batch[:2]
        yield x[:n], y[:n], *batch[2:]


FORMS = {
    "a list of tuples": lambda items: items,
    "a tuple of tuples": tuple,
    "an iterable": Loader,
    "batches by number": Numbered,
    "a function returning batches by number": lambda items: lambda: Numbered(items),
    "a function returning a list": lambda items: lambda: items,
    "a generator function": lambda items: lambda: (batch for batch in items),
    "lists as batches": lambda items: Loader([list(batch) for batch in items]),
    "nested lists": lambda items: [tuple(a.tolist() for a in batch) for batch in items],
    "None as weights": lambda items: [(*batch, None) if len(batch) == 2 else batch for batch in items],
    "reused memory": lambda items: lambda: refilled(items),
    "one iterator": lambda items: itertools.chain.from_iterable([items] * 3),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["no weights", "weights"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bits_of_an_array(form, weights, dtype):
    items = batches(X, Y) if weights is None else batches(X, Y, weights)
    if form == "nested lists" and dtype == "float32" and weights is not None:
        items = [(x.astype(float), y, w) for x, y, w in items]
    one, other = network(dtype=dtype), network(dtype=dtype)
    steps = len(items) if form == "one iterator" else None
    expected = fit(
        one, X, Y, batch_size=SIZE, sample_weight=weights, validation_data=(X, Y, weights)[: 2 + (weights is not None)]
    )
    validation = [(X, Y)] if weights is None else [(X, Y, weights)]
    found = fit(other, FORMS[form](items), steps_per_epoch=steps, validation_data=validation)
    assert found == expected
    same(one, other)
    if form != "one iterator":
        assert other.evaluate(FORMS[form](items)) == one.evaluate(X, Y, batch_size=SIZE, sample_weight=weights)


def test_class_numbers_of_several_dtypes():
    labels = np.arange(N) % 3
    one, other = (network("softmax_cross_entropy", metrics=["accuracy", "top_2"]) for _ in range(2))
    items = [(x, y.astype(kind)) for (x, y), kind in zip(batches(X, labels), itertools.cycle(["u1", "i8", "i4"]))]
    assert fit(one, X, labels, batch_size=SIZE) == fit(other, items)
    same(one, other)


def test_uneven_batches_divide_by_samples():
    cuts = [0, 1, 4, 11, 12, N]
    items = [(X[a:b], Y[a:b]) for a, b in itertools.pairwise(cuts)]
    net = network()
    net.optimizer.learning_rate = 0.0
    expected, history = net.evaluate(X, Y), fit(net, items)
    for name, value in expected.items():
        assert history[name] == pytest.approx([value] * 3, rel=1e-5)
    assert net.step == 15


# -- where an epoch ends -----------------------------------------------------------------------------------------------


class Sizes(Callback):
    """The number of steps of each epoch."""

    def __init__(self):
        self.steps, self.ended = [], 0

    def on_epoch_begin(self, network, epoch):
        self.steps.append(0)

    def on_step_end(self, network, step):
        self.steps[-1] += 1

    def on_fit_end(self, network):
        self.ended += 1


def test_an_iterator_goes_on_over_epochs():
    given = iter(batches(X, Y, size=2))  # eleven
    note, net, expected = Sizes(), network(), network()
    fit(net, given, steps_per_epoch=4, epochs=2, callbacks=[note])
    assert note.steps == [4, 4]
    assert len(list(given)) == 3  # it was not read further than necessary
    fit(expected, X[:16], Y[:16], batch_size=2, epochs=1)
    same(net, expected)


def test_an_iterator_that_ends_within_an_epoch():
    note, net = Sizes(), network()
    fit(net, iter(batches(X, Y)), steps_per_epoch=3, epochs=2, callbacks=[note])
    assert (note.steps, net.epoch) == ([3, 2], 2)


@pytest.mark.parametrize("form", ["a list of tuples", "an iterable", "a generator function"])
def test_steps_per_epoch_of_what_begins_anew(form):
    note, net, expected = Sizes(), network(), network()
    fit(net, FORMS[form](batches(X, Y)), steps_per_epoch=3, epochs=4, callbacks=[note])
    assert note.steps == [3] * 4
    rounds = batches(X, Y) * 3
    fit(expected, rounds[:12], epochs=1)
    same(net, expected)


def test_an_iterable_begins_once_an_epoch():
    given, held = Loader(batches(X, Y)), Loader(batches(X, Y))
    fit(network(), given, validation_data=held)
    assert (given.begun, held.begun) == (3, 3)


def test_a_later_epoch_without_a_batch():
    generator = (batch for batch in batches(X, Y))
    net, note = network(), Sizes()
    with pytest.raises(ValueError, match="x gave no batch for this epoch: an iterator can be read once"):
        fit(net, lambda: generator, callbacks=[note])
    assert (net.epoch, net.step, note.ended) == (1, 5, 1)
    with pytest.raises(ValueError, match="x gave no batch for this epoch"):
        fit(network(), iter(batches(X, Y)), steps_per_epoch=5, epochs=2)


def test_no_epochs():
    assert fit(network(), batches(X, Y), epochs=0)["error"] == []


# -- errors ------------------------------------------------------------------------------------------------------------

BESIDE = {
    "shuffle": True,
    "batch_size": 4,
    "validation_split": 0.2,
    "sample_weight": WEIGHTS,
    "class_weight": "balanced",
    "drop_last": True,
}


@pytest.mark.parametrize("name", BESIDE)
def test_what_an_iterable_decides_itself(name):
    net = network()
    with pytest.raises(ValueError, match=f"{name} was given together with an iterable of batches, which decides"):
        fit(net, batches(X, Y), **{name: BESIDE[name]})
    assert net.step == 0


def no_batches():
    return iter(())


def five():
    return 5


WRONG = {
    "an iterator": (iter(batches(X, Y)), ValueError, "x is an iterator, which can be read once, but epochs=3"),
    "no batch": (Loader([]), ValueError, "x is an iterable of batches, but it gave none"),
    "no batch from a function": (no_batches, ValueError, "x is an iterable of batches, but it gave none"),
    "a function of nothing": (five, TypeError, "x is a function, which must return an iterable of batches, got 5"),
    "x alone": (Loader([X]), TypeError, r"must give \(x, y\) or \(x, y, weights\), got ndarray"),
    "four": (Loader([(X, Y, X, Y)]), TypeError, r"must give \(x, y\) or \(x, y, weights\), got tuple of 4"),
    "a dict": (Loader([{"x": X}]), TypeError, r"must give \(x, y\) or \(x, y, weights\), got dict"),
    "None": (Loader([None]), TypeError, r"must give \(x, y\) or \(x, y, weights\), got NoneType"),
    "an empty batch": ([(X[:0], Y[:0])], ValueError, "x holds 0 samples"),
    "another shape": ([(X[:, :2], Y)], ValueError, r"x has samples of shape \(2,\)"),
    "unequal": ([(X, Y[:3])], ValueError, "x holds 22 samples, y 3 targets"),
    "NaN": ([(X * np.nan, Y)], ValueError, r"x\[0, 0\] is nan"),
    "words": ([(X, np.full(N, "a"))], TypeError, "y must be real numbers"),
    "negative weights": ([(X, Y, -WEIGHTS)], ValueError, r"sample_weight\[1\] is -0.2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_first_batch(name):
    given, error, words = WRONG[name]
    net, note = network(), Sizes()
    with pytest.raises(error, match=words):
        fit(net, given, callbacks=[note])
    assert (net.step, note.ended) == (0, 0)
    if name == "an iterator":
        words = "validation_data is an iterator, which can be read once"
    with pytest.raises(error, match=words.replace("x is", "(x|validation_data) is").replace("no batch", "none")):
        fit(net, X, Y, batch_size=4, validation_data=given, callbacks=[note])
    assert (net.step, note.ended) == (0, 0)


LATER = {
    "another shape of x": ((X[:, :2], Y), ValueError, r"x has samples of shape \(2,\)"),
    "another shape of y": ((X, Y[:, :2]), ValueError, r"a target has shape \(2,\)"),
    "x alone": (X, TypeError, "must give"),
    "None": (None, TypeError, "must give .* got NoneType"),
    "an empty batch": ((X[:0], Y[:0]), ValueError, "x holds 0 samples"),
    "weights": ((X, Y, WEIGHTS), ValueError, "the first batch has no weights, a later one has weights: all .* alike"),
    "NaN": ((X, Y * np.inf), ValueError, "y.*fit needs finite data"),
}


@pytest.mark.parametrize("name", LATER)
def test_a_wrong_later_batch(name):
    """The network stays in the state after the last complete step, that of the batch right before."""
    batch, error, words = LATER[name]
    net, expected, note = network(), network(), Sizes()
    with pytest.raises(error, match=words):
        fit(net, Loader([*batches(X, Y)[:2], batch, (X, Y)]), callbacks=[note])
    assert (net.step, net.epoch, note.ended) == (2, 0, 1)
    fit(expected, batches(X, Y)[:2], epochs=1)
    same(net, expected)


def test_targets_of_another_kind_later():
    labels = np.arange(N) % 3
    net = network("softmax_cross_entropy", metrics=["accuracy"])
    with pytest.raises(ValueError, match="the first batch has class numbers as targets, a later one has none: all"):
        fit(net, [(X, labels), (X, np.eye(3)[labels])])
    with pytest.raises(ValueError, match="the first batch has weights, a later one has none"):
        fit(network(), [(X, Y, WEIGHTS), (X, Y)])


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_exception_in_the_iterable(after):
    def failing():
        yield from batches(X, Y)[:after]
        raise OSError("the network is gone")

    net, expected, note = network(), network(), Sizes()
    with pytest.raises(OSError, match="the network is gone"):
        fit(net, failing, callbacks=[note])
    assert (net.step, note.ended) == (after, after > 0)
    if after:
        fit(expected, batches(X, Y)[:after], epochs=1)
    same(net, expected)
    with pytest.raises(OSError, match="the network is gone"):
        net.evaluate(failing)
    fit(net, X, Y)  # the network is free for the next fit


def test_a_batch_too_small_for_batch_norm():
    net = network(layers=[BatchNormLayer()])
    with pytest.raises(ValueError, match="needs batches of at least 2"):
        fit(net, [(X[:1], Y[:1])])
    with pytest.raises(ValueError, match="needs batches of at least 2"):
        fit(net, [(X, Y), (X[:1], Y[:1])])
    assert net.step == 1


def test_batches_beside_a_layer_of_the_article():
    net = Network([ArticleFCLayer(4, 3)])
    net.use("mse")
    items = [(x[:, None], y[:, None]) for x, y in batches(X, Y)]
    with pytest.raises(ValueError, match="is written as in the article: it takes one sample at a time"):
        net.fit(items, epochs=1, learning_rate=0.1, verbose=0)
    ones = [(X[i : i + 1, None], Y[i : i + 1, None]) for i in range(N)]
    assert net.fit(ones, epochs=1, learning_rate=0.01, verbose=0)["error"]


def test_evaluate_over_wrong_iterables():
    net = network()
    for given in (Loader([]), iter(()), no_batches):
        with pytest.raises(ValueError, match="an iterable of batches gave none: there is nothing to evaluate"):
            net.evaluate(given)
    with pytest.raises(ValueError, match="sample_weight was given together with an iterable of batches"):
        net.evaluate(batches(X, Y), sample_weight=WEIGHTS)
    with pytest.raises(TypeError, match="evaluate needs the targets y"):
        net.evaluate(X)
    with pytest.raises(TypeError, match="evaluate needs the targets y"):
        net.evaluate([(0.0, 1.0), (1.0, 0.0)])
    for call in (lambda given: net.evaluate(given, Y), lambda given: net.fit(given, Y, 1, verbose=0)):
        with pytest.raises(TypeError, match=r"x is a \w+, an iterable of batches .* leave y out"):
            call(Loader(batches(X, Y)))
    with pytest.raises(ValueError, match="validation_data is an iterable of batches, but it gave none"):
        fit(net, X, Y, validation_data=Loader([]))


def test_an_iterable_of_validation_that_ends_up_empty():
    once = iter(batches(X, Y))
    net = network()
    with pytest.raises(ValueError, match="an iterable of batches gave none"):
        fit(net, X, Y, batch_size=4, validation_data=lambda: once)
    assert net.epoch == 1


def test_training_beside_an_evaluation():
    """Training starts while evaluate reads: an iterable is read again, with the new weights; an iterator cannot be."""
    net = network()

    class Trains(Loader):
        def __iter__(self):
            yield from self.items
            if not self.begun:
                self.begun += 1
                thread = threading.Thread(target=lambda: fit(net, X, Y, epochs=1))
                thread.start()
                thread.join()

    found = net.evaluate(Trains(batches(X, Y)))
    assert found == net.evaluate(batches(X, Y))
    with pytest.raises(RuntimeError, match="another thread began to train the network while evaluate read an iterator"):
        net.evaluate(iter(Trains(batches(X, Y))))


def test_diverged_in_a_stream():
    net = network()
    net.optimizer.learning_rate = 1e30
    with pytest.raises(DivergedError, match="in epoch 1, at step") as caught:
        fit(net, batches(X, Y))
    assert " of " not in str(caught.value).split("at step")[1][:6]
    assert net.step == 0
