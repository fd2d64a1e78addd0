"""What the writers of other languages share: what has no counterpart there, and the numbers behind layers' options."""

import json
import re
import textwrap
from collections.abc import Callable, Collection
from math import prod
from typing import Any, NamedTuple

from portnn import activations
from portnn._typing import Shape
from portnn.exchange.samples import sample_shape
from portnn.layers import sequential
from portnn.ops import is_ours
from portnn.ops.windows import pads_of, per_axis
from portnn.version import __version__

WIDTH = 120  # characters of a line
MOST_BYTES = 200_000_000  # of weights: few programs open a text of much more than these make


def check(network: Any, what: str, language: str, known: Collection[str], most: int = MOST_BYTES) -> None:
    """ValueError that lists all layers without a counterpart, or for too many weights; RuntimeError for parameters
    that do not exist yet.

    ``what`` is written, "the page", in a ``language`` that has counterparts for the layers whose classes are ``known``.
    """
    strange = [f"{layer.path} {name}" for layer in network.walk() if (name := strange_in(layer, known))]
    if strange:
        listed = "".join(f"\n  layer {line}" for line in strange)
        raise ValueError(
            f"{what} has no {language} for {len(strange)} of the network's layers; it has for portnn's own, not for "
            f"layers and functions of yours:{listed}"
        )
    check_complete(network)
    numbers = sum(prod(array.shape) for layer in network.walk() for array in layer.parameters.values())
    size = numbers * (4 if network.dtype == "float32" else 8)
    if size > most:
        raise ValueError(
            f"the network has {size:,} bytes of weights, a{what.removeprefix('the')} may hold {most:,} at most"
        )


def check_complete(network: Any) -> None:
    """RuntimeError for parameters that do not exist yet."""
    for layer in network.walk():
        if not layer.complete:
            raise RuntimeError(
                f"layer {layer.path} ({layer}) creates its parameters on the first batch: call fit or predict first"
            )


def strange_in(layer: Any, known: Collection[str]) -> str | None:
    """What has no counterpart in a layer: its class, or a user's activation; None if it has one."""
    kind = type(layer)
    if not is_ours(kind):
        return kind.__name__
    if kind.__name__ == "ActivationLayer" and activation_name(layer) is None:
        return f"ActivationLayer with the function {getattr(layer.activation, '__name__', 'of a user')}"
    return None if kind.__name__ in known else kind.__name__


def activation_name(layer: Any) -> str | None:
    """The name of one of our own activations; None for a user's."""
    return next((name for name, pair in activations.PAIRS.items() if pair[0] is layer.activation), None)


# -- shapes ------------------------------------------------------------------------------------------------------------


def shown(shape: Shape) -> str:
    """A shape as Python writes it: ``(5,)``."""
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


def shape_after(layer: Any, shape: Shape) -> Shape:
    """The shape of one sample after a layer of ours, which knows it for a known input."""
    (_, after) = sequential.shapes([layer], shape)
    assert after is not None
    return after


def shape_of_samples(network: Any) -> Shape:
    """The shape of one sample: of those that were last trained on or predicted, else as the layers say it."""
    if network._checked is not None:
        return tuple(network._checked)
    return sample_shape(network)


class Windows(NamedTuple):
    """The windows of a convolution or a pooling, with an entry per axis."""

    image: Shape
    window: Shape
    stride: Shape
    padding: tuple[tuple[int, int], ...]
    dilation: Shape
    output: Shape

    def along(self, axes: int) -> "Windows":
        """The entries of the last axes."""
        return Windows(
            self.image[-axes:],
            self.window[-axes:],
            self.stride[-axes:],
            self.padding[-axes:],
            self.dilation[-axes:],
            self.output[-axes:],
        )


def convolution(layer: Any) -> Windows:
    """A convolution's windows on an image: a sequence is an image of one row."""
    plan, axes = layer.plan, len(layer.kernel_shape)
    first: Any = (1,) * (2 - axes)
    dilation = per_axis("dilation", layer.dilation, axes)
    padding = (*(((0, 0),) * (2 - axes)), *plan.padding)
    return Windows(
        (*first, *plan.image),
        (*first, *plan.kernel),
        (*first, *plan.stride),
        padding,
        (*first, *dilation),
        (*first, *plan.output),
    )


def pooling(layer: Any, shape: Shape) -> Windows:
    """A pooling layer's windows on a sample of that shape."""
    axes = len(shape) - 1
    window, stride = per_axis("window", layer.window, axes), per_axis("stride", layer.stride, axes)
    padding = pads_of(layer.padding, shape[:-1], window, stride)
    return Windows(shape[:-1], window, stride, padding, (1,) * axes, shape_after(layer, shape)[:-1])


# -- text --------------------------------------------------------------------------------------------------------------


def how_it_was_made(call: str) -> str:
    """The sentence that every file begins with."""
    return f"Written by portnn {__version__}, a neural network library in Python, with {call}."


def one_line(text: str) -> str:
    """Text for a comment: it stays on its line, and in ASCII."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", json.dumps(text)[1:-1].replace('\\"', '"').replace("\\\\", "\\"))


def folded(line: str) -> list[str]:
    """A comment, or a line of code within brackets, as lines of at most 120 characters where spaces allow it."""
    if len(line) <= WIDTH:
        return [line]
    margin = line[: len(line) - len(line.lstrip())]
    further = f"{margin}#     " if line.lstrip().startswith("#") else f"{margin}    "
    return textwrap.wrap(
        line.lstrip(),
        WIDTH,
        initial_indent=margin,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )


def called(blocks: dict[str, str], calling: str, words: Callable[[str], set[str]]) -> list[str]:
    """Those of the functions ``blocks``, source by name, that some code calls, and those that they call, in order.

    ``words`` finds the names in a piece of source.
    """
    wanted: set[str] = set()
    reached = words(calling)
    while new := (reached & blocks.keys()) - wanted:
        wanted |= new
        reached = set().union(*(words(blocks[name]) for name in new))
    return [block for name, block in blocks.items() if name in wanted]
