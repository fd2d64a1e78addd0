"""Users' own classes and functions in files: passed by the caller, found by name, created from their config."""

import numpy as np
import pytest

import portnn
from portnn import SGD, ActivationLayer, Adam, ConvLayer, FCLayer, Layer, Network, ResidualLayer, SequentialLayer
from portnn.files import FileError
from states import leaves, same


class Gain(Layer):
    """A layer with arguments and a config."""

    def __init__(self, n, start=1.0, *, shift=(0.0,)):
        self.start, self.shift = start, shift
        self.parameters["gain"] = np.full(n, start)

    def config(self):
        return {"n": len(self.parameters["gain"]), "start": self.start, "shift": self.shift}

    def forward(self, X):
        return self.parameters["gain"] * X + self.shift[0]

    def backward(self, output_error):
        self.gradients["gain"] = self.xp.sum(output_error * self.input, axis=0)
        return self.parameters["gain"] * output_error


class Forgetful(Gain):
    config = None


class Plain(Layer):
    """A layer without arguments needs no config."""

    def forward(self, X):
        return X * 2.0

    def backward(self, output_error):
        return output_error * 2.0


class Block(SequentialLayer):
    """Creates its child layers itself."""

    def __init__(self, n):
        super().__init__(FCLayer(n, n), ActivationLayer("tanh"))
        self.n = n

    def config(self):
        return {"n": self.n}


class Twice(SequentialLayer):
    """Takes its child layers as arguments, like SequentialLayer."""

    def forward(self, X, *, training=False):
        return 2.0 * super().forward(X, training=training)

    def backward(self, output_error, *, need_input_error=True):
        return super().backward(2.0 * output_error, need_input_error=need_input_error)


class Shift(Layer):
    """Written as in the article: its arrays are attributes."""

    def __init__(self):
        self.offset, self.steps, self.words = np.zeros((1, 3)), np.zeros(1, np.int64), np.array(["a"])

    def forward_propagation(self, input):
        self.input = input
        return input + self.offset

    def backward_propagation(self, output_error, learning_rate):
        self.offset -= learning_rate * output_error
        self.steps += 1
        return output_error


class Halving:
    """A schedule."""

    def __init__(self, rate):
        self.rate = rate

    def config(self):
        return {"rate": self.rate}

    def __call__(self, k):
        return self.rate * 0.5**k


class Untold:
    """A schedule without a config."""

    def __init__(self, rate):
        self.rate = rate

    def __call__(self, k):
        return self.rate


class Sign(SGD):
    """An optimizer."""

    def update(self, parameters, gradients, slots, hyper):
        return [w - hyper[0] * np.sign(g) for w, g in zip(parameters, gradients, strict=True)], slots


def cube(x):
    return x**3


def cube_prime(x):
    return 3.0 * x**2


def quartic(y_true, y_pred):
    return ((y_true - y_pred) ** 4).mean()


def quartic_prime(y_true, y_pred):
    return 4.0 * (y_pred - y_true) ** 3 / y_pred.size


def worst(y_true, y_pred):
    return abs(y_true - y_pred).max(axis=1)


def again(net, tmp_path, *given):
    net.save(tmp_path / "net")
    return portnn.load(tmp_path / "net", layers=given)


def alike(net, loaded, sample=3):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, sample))
    y = rng.standard_normal(net.predict(x).shape)
    for each in (net, loaded):
        each.fit(x, y, epochs=2, batch_size=1, shuffle=True, verbose=0)
    assert same(leaves(net), leaves(loaded))
    assert np.array_equal(net.predict(x), loaded.predict(x))
    assert net.history == loaded.history


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [Gain(3, shift=(1, 2))],
        lambda: [Gain(3, 0.5, shift=[3.0])],
        lambda: [Plain(), FCLayer(3, 3)],
        lambda: [ResidualLayer(Block(3)), Gain(3)],
        lambda: [Twice(FCLayer(3, 4), FCLayer(4, 3))],
    ],
)
def test_layers(layers, tmp_path):
    net = Network(layers(), seed=1)
    net.use("mse", optimizer="adam")
    loaded = again(net, tmp_path, Gain, Plain, Block, Twice)
    alike(net, loaded)
    assert [type(layer) for layer in loaded.walk()] == [type(layer) for layer in net.walk()]
    for old, new in zip(net.walk(), loaded.walk(), strict=True):
        if isinstance(old, Gain):
            assert (old.start, old.shift) == (new.start, new.shift)


