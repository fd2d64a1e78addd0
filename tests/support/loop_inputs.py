"""Arguments for every compiled loop that may be divided among threads, at odd sizes.

``python loop_inputs.py`` prints, for every loop and dtype, the SHA-256 of what its serial form and, with one to three
threads, its parallel one write and return.
"""

import hashlib
import importlib
import json
import pkgutil

import numpy as np

from portnn import get_backend, ops
from portnn.ops.windows import window_plan
from portnn_numpy import blas, compiled

FLOATS, SINGLE = ("float32", "float64"), ("float32",)
N = 40_009  # a prime
INPUTS = {}


def loops():
    """Every loop of the package, by ``module.name``."""
    from portnn_numpy.compiled.jit import Loop

    found = {}
    for part in pkgutil.iter_modules(compiled.__path__):
        module = importlib.import_module(f"{compiled.__name__}.{part.name}")
        for thing in vars(module).values():
            if isinstance(thing, Loop) and thing.py_func.__module__ == module.__name__:
                found[f"{part.name}.{thing.__name__}"] = thing
    return found


def inputs(name, dtypes=FLOATS):
    """For a function of (numbers, dtype, threads) that makes new arguments: ``numbers(*shape)`` are drawn at random."""

    def note(function):
        INPUTS[name] = function, dtypes
        return function

    return note


def drawn(dtype, special):
    """``numbers(*shape)``; where ``special``, every 997th is NaN, infinite, zero or denormal."""
    rng = np.random.default_rng(0)

    def numbers(*shape):
        x = rng.standard_normal(shape).astype(dtype)
        if special:
            flat = x.reshape(-1)
            wild = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-42, 3e38], dtype)
            flat[5::997] = np.resize(wild, flat[5::997].size)
        return x

    return numbers


# -- optimizers and activations ------------------------------------------------------------------------------------------


def rates(dtype, *values):
    return [np.dtype(dtype).type(value) for value in values]


@inputs("optimizers._momentum")
@inputs("optimizers._nesterov")
def moved(numbers, dtype, threads):
    return *(numbers(N) for _ in range(5)), *rates(dtype, 0.1, 0.9)


@inputs("optimizers._squares")
def squared(numbers, dtype, threads):
    return (
        numbers(N),
        numbers(N),
        abs(numbers(N)),
        numbers(N),
        numbers(N),
        *rates(dtype, 0.1, 0.9, 0.1, 1e-8, 1e18),
    )


@inputs("optimizers._adam")
def averaged(numbers, dtype, threads):
    arrays = numbers(N), numbers(N), numbers(N), abs(numbers(N)), *(numbers(N) for _ in range(3))
    return *arrays, *rates(dtype, 0.1, 1.7, 0.9, 0.1, 0.99, 0.01, 1e-8, 0.97, 1e18)


@inputs("_descent.descend")
def descended(numbers, dtype, threads):
    from portnn_numpy.compiled import _activations

    n, m = 613, 431  # more weights than the loop runs on one thread with
    row = [numbers(1, m) for _ in range(4)]
    return (
        numbers(n, m),
        row[0],
        numbers(1, n),
        *row[1:],
        numbers(n, m),
        numbers(n, m),
        numbers(1, m),
        *rates(dtype, 0.1),
        _activations.TANH,
    )


@inputs("_activations.tanh_all", SINGLE)
def one_and_result(numbers, dtype, threads):
    return 4 * numbers(N), numbers(N)


@inputs("_activations.relu_all")
def positive(numbers, dtype, threads):
    return numbers(N), numbers(N)


@inputs("_activations.tanh_chain")
@inputs("_activations.relu_chain")
def two_and_result(numbers, dtype, threads):
    return numbers(N), numbers(N), numbers(N)


@inputs("_activations.add")
@inputs("_activations.add_relu")
@inputs("_activations.add_tanh", SINGLE)
def along_rows(numbers, dtype, threads):
    return numbers(317, 131), numbers(131)


@inputs("_activations.add_each")
@inputs("_activations.add_each_relu")
@inputs("_activations.add_each_tanh", SINGLE)
def each_row(numbers, dtype, threads):
    return numbers(31, 1319), numbers(31)


