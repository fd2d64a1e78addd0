"""Row sources and iterables on the GPU: the same results as on the CPU, with few captures."""

import itertools

import numpy as np
import pytest

from portnn import SGD, ActivationLayer, FCLayer, Network, sources
from portnn_cupy.graph import CapturedStep
from rows import KINDS, Rows

pytestmark = pytest.mark.gpu
N = 60


def network(backend="cpu", loss="mse"):
    net = Network([FCLayer(6, 5), ActivationLayer("tanh"), FCLayer(5, 3)], seed=1, dtype="float64", backend=backend)
    net.use(loss, optimizer=SGD(lambda k: 0.1 / (1 + k), momentum=0.9), metrics=["r2", "mean_absolute_error"])
    return net


def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, 6)), rng.standard_normal((N, 3))


X, Y = data()
WEIGHTS = np.arange(N) / 7


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 48 * 16)  # two batches of 8 samples of 48 bytes


@pytest.fixture
def captures(monkeypatch):
    """The batch size of every captured step, in order."""
    sizes, capture = [], CapturedStep._capture

    def noted(self):
        sizes.append(self.step.size)
        capture(self)

    monkeypatch.setattr(CapturedStep, "_capture", noted)
    return sizes


def agree(backend, on_gpu, on_cpu, **options):
    options = {"epochs": 4, "verbose": 0, **options}
    gpu, cpu = network(backend), network()
    found, expected = gpu.fit(*on_gpu, **options), cpu.fit(*on_cpu, **options)
    assert found.keys() == expected.keys()
    for name in expected:
        assert np.allclose(found[name], expected[name], rtol=1e-11, atol=0), name
    for path, array in cpu.parameters.items():
        assert np.allclose(backend.to_numpy(gpu.parameters[path]), array, rtol=1e-11, atol=1e-14), path
    assert gpu.step == cpu.step
    return gpu, cpu


@pytest.mark.parametrize(("kind", "weights"), [("any numbers", None), ("slices only", WEIGHTS)])
def test_rows(backend, captures, kind, weights):
    """Seven batches are three chunks of two and one of one: the smaller chunk runs in the same graph."""
    kind = KINDS[kind]
    options = dict(batch_size=8, shuffle=True, sample_weight=weights, drop_last=True)
    gpu, cpu = agree(backend, (kind(X), kind(Y)), (X, Y), **options)
    assert captures == [8]
    assert np.allclose(gpu.predict(kind(X), batch_size=7), cpu.predict(X), rtol=1e-11)
    assert gpu.evaluate(kind(X), Y, batch_size=7)["r2"] == pytest.approx(cpu.evaluate(X, Y)["r2"], rel=1e-11)


def test_rows_with_a_smaller_last_batch(backend, captures):
    """A smaller batch comes once per epoch: in four epochs, two warm-ups, one capture and one launch."""
    agree(backend, (Rows(X), Rows(Y)), (X, Y), batch_size=8, validation_split=0.1)
    assert captures == [8, 6]


def test_a_memory_map(backend, captures, tmp_path):
    x = np.memmap(tmp_path / "x", dtype="u1", mode="w+", shape=(N, 6))
    x[:] = np.random.default_rng(1).integers(0, 9, (N, 6))
    agree(backend, (x, Y), (np.array(x), Y), batch_size=8, shuffle=True, drop_last=True)
    assert captures == [8]


def cut(*places, weights=False):
    arrays = (X, Y, WEIGHTS) if weights else (X, Y)
    return [tuple(a[i:j] for a in arrays) for i, j in itertools.pairwise(places)]


@pytest.mark.parametrize("weights", [False, True])
def test_batches_that_become_smaller(backend, captures, weights):
    """Smaller batches fit into the input buffers of larger ones, so each size is captured once."""
    items = cut(0, 10, 20, 28, 33, 38, weights=weights)
    agree(backend, (items,), (items,), validation_data=items)
    assert captures == [10, 5, 8]


@pytest.mark.parametrize("weights", [False, True])
def test_batches_that_become_larger(backend, captures, weights):
    """Growing the input buffer invalidates the graph of the smaller size, which is captured once more."""
    items = cut(0, 5, 10, 15, 20, 30, 35, weights=weights)
    agree(backend, (items,), (items,), validation_data=items)
    assert captures.count(5) == 2
    assert captures.count(10) == 1