def test_a_layer_as_in_the_article(tmp_path):
    net = Network([Shift(), FCLayer(3, 2)], seed=1)
    net.use("mse", optimizer="adam")
    net.fit(np.ones((3, 3)), np.ones((3, 2)), epochs=2, verbose=0)
    loaded = again(net, tmp_path, Shift)
    old, new = net.layers[0], loaded.layers[0]
    assert np.array_equal(old.offset, new.offset)
    assert (new.steps.dtype, new.steps.tolist()) == (np.int64, [6])
    assert old.offset.any()
    alike(net, loaded)
    assert np.array_equal(old.offset, new.offset)


def test_functions_and_objects(tmp_path):
    net = Network([FCLayer(3, 3), ActivationLayer(cube, cube_prime)], seed=1)
    net.use(quartic, quartic_prime, optimizer=Sign(Halving(0.1)), metrics=[worst])
    loaded = again(net, tmp_path, cube, cube_prime, (quartic, quartic_prime), Sign, Halving, worst)
    assert loaded.loss is quartic
    assert loaded.loss_prime is quartic_prime
    assert loaded.metrics == (("worst", worst),)
    assert type(loaded.optimizer) is Sign
    assert loaded.optimizer.learning_rate.rate == 0.1
    alike(net, loaded)


def test_an_object_that_does_not_say_how_it_is_made_is_given_itself(tmp_path):
    net = Network([FCLayer(3, 3)], seed=1)
    net.use("mse", optimizer=Adam(Untold(0.1)))
    given = Untold(0.2)
    assert again(net, tmp_path, given).optimizer.learning_rate is given


def test_numpys_functions(tmp_path):
    """They may share names with portnn's functions, but are not mistaken for them."""
    net = Network([FCLayer(3, 3), ActivationLayer(np.tanh, lambda x: 1.0 - np.tanh(x) ** 2)], seed=1)
    net.save(tmp_path / "net")
    loaded = portnn.load(tmp_path / "net", layers=[np.tanh, net.layers[1].activation_prime])
    assert loaded.layers[1].activation is np.tanh


def test_everything_that_is_missing_is_named_with_the_call(tmp_path):
    net = Network([Gain(3), Plain(), ActivationLayer(cube, cube_prime)], seed=1)
    net.use(quartic, quartic_prime, optimizer=Sign(Halving(0.1)), metrics=[worst])
    net.save(tmp_path / "net")
    names = ["Gain", "Plain", "cube", "cube_prime", "quartic", "quartic_prime", "Sign", "Halving", "worst"]
    with pytest.raises(FileError, match="give the class, function or object that you wrote") as caught:
        portnn.load(tmp_path / "net", layers=[])
    call = str(caught.value).partition("portnn.load(")[2]
    assert call.startswith(f"{str(tmp_path / 'net')!r}, layers=[")
    assert set(call.partition("layers=[")[2].partition("]")[0].split(", ")) == set(names)
    loaded = portnn.load(tmp_path / "net", layers=[globals()[name] for name in names])
    alike(net, loaded)