# -- pooling and resampling ------------------------------------------------------------------------------------------------

CHANNELS, BATCH = 5, 37
POOLING = window_plan((11, 13), (3, 2), (2, 1), 1)  # windows overlap


def pooled(numbers, dtype):
    from portnn_numpy.compiled import _pooling

    x = numbers(CHANNELS, *POOLING.padded, BATCH).round(1)  # with ties
    y = numbers(CHANNELS * np.prod(POOLING.output), BATCH)
    return x, y, *_pooling.windows(x, POOLING), _pooling.shares(POOLING, np.dtype(dtype))


@inputs("_pooling.largest_of")
def largest_of(numbers, dtype, threads):
    x, y, places, offsets, _ = pooled(numbers, dtype)
    return x.reshape(-1), y, places, offsets


@inputs("_pooling.largest_backward")
def largest_backward(numbers, dtype, threads):
    from portnn_numpy.compiled import _pooling

    x, y, places, offsets, _ = pooled(numbers, dtype)
    _pooling.largest_of.serial(x.reshape(-1), y, places, offsets)
    return x.reshape(-1), y, numbers(*y.shape), numbers(x.size), places, offsets, CHANNELS


@inputs("_pooling.mean_of")
def mean_of(numbers, dtype, threads):
    x, y, places, offsets, shares = pooled(numbers, dtype)
    return x.reshape(-1), y, places, offsets, shares


@inputs("_pooling.mean_backward")
def mean_backward(numbers, dtype, threads):
    x, y, places, offsets, shares = pooled(numbers, dtype)
    return y, x.reshape(-1), places, offsets, shares, CHANNELS


@inputs("_resampling.gather")
@inputs("_resampling.scatter")
def resampled(numbers, dtype, threads):
    images = numbers(13, 17, 19, 3)
    maps = ops.bind(get_backend("cpu"), "portable").random_maps(images, (1, 2), 3, 2.0, 20.0, 0.3)
    return images, maps, np.zeros_like(images)


TILES = window_plan((11, 13), (3, 2), (3, 2))  # that do not overlap, nor cover the image


def behind_pooling(numbers, dtype):
    """y (C, H, W, N), dE/dP, dE/dY, zeros, and its sums; where the windows are; p; the kind of the activation."""
    from portnn_numpy.compiled import _pooling

    y = np.tanh(numbers(CHANNELS, *TILES.image, BATCH).round(1))
    places, offsets = _pooling.windows(y, TILES)
    p = numbers(places.size, BATCH)
    d, out, sums = numbers(*p.shape), np.zeros_like(y), np.zeros((CHANNELS, BATCH), dtype)
    return y.reshape(-1), d, out.reshape(-1), sums, places, offsets, p


@inputs("_pooling.largest_chain")
def behind_maxima(numbers, dtype, threads):
    from portnn_numpy.compiled import _activations, _pooling

    *given, p = behind_pooling(numbers, dtype)
    _pooling.largest_of.serial(given[0], p, *given[-2:])
    return *given, p, _activations.TANH


@inputs("_pooling.mean_chain")
def behind_means(numbers, dtype, threads):
    from portnn_numpy.compiled import _activations, _pooling

    *given, _ = behind_pooling(numbers, dtype)
    return *given, _pooling.shares(TILES, np.dtype(dtype)), _activations.RELU


@inputs("_pooling.chain")
def behind_convolution(numbers, dtype, threads):
    from portnn_numpy.compiled import _activations, _pooling

    y = numbers(CHANNELS, 9001)
    return y, numbers(*y.shape), numbers(*y.shape), np.zeros((CHANNELS, _pooling.FEW), dtype), _activations.TANH


@inputs("_batches.rows")
def a_batch(numbers, dtype, threads):
    return numbers(317, 131), numbers(1009, 131), np.random.default_rng(0).permutation(1009)[:317]


@inputs("_batches.rows: of bytes", SINGLE)
def a_batch_of_bytes(numbers, dtype, threads):
    rng = np.random.default_rng(0)
    return numbers(317, 131), rng.integers(0, 256, (1009, 131), np.uint8), rng.permutation(1009)[:317]


@inputs("jit._turn")
def turned(numbers, dtype, threads):
    return numbers(317, 131), numbers(131, 317)


