"""Data that is read in chunks, memory maps and unusual dtypes: results bitwise equal to those of an array."""

import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from portnn import SGD, ActivationLayer, Callback, FCLayer, FlattenLayer, Network, sources
from rows import KINDS, Rows

N = 50
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def network(loss="mse", dtype="float32", metrics=("r2",)):
    net = Network([FlattenLayer(), FCLayer(6, 5), ActivationLayer("tanh"), FCLayer(5, 3)], seed=1, dtype=dtype)
    net.use(loss, optimizer=SGD(0.05, momentum=0.5), metrics=metrics)
    return net


def data(dtype=np.float32, n=N):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 2, 3)).astype(dtype), rng.standard_normal((n, 3)).astype(dtype)


def same(one, other):
    for path, array in one.parameters.items():
        assert np.array_equal(array, other.parameters[path]), path


def agree(x, y, rows_x, rows_y, dtype="float32", loss="mse", metrics=("r2",), **options):
    """Trains, evaluates and predicts with an array and with a row source: all results must be bitwise equal."""
    options = {"epochs": 2, "batch_size": 8, "verbose": 0, **options}
    one, other = network(loss, dtype, metrics), network(loss, dtype, metrics)
    assert one.fit(x, y, **options) == other.fit(rows_x, rows_y, **options)
    same(one, other)
    assert np.array_equal(one.predict(x, batch_size=7), other.predict(rows_x, batch_size=7))
    assert one.evaluate(x, y, batch_size=7) == other.evaluate(rows_x, rows_y, batch_size=7)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 24 * 20)  # two batches of 8 samples of 24 bytes


