"""A layer's parameters as a picture."""

from typing import Any

import numpy as np

from portnn.show.plots import given
from portnn.show.plots.given import drawing, on_host
from portnn.transfer import is_array

MOST = 6  # parameters
BINS = 50
ALIKE = 1e-6  # of the largest value: numbers that differ by less are one bar


def weights(layer: Any, *, fig: Any = None) -> Any:
    """Draws the parameters of a layer, and how their values are distributed; returns the Figure.

    Each parameter has a row of two panels. On the left are its values: a matrix (in, out) is an image with a row for
    each input, blue for negative and red for positive weights; kernels (h, w, C, F) are one with a column for each
    filter; vectors, such as biases, are points. On the right is a histogram with mean and standard deviation. Of a
    composite layer the first 6 parameters are shown. ``fig`` is an empty matplotlib Figure or SubFigure to draw into.

    Raises ValueError for a layer that has no parameters, RuntimeError for one whose parameters do not exist yet.
    """
    found = _parameters(given.layer_itself(layer, "weights"))
    canvas = drawing()
    shown = dict(list(found.items())[:MOST])
    figure = canvas.panels(fig, 8.5, 0.5 + 2.7 * len(shown))
    axes = figure.subplots(len(shown), 2, squeeze=False)
    for (left, right), (name, values) in zip(axes, shown.items(), strict=True):
        _values(canvas, figure, left, name, values)
        _histogram(canvas, right, name, values)
    left_out = f": the first {len(shown)} of {len(found)} parameters" if len(found) > len(shown) else ""
    canvas.heading(figure, canvas.written(layer, 80) + left_out)
    return figure


def _parameters(layer: Any) -> dict[str, np.ndarray]:
    """All parameters of a layer and of those in it, on the host; of one written as in the article weights and bias."""
    found: dict[str, np.ndarray] = {}
    for part in layer.walk():
        inside = part.path.removeprefix(layer.path).lstrip(".")
        arrays = (
            {name: vars(part).get(name) for name in ("weights", "bias")} if part.updates_itself else part.parameters
        )
        for name, array in arrays.items():
            if is_array(array) or isinstance(array, list):
                found[f"{inside}.{name}".lstrip(".")] = on_host(array, name).astype(np.float64)
        missing = [name for name in part.shapes if name not in arrays]
        if missing or not part.complete:
            raise RuntimeError(part.why_no_parameter((missing or ["weights"])[0]))
    found = {name: values for name, values in found.items() if values.size}
    if not found:
        raise ValueError(f"{given.short(layer)} has no parameters: nothing can be drawn")
    return found


def furthest(values: np.ndarray) -> float:
    """The largest distance from zero, so that zero has the colour in the middle."""
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max()) if finite.size and finite.max() > 0.0 else 1.0


def _values(canvas: Any, figure: Any, ax: Any, name: str, values: np.ndarray) -> None:
    columns = values.shape[-1] if values.ndim else 1
    table = values.reshape(-1, columns)
    ax.set_title(canvas.written(f"{name} {values.shape}", 60), loc="left", fontsize="medium")
    if len(table) == 1:
        ax.axhline(0.0, color="gray", linewidth=0.8)
        ax.plot(canvas.drawable(table[0]), "o", color=canvas.BLUE, markersize=4)
        ax.set_xlabel("output" if values.ndim > 1 else "channel or filter" if columns > 1 else "index")
        ax.set_ylabel("value")
        canvas.whole_ticks(ax.xaxis)
        return
    table = canvas.drawable(table)
    limit = furthest(table)
    smooth = "nearest" if table.size < 4096 else "auto"
    image = canvas.image(ax, table, -limit, limit, canvas.SIGNED, aspect="auto", interpolation=smooth)
    ax.set_xlabel("output" if values.ndim == 2 else "filter")
    ax.set_ylabel("input" if values.ndim == 2 else "position and channel of the kernel")
    for axis in (ax.xaxis, ax.yaxis):
        canvas.whole_ticks(axis)
    figure.colorbar(image, ax=ax, label="value")


def _mean_and_deviation(values: np.ndarray) -> tuple[float, float]:
    """Computed so that neither tiny nor huge values are lost."""
    largest = float(np.abs(values).max()) or 1.0
    shares = values / largest
    return largest * float(shares.mean()), largest * float(shares.std())


def _histogram(canvas: Any, ax: Any, name: str, values: np.ndarray) -> None:
    finite = canvas.drawable(values[np.isfinite(values)])
    ax.set_xlabel("value")
    ax.set_ylabel("number of values")
    canvas.few_ticks(ax.xaxis)
    canvas.whole_ticks(ax.yaxis)
    if not finite.size:
        ax.set_title("no finite values", loc="left", fontsize="medium")
        return
    mean, spread = _mean_and_deviation(values[np.isfinite(values)])
    low, high = float(finite.min()), float(finite.max())
    if high - low < ALIKE * max(-low, high):  # no bins fit in between
        low, high = low - 0.1 * abs(low), high + 0.1 * abs(high)
    ax.hist(finite, bins=min(BINS, max(5, finite.size // 4)), range=(low, high), color=canvas.SKY)
    ax.axvline(float(canvas.drawable(mean)), color=canvas.VERMILLION, linestyle="--")
    unusual = f", {values.size - finite.size} not finite" if finite.size < values.size else ""
    ax.set_title(f"mean {mean:.2g} (dashed), standard deviation {spread:.2g}{unusual}", loc="left", fontsize="small")
