"""The loops of each kind of layer in C: the body of a function of one sample ``x`` that fills ``y``.

All sizes are numbers in the text, so that a compiler knows how often each loop runs. The channels are innermost:
weights are read in the order in which they lie, and neighbouring sums are independent, so that it can vectorize them.
"""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from portnn._typing import Shape
from portnn.exchange import counterparts
from portnn.exchange.counterparts import Windows

TAPS = 4  # inputs that are added to the sums at a time: these are read and written once for all of them
FOUR = 4  # places whose sums are computed at a time: weights are read once for all of them


class Code:
    """Lines of C, indented."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 1

    def __call__(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def open(self, text: str) -> None:
        self(f"{text} {{".lstrip())
        self.depth += 1

    def otherwise(self) -> None:
        self.depth -= 1
        self.open("} else")

    def loop(self, index: str, count: Any, step: int = 1) -> None:
        each = f"{index}++" if step == 1 else f"{index} += {step}"
        self.open(f"for (int {index} = 0; {index} < {count}; {each})")

    def close(self, n: int = 1) -> None:
        for _ in range(n):
            self.depth -= 1
            self("}")


class Arrays:
    """The constant arrays of a layer; ``arrays(name, values)`` notes one and returns what it is called in C."""

    def __init__(self, path: str) -> None:
        self.suffix = path.replace(".", "_")
        self.known: dict[str, np.ndarray] = {}

    def __call__(self, name: str, values: np.ndarray) -> str:
        self.known[f"{name}_{self.suffix}"] = values
        return f"{name}_{self.suffix}"


def values_of(layer: Any, name: str) -> np.ndarray:
    """A parameter or buffer of a layer on the host."""
    home = layer.parameters if name in layer.parameters else layer.buffers
    return np.asarray(layer.backend.to_numpy(home[name]))


# -- sums of products --------------------------------------------------------------------------------------------------


class Places(NamedTuple):
    """Several places whose sums are computed together, so that each weight is read once for all of them.

    ``number`` places, whose inputs are ``seen`` numbers apart and whose sums are ``sums`` numbers apart.
    """

    number: int
    seen: int
    sums: int


ONE = Places(1, 0, 0)


def add_products(c: Code, n: Any, outputs: int, stride: int, places: Places = ONE, sums: str = "sums") -> None:
    """``sums[f]`` += the sum over k < n of seen[k] * w[stride k + f], for f < outputs, at each of the places."""
    if not isinstance(n, int):
        c("int k = 0;")
        c.open(f"for (; k + {TAPS} <= {n}; k += {TAPS})")
        _add(c, [_plus("k", i) for i in range(TAPS)], outputs, stride, places, sums)
        c.close()
        c.open(f"for (; k < {n}; k++)")
        _add(c, ["k"], outputs, stride, places, sums)
        c.close()
        return
    whole = n - n % TAPS
    if whole > TAPS:
        c.loop("k", whole, TAPS)
        _add(c, [_plus("k", i) for i in range(TAPS)], outputs, stride, places, sums)
        c.close()
    elif whole:
        _add(c, [str(i) for i in range(whole)], outputs, stride, places, sums)
    if whole < n:
        _add(c, [str(i) for i in range(whole, n)], outputs, stride, places, sums)


def _add(c: Code, inputs: list[str], outputs: int, stride: int, places: Places, sums: str) -> None:
    """Adds the products of a few inputs; these are read before the loop over the outputs."""
    c.open("")
    for p in range(places.number):
        read = [f"x{p}{i} = seen[{_plus(k, p * places.seen)}]" for i, k in enumerate(inputs)]
        c(f"const float {', '.join(read)};")
    if outputs > 1:
        c.loop("f", outputs)
    weights = [f"w{i} = w[{_plus(_times(k, stride), 'f' if outputs > 1 else 0)}]" for i, k in enumerate(inputs)]
    c(f"const float {', '.join(weights)};")
    for p in range(places.number):
        products = [f"x{p}{i} * w{i}" for i in range(len(inputs))]
        if len(products) == TAPS:  # two shorter sums: the second need not wait for the first
            products = [f"({' + '.join(products[:2])})", f"({' + '.join(products[2:])})"]
        at = _plus("f" if outputs > 1 else "0", p * places.sums)
        c(f"{sums}[{at}] += {' + '.join(products)};")
    c.close(2 if outputs > 1 else 1)


def _plus(index: str, more: Any) -> str:
    """The sum of two indices, numbers added up: ``k + 64``."""
    if more in (0, "0"):
        return index
    if index == "0":
        return str(more)
    *terms, last = f"{index} + {more}".split(" + ")
    *first, before = terms
    if before.isdigit() and last.isdigit():
        return " + ".join([*first, str(int(before) + int(last))])
    return " + ".join([*terms, last])


def _times(index: str, factor: int) -> str:
    """An index times a number: ``(k + 1) * 64``."""
    if factor == 1:
        return index
    if index.isdigit():
        return str(int(index) * factor)
    return f"{index} * {factor}" if index.isidentifier() else f"({index}) * {factor}"


def over_outputs(c: Code, outputs: int, line: Callable[[str], str]) -> None:
    """A line for each output f: a loop, unless there is one output only."""
    if outputs == 1:
        c(line("0"))
        return
    c.loop("f", outputs)
    c(line("f"))
    c.close()


def begin_sums(c: Code, bias: str | None, outputs: int, places: Places = ONE) -> None:
    def lines(f: str) -> str:
        start = f"{bias}[{f}]" if bias else "0.0f"
        return " = ".join(f"sums[{_plus(f, p * places.sums)}]" for p in range(places.number)) + f" = {start};"

    over_outputs(c, outputs, lines)


def bias_of(layer: Any, arrays: Arrays) -> str | None:
    return arrays("bias", values_of(layer, "bias")) if "bias" in layer.parameters else None


def fully_connected(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    rows, inputs, outputs = prod(shape[:-1]), layer.input_size, layer.output_size
    weights, bias = arrays("weights", values_of(layer, "weights")), bias_of(layer, arrays)

    def body(places: Places) -> None:
        start = (f"&x[row * {inputs}]", f"&y[row * {outputs}]") if rows > 1 else ("x", "y")
        c(f"const float *seen = {start[0]};")
        c(f"const float *w = {weights};")
        c(f"float *sums = {start[1]};")
        begin_sums(c, bias, outputs, places)
        add_products(c, inputs, outputs, outputs, places)

    if rows > 1:
        in_fours(c, "row", rows, 0, rows, Places(FOUR, inputs, outputs), body)
    else:
        body(ONE)


def in_fours(
    c: Code, index: str, count: int, first: int, end: int, four: Places, body: Callable[[Places], None]
) -> None:
    """Loops over ``count`` places: four at a time from ``first`` to ``end``, the others one by one."""
    if end - first < FOUR:
        c.loop(index, count)
        body(ONE)
        c.close()
    elif end - first == count and count % FOUR == 0:
        c.loop(index, count, FOUR)
        body(four)
        c.close()
    else:
        c.open(f"for (int {index} = 0; {index} < {count};)")
        c.open(f"if ({f'{index} >= {first} && ' if first else ''}{index} + {FOUR} <= {end})")
        body(four)
        c(f"{index} += {FOUR};")
        c.otherwise()
        body(ONE)
        c(f"{index}++;")
        c.close(2)


# -- windows -----------------------------------------------------------------------------------------------------------


def names(letters: str, axes: int) -> list[str]:
    """An index for each axis: ``i``, ``j`` for images, numbered for volumes."""
    return list(letters[:axes]) if axes <= len(letters) else [f"{letters[0]}_{axis}" for axis in range(axes)]


def flat(indices: list[str], sizes: Shape) -> str:
    """The place of a pixel: ``(i * 28 + j)``."""
    place = indices[0]
    for index, size in zip(indices[1:], sizes[1:], strict=True):
        place = f"({place} * {size} + {index})"
    return place


def along(index: str, stride: int, offset: str = "", dilation: int = 1, before: int = 0) -> str:
    """Where a window looks: ``2 * i + u - 1``."""
    terms = index if stride == 1 else f"{stride} * {index}"
    if offset:
        terms += f" + {offset}" if dilation == 1 else f" + {dilation} * {offset}"
    return f"{terms} - {before}" if before else terms


def look(c: Code, plan: Windows, axis: int, out: str, offset: str, at: str, inside: bool = False) -> None:
    """Opens a loop over a window's offsets along one axis, in which ``at`` is a place within the image.

    ``inside``: the whole window is, as is known already.
    """
    c.loop(offset, plan.window[axis])
    before, after = plan.padding[axis]
    c(f"const int {at} = {along(out, plan.stride[axis], offset, plan.dilation[axis], before)};")
    outside = [f"{at} < 0"] * bool(before) + [f"{at} >= {plan.image[axis]}"] * bool(after)
    if outside and not inside:
        c.open(f"if ({' || '.join(outside)})")
        c("continue; /* padding */")
        c.close()


def convolution(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    plan, channels, filters = counterparts.convolution(layer), shape[-1], layer.layer_depth
    name, bias = arrays("weights", values_of(layer, "weights")), bias_of(layer, arrays)
    rows, columns, stride = len(shape) == 3, plan.output[1], plan.stride[1]  # rows: else a sequence, an image of one
    side_by_side = plan.dilation[1] == 1 and layer.groups == 1  # the pixels that a row of the kernel sees

    def body(places: Places) -> None:
        c(f"float *sums = &y[{flat(['i', 'j'], plan.output) if rows else 'j'} * {filters}];")
        begin_sums(c, bias, filters, places)
        if rows:
            look(c, plan, 0, "i", "u", "a")
        (_kernels_row if side_by_side else _kernels_pixels)(c, layer, plan, channels, name, rows, places)
        c.close(rows)

    before, reach = plan.padding[1][0], (plan.window[1] - 1) * plan.dilation[1] + 1
    first = -(-before // stride)  # from here to the end the kernel's columns lie within the image
    end = min(columns, (plan.image[1] - reach + before) // stride + 1)
    if rows:
        c.loop("i", plan.output[0])
    in_fours(c, "j", columns, first, end, Places(FOUR, stride * channels, filters), body)
    c.close(rows)


def _kernels_row(c: Code, layer: Any, plan: Windows, channels: int, name: str, rows: bool, places: Places) -> None:
    """The products of a whole row of the kernel: what it sees lies side by side, and so do its weights."""
    w, filters, padded = plan.window[1], layer.layer_depth, places.number == 1 and any(plan.padding[1])
    start = along("j", plan.stride[1], before=plan.padding[1][0])
    n: Any = w * channels
    if padded:
        c(f"const int first = {start};")
        c("const int from = first < 0 ? -first : 0; /* the part of the kernel's row that is not on padding */")
        c(f"const int end = {plan.image[1]} - first < {w} ? {plan.image[1]} - first : {w};")
        c(f"const int n = (end - from) * {channels};")
        c.open("if (n > 0)")
        start, n = "first + from", "n"
    place = f"(a * {plan.image[1]} + {start})" if rows else f"({start})"
    offset = f"(u * {w}{' + from' if padded else ''})" if rows else "from" if padded else "0"
    c(f"const float *seen = &x[{place} * {channels}];")
    c(f"const float *w = &{name}[{offset} * {channels * filters}];")
    add_products(c, n, filters, filters, places)
    c.close(padded)


def _kernels_pixels(c: Code, layer: Any, plan: Windows, channels: int, name: str, rows: bool, places: Places) -> None:
    """The products of the kernel's pixels, one by one: they are apart, or each group of filters sees its channels."""
    w, filters, depth = plan.window[1], layer.layer_depth, channels // layer.groups
    look(c, plan, 1, "j", "v", "b", inside=places.number > 1)
    pixel = f"x[{flat(['a', 'b'], plan.image) if rows else 'b'} * {channels}"
    kernel = f"{name}[{f'(u * {w} + v)' if rows else 'v'} * {depth * filters}"
    if depth == 1 and filters == channels:  # each channel has one filter
        c(f"const float *seen = &{pixel}];")
        c(f"const float *w = &{kernel}];")
        c.loop("f", filters)
        for p in range(places.number):
            c(f"sums[{_plus('f', p * places.sums)}] += seen[{_plus('f', p * places.seen)}] * w[f];")
        c.close(2)
        return
    each, own = filters // layer.groups, "sums"
    if layer.groups > 1:
        c.loop("g", layer.groups)
        pixel, kernel, own = f"{pixel} + g * {depth}", f"{kernel} + g * {each}", "own"
        c(f"float *own = sums + g * {each};")
    c(f"const float *seen = &{pixel}];")
    c(f"const float *w = &{kernel}];")
    add_products(c, depth, each, filters, places, own)
    c.close(1 + (layer.groups > 1))