OPTIONS = {
    "plain": {},
    "shuffled": {"shuffle": True},
    "shuffled, shortened": {"shuffle": True, "steps_per_epoch": 3},
    "shuffled, drop_last": {"shuffle": True, "drop_last": True},
    "steps": {"steps_per_epoch": 4},
    "split": {"shuffle": True, "validation_split": 0.3},
    "weights": {"sample_weight": np.arange(N) / 7, "validation_split": 0.3, "shuffle": True},
    "weights, a list": {"sample_weight": [1.0, 0.1] * (N // 2), "validation_split": 0.3},
    "all at once": {"batch_size": 64},
}


@kinds
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_rows_are_as_an_array(kind, options):
    x, y = data()
    if kind is Rows:
        agree(x, y, kind(x), y.tolist(), dtype="float64", **options)
    agree(x, y, kind(x), kind(y), **options)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("given", ["balanced", {0: 0.3, 2: 3}])
def test_class_weights(given, shuffle):
    x, y = data()[0], np.random.default_rng(2).integers(0, 3, N)
    weights = np.arange(1.0, N + 1) / 3
    for split, targets in ((0.0, y.tolist()), (0.2, Rows(y))):
        for own in (None, weights):
            options = dict(class_weight=given, sample_weight=own, validation_split=split, shuffle=shuffle)
            agree(x, y, Rows(x), targets, loss="softmax_cross_entropy", metrics=["accuracy", "f1"], **options)


@pytest.mark.parametrize("dtype", ["u1", ">i4", "f2", "<f8", ">f4", "?"])
@pytest.mark.parametrize("network_dtype", ["float32", "float64"])
def test_dtypes(dtype, network_dtype):
    x, y = (np.random.default_rng(0).integers(0, 2, (N, 3, k)).astype(dtype) for k in (2, 1))
    agree(x, y, Rows(x), Rows(y), dtype=network_dtype, shuffle=True)
    agree(x, y, np.asfortranarray(x), np.asfortranarray(y), dtype=network_dtype, shuffle=True)
    native = x.astype(x.dtype.newbyteorder("=")), y.astype(y.dtype.newbyteorder("="))
    agree(*native, x, y, dtype=network_dtype)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["u1", "<f4", ">f4", "<f8", "<f2"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_memory_maps(tmp_path, order, dtype, shuffle):
    x, y = (np.random.default_rng(0).integers(0, 9, (N, 3, k)).astype(dtype) for k in (2, 1))
    maps = []
    for name, array in (("x", x), ("y", y)):
        maps.append(np.memmap(tmp_path / name, dtype=dtype, mode="w+", shape=array.shape, order=order))
        maps[-1][:] = array
    agree(x, y, *maps, shuffle=shuffle, sample_weight=np.arange(N), validation_split=0.2)
    net = network()
    assert type(net.predict(maps[0])) is np.ndarray
    assert np.array_equal(net.predict(maps[0][5:9]), net.predict(x[5:9]))


def test_what_is_read():
    """Data is read in chunks, never all at once, and each row once per epoch."""
    x, y = (Rows(array) for array in data())
    network().fit(x, y, 2, batch_size=8, verbose=0)
    for rows in (x, y):
        assert max(rows.reads) == 16
        assert sum(rows.reads) == 2 * N + 8  # plus the first batch, which is checked beforehand
    x.reads.clear()
    network().predict(x, batch_size=16)
    assert x.reads == [16, 16, 16, 2]
    x.reads.clear()
    network().fit(x, y, 1, batch_size=8, steps_per_epoch=2, verbose=0)
    assert sum(x.reads) == 16 + 8


def test_validation_data_as_rows():
    x, y = data()
    options = dict(epochs=4, batch_size=8, validation_frequency=2, verbose=0)
    weights = np.arange(20) / 3
    expected = network().fit(x, y, validation_data=(x[:20], y[:20], weights), **options)
    found = network().fit(x, y, validation_data=(Rows(x[:20]), y[:20], weights.tolist()), **options)
    np.testing.assert_equal(found, expected)


def failing(after, error):
    class Failing(Rows):
        def check(self, some):
            if len(self.reads) >= after:
                raise error

    return Failing


def test_an_error_in_reading_leaves_the_last_whole_step():
    class Ends(Callback):
        ended = 0

        def on_fit_end(self, network):
            self.ended += 1

    x, y = data()
    net, expected, end = network(), network(), Ends()
    with pytest.raises(OSError, match="the disk is gone"):
        net.fit(failing(3, OSError("the disk is gone"))(x), y, 1, batch_size=8, callbacks=[end], verbose=0)
    assert (net.step, net.epoch, end.ended) == (4, 0, 1)
    expected.fit(x, y, 1, batch_size=8, steps_per_epoch=4, verbose=0)
    same(net, expected)


def test_a_file_may_be_closed_when_fit_has_ended():
    """However the fit ended, no thread continues to read."""

    class Raises(Callback):
        def on_step_end(self, network, step):
            raise OSError("enough")

    class Stops(Callback):
        def on_step_end(self, network, step):
            network.stop_training = True

    x, y = data()
    rows = Rows(x)
    with pytest.raises(OSError, match="enough") as caught:
        network().fit(rows, y, 1, batch_size=8, callbacks=[Raises()], verbose=0)
    network().fit(rows, y, 1, batch_size=8, callbacks=[Stops()], verbose=0)
    assert caught.tb is not None  # its traceback keeps the fit's objects alive
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("portnn")]


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"validation_split": 0.3}, {"validation_split": 0.8}])
def test_bad_values_in_the_middle(options):
    """The error gives the position in the whole data, wherever chunks begin and in whatever order they are read."""
    x, y = data()
    x[30, 1, 2] = np.nan
    net = network()
    with pytest.raises(ValueError, match=r"^x\[30, 1, 2\] is nan .*fit needs finite data"):
        net.fit(Rows(x), y, 1, batch_size=8, verbose=0, **options)
    classes = np.arange(N) % 3
    classes[41] = 3
    with pytest.raises(ValueError, match=r"^y\[41\] is 3, but the network has 3 outputs"):
        network("softmax_cross_entropy", metrics=()).fit(
            Rows(data()[0]), classes, 1, batch_size=8, verbose=0, **options
        )


