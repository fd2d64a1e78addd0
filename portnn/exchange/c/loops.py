"""The loops of each kind of layer in C: the body of a function of one sample ``x`` that fills ``y``.

All sizes are numbers in the text, so that a compiler knows how often each loop runs. The channels are innermost:
weights are read in the order in which they lie, and neighbouring sums are independent, so that it can vectorize them.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from portnn._typing import Shape
from portnn.exchange import counterparts
from portnn.exchange.counterparts import Windows

TAPS = 4  # inputs that are added to the sums at a time: these are read and written once for all of them


class Code:
    """Lines of C, indented."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 1

    def __call__(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def open(self, text: str) -> None:
        self(text + " {")
        self.depth += 1

    def loop(self, index: str, count: Any) -> None:
        self.open(f"for (int {index} = 0; {index} < {count}; {index}++)")

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


def add_products(c: Code, n: Any, outputs: int, stride: int, sums: str = "sums") -> None:
    """``sums[f]`` += the sum over k < n of seen[k] * w[stride k + f], for f < outputs."""

    def term(k: int) -> str:
        place = f"k + {k}" if k else "k"
        row = f"({place}) * {stride}" if k else f"k * {stride}"
        return f"seen[{place}] * w[{place if stride == 1 else row + ' + f' * (outputs > 1)}]"

    def add(products: str) -> None:
        over_outputs(c, outputs, lambda f: f"{sums}[{f}] += {products};")
        c.close()

    at_once = f"({term(0)} + {term(1)}) + ({term(2)} + {term(3)})"
    if not isinstance(n, int):
        c("int k = 0;")
        c.open(f"for (; k + {TAPS} <= {n}; k += {TAPS})")
        add(at_once)
        c.open(f"for (; k < {n}; k++)")
        add(term(0))
        return
    whole = n - n % TAPS
    if whole:
        c.open(f"for (int k = 0; k < {whole}; k += {TAPS})")
        add(at_once)
    if whole < n:
        c.open(f"for (int k = {whole}; k < {n}; k++)")
        add(term(0))


def over_outputs(c: Code, outputs: int, line: Callable[[str], str]) -> None:
    """A line for each output f: a loop, unless there is one output only."""
    if outputs == 1:
        c(line("0"))
        return
    c.loop("f", outputs)
    c(line("f"))
    c.close()


def begin_sums(c: Code, bias: str | None, outputs: int) -> None:
    over_outputs(c, outputs, lambda f: f"sums[{f}] = {f'{bias}[{f}]' if bias else '0.0f'};")


def bias_of(layer: Any, arrays: Arrays) -> str | None:
    return arrays("bias", values_of(layer, "bias")) if "bias" in layer.parameters else None


def fully_connected(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    rows, inputs, outputs = prod(shape[:-1]), layer.input_size, layer.output_size
    weights, bias = arrays("weights", values_of(layer, "weights")), bias_of(layer, arrays)
    if rows > 1:
        c.loop("row", rows)
    start = (f"&x[row * {inputs}]", f"&y[row * {outputs}]") if rows > 1 else ("x", "y")
    c(f"const float *seen = {start[0]};")
    c(f"const float *w = {weights};")
    c(f"float *sums = {start[1]};")
    begin_sums(c, bias, outputs)
    add_products(c, inputs, outputs, outputs)
    if rows > 1:
        c.close()


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


def look(c: Code, plan: Windows, axis: int, out: str, offset: str, at: str) -> None:
    """Opens a loop over a window's offsets along one axis, in which ``at`` is a place within the image."""
    c.loop(offset, plan.window[axis])
    before, after = plan.padding[axis]
    c(f"const int {at} = {along(out, plan.stride[axis], offset, plan.dilation[axis], before)};")
    outside = [f"{at} < 0"] * bool(before) + [f"{at} >= {plan.image[axis]}"] * bool(after)
    if outside:
        c.open(f"if ({' || '.join(outside)})")
        c("continue; /* padding */")
        c.close()


def convolution(c: Code, layer: Any, shape: Shape, arrays: Arrays) -> None:
    plan, weights, bias = counterparts.convolution(layer), values_of(layer, "weights"), None
    channels, filters, groups = shape[-1], layer.layer_depth, layer.groups
    name, bias = arrays("weights", weights), bias_of(layer, arrays)
    rows = len(shape) == 3  # else a sequence, an image of one row
    if rows:
        c.loop("i", plan.output[0])
    c.loop("j", plan.output[1])
    c(f"float *sums = &y[{flat(['i', 'j'], plan.output) if rows else 'j'} * {filters}];")
    begin_sums(c, bias, filters)
    if rows:
        look(c, plan, 0, "i", "u", "a")
    (before, after), w = plan.padding[1], plan.window[1]
    depth = weights.shape[-2]
    if plan.dilation[1] == 1 and groups == 1:  # the pixels of a row of the kernel lie side by side
        first = along("j", plan.stride[1], before=before)
        start, n, skipped = first, w * depth, ""
        if before or after:
            c(f"const int first = {first};")
            c("const int from = first < 0 ? -first : 0; /* the part of the kernel's row that is not on padding */")
            c(f"const int end = {plan.image[1]} - first < {w} ? {plan.image[1]} - first : {w};")
            c(f"const int n = (end - from) * {depth};")
            start, n, skipped = "first + from", "n", "from"
        place = f"(a * {plan.image[1]} + {start})" if rows else f"({start})"
        offset = f"(u * {w}{f' + {skipped}' if skipped else ''})" if rows else skipped or "0"
        if before or after:
            c.open("if (n > 0)")
        c(f"const float *seen = &x[{place} * {channels}];")
        c(f"const float *w = &{name}[{offset} * {depth * filters}];")
        add_products(c, n, filters, filters)
        c.close(bool(before or after))
    else:
        look(c, plan, 1, "j", "v", "b")
        place = flat(["a", "b"], plan.image) if rows else "b"
        offset = f"(u * {w} + v)" if rows else "v"
        pixel, kernel = f"x[{place} * {channels}", f"{name}[{offset} * {depth * filters}"
        if depth == 1 and filters == channels:  # each channel has one filter
            c(f"const float *seen = &{pixel}];")
            c(f"const float *w = &{kernel}];")
            c.loop("f", filters)
            c("sums[f] += seen[f] * w[f];")
            c.close()
        else:
            each = filters // groups
            c.loop("g", groups)
            c(f"const float *seen = &{pixel} + g * {depth}];")
            c(f"const float *w = &{kernel} + g * {each}];")
            c(f"float *own = sums + g * {each};")
            add_products(c, depth, each, filters, "own")
            c.close()
        c.close()
    c.close(3 if rows else 1)


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


def number(value: Any, dtype: str) -> str:
    """A number as C reads it, to the same bits."""
    spelt = str(np.dtype(dtype).type(value))
    special = {"inf": "INFINITY", "-inf": "-INFINITY", "nan": "NAN"}
    return special.get(spelt, spelt + ("f" if dtype == "float32" else ""))


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
