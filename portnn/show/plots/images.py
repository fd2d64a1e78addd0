"""Images in rows and columns: digits, filters, and what a layer makes of samples."""

from math import ceil, isqrt
from typing import Any

import numpy as np

from portnn.layers import ConvLayer, FCLayer
from portnn.show.plots import given
from portnn.show.plots.given import drawing, on_host
from portnn.show.plots.parameters import furthest
from portnn.transfer import is_array

MOST_IMAGES, MOST_FILTERS, MOST_DEEP, MOST_CHANNELS, MOST_SAMPLES = 40, 32, 16, 8, 4
MOST_MAPS, MOST_UNITS, MOST_ROWS = 8, 512, 32
BAR = 1.0  # inches that the bar of colours takes, with its numbers


def digits(images: Any, true: Any = None, predicted: Any = None, *, fig: Any = None) -> Any:
    """Draws images with their classes; returns the Figure. Wrong predictions are framed, and say what was right.

    ``images`` are (N, H, W), (N, H, W, 1) or, in colours, (N, H, W, 3), or rows (N, H*W) of square images; one image
    (H, W) will do too. Bytes go from 0 to 255; floats from 0 to 1, and where they leave that, from their least to
    their largest value. ``true`` and ``predicted`` are class numbers (N,), or rows with a column for each class, of
    which the largest counts: ``plot.digits(x, y, net.predict(x))``. The first 40 images are shown. ``fig`` is an empty
    matplotlib Figure or SubFigure to draw into.

    Raises ValueError for shapes that are no images and for another number of classes than of images.
    """
    pictures = _images(on_host(images, "images"))
    total = len(pictures)
    marks = {
        name: _as_many(given.classes(values, name), total, name)[:MOST_IMAGES]
        for name, values in (("true", true), ("predicted", predicted))
        if values is not None
    }
    canvas = drawing()
    shown = _brightness(pictures[:MOST_IMAGES])
    columns = canvas.columns(fig, len(shown), 10 if len(shown) > 24 else 8, 1.1, 1.28)
    rows = ceil(len(shown) / columns)
    figure = canvas.panels(fig, max(1.1 * columns, 3.2), 1.28 * rows + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    wrong, room = 0, 72 * canvas.inches(figure)[0] / columns
    for i, (ax, image) in enumerate(zip(axes, shown, strict=False)):
        canvas.image(ax, image, 0.0, 1.0, "gray")
        canvas.bare(ax)
        labels = {name: int(numbers[i]) for name, numbers in marks.items()}
        if len(set(labels.values())) == 2:
            wrong += 1
            title = f"{labels['predicted']}, not {labels['true']}"
            size = canvas.fitting(title, 0.9 * room, 9)  # letters are wider in bold
            ax.set_title(title, color=canvas.VERMILLION, weight="bold", size=size)
            for side in ax.spines.values():
                side.set(visible=True, color=canvas.VERMILLION, linewidth=3)
        elif labels:
            ax.set_title(str(next(iter(labels.values()))), size=9)
    for ax in axes[len(shown) :]:
        ax.remove()
    said = [f"the first {len(shown)} of {total:,}"] * (total > len(shown))
    said += [f"{wrong} of these {len(shown)} wrong" if len(shown) > 1 else "wrong" if wrong else "right"] * (
        len(marks) == 2
    )
    said += ["class as predicted"] * (list(marks) == ["predicted"]) + ["true class"] * (list(marks) == ["true"])
    if said:
        canvas.heading(figure, ", ".join(said))
    return figure


def _images(array: np.ndarray) -> np.ndarray:
    """(N, H, W) or (N, H, W, 3) from all that ``digits`` takes."""
    shape = array.shape
    if (
        array.ndim == 3 and shape[1] == 1 and isqrt(shape[2]) ** 2 == shape[2] > 1
    ):  # rows as in the article, (N, 1, 784)
        array = array[:, 0]
    if array.ndim in (1, 2) and array.size:
        side = isqrt(array.shape[-1])
        is_rows = side**2 == array.shape[-1] and side > 1
        is_image = array.ndim == 2 and min(shape) > 1 and not (is_rows and shape[0] != shape[1])
        if is_image and is_rows:
            raise ValueError(
                f"images of shape {shape} may be one image or {shape[0]} rows: write images[None] for one, "
                f"images.reshape(-1, {side}, {side}) for rows"
            )
        if is_rows:
            array = array.reshape(-1, side, side)
        elif is_image:
            array = array[np.newaxis]
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] != 3) or 0 in array.shape:
        channels = f": of {shape[-1]} channels show one, images[..., 0]" if len(shape) == 4 and 0 not in shape else ""
        raise ValueError(
            f"images have shape {shape}, expected (N, H, W), (N, H, W, 1), (N, H, W, 3), or rows (N, H*W) of square "
            f"images{channels}"
        )
    return array


