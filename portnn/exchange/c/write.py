"""The C file and its test program: a function for each layer, the buffers between them, the weights."""

import copy
import os
import re
import shlex
from importlib.resources import files as resources
from math import prod
from typing import Any

import numpy as np

from portnn._typing import Shape
from portnn.exchange import counterparts
from portnn.exchange.c.loops import LOOPS, Arrays, Code, each_number, numbers
from portnn.exchange.counterparts import one_line, shown
from portnn.exchange.samples import most

MOST_BYTES = 50_000_000  # of weights: compilers take minutes and gigabytes for a text of more numbers
MOST_VALUES = 2**31 - 1  # of a layer: loops count in int
NUMBERS = 8  # of an array on a line
SAMPLES, RECORDED = 4, 20_000  # samples in the test program, and about how many numbers they may have together
TOLERANCE = {"float32": "1e-5", "float64": "1e-12"}
COMPOSITES = {"SequentialLayer", "ResidualLayer", "ParallelLayer"}


def files(network: Any, name: str) -> dict[str, str]:
    """The texts of ``net.c`` and ``net_test.c``, for a network whose layers have their paths and parameters."""
    counterparts.check(network, "the file", "C", {*LOOPS, *COMPOSITES}, MOST_BYTES)
    shape = counterparts.shape_of_samples(network)
    stem, ending = os.path.splitext(name)
    beside = f"{stem}_test{ending}"
    writer = Writer()
    result, output = writer.chain(network.layers, Value(prod(shape), "x"), shape)
    writer.into_y(result, network.layers[-1], output)
    prefix = identifier(stem)
    return {
        beside: _in(network.dtype, _test_program(network, prefix, name, beside, shape)),
        name: _in(network.dtype, _program(network, writer, prefix, name, beside, shape, output)),
    }


def identifier(stem: str) -> str:
    """The file's name as a name in C: ``my_net`` for ``my-net``."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", stem)
    return name if re.match(r"[A-Za-z]", name) else f"net_{name.lstrip('_')}".rstrip("_")


def comment(text: str) -> str:
    """Text for a comment in C, which can neither end it nor begin another."""
    return one_line(text).replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")


def _in(dtype: str, code: str) -> str:
    """Code that was written for ``float``, in the network's dtype."""
    if dtype == "float32":
        return code
    parts = re.split(r"(/\*.*?\*/)", code, flags=re.DOTALL)  # every second one is a comment, which stays as it is
    return "".join(part if i % 2 else _in_double(part) for i, part in enumerate(parts))


def _in_double(code: str) -> str:
    code = re.sub(r"\bfloat\b", "double", code)
    code = re.sub(r"\b(tanh|exp|expm1|log1p|erf|sqrt|fabs)f\(", r"\1(", code)
    return re.sub(r"(?<![\w.])(\d+\.?\d*(?:e-?\d+)?)f\b", r"\1", code)


# -- layers and the buffers between them -------------------------------------------------------------------------------


class Value:
    """What a layer returns: how many numbers, and where they are: in a buffer, or what has a name of its own."""

    def __init__(self, size: int, name: str | None = None, buffer: int | None = None):
        self.size, self.name, self.buffer = size, name, buffer
        self.users = 1

    def __str__(self) -> str:
        return self.name or f"buffer_{self.buffer}"