def test_bad_values_in_a_batch_of_an_iterable():
    x, y = data()
    x[30, 1, 2] = np.inf
    batches = [(x[i : i + 8], y[i : i + 8]) for i in range(0, N, 8)]
    net = network()
    with pytest.raises(ValueError, match=r"^in batch 4 of the iterable, x\[6, 1, 2\] is inf") as caught:
        net.fit(batches, epochs=1, verbose=0)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(ValueError, match=r"^in batch 4 of validation_data, x\[6, 1, 2\] is inf"):
        net.fit(data()[0], y, 1, batch_size=8, verbose=0, validation_data=batches)


class Zero(Rows):
    shape = ()

    def __init__(self):
        self.dtype = np.dtype("f4")


class Short(Rows):
    """Claims more rows than it has."""

    def __init__(self, array):
        super().__init__(array)
        self.shape = (len(array) + 30, *array.shape[1:])


X, Y = data()
BAD = {
    "lengths": ((Rows(X), Y[1:]), ValueError, "x holds 50 samples, y 49 targets"),
    "no rows": ((Rows(X[:0]), Y[:0]), ValueError, "x holds 0 samples"),
    "single numbers": ((Zero(), Y), (TypeError, ValueError), "x must"),
    "shape of x": ((Rows(X[:, :1]), Y), ValueError, r"x has samples of shape \(1, 3\)"),
    "shape of y": ((Rows(X), Rows(Y[:, :2])), ValueError, r"a target has shape \(2,\)"),
    "words in x": ((Rows(np.full((N, 6), "a")), Y), TypeError, "x must be real numbers"),
    "words in y": ((Rows(X), ["a"] * N), TypeError, "y must be real numbers"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows(name):
    given, error, words = BAD[name]
    net = network()
    for call in (
        lambda: net.fit(*given, epochs=1, batch_size=8, verbose=0),
        lambda: net.fit(X, Y, epochs=1, validation_data=given, batch_size=8, verbose=0),
        lambda: net.evaluate(*given),
    ):
        with pytest.raises(error, match=words):
            call()
        assert net.step == 0
    with pytest.raises(TypeError, match="fit needs the targets y"):
        net.fit(Rows(X), epochs=1)


def test_fewer_rows_than_its_shape_says():
    net = network()
    with pytest.raises(ValueError, match=r"rows 48 to 63 were read, and 2 came back"):
        net.fit(Short(X), np.concatenate([Y, Y[:30]]), 1, batch_size=8, verbose=0)
    assert net.step == 6


# -- memory ------------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
import numpy as np
from portnn import SGD, FCLayer, Network

path, gigabytes, dtype = sys.argv[1], float(sys.argv[2]), sys.argv[3]
n = int(gigabytes * 2**30 / (1 << 16) / np.dtype(dtype).itemsize)
x = np.memmap(path, dtype=dtype, mode="w+", shape=(n, 1 << 16))
most = 0

def memory():
    global most
    lines = dict(line.split(":") for line in open("/proc/self/status"))
    most = max(most, int(lines["RssAnon"].split()[0]))

from portnn import Callback

class Watch(Callback):
    def on_step_end(self, network, step):
        memory()

net = Network([FCLayer(1 << 16, 2)], seed=1)
net.use("mse", optimizer=SGD(0.1))
memory()
before = most
net.fit(x, np.zeros((n, 2)), 1, batch_size=64, shuffle=True, callbacks=[Watch()], verbose=0)
net.predict(x, batch_size=64)
memory()
net.evaluate(x, np.zeros((n, 2)), batch_size=64)
memory()
print((most - before) / 2**20)
"""


def anonymous_memory(folder, gigabytes, dtype):
    """The increase of anonymous memory in GiB, with the library's default chunk size."""
    roots = [str(Path(sources.__file__).parents[1]), str(Path(sources.__file__).parents[1] / "backends")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder / "x"), str(gigabytes), dtype],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(roots), "PATH": "/usr/bin"},
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")


@linux
@pytest.mark.slow
def test_a_memory_map_is_not_copied(tmp_path):
    assert anonymous_memory(tmp_path, 0.15, "f4") < 0.12


@pytest.mark.slow
@linux
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8", ">f4"])
def test_a_memory_map_of_8_gigabytes(tmp_path, dtype):
    assert anonymous_memory(tmp_path, 8, dtype) < 1.0