def pooling(c: Code, layer: Any, shape: Shape, largest: bool) -> None:
    plan, axes, channels = counterparts.pooling(layer, shape), len(shape) - 1, shape[-1]
    outs, offsets, places = names("ij", axes), names("uv", axes), names("ab", axes)
    for index, count in zip(outs, plan.output, strict=True):
        c.loop(index, count)
    c(f"float *to = &y[{flat(outs, plan.output)} * {channels}];")
    c.loop("c", channels)
    c(f"to[c] = {'-INFINITY' if largest else '0.0f'};")
    c.close()
    padded = any(map(any, plan.padding))
    if padded and not largest:
        c("int n = 0; /* pixels of the window that are not padding */")
    for axis in range(axes):
        look(c, plan, axis, outs[axis], offsets[axis], places[axis])
    c(f"const float *from = &x[{flat(places, plan.image)} * {channels}];")
    c.loop("c", channels)
    c("to[c] = (from[c] > to[c] || from[c] != from[c]) ? from[c] : to[c];" if largest else "to[c] += from[c];")
    c.close()
    if padded and not largest:
        c("n++;")
    c.close(axes)
    if not largest:
        c.loop("c", channels)
        c("to[c] /= (float)n;" if padded else f"to[c] /= {prod(plan.window)}.0f;")
        c.close()
    c.close(axes)