# -- normalization ---------------------------------------------------------------------------------------------------------

SIZES = {"": (31, 1319, 1), ": across": (3, 131, 131)}  # (A, K, B)


def normalized(sizes):
    def make(numbers, dtype, threads):
        a, k, b = sizes
        return numbers(a * k * b), numbers(a * k * b), sizes, np.dtype(dtype).type(1e-5), *numbers(3, a * b)

    return make


def normalized_backward(sizes, centers):
    def make(numbers, dtype, threads):
        a, k, b = sizes
        return *numbers(3, a * k * b), sizes, numbers(a * b), numbers(2, a * b), centers

    return make


for where, sizes in SIZES.items():
    inputs(f"_normalization.normalize{where}")(normalized(sizes))
    inputs(f"_normalization.backward{where}")(normalized_backward(sizes, True))
    inputs(f"_normalization.backward{where}: scaled")(normalized_backward(sizes, False))


@inputs("_normalization.scaled")
def scaled(numbers, dtype, threads):
    return numbers(317, 131), numbers(317, 131), numbers(131), numbers(131), False


@inputs("_normalization.scaled: each")
def each_scaled(numbers, dtype, threads):
    return numbers(31, 1319), numbers(31, 1319), numbers(31), numbers(31), True


# -- losses ----------------------------------------------------------------------------------------------------------------


def of_elements(kind):
    def make(numbers, dtype, threads):
        return 9 * numbers(N), abs(numbers(N)), numbers(N), np.empty(10), kind

    return make


inputs("_losses.alone", SINGLE)(of_elements(1))
inputs("_losses.alone: logits", SINGLE)(of_elements(2))


@inputs("_losses.softmax", SINGLE)
def of_targets(numbers, dtype, threads):
    """Logits channel by channel, targets in C order."""
    places, n, classes = sizes = 13, 131, 11
    layout = sizes, (n, 1, places * n), (classes, places * classes, 1), np.float32(1 / n)
    y, target, d = numbers(3, places * n * classes)
    return 9 * y, abs(target), np.empty(0, np.int64), d, np.empty(places * 3), *layout


@inputs("_losses.softmax: labels", SINGLE)
def of_labels(numbers, dtype, threads):
    """Logits in C order."""
    places, n, classes = sizes = 13, 131, 11
    layout = sizes, (classes, places * classes, 1), (1, places, 0), np.float32(1 / n)
    y, d = numbers(2, places * n * classes)
    labels = np.random.default_rng(0).integers(0, classes, places * n)
    return 9 * y, np.empty(0, np.float32), labels, d, np.empty(places * 3), *layout


# -- convolution and products ----------------------------------------------------------------------------------------------

CONVOLUTION = window_plan((9, 11), (3, 3), (1, 1), "same")


@inputs("_convolution._gather", SINGLE)
def gathered(numbers, dtype, threads):
    from portnn_numpy.compiled import _activations
    from portnn_numpy.compiled import _convolution as conv

    filters = 15  # blocks of six overlap
    table = conv.forward_table(conv.shape_of(CONVOLUTION), CHANNELS, BATCH)
    blocks, pixels = conv.filter_blocks(filters), table.first.size - 1
    w = numbers(blocks.size, 9 * CHANNELS * conv.SIX)
    x, y = numbers(CHANNELS * 9 * 11 * BATCH), numbers(filters * pixels * BATCH)
    return x, w, y, *table, BATCH, blocks, numbers(filters), _activations.TANH


@inputs("_strips.strips", SINGLE)
def in_strips(numbers, dtype, threads):
    from portnn_numpy.compiled import _activations, _strips

    filters, rows, columns = 2 * _strips.HEIGHT + 3, *CONVOLUTION.image  # blocks overlap
    blocks = np.array([0, _strips.HEIGHT, filters - _strips.HEIGHT])
    x, w = numbers(CHANNELS * rows * columns * BATCH), numbers(blocks.size, 9 * CHANNELS * _strips.HEIGHT)
    sizes = (CHANNELS, rows, columns, rows, columns, BATCH, 3, 3)
    y, bias = numbers(filters * rows * columns * BATCH), numbers(filters)
    return x, w, y, sizes, (1, 1), blocks, bias, _activations.RELU


