"""The base class of the pooling layers."""

from functools import lru_cache
from typing import Any

from portnn import checks
from portnn._typing import Array
from portnn.layers.layer import Layer
from portnn.ops.windows import WindowPlan, by, pads_of, per_axis, window_plan
from portnn.settings import Fixed


class PoolLayer(Layer):
    """Base class of the pooling layers: the positions of the windows, computed once per image size.

    ``window`` is a number of pixels, or one per axis; so is ``stride`` s, by default the window, so that windows do
    not overlap; ``padding`` is as in ConvLayer. Raises ValueError if the padding is as wide as the window.

    >>> import numpy as np
    >>> from portnn import AvgPoolLayer, MaxPoolLayer
    >>> X = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> MaxPoolLayer(2)(X)[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    >>> AvgPoolLayer(2)(X)[0, :, :, 0]
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """

    _for_backward = (*Layer._for_backward, "Y")
    Y: Any = None  # the maxima, for backward; not ``output``, which a derived class may have changed
    window: Any = Fixed()
    stride: Any = Fixed()
    padding: Any = Fixed()

    def __init__(self, window: Any, *, stride: Any = None, padding: Any = "valid"):
        values = window if isinstance(window, (tuple, list)) else (window,)
        if len(values) == 0:
            raise ValueError("window must be a number, or one per axis of the image, got an empty one")
        sizes = tuple(checks.size("window", value) for value in values)
        self.window = sizes if isinstance(window, (tuple, list)) else sizes[0]
        self.stride = self.window if stride is None else stride
        self.padding = padding
        self.check_padding(sizes)

    def plan(self, X: Array) -> WindowPlan:
        """The positions of the windows on the images X (N, H, W, C)."""
        return self.plan_of(tuple(X.shape[1:-1]))

    def plan_of(self, image: tuple[int, ...]) -> WindowPlan:
        """The positions of the windows on images of a size, (H, W)."""
        return _plan(image, self._sizes(len(image)), _hashable(self.stride), _hashable(self.padding))

    def _sizes(self, axes: int) -> tuple[int, ...]:
        if not isinstance(self.window, tuple):
            return (self.window,) * axes
        if len(self.window) != axes:
            raise ValueError(
                f"{self} has a window of {len(self.window)} axes, but the image has {axes}: give a number, or one "
                "per axis"
            )
        return self.window

    def check_padding(self, sizes: tuple[int, ...]) -> None:
        """Refuses padding that would leave a window without a pixel of the image: it has no maximum and no mean."""
        axes = max(len(v) if isinstance(v, (tuple, list)) else 1 for v in (sizes, self.stride, self.padding))
        sizes = sizes if isinstance(self.window, tuple) else sizes * axes
        pads = pads_of(self.padding, sizes, sizes, per_axis("stride", self.stride, len(sizes)))
        if any(max(pad) >= size for pad, size in zip(pads, sizes, strict=True)):
            raise ValueError(
                f"padding={self.padding!r} is as wide as the window of {by(sizes)}: some windows would hold no pixel "
                "of the image. On each side it must be smaller than the window"
            )

    def output_shape(self, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if input_shape is None:
            return None
        if len(input_shape) < 2:
            raise checks.misfit(
                f"{self} takes images (H, W, C) or sequences (L, C), but a sample comes in with shape {input_shape}",
                "put a ReshapeLayer in front of it",
            )
        try:
            return (*self.plan_of(input_shape[:-1]).output, input_shape[-1])
        except ValueError as error:
            raise checks.misfit(f"{self}, for a sample of shape {input_shape}: {error}") from error

    def __repr__(self) -> str:
        options = {"stride": (self.stride, self.window), "padding": (self.padding, "valid")}
        shown = "".join(f", {name}={value!r}" for name, (value, usual) in options.items() if value != usual)
        return f"{type(self).__name__}({self.window}{shown})"


@lru_cache(maxsize=256)  # shared by all layers and image sizes
def _plan(image: tuple[int, ...], window: tuple[int, ...], stride: Any, padding: Any) -> WindowPlan:
    return window_plan(image, window, stride, padding)


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value
