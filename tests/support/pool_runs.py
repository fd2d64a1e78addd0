"""Programs for the tests of the threads of compiled loops, each run in a process of its own: ``python pool_runs.py NAME``.

Each prints a JSON object. Bits are compared by the SHA-256 of an array's bytes.
"""

import hashlib
import json
import os
import sys
import threading
import warnings

import numpy as np

import portnn
from portnn import ActivationLayer, AvgPoolLayer, ConvLayer, FCLayer, FlattenLayer, MaxPoolLayer, Network
from portnn_numpy import blas
from portnn_numpy.compiled import pool, troubles

SAMPLES = 95  # two batches of 40, and an odd last one


def sha(*arrays):
    found = hashlib.sha256()
    for a in arrays:
        found.update(f"{a.dtype.str} {a.shape}".encode())
        found.update(np.ascontiguousarray(a).tobytes())
    return found.hexdigest()


def bits_of(net):
    return sha(*(np.asarray(a) for _, a in sorted(net.parameters.items())))


def numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def lenet(activation="tanh", optimizer=None, dtype="float32", seed=1):
    """With average pooling, or with maxima of windows that overlap."""
    pooling = AvgPoolLayer(2) if activation == "tanh" else MaxPoolLayer(3, stride=2)
    layers = [
        ConvLayer((16, 16, 3), (3, 3), 8, padding="same"),
        ActivationLayer(activation),
        pooling,
        ConvLayer(((8, 8) if activation == "tanh" else (7, 7)) + (8,), (3, 3), 21),
        ActivationLayer(activation),
        FlattenLayer(),
        FCLayer(756 if activation == "tanh" else 525, 131),
        ActivationLayer(activation),
        FCLayer(131, 10),
    ]
    net = Network(layers, seed=seed, dtype=dtype)
    net.use("softmax_cross_entropy", optimizer=optimizer or portnn.SGD(0.01, momentum=0.9), metrics=["accuracy"])
    return net


def perceptron(optimizer, dtype="float32"):
    net = Network(
        [
            FCLayer(203, 1023),
            ActivationLayer("relu"),
            FCLayer(1023, 517),
            ActivationLayer("tanh"),
            FCLayer(517, 10),
        ],
        seed=2,
        dtype=dtype,
    )
    net.use("softmax_cross_entropy", optimizer=optimizer)
    return net


def normed(dtype="float32"):
    layers = [
        portnn.RandomAffineLayer(shift=1.0, rotate=20.0, scale=0.2),
        ConvLayer((16, 16, 3), (3, 3), 8, padding="same"),
        portnn.BatchNormLayer(),
        ActivationLayer("relu"),
        portnn.GroupNormLayer(2),
        ConvLayer((16, 16, 8), (3, 3), 12, stride=2, groups=2),
        ActivationLayer("tanh"),
        FlattenLayer(),
        portnn.LayerNormLayer(),
        FCLayer(7 * 7 * 12, 10),
    ]
    net = Network(layers, seed=3, dtype=dtype)
    net.use("softmax_cross_entropy", optimizer=portnn.SGD(0.01, momentum=0.9, nesterov=True))
    return net


def networks():
    """Name, network, shape of a sample, batch size."""
    image, row = (16, 16, 3), (203,)
    for activation in ("tanh", "relu"):
        yield f"LeNet, {activation}", lenet(activation), image, 40
    yield "LeNet in float64", lenet("relu", dtype="float64"), image, 40
    yield "norms", normed(), image, 40
    for optimizer in (portnn.Adam(1e-3), portnn.RMSprop(1e-3), portnn.AdaGrad(1e-2)):
        yield f"MLP, {type(optimizer).__name__}", perceptron(optimizer), row, 129
    yield "MLP in float64", perceptron(portnn.Adam(1e-3), "float64"), row, 129


def data(sample, batch, seed=0):
    n = SAMPLES if batch == 40 else 2 * batch + 31
    return numbers(seed, n, *sample), np.random.default_rng(seed + 1).integers(0, 10, n)


def fitted(net, sample=(16, 16, 3), batch=40, epochs=2, **options):
    x, y = data(sample, batch)
    net.fit(x.astype(net.dtype), y, epochs=epochs, batch_size=batch, verbose=0, **options)
    return bits_of(net)


def bits():
    """The weights that each network learns, what it predicts, and its error; how often loops were divided."""
    import numba

    divided, plain = [], pool.divided

    def counted(loop, arguments):
        divided.append(loop.__name__)
        return plain(loop, arguments)

    pool.divided = counted
    found = {}
    for name, net, sample, batch in networks():
        found[f"{name}: weights"] = fitted(net, sample, batch)
        x, y = data(sample, batch, seed=7)
        found[f"{name}: outputs"] = sha(net.predict(x.astype(net.dtype)))
        error = net.evaluate(x.astype(net.dtype), y)["error"]
        found[f"{name}: error"] = float(error).hex()
    layer = numba.threading_layer() if divided else None
    return {
        "bits": found,
        "divided": sorted(set(divided)),
        "threads": pool.most(),
        "layer": layer,
        "BLAS": blas.threads(),
    }


