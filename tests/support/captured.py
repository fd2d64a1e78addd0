"""Shared by the tests of captured steps: small states, a step, and a network of layers with fused versions."""

import numpy as np

import portnn


class State:
    """A state of two weights, a step counter and a table of learning rates, which is loaded once per epoch."""

    def __init__(self, backend, rates=(0.5, 0.25, 0.125), eager_reason=None):
        self.backend, self.eager_reason = backend, eager_reason
        self.home = {"a": self.array([1.0, 2.0]), "b": self.array([[3.0, 4.0]]), "step": 0}
        self.feed = {}
        self.places = [(self.home, key) for key in self.home]
        self.load(rates)

    def array(self, values, dtype=np.float64):
        return self.backend.asarray(np.array(values, dtype))

    def load(self, rates):
        """Starts an epoch: new rates, and the counter back to 0."""
        self.feed["rates"] = self.array(rates)
        self.home["step"] = 0 if isinstance(self.home["step"], int) else self.array(0, np.int64)

    @property
    def inputs(self):
        return [(self.feed, "rates")]

    def use_device_counters(self):
        if isinstance(self.home["step"], int):
            self.home["step"] = self.array(self.home["step"], np.int64)

    def commit(self, leaves):
        for (home, key), leaf in zip(self.places, leaves, strict=True):
            home[key] = leaf

    def values(self):
        return {key: np.array(self.backend.to_numpy(leaf)) for key, leaf in self.home.items()}

    def rate(self):
        xp, step = self.backend.xp, self.home["step"]
        return self.feed["rates"][step] if isinstance(step, int) else xp.take(self.feed["rates"], step, axis=0)


class Step:
    """a <- a - rate * a * sum(b); b <- b + rate * tanh(b) a a^T. Counts how often its Python code runs."""

    def __init__(self, state, scale=1.0, hook=lambda step: None):
        self.state, self.scale, self.hook, self.runs = state, scale, hook, 0

    def __call__(self):
        self.runs += 1
        home, xp = self.state.home, self.state.backend.xp
        rate = self.state.rate()
        a = home["a"] - rate * home["a"] * xp.sum(home["b"]) * self.scale
        outer = xp.matmul(xp.reshape(home["a"], (2, 1)), xp.reshape(home["a"], (1, 2)))
        b = home["b"] + rate * xp.matmul(xp.tanh(home["b"]), outer) * self.scale
        self.hook(self)
        return [a, b, home["step"] + 1]


def eager(backend, steps, **options):
    """The state after each of ``steps`` eager steps, committed by rebinding."""
    state = State(backend, **options)
    step, after = Step(state), []
    for _ in range(steps):
        state.commit(step())
        after.append(state.values())
    return after


def same(values, expected):
    assert values.keys() == expected.keys()
    for key in values:
        assert np.array_equal(values[key], expected[key]), key


RATES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


class Pair:
    """Two leaves of the same shape, and no counters."""

    eager_reason, inputs = None, []

    def __init__(self, backend, a=(1.0, 2.0), b=(3.0, 4.0)):
        self.backend = backend
        self.home = {"a": backend.asarray(np.array(a)), "b": backend.asarray(np.array(b))}
        self.places = [(self.home, "a"), (self.home, "b")]

    def use_device_counters(self):
        pass

    def commit(self, leaves):
        self.home["a"], self.home["b"] = leaves

    def lists(self):
        return self.home["a"].tolist(), self.home["b"].tolist()


class PlannedError(Exception):
    pass


def everything(where, kernels="auto", dtype="float32", learning_rate=1e-2):
    """A network of layers with fused versions.

    There is no bias before batch normalization: its gradient is rounding noise, which Adam turns into full steps.
    """
    layers = [
        portnn.ConvLayer((8, 8, 1), (3, 3), 4, padding="same"),
        portnn.ActivationLayer("relu"),
        portnn.MaxPoolLayer(2),
        portnn.RandomAffineLayer(shift=1.0, rotate=15.0, scale=0.2),
        portnn.ConvLayer((4, 4, 4), (3, 3), 4, padding=1, groups=2, bias=False),
        portnn.BatchNormLayer(),
        portnn.ActivationLayer("tanh"),
        portnn.AvgPoolLayer(2),
        portnn.FlattenLayer(),
        portnn.DropoutLayer(0.3),
        portnn.FCLayer(16, 12),
        portnn.ActivationLayer("tanh"),
        portnn.FCLayer(12, 3),
    ]
    net = portnn.Network(layers, backend=where, seed=3, kernels=kernels, dtype=dtype)
    net.use("softmax_cross_entropy", optimizer=portnn.AdamW(learning_rate), metrics=["accuracy"])
    return net