class Writer:
    """Writes a function and a call of it for each layer, and hands out buffers: one is free for another value once
    nothing reads it any more. Each function leaves its input as it is."""

    def __init__(self) -> None:
        self.functions: list[str] = []
        self.calls: list[tuple[str, list[Value]]] = []  # a comment, or a function's name with its arguments
        self.arrays: dict[str, np.ndarray] = {}
        self.values: list[Value] = []

    def value(self, size: int) -> Value:
        taken = {each.buffer for each in self.values if each.users}
        self.values.append(Value(size, buffer=next(i for i in range(len(taken) + 1) if i not in taken)))
        return self.values[-1]

    def chain(self, layers: Any, x: Value, shape: Shape) -> tuple[Value, Shape]:
        """Calls for layers in order: what the last one returns, and its shape. The caller's hold on ``x`` passes on."""
        for layer in layers:
            x, shape = self.layer(layer, x, shape)
        return x, shape

    def layer(self, layer: Any, x: Value, shape: Shape) -> tuple[Value, Shape]:
        name, after = type(layer).__name__, counterparts.shape_after(layer, shape)
        if prod(after) > MOST_VALUES:
            raise ValueError(
                f"layer {layer.path} ({layer}) returns {prod(after):,} numbers, of shape {shown(after)}: loops in C, "
                f"which count in int, reach {MOST_VALUES:,}"
            )
        about = f"{name}, as a whole" if name in COMPOSITES else comment(repr(layer))
        about = f"{layer.path}  {about}: {shown(shape)} -> {shown(after)}"
        self.calls.append((f"/* {about} */", []))
        if name == "SequentialLayer":
            return self.chain(layer.layers, x, shape)
        if name == "ResidualLayer":
            x.users += 1
            result, _ = self.chain(layer.layers, x, shape)
            return self.sum_of(layer, [x, result], about), after
        if name == "ParallelLayer":
            return self.parallel(layer, x, shape, after, about), after
        write = LOOPS[name]
        if write is None:
            return x, after
        code, arrays = Code(), Arrays(layer.path)
        write(code, layer, shape, arrays)
        self.arrays |= arrays.known
        return self.call(f"layer_{arrays.suffix}", [x], prod(after), code, about), after

    def call(self, name: str, given: list[Value], size: int, code: Code, about: str) -> Value:
        """Notes a function and the call of it; the hold on what it is given ends."""
        result = self.value(size)
        words = ["x"] if len(given) == 1 else [f"x_{i}" for i in range(len(given))]
        parameters = ", ".join(f"const float *restrict {word}" for word in words)
        body = "\n".join(code.lines)
        self.functions.append(f"/* {about} */\nstatic void {name}({parameters}, float *restrict y)\n{{\n{body}\n}}")
        self.calls.append((name, [*given, result]))
        for each in given:
            each.users -= 1
        return result

    def sum_of(self, layer: Any, given: list[Value], about: str) -> Value:
        if len(given) == 1:
            return given[0]
        code = Code()
        each_number(code, (given[0].size,), " + ".join(f"x_{i}[i]" for i in range(len(given))))
        return self.call(f"layer_{layer.path.replace('.', '_')}", given, given[0].size, code, about)

    def parallel(self, layer: Any, x: Value, shape: Shape, after: Shape, about: str) -> Value:
        x.users += len(layer.layers) - 1  # each branch takes x
        results = [self.layer(branch, x, shape) for branch in layer.layers]
        values = [value for value, _ in results]
        if layer.merge == "add" or len(values) == 1:
            return self.sum_of(layer, values, about)
        code, first = Code(), 0
        code.loop("i", prod(after[:-1]))
        for k, (_, inside) in enumerate(results):
            n = inside[-1]
            code.loop("c", n)
            code(f"y[i * {after[-1]} + {first} + c] = x_{k}[i * {n} + c];")
            code.close()
            first += n
        code.close()
        return self.call(f"layer_{layer.path.replace('.', '_')}", values, prod(after), code, about)

    def into_y(self, result: Value, last: Any, shape: Shape) -> None:
        """Has the last function write into ``y``; copies where none does."""
        if result.name is not None:
            code = Code()
            each_number(code, shape, "x[i]")
            result = self.call("copy", [result], prod(shape), code, "no layer computes")
        result.name, result.buffer = "y", None


# -- the files ---------------------------------------------------------------------------------------------------------


def _program(network: Any, writer: Writer, prefix: str, name: str, beside: str, shape: Shape, output: Shape) -> str:
    body = "\n".join(
        f"    {what}" if not values else f"    {what}({', '.join(map(str, values))});" for what, values in writer.calls
    )
    sizes: dict[int, int] = {}
    for value in writer.values:
        if value.buffer is not None:
            sizes[value.buffer] = max(sizes.get(value.buffer, 0), value.size)
    called = "\n\n".join(writer.functions)
    return (
        "\n\n".join(
            [
                _filled(
                    HEAD,
                    name=comment(name),
                    beside=comment(beside),
                    command=_command(name, beside),
                    made=counterparts.how_it_was_made('network.export("net.c")'),
                    prefix=prefix,
                    taken=_counted(shape),
                    given=_counted(output),
                ),
                "#include <math.h>",
                f"void {prefix}_predict(const float *x, float *y);",
                *(_array(each, values, network.dtype) for each, values in writer.arrays.items()),
                *(["\n".join(f"static float buffer_{i}[{n}];" for i, n in sorted(sizes.items()))] if sizes else []),
                *_functions(called),
                *writer.functions,
                f"void {prefix}_predict(const float *x, float *y)\n{{\n{body}\n}}",
            ]
        )
        + "\n"
    )