def test_at_most_8_sizes_are_captured(backend, captures):
    """Twelve sizes, five times each: only the first eight are captured."""
    sizes = [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    items = [(X[:size], Y[:size], WEIGHTS[:size]) for size in sizes]
    agree(backend, (items,), (items,), epochs=5)
    assert captures == sizes[:8]


def test_class_numbers_in_batches(backend, captures):
    labels = np.arange(N) % 3
    nets = []
    for where in (backend, "cpu"):
        net = Network([FCLayer(6, 3)], seed=1, dtype="float64", backend=where)
        net.use("softmax_cross_entropy", optimizer="adam", metrics=["f1"])
        net.fit([(X[:9], labels[:9]), (X[9:14], labels[9:14])] * 4, epochs=2, verbose=0)
        nets.append(net)
    for path, array in nets[1].parameters.items():
        assert np.allclose(backend.to_numpy(nets[0].parameters[path]), array, rtol=1e-10, atol=1e-13), path
    assert captures == [9, 5]


def test_batches_on_the_device(backend):
    """Even if they are the same arrays, refilled for every batch."""
    x, y = (backend.asarray(np.zeros((12, k))) for k in (6, 3))

    def refilled():
        for start in range(0, N, 12):
            x[...], y[...] = (backend.asarray(a[start : start + 12]) for a in (X, Y))
            yield x, y

    gpu, cpu = network(backend), network()
    gpu.fit(refilled, epochs=4, verbose=0)
    cpu.fit(X, Y, epochs=4, batch_size=12, verbose=0)
    for path, array in cpu.parameters.items():
        assert np.allclose(backend.to_numpy(gpu.parameters[path]), array, rtol=1e-11, atol=1e-14), path
    answer = gpu.predict(x for x, _ in refilled())
    assert backend.owns(answer)
    assert np.allclose(backend.to_numpy(answer), cpu.predict(X), rtol=1e-11)


# -- uploads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["rows", "an iterable"])
def test_the_host_reads_nothing_from_the_device_between_chunks(backend, monkeypatch, form):
    """The number of reads per epoch does not depend on the number of chunks, although each chunk is checked."""
    read, to_numpy = [], type(backend).to_numpy
    monkeypatch.setattr(type(backend), "to_numpy", lambda self, x: read.append(self.owns(x)) or to_numpy(self, x))
    counts = []
    for n in (16, 48):
        net = network(backend)
        batches = [(X[i : i + 8], Y[i : i + 8], WEIGHTS[i : i + 8]) for i in range(0, n, 8)]
        data = (batches,) if form == "an iterable" else (Rows(X[:n]), Rows(Y[:n]))
        options = {} if form == "an iterable" else {"batch_size": 8, "sample_weight": WEIGHTS[:n]}
        net.fit(*data, epochs=1, verbose=0, **options)
        read.clear()
        net.fit(*data, epochs=1, verbose=0, **options)
        counts.append(sum(read))
    assert counts[0] == counts[1]


def test_work_waits_for_an_upload_only_when_it_has_arrived(backend):
    """Two uploads are under way at once, and each takes the memory of an earlier one, but not while that is used."""
    sums, under_way = [], []
    with backend.scope():
        for k in range(12):
            under_way.append(backend.upload([np.full(1000, float(k)), None]))
            if len(under_way) == 2:
                array, nothing = under_way.pop(0)()
                assert nothing is None
                sums.append(backend.xp.sum(array))
                del array
    assert [float(backend.to_numpy(total)) for total in sums] == [1000.0 * k for k in range(11)]


def test_what_is_uploaded_may_be_overwritten_at_once(backend):
    host = np.ones(1000)
    with backend.scope():
        arrive = backend.upload([host])
        host[:] = 7.0
        assert backend.to_numpy(arrive()[0]).max() == 1.0


def test_the_stream_of_the_device_does_not_wait_for_an_upload_under_way(backend, monkeypatch):
    waits = []
    stream, copies = (NotedWaits(s, waits) for s in (backend.stream, backend.copies))
    monkeypatch.setattr(backend, "stream", stream)
    monkeypatch.setattr(backend, "copies", copies)
    with backend.scope():
        arrive = backend.upload([np.ones(3)])
        assert copies.ptr in waits
        del waits[:]
        arrive()
        assert waits == [stream.ptr]


class NotedWaits:
    """A stream that notes its address for each wait."""

    def __init__(self, stream, waits):
        self.stream, self.waits = stream, waits

    def wait_event(self, event):
        self.waits.append(self.ptr)
        self.stream.wait_event(event)

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def __eq__(self, other):
        return self.stream == getattr(other, "stream", other)

    __hash__ = None

    def __enter__(self):
        return self.stream.__enter__()

    def __exit__(self, *error):
        return self.stream.__exit__(*error)


def test_release_gives_up_the_last_upload(backend):
    backend.upload([np.ones(3)])
    assert backend.held
    backend.release()
    assert not backend.held
