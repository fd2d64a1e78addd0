"""Sizes and slices, worked out from shapes alone: pure Python, no arrays."""

from itertools import product
from math import prod
from typing import NamedTuple


class ConvPlan(NamedTuple):
    """Where a convolution's kernel stands on an image.

    ``image`` (H, W), ``kernel`` (h, w), ``output`` (H', W') are spatial sizes; ``channels`` is C. Each offset of the
    kernel (i, j) sees the image through ``windows[i * w + j]``, a slice per axis, of the output's size.
    """

    image: tuple[int, ...]
    channels: int
    kernel: tuple[int, ...]
    output: tuple[int, ...]
    windows: tuple[tuple[slice, ...], ...]

    @property
    def patch_size(self) -> int:
        """Values under the kernel at one position: h * w * C."""
        return prod(self.kernel) * self.channels


def conv_plan(image: tuple[int, ...], channels: int, kernel: tuple[int, ...]) -> ConvPlan:
    """Plans a "valid" convolution of stride 1: the kernel stays on the image, so H' = H - h + 1.

    >>> conv_plan((5, 4), 1, (3, 3)).output
    (3, 2)
    """
    output = tuple(size - k + 1 for size, k in zip(image, kernel, strict=True))
    if min(output) < 1:
        raise ValueError(
            f"a kernel of {_by(kernel)} does not fit on an image of {_by(image)}: "
            f"kernel_shape may be {_by(image)} at most"
        )
    offsets = product(*(range(k) for k in kernel))
    windows = tuple(tuple(slice(o, o + n) for o, n in zip(offset, output, strict=True)) for offset in offsets)
    return ConvPlan(image, channels, kernel, output, windows)


def _by(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))