HEAD = """/* @name@: a neural network in C99, without a library.

   @made@

   @prefix@_predict(x, y) takes one sample x, @taken@ in C order (the last axis
   varies fastest), and writes @given@ to y, which must not overlap x.
   It allocates nothing: what is between the layers lies in static buffers, so one call at a time may run, in
   whatever thread. From C++: compile this file as C, and declare the function as extern "C".

   @beside@ compares it with what the network returned:
   @command@ */"""


def _command(*names: str) -> str:
    """The command that compiles and runs the test, for a comment; a name in quotes where a shell needs them."""
    files = shlex.join(f"./{name}" if name.startswith("-") else name for name in names)
    language = "" if names[0].endswith(".c") else "-x c "  # .C means C++
    return comment(f"cc -std=c99 -O3 {language}{files} -lm && ./a.out")


def _counted(shape: Shape) -> str:
    return f"{prod(shape)} number{'s' * (prod(shape) != 1)} of shape {shown(shape)}"


def _filled(template: str, **parts: str) -> str:
    return re.sub(r"@(\w+)@", lambda found: parts[found[1]], template)


def _functions(calling: str) -> list[str]:
    """The functions of ``assets/functions.c`` that some code calls, and those that they call."""
    text = (resources("portnn.exchange.c") / "assets" / "functions.c").read_text(encoding="utf-8")
    blocks = {re.search(r"(\w+)\(float", block)[1]: block for block in re.split(r"(?<=^\}\n)\n", text, flags=re.M)}  # type: ignore[index]
    wanted = {name for name in blocks if re.search(rf"\b{name}\(", calling)}
    wanted |= {name for name in blocks for other in wanted if re.search(rf"\b{name}\(", blocks[other])}
    return [block.strip() for name, block in blocks.items() if name in wanted]


def _array(name: str, values: np.ndarray, dtype: str) -> str:
    return f"static const float {name}[{values.size}] = {{ /* {shown(values.shape)} */\n{_numbers(values, dtype)}\n}};"


def _numbers(values: np.ndarray, dtype: str) -> str:
    spelt = numbers(values, dtype)
    return ",\n".join("    " + ", ".join(spelt[i : i + NUMBERS]) for i in range(0, len(spelt), NUMBERS))


def _test_program(network: Any, prefix: str, name: str, beside: str, shape: Shape) -> str:
    """Some samples, what the network returned for them, and a comparison."""
    count = max(1, min(SAMPLES, RECORDED // max(1, prod(shape))))
    drawn = np.random.default_rng(0).integers(0, 256, (count, *shape)) / 256.0
    x = (most(network.layers) * drawn if len(shape) > 1 or most(network.layers) > 1.0 else 2.0 * drawn - 1.0).astype(
        network.dtype
    )
    beside_it = copy.deepcopy(network)  # whose ``predict`` leaves no trace in the network
    y = beside_it.backend.to_numpy(beside_it.predict(x))
    inputs, outputs = prod(shape), prod(y.shape[1:])
    return f"""/* {comment(beside)}: compares {comment(name)} with what the network returned.

   {counterparts.how_it_was_made(f"network.export({chr(34)}net.c{chr(34)})")}
   {_command(name, beside)} */

#include <math.h>
#include <stdio.h>

#define SAMPLES {count}
#define INPUTS {inputs}
#define OUTPUTS {outputs}

void {prefix}_predict(const float *x, float *y);

static const float x[SAMPLES * INPUTS] = {{
{_numbers(x, network.dtype)}
}};

static const float expected[SAMPLES * OUTPUTS] = {{
{_numbers(y, network.dtype)}
}};

int main(void)
{{
    static float y[OUTPUTS];
    double largest = 0.0, difference = 0.0;
    int wrong = 0; /* infinity or NaN in one of the two only */
    for (int i = 0; i < SAMPLES * OUTPUTS; i++) {{
        const double size = fabs((double)expected[i]);
        largest = isfinite(size) && size > largest ? size : largest;
    }}
    for (int n = 0; n < SAMPLES; n++) {{
        {prefix}_predict(&x[n * INPUTS], y);
        for (int i = 0; i < OUTPUTS; i++) {{
            const double found = (double)y[i], right = (double)expected[n * OUTPUTS + i];
            if (isfinite(found) && isfinite(right)) {{
                difference = fabs(found - right) > difference ? fabs(found - right) : difference;
            }} else {{
                wrong += isnan(found) ? !isnan(right) : !(found >= right && found <= right);
            }}
        }}
    }}
    wrong += !(difference <= {TOLERANCE[network.dtype]} * largest);
    printf("%d samples, largest difference %g, largest value %g: %s\\n", SAMPLES, difference, largest,
           wrong ? "failed" : "passed");
    return wrong ? 1 : 0;
}}
"""