def at_once():
    """Two networks trained one after the other, and in two threads at once."""
    expected = [fitted(lenet("tanh")), fitted(lenet("relu"))]
    found, start = [None, None], threading.Barrier(2)

    def train(i, activation):
        net = lenet(activation)
        start.wait()
        found[i] = fitted(net)

    workers = [threading.Thread(target=train, args=given) for given in enumerate(("tanh", "relu"))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    import numba

    return {"expected": expected, "found": found, "layer": numba.threading_layer(), "BLAS": blas.threads()}


def forked():
    """A network that was trained goes on in a child, forked between two fits, and one forked in a callback within fit."""
    expected, first = lenet(), lenet()
    fitted(expected)
    one = fitted(expected)  # of the second fit
    fitted(first)
    between = in_child(lambda: [fitted(first), blas.threads()])
    again = fitted(first)

    whole = fitted(lenet(), epochs=4)
    net, pipes = lenet(), []

    class Forks(portnn.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 2:
                pipes.append(os.pipe())
                pipes.append(os.fork())

    within = fitted(net, epochs=4, callbacks=[Forks()])
    (reading, writing), child = pipes
    if not child:
        answer_and_exit(writing, [within, blas.threads()])
    return {
        "expected": [one, one, whole, whole],
        "found": [between[0], again, within, (answer := answer_of(child, reading, writing))[0]],
        "BLAS": [blas.threads(), between[1], answer[1]],
    }


def in_child(work):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        answer_and_exit(writing, work())
    return answer_of(child, reading, writing)


def answer_and_exit(writing, answer):
    os.write(writing, json.dumps(answer).encode())
    os._exit(0)


def answer_of(child, reading, writing):
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with status {status}"
    return json.loads(text)


def trained_in_worker(seed):
    return fitted(lenet(seed=seed)), blas.threads()


def results_of(workers):
    found = workers.map(trained_in_worker, [1, 2])
    workers.terminate()  # SIGTERM, which the fit in the parent would only note
    workers.join()
    return found


def multiprocessed():
    """Workers of a pool that is forked after a fit, each of which trains; and of one that is forked within a fit."""
    from multiprocessing import get_context

    expected = [fitted(lenet(seed=seed)) for seed in (1, 2)]
    found = []

    class Works(portnn.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 1:
                found.append(results_of(get_context("fork").Pool(1)))

    found.append(results_of(get_context("fork").Pool(2)))
    within = fitted(lenet(), callbacks=[Works()])
    return {
        "expected": expected,
        "after": [bits for bits, _ in found[0]],
        "within": [bits for bits, _ in found[1]],
        "itself": [expected[0], within],
        "BLAS": [blas.threads(), *(threads for _, threads in found[0])],
    }


def forked_beside():
    """A thread that is in no call forks while the main thread is within fit; its child has BLAS as before."""
    expected, net, seen, child = fitted(lenet()), lenet(), [], []

    class Waits(portnn.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 1:
                seen.append(blas.threads())
                worker = threading.Thread(target=lambda: child.append(in_child(blas.threads)))
                worker.start()
                worker.join()

    found = fitted(net, callbacks=[Waits()])
    return {"within": seen[0], "child": child[0], "after": blas.threads(), "bits": [expected, found]}


def warned():
    """The warnings of a fit, its bits, and some of its outputs."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = lenet()
        found = fitted(net)
        outputs = net.predict(numbers(5, 3, 16, 16, 3).astype("float32"))
    said = [str(w.message) for w in caught if issubclass(w.category, troubles.CompiledLoopsWarning)]
    others, info = len(caught) - len(said), pool.describe()
    return {"bits": found, "said": said, "others": others, "info": info, "outputs": outputs.reshape(-1).tolist()}


def masked():
    """How many threads a call may use, and what it computes, with all cores, with one of them, and with all again."""
    cores, threads, bits = os.sched_getaffinity(0), [], []
    for allowed in (cores, {min(cores)}, cores):
        os.sched_setaffinity(0, allowed)
        threads.append(pool.most())
        bits.append(fitted(lenet(), epochs=1))
    return {"threads": threads, "bits": bits}


def limits():
    """The numbers of threads that a call may use, and those that it leaves behind."""
    import numba

    before, user = numba.get_num_threads(), None
    within = []

    class Asks(portnn.Callback):
        def on_epoch_end(self, epoch, logs):
            within.append([pool.threads(), blas.threads(), numba.get_num_threads()])

    one = blas.threads()
    fitted(lenet(), epochs=1, callbacks=[Asks()])
    numba.set_num_threads(user := max(before - 1, 1))
    fitted(lenet(), epochs=1, callbacks=[Asks()])
    left = numba.get_num_threads()
    return {"before": before, "user": user, "left": left, "within": within, "BLAS": [one, blas.threads()]}


PROGRAMS = {f.__name__: f for f in (bits, at_once, forked, multiprocessed, forked_beside, warned, masked, limits)}

if __name__ == "__main__":
    print(json.dumps(PROGRAMS[sys.argv[1]]()))