def summed(numbers, channels, threads):
    from portnn_numpy.compiled import _convolution as conv

    starts, runs = conv.line_table(conv.shape_of(CONVOLUTION), CONVOLUTION.padded, channels, BATCH)
    filters, size = 15, int(np.prod(CONVOLUTION.output)) * BATCH
    blocks, tasks = conv.filter_blocks(filters), conv.gradient_tasks(starts.size, len(runs), threads)
    sums = np.zeros((tasks[-1, -1] + 1, starts.size, blocks.size * conv.SIX * conv.LANES), np.float32)
    x, d = numbers(channels * int(np.prod(CONVOLUTION.padded)) * BATCH), numbers(filters * size)
    return x, d, sums, starts, runs, size, blocks, tasks


@inputs("_convolution.gradient_sums", SINGLE)
def few_taps(numbers, dtype, threads):
    return summed(numbers, CHANNELS, threads)


@inputs("_convolution.gradient_sums: many taps", SINGLE)
def many_taps(numbers, dtype, threads):
    return summed(numbers, 15, threads)


@inputs("_convolution.copied")
def copied(numbers, dtype, threads):
    x, _, _, starts, runs, *_ = summed(numbers, CHANNELS, threads)
    return numbers(starts.size, int(np.prod(CONVOLUTION.output)) * BATCH), x, starts, runs


def multiplied(numbers, dtype, kind, m, k, n):
    from portnn_numpy.compiled import _products

    a, b, c = numbers(m, k), numbers(n, k).T, numbers(m, n)
    held.extend((a, b))
    operands, cuts = (_products._operand(a), _products._operand(b)), _products._cuts(m, n, m * k * n)
    return c, blas.product_address(np.dtype(dtype).char), *operands, k, cuts, m >= n, numbers(n), kind


held = []  # arrays of which a loop is given the address


@inputs("_products.multiply")
def by_rows(numbers, dtype, threads):
    return multiplied(numbers, dtype, 2, 1031, 129, 131)


@inputs("_products.multiply: columns", SINGLE)
def by_columns(numbers, dtype, threads):
    return multiplied(numbers, dtype, 3, 129, 131, 1031)


# -- running them ----------------------------------------------------------------------------------------------------------


FENCE = 1 << 16  # bytes
PAINT = 0x5A


def fenced(a):
    """A copy of an array between two fences, and all three as bytes."""
    if not isinstance(a, np.ndarray):
        return a, None
    room = np.full(a.nbytes + 2 * FENCE, PAINT, np.uint8)
    inside = room[FENCE:-FENCE].view(a.dtype).reshape(a.shape)
    inside[...] = a
    return inside, room


def written(form, arguments):
    """The SHA-256 of the arrays of numbers after the loop has run, what it returned, and whether it wrote beside them."""
    arguments, rooms = zip(*map(fenced, arguments), strict=True)
    returned, found = form(*arguments), hashlib.sha256()
    for a in arguments:
        if isinstance(a, np.ndarray) and a.dtype.kind == "f":
            found.update(np.where(np.isnan(a), np.nan, a).tobytes())  # whatever the sign of a NaN
    fences = [fence for room in rooms if room is not None for fence in (room[:FENCE], room[-FENCE:])]
    beside = any((fence != PAINT).any() for fence in fences)
    return f"{found.hexdigest()} {returned}{', and wrote outside of its arrays' * beside}"


def main():
    import numba

    from portnn_numpy.compiled import pool

    found, most = {}, numba.get_num_threads()
    pool.enter()
    for key, (make, dtypes) in INPUTS.items():
        loop = loops()[key.partition(":")[0]]
        for dtype in dtypes:
            for special in (False, True):
                arguments = make(drawn(dtype, special), dtype, 1)
                before = written(lambda *given: None, arguments)
                results = [before, written(loop.serial, arguments)]
                for threads in range(1, most + 1):
                    numba.set_num_threads(threads)
                    results.append(written(loop.parallel, make(drawn(dtype, special), dtype, threads)))
                found[f"{key}, {dtype}{', special' * special}"] = results
    pool.leave()
    print(json.dumps(found))


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        main()
