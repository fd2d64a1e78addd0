"""Sizes, padding and slices, computed from shapes alone: pure Python, no arrays."""

from itertools import product
from math import prod
from typing import Any, NamedTuple

from portnn import checks, names

Sizes = tuple[int, ...]
POSITIONS = 1 << 19  # of a window: each has an entry in the plan
BITS = 20  # no image has more than 2**20 pixels along an axis


class WindowPlan(NamedTuple):
    """The positions of the windows of a convolution or pooling on an image; fields have an entry per axis.

    These are ``image`` (H, W), ``kernel`` (h, w), ``output`` (H', W'), ``stride`` and ``padding`` ((before, after),
    ...). For each offset (i, j) within the window, ``windows[i * w + j]`` selects from the padded image the pixels at
    this offset in all windows: one slice per axis, of the output's size, with ``starts`` as their first indices.
    ``inside`` selects the image in the padded one, whose sizes are ``padded``.
    """

    image: Sizes
    kernel: Sizes
    output: Sizes
    stride: Sizes
    padding: tuple[tuple[int, int], ...]
    windows: tuple[tuple[slice, ...], ...]
    inside: tuple[slice, ...]
    starts: tuple[Sizes, ...]
    padded: Sizes
    is_padded: bool


def window_plan(image: Sizes, kernel: Sizes, stride: Any = 1, padding: Any = "valid", dilation: Any = 1) -> WindowPlan:
    """Plans windows of ``kernel`` on ``image``; the arguments are those of ConvLayer.

    Along each axis there are (n + before + after - reach) // stride + 1 windows, where reach = (k - 1) * dilation + 1
    is the length that a window covers. ValueError if the kernel does not fit on the padded image.

    >>> window_plan((5, 4), (3, 3)).output
    (3, 2)
    >>> plan = window_plan((5, 4), (3, 3), stride=2, padding="same")
    >>> plan.output, plan.padding
    ((3, 2), ((1, 1), (0, 1)))
    """
    axes = len(image)
    strides, dilations = per_axis("stride", stride, axes), per_axis("dilation", dilation, axes)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    pads = pads_of(padding, image, reach, strides)
    room = tuple(n + sum(pad) for n, pad in zip(image, pads, strict=True))
    if any(r > n for r, n in zip(reach, room, strict=True)):
        spread = f", spread to {by(reach)} by dilation," if reach != kernel else ""
        around = f" with padding {by(room)}" if room != image else ""
        raise ValueError(
            f"a kernel of {by(kernel)}{spread} does not fit on an image of {by(image)}{around}: it may be at most "
            f"{by(room)}. Make it smaller, or choose padding='same'"
        )
    output = tuple((n - r) // s + 1 for n, r, s in zip(room, reach, strides, strict=True))
    if prod(kernel) > POSITIONS:
        raise ValueError(f"a window of {by(kernel)} has {prod(kernel):,} positions, it may have {POSITIONS:,} at most")
    firsts = [[o * d for o in range(k)] for k, d in zip(kernel, dilations, strict=True)]
    along = [
        [slice(a, a + (m - 1) * s + 1, s) for a in axis] for axis, m, s in zip(firsts, output, strides, strict=True)
    ]
    windows, starts = tuple(product(*along)), tuple(product(*firsts))
    inside = tuple(slice(before, before + n) for n, (before, _) in zip(image, pads, strict=True))
    return WindowPlan(image, kernel, output, strides, pads, windows, inside, starts, room, room != image)


def per_axis(what: str, value: Any, axes: int) -> Sizes:
    """A whole number, 1 or more, for every axis, given as one number or as one per axis."""
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if len(values) != axes:
        raise ValueError(f"{what} must be a number, or one for each of {axes} axes, got {value!r:.60}")
    return tuple(checks.size(what, v, 1, BITS) for v in values)


def pads_of(padding: Any, image: Sizes, reach: Sizes, strides: Sizes) -> tuple[tuple[int, int], ...]:
    """(before, after) for every axis, from the padding as a user gives it."""
    axes = len(image)
    if isinstance(padding, str) and padding == "valid":
        return ((0, 0),) * axes
    # "same": ceil(n / stride) windows; an odd pixel of padding goes at the end
    if isinstance(padding, str) and padding == "same":
        missing = [max((-(-n // s) - 1) * s + r - n, 0) for n, r, s in zip(image, reach, strides, strict=True)]
        return tuple((m // 2, m - m // 2) for m in missing)
    expected = (
        f"padding must be 'valid', 'same', a number, or for each of {axes} axes a number or a pair (before, after); "
        f"got {padding!r:.60}{names.meant('padding', padding, ('valid', 'same'))}"
    )
    if isinstance(padding, str):
        raise ValueError(expected)
    values = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * axes
    if len(values) != axes:
        raise ValueError(expected)
    pads = []
    for value in values:
        pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
        if len(pair) != 2:
            raise ValueError(expected)
        pads.append((checks.size("padding", pair[0], 0, BITS), checks.size("padding", pair[1], 0, BITS)))
    return tuple(pads)


def by(sizes: Sizes) -> str:
    """``3 x 3``."""
    return " x ".join(map(str, sizes))