def max_pool(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    pooling(c, layer, shape, largest=True)


def avg_pool(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    pooling(c, layer, shape, largest=False)


def global_max_pool(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    *image, channels = shape
    c.loop("c", channels)
    c("y[c] = -INFINITY;")
    c.close()
    c.loop("i", prod(image))
    c(f"const float *from = &x[i * {channels}];")
    c.loop("c", channels)
    c("y[c] = (from[c] > y[c] || from[c] != from[c]) ? from[c] : y[c]; /* NaN stays */")
    c.close(2)


def global_avg_pool(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    """Row by row: a long sum would round more than it must."""
    rows, *columns, channels = shape
    c.loop("c", channels)
    c("float sum = 0.0f;")
    c.loop("i", rows)
    c("float part = 0.0f;")
    c.loop("j", prod(columns))
    c(f"part += x[(i * {prod(columns)} + j) * {channels} + c];")
    c.close()
    c("sum += part;")
    c.close()
    c(f"y[c] = sum / {rows * prod(columns)}.0f;")
    c.close()


def upsample(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    *image, channels = shape
    factors = layer.factors(len(image))
    outs = names("ij", len(image))
    sizes = tuple(n * r for n, r in zip(image, factors, strict=True))
    for index, count in zip(outs, sizes, strict=True):
        c.loop(index, count)
    sources = [index if r == 1 else f"{index} / {r}" for index, r in zip(outs, factors, strict=True)]
    c.loop("c", channels)
    c(f"y[{flat(outs, sizes)} * {channels} + c] = x[({flat(sources, tuple(image))}) * {channels} + c];")
    c.close(len(image) + 1)


# -- number by number --------------------------------------------------------------------------------------------------


def each_number(c: Code, shape: Shape, formula: str) -> None:
    c.loop("i", prod(shape))
    c(f"y[i] = {formula};")
    c.close()


def scale(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    factor, offset = (number(value, layer.dtype) for value in (layer.factor, layer.offset))
    each_number(c, shape, f"{factor} * x[i] + {offset}")


def activation(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    name = counterparts.activation_name(layer)
    each_number(c, shape, f"{'tanhf' if name == 'tanh' else name}(x[i])")


def batch_norm(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    """The running mean and variance are constants, so that a slope and a shift of each channel are left."""
    weights, bias, mean, variance = (
        values_of(layer, name) for name in ("weights", "bias", "running_mean", "running_var")
    )
    with np.errstate(all="ignore"):
        slope = weights / np.sqrt(variance + layer.epsilon)
        shift = bias - mean * slope
    a, b = arrays("slope", slope), arrays("shift", shift)
    pixels, channels = prod(shape[:-1]), shape[-1]
    c.loop("i", pixels)
    c.loop("c", channels)
    c(f"y[i * {channels} + c] = x[i * {channels} + c] * {a}[c] + {b}[c];")
    c.close(2)


def layer_norm(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    c.loop("part", prod(shape[:-1]))
    normalize(c, layer, (1, shape[-1]), f"part * {shape[-1]} + c", "c", arrays)
    c.close()


def group_norm(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    pixels, channels = prod(shape[:-1]), shape[-1]
    each = channels // layer.groups
    c.loop("part", layer.groups)
    normalize(c, layer, (pixels, each), f"i * {channels} + part * {each} + c", f"part * {each} + c", arrays)
    c.close()


def normalize(c: Code, layer: Any, sizes: tuple[int, int], place: str, channel: str, arrays: Arrays) -> None:
    """To mean 0 and variance 1 over pixels i and channels c, then scaled and shifted."""
    weights, bias = (arrays(name, values_of(layer, name)) for name in ("weights", "bias"))
    count = f"{prod(sizes)}.0f"

    def over(term: str, into: str) -> None:
        pixels, channels = sizes
        if pixels > 1:
            c.loop("i", pixels)
            c("float sum = 0.0f;")
        c.loop("c", channels)
        c(f"{'sum' if pixels > 1 else into} += {term};")
        c.close()
        if pixels > 1:
            c(f"{into} += sum;")
            c.close()

    place_ = place if sizes[0] > 1 else place.replace("i * ", "0 * ")
    c("float mean = 0.0f, rest = 0.0f, variance = 0.0f;")
    over(f"x[{place_}]", "mean")
    c(f"mean /= {count};")
    over(f"x[{place_}] - mean", "rest")
    c(f"rest /= {count}; /* what rounding has cost */")
    over(f"(x[{place_}] - mean - rest) * (x[{place_}] - mean - rest)", "variance")
    c(f"const float slope = 1.0f / sqrtf(variance / {count} + {number(layer.epsilon, layer.dtype)});")
    if sizes[0] > 1:
        c.loop("i", sizes[0])
    c.loop("c", sizes[1])
    c(f"y[{place_}] = (x[{place_}] - mean - rest) * slope * {weights}[{channel}] + {bias}[{channel}];")
    c.close(2 if sizes[0] > 1 else 1)


def softmax(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    n = shape[-1]
    c.loop("row", prod(shape[:-1]))
    c(f"const float *from = &x[row * {n}];")
    c(f"float *to = &y[row * {n}];")
    c("float largest = from[0], sum = 0.0f; /* subtracting the largest changes nothing, and nothing overflows */")
    c.open(f"for (int c = 1; c < {n}; c++)")
    c("largest = from[c] > largest ? from[c] : largest;")
    c.close()
    c.loop("c", n)
    c("to[c] = expf(from[c] - largest);")
    c("sum += to[c];")
    c.close()
    c.loop("c", n)
    c("to[c] /= sum;")
    c.close(2)


def numbers(values: np.ndarray, dtype: str) -> list[str]:
    """Numbers as C reads them, to the same bits."""
    suffix = "f" if dtype == "float32" else ""
    special = {"inf": "INFINITY", "-inf": "-INFINITY", "nan": "NAN"}
    spelt = map(str, values.astype(dtype, copy=False).reshape(-1))  # with as many digits as it takes
    return [special.get(each, each + suffix) for each in spelt]


def number(value: Any, dtype: str) -> str:
    return numbers(np.asarray(value, dtype), dtype)[0]


LOOPS: dict[str, Callable[[Code, Any, Shape, Arrays], None] | None] = {
    "FCLayer": fully_connected,
    "ConvLayer": convolution,
    "ActivationLayer": activation,
    "FlattenLayer": None,  # the numbers stay where they are
    "ReshapeLayer": None,
    "ScaleLayer": scale,
    "MaxPoolLayer": max_pool,
    "AvgPoolLayer": avg_pool,
    "GlobalMaxPoolLayer": global_max_pool,
    "GlobalAvgPoolLayer": global_avg_pool,
    "UpsampleLayer": upsample,
    "DropoutLayer": None,  # in training only
    "RandomAffineLayer": None,
    "BatchNormLayer": batch_norm,
    "LayerNormLayer": layer_norm,
    "GroupNormLayer": group_norm,
    "SoftmaxLayer": softmax,
}