def _as_many(numbers: np.ndarray, total: int, name: str) -> np.ndarray:
    if len(numbers) != total:
        raise ValueError(f"there are {total} images, but {len(numbers)} {name} classes: give as many of each")
    return numbers


def _brightness(images: np.ndarray) -> np.ndarray:
    """Numbers from 0 to 1: bytes by 255, floats as they are if they lie there, else from the least to the largest."""
    if images.dtype == np.uint8:
        return images / 255.0
    numbers = images.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    least, largest = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    if least < 0.0 or largest > 1.0:
        if images.dtype.kind in "ui" and least >= 0.0 and largest <= 255.0:
            least, largest = 0.0, 255.0
        half = largest / 2.0 - least / 2.0  # the whole difference may be infinite
        numbers = (numbers / 2.0 - least / 2.0) / (half or 1.0)
    return np.clip(np.nan_to_num(numbers, nan=0.0, posinf=1.0, neginf=0.0), 0.0, 1.0)


def filters(layer: Any, *, fig: Any = None) -> Any:
    """Draws the filters of a convolution, blue for negative weights and red for positive ones; returns the Figure.

    A filter of one channel is an image; of several, an image for each channel, side by side. In 1-D a filter is an
    image with a row for each channel. An FCLayer whose inputs are a square number, such as 784, has an image for each
    output. Up to 32 filters are shown, of several channels 16 with up to 8 channels. ``fig`` is an empty matplotlib
    Figure or SubFigure to draw into.

    Raises TypeError for other layers, RuntimeError for a layer without weights yet, ValueError for an FCLayer whose
    inputs are no square image.
    """
    images = _kernels(given.layer_itself(layer, "filters"))  # (F, C, h, w)
    canvas = drawing()
    images = canvas.drawable(images)
    count, channels, h, w = images.shape
    shown = images[: MOST_FILTERS if channels == 1 else MOST_DEEP, :MOST_CHANNELS]
    wide = shown.shape[1] * (w + 1) - 1  # with a column between two channels
    usual = 8 if channels == 1 else max(1, 16 // shown.shape[1])
    columns = canvas.columns(fig, len(shown), usual, 1.0, max(h / wide, 0.3) + 0.25)
    rows = ceil(len(shown) / columns)
    width = min(8.0 / columns, 1.2 * shown.shape[1])
    height = min(max(width * h / wide, 0.3), 2.0) + 0.3
    figure = canvas.panels(fig, max(width * columns + 1.2, 4.0), max(height * rows + 0.5, 1.6))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    limit = furthest(shown)
    for i, (ax, kernels) in enumerate(zip(axes, shown, strict=False)):
        for k, image in enumerate(kernels):
            left = k * (w + 1)
            drawn = canvas.image(ax, image, -limit, limit, canvas.SIGNED, extent=(left, left + w, h, 0))
        ax.set(xlim=(0, wide), ylim=(h, 0))
        canvas.bare(ax)
        ax.set_facecolor("0.6")  # between channels; white would be a weight of zero
        ax.set_title(str(i), size=8)
    for ax in axes[len(shown) :]:
        ax.remove()
    figure.colorbar(drawn, ax=list(axes[: len(shown)]), label="weight", shrink=0.8)
    kind = "filters" if isinstance(layer, ConvLayer) else "outputs"
    parts = [
        canvas.written(layer, 60),
        _of(len(shown), count, kind),
        *[_of(shown.shape[1], channels, "channels") + " side by side"] * (channels > 1),
    ]
    canvas.heading(figure, ": ".join([parts[0], ", ".join(parts[1:])]))
    return figure


def _of(shown: int, total: int, what: str) -> str:
    return (
        f"{total:,} {what if total > 1 else what[:-1]}" if shown == total else f"the first {shown} of {total:,} {what}"
    )


def _kernels(layer: Any) -> np.ndarray:
    """A layer's weights as images (F, C, h, w)."""
    if not isinstance(layer, (ConvLayer, FCLayer)):
        raise TypeError(
            f"plot.filters shows a ConvLayer, or an FCLayer of square images, got {given.short(layer)}: plot.weights "
            "shows the parameters of any layer"
        )
    W = on_host(layer.weights, "weights")
    if isinstance(layer, FCLayer):
        side = isqrt(W.shape[0])
        if side**2 != W.shape[0]:
            raise ValueError(
                f"{layer} has {W.shape[0]} inputs, which are no square image: plot.weights(layer) shows its weights"
            )
        return W.T.reshape(-1, 1, side, side)
    if W.ndim == 3:  # (k, C, F) -> (F, 1, C, k)
        return W.transpose(2, 1, 0)[:, np.newaxis]
    return W.transpose(3, 2, 0, 1)  # (h, w, C, F) -> (F, C, h, w)


def activations(network: Any, x: Any, *, layer: Any, fig: Any = None) -> Any:
    """Draws what a layer returns for samples ``x`` (N, ...); returns the Figure.

    ``layer`` is a layer of the network, its path ("2", or "2.0" inside another) or its place in ``net.layers``. Of
    images there is a row for each sample: the sample itself, if it is an image, then each channel, up to 4 samples and
    8 channels. Anything else is one image, with a row for each sample and a column for each unit, up to 32 samples
    and 512 units. All share one scale, which the bar at the side shows: around zero, or from zero on where nothing is
    negative. ``fig`` is an empty matplotlib Figure or SubFigure to draw into.

    Raises ValueError for a layer that is not the network's, and what ``net.predict(x)`` raises.
    """
    net = given.network(network, "activations")
    path, target = given.layer_of(net, layer)
    x = _some(x)
    Y = given.outputs_of(net, path, x)
    if Y.size == 0:
        raise ValueError("x holds no samples: give at least one")
    canvas = drawing()
    name, Y = f"layer {path}, {canvas.written(target, 60)}", canvas.drawable(Y)
    if Y.ndim == 4 and min(Y.shape[1:3]) > 1:
        return _maps(canvas, fig, name, Y, on_host(x, "x"))
    return _units(canvas, fig, name, Y)


def _some(x: Any) -> Any:
    """The first samples: no more are shown, so no more need to be run."""
    try:
        return x[: min(MOST_ROWS, x.shape[0]), ...] if is_array(x) else x[:MOST_ROWS]
    except (TypeError, KeyError, IndexError):  # IndexError: a single number
        raise TypeError(f"plot.activations takes samples in an array or a list, got {type(x).__name__}") from None


def _maps(canvas: Any, fig: Any, name: str, Y: np.ndarray, x: np.ndarray) -> Any:
    """A row for each sample: its image, and the image of each channel."""
    shown = Y[:MOST_SAMPLES, ..., :MOST_MAPS]
    rows, _, _, channels = shown.shape
    inputs = _inputs(x[:rows])
    extra = int(inputs is not None)
    columns = channels + extra if rows > 1 else min(channels + extra, 9)
    lines = rows if rows > 1 else ceil((channels + extra) / columns)
    figure = canvas.panels(fig, max(1.0 * columns + 1.0, 4.5), 1.1 * lines + 0.8)
    axes = figure.subplots(lines, columns, squeeze=False)
    colours, low, high = _scale(canvas, shown)
    flat = axes.ravel()
    beside = canvas.fitting("sample 0", 72 * (canvas.inches(figure)[1] - 0.6) / lines, 8)
    used = []
    for row in range(rows):
        cells = axes[row] if rows > 1 else flat
        if inputs is not None:
            canvas.image(cells[0], inputs[row], 0.0, 1.0, "gray")
            canvas.bare(cells[0])
            cells[0].set_ylabel(f"sample {row}", size=beside)
            if row == 0:
                cells[0].set_title("x", size=8)
        for channel in range(channels):
            ax = cells[channel + extra]
            image = canvas.image(ax, shown[row, ..., channel], low, high, colours)
            canvas.bare(ax)
            used.append(ax)
            if row == 0:
                ax.set_title(_title(canvas, channel, 72 * (canvas.inches(figure)[0] - BAR) / columns), size=8)
        if inputs is None:
            cells[0].set_ylabel(f"sample {row}", size=beside)
    for ax in flat[(channels + extra) if rows == 1 else len(flat) :]:
        ax.remove()
    figure.colorbar(image, ax=used, label="activation", shrink=0.8)
    said = [_of(channels, Y.shape[-1], "channels"), *[f"the first {rows} samples"] * (len(Y) > rows)]
    canvas.heading(figure, f"{name}: {', '.join(said)}")
    return figure


def _title(canvas: Any, channel: int, room: float) -> str:
    title = f"channel {channel}"
    return title if canvas.fitting(title, room, 8) == 8 else str(channel)


def _inputs(x: np.ndarray) -> np.ndarray | None:
    """The samples as images, where they are some."""
    if x.ndim == 3 and x.shape[1] == 1:
        x = x[:, 0]
    try:
        return _brightness(_images(x if x.ndim > 2 else x[:, np.newaxis]))
    except ValueError:
        return None


def _units(canvas: Any, fig: Any, name: str, Y: np.ndarray) -> Any:
    """One image, a row for each sample; for a single sample of several rows, (1, L, C), a row for each channel."""
    rows = Y.reshape(len(Y), -1) if Y.ndim > 1 else Y[:, np.newaxis]
    labels = ("unit", "sample")
    if Y.ndim == 3 and len(Y) == 1 and Y.shape[1] > 1:
        rows, labels = Y[0].T, ("position", "channel")
    shown = rows[:MOST_ROWS, :MOST_UNITS]
    figure = canvas.panels(fig, min(3.5 + 0.3 * shown.shape[1], 9.0), min(1.6 + 0.3 * len(shown), 7.0))
    ax = figure.subplots()
    colours, low, high = _scale(canvas, shown)
    image = canvas.image(ax, shown, low, high, colours, aspect="auto")
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    canvas.whole_ticks(ax.xaxis)
    canvas.whole_ticks(ax.yaxis)
    figure.colorbar(image, ax=ax, label="activation")
    said = [
        _of(n, total, f"{label}s") for n, total, label in zip(shown.shape[::-1], rows.shape[::-1], labels, strict=True)
    ]
    canvas.heading(figure, f"{name}: {', '.join(said)}")
    return figure


def _scale(canvas: Any, values: np.ndarray) -> tuple[str, float, float]:
    """Colour map and limits: around zero where there are negative values, else from zero on."""
    limit = furthest(values)
    finite = values[np.isfinite(values)]
    return (canvas.SIGNED, -limit, limit) if finite.size and finite.min() < 0.0 else (canvas.AMOUNT, 0.0, limit)