def test_a_layer_that_takes_arguments_needs_config(tmp_path):
    net = Network([Forgetful(3)], seed=1)
    advice = r"layer 0 cannot be saved: Forgetful takes n, start, shift, but has no method config .*write def config"
    with pytest.raises(TypeError, match=advice):
        net.save(tmp_path / "net")
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (lambda self: {"m": 3}, "config returned m, but its constructor takes"),
        (lambda self: {}, "config returned no arguments, but its constructor takes"),
        (lambda self: [3], "config must return a dict of arguments by name"),
        (lambda self: {3: 3}, "config must return a dict of arguments by name"),
        (lambda self: {"n": np.ones(3)}, "n of layer 0 .* is an array: keep arrays in the layer's parameters"),
        (lambda self: {"n": {1, 2}}, "n of layer 0 .* cannot be saved"),
        (lambda self: {"n": {1: 2}}, "n of layer 0 .* has keys that are no texts"),
        (lambda self: {"n": FCLayer(2, 3)}, r"n of layer 0 .* is a layer: .*\*layers"),
        (lambda self: {"n": 10**100}, "n of layer 0 .* is too large a number"),
    ],
)
def test_what_config_returns_is_checked_when_it_is_saved(config, match, tmp_path):
    made = type("Made", (Gain,), {"config": config})
    with pytest.raises(TypeError, match=match):
        Network([made(3)], seed=1).save(tmp_path / "net")


def test_a_config_that_does_not_make_the_same_layer(tmp_path):
    class Liar(SequentialLayer):
        def __init__(self, n=3):
            super().__init__(FCLayer(n, n))

        def config(self):
            return {}

    Network([Liar(4)], seed=1).save(tmp_path / "net")
    with pytest.raises(FileError, match=r"layer 0.0 is FCLayer\(input_size=4.*in the file, but FCLayer\(input_size=3"):
        portnn.load(tmp_path / "net", layers=[Liar])


def test_arrays_of_another_size_than_the_class_now_makes(tmp_path):
    class Grown(Gain):
        def __init__(self, n):
            super().__init__(n + grown)

        def config(self):
            return {"n": 3}

    grown = 0
    Network([Grown(3)], seed=1).save(tmp_path / "net")
    grown = 1
    with pytest.raises(FileError, match=r"parameters/0.gain has shape \(3,\), expected \(4,\)"):
        portnn.load(tmp_path / "net", layers=[Grown])


def test_a_constructor_that_raises(tmp_path):
    class Fragile(Plain):
        def __init__(self):
            if broken:
                raise KeyError("gone")

    broken = False
    Network([Fragile()], seed=1).save(tmp_path / "net")
    broken = True
    with pytest.raises(FileError, match=r"Fragile\(\) of the file cannot be made: KeyError: 'gone'"):
        portnn.load(tmp_path / "net", layers=[Fragile])


def test_names_that_are_taken(tmp_path):
    mine = type("ConvLayer", (ConvLayer,), {})
    net = Network([mine((3, 3, 1), (2, 2), 1)], seed=1)
    with pytest.raises(TypeError, match="layer 0 is of class ConvLayer, a name that portnn itself uses: rename yours"):
        net.save(tmp_path / "net")
    with pytest.raises(ValueError, match="ConvLayer, which is the name of one of portnn's own: rename yours"):
        portnn.load(tmp_path / "net", layers=[mine])
    with pytest.raises(ValueError, match="two different things called Plain"):
        portnn.load(tmp_path / "net", layers=[Plain, type("Plain", (Layer,), {})])


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("Gain", "layers must be a list of your own classes and functions"),
        (Gain, "layers must be a list of your own classes and functions"),
        (["Gain"], "give the class itself"),
        ([Plain()], r"write layers=\[Plain\]"),
        (None, "layers must be a list of your own classes and functions"),
    ],
)
def test_what_is_given_must_be_classes_or_functions(given, match, tmp_path):
    Network([Plain()]).save(tmp_path / "net")
    with pytest.raises(TypeError, match=match):
        portnn.load(tmp_path / "net", layers=given)


def test_portnns_own_classes_may_be_given_too(tmp_path):
    net = Network([FCLayer(3, 2)], seed=1)
    assert repr(again(net, tmp_path, FCLayer, SGD, portnn.tanh)) == repr(net)
