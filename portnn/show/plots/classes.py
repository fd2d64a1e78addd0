"""Classes as a picture: which are taken for which, and where one ends and another begins."""

from typing import Any

import numpy as np

from portnn import losses
from portnn.confusion import confusion_matrix
from portnn.show.plots import given
from portnn.show.plots.given import drawing, on_host
from portnn.transfer import is_array, to_numpy

WITH_NUMBERS = 30  # classes; the cells of more are too small for text
FINE, COARSE = 241, 81  # points along each axis, for a layer that takes one sample at a time
MOST_NAMED = 20  # classes; a legend of more would leave no room for the picture
MARGIN = 0.15  # of the data's extent, around it


def confusion(y_true: Any, y_pred: Any, *, names: Any = None, ax: Any = None) -> Any:
    """Draws how often samples of each class are predicted to be of each; returns the Axes.

    ``y_true`` and ``y_pred`` are what ``confusion_matrix`` takes, also arrays of other backends: class numbers (N,), or
    rows with a column for each class. A cell holds the number of samples and their percentage of the row, of all
    samples of that class, which is also its colour. ``names`` are those of the classes, in order. ``ax`` are matplotlib
    Axes to draw into.

    Raises what ``confusion_matrix`` raises, and ValueError for another number of names than of classes.
    """
    host = [to_numpy(y) if is_array(y) else y for y in (y_true, y_pred)]
    counts = confusion_matrix(*host)
    size = len(counts)
    labels = [str(i) for i in range(size)] if names is None else _names(names, size)
    canvas = drawing()
    labels = [canvas.written(label, 24) for label in labels]
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(100.0 * counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = min(max(2.4 + 0.62 * size, 4.0), 14.0) if size <= WITH_NUMBERS else 8.0
    beside = 0.07 * max(map(len, labels)) if names is not None else 0.0  # for the names, inches
    ax = canvas.axes(ax, side + beside + 0.9, side + beside)
    image = canvas.image(ax, shares, 0.0, 100.0, canvas.SHARE)
    ax.figure.colorbar(image, ax=ax, label="share of the true class [%]", shrink=0.8)
    if size <= WITH_NUMBERS:
        _numbers(canvas, ax, image, counts, shares, totals)
    if size <= WITH_NUMBERS or names is not None:
        step = -(-size // WITH_NUMBERS)  # so that the names do not touch each other
        turned = 7.0 * max(map(len, labels)) > step * canvas.points_per_unit(ax)  # wider than a column
        ax.set_xticks(
            range(0, size, step), labels[::step], rotation=45 if turned else 0, ha="right" if turned else "center"
        )
        ax.set_yticks(range(0, size, step), labels[::step])
    else:
        for axis in (ax.xaxis, ax.yaxis):
            canvas.whole_ticks(axis)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    right, total = int(np.trace(counts)), int(counts.sum())
    ax.set_title(
        f"{right:,} of {total:,} right ({_percent(100.0 * right / max(total, 1))})", loc="left", fontsize="medium"
    )
    return ax


def _names(names: Any, size: int) -> list[str]:
    if isinstance(names, (str, bytes)) or not hasattr(names, "__iter__"):
        raise TypeError(f"names must be a list of names, one for each class, got {names!r:.60}")
    labels = [str(name) for name in names]
    if len(labels) != size:
        raise ValueError(
            f"there are {size} classes, but {len(labels)} names: give as many. Where the last classes occur in neither "
            f"y_true nor y_pred, give one-hot rows, portnn.to_categorical(y, classes={len(labels)})"
        )
    return labels


def _numbers(canvas: Any, ax: Any, image: Any, counts: np.ndarray, shares: np.ndarray, totals: np.ndarray) -> None:
    """Writes count and percentage into each cell, in black or white, in letters that fit into it."""
    room = canvas.points_per_unit(ax)
    longest = max(len(f"{counts.max():,}"), 3)
    size = float(np.clip(min(room / 3.0, room / (0.72 * longest)), 3.0, 11.0))
    for i, j in np.ndindex(*counts.shape):
        text = f"{counts[i, j]:,}" + (f"\n{_percent(float(shares[i, j]))}" if counts[i, j] else "")
        colour = canvas.readable_on(image.cmap(image.norm(shares[i, j])))
        ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=size, linespacing=1.1)


def _percent(share: float) -> str:
    """A percentage that is 100 or 0 only if it is exactly so."""
    text = f"{share:.0f}" if 0.5 <= share < 99.5 or share in (0.0, 100.0) else f"{share:.1f}"
    return {"100.0": ">99.9", "0.0": "<0.1"}.get(text, text) + " %"


def boundary(network: Any, x: Any, y: Any, *, ax: Any = None) -> Any:
    """Draws where a network of two inputs draws the line between classes, with its samples; returns the Axes.

    ``x`` is (N, 2), or (N, 1, 2) as in the article. ``y`` holds class numbers (N,), one-hot rows (N, C), or, for a
    network with one output, a column of 0 and 1, or of -1 and 1. With one output the colour is that output and
    the line where it is half-way; with several each class has its colour, where its output is the largest. Each class
    has its own marker; samples on the wrong side have a cross. ``ax`` are matplotlib Axes to draw into.

    Raises ValueError for samples of other than two numbers and for targets that are no classes.
    """
    net = given.network(network, "boundary")
    samples = on_host(x, "x")
    if samples.size == 0 or samples.ndim < 2 or samples[0].size != 2:
        raise ValueError(f"plot.boundary shows samples of two numbers, x of shape (N, 2), got shape {samples.shape}")
    points = samples.reshape(-1, 2).astype(np.float64)
    if not np.isfinite(points).all():
        raise ValueError("x holds NaN or infinity: such a sample is nowhere in the picture")
    classes, signed = _targets(y, len(points))
    canvas = drawing()
    xs, ys, grid = _grid(points, any(part.updates_itself and not part.batched for part in net.walk()))

    def outputs(at: np.ndarray) -> np.ndarray:
        Y = to_numpy(net.predict(at.reshape(-1, *samples.shape[1:])))
        return canvas.drawable(Y.reshape(len(Y), -1))

    at_samples = outputs(points)  # first: what it refuses are the user's samples
    known = max(at_samples.shape[1], 2)
    if classes.max() >= known:
        raise ValueError(f"y holds the class {classes.max()}, but the network tells {known} classes apart")
    Y = outputs(grid)
    ax = canvas.axes(ax, 6.4, 4.6)
    if Y.shape[1] == 1:
        middle = 0.0 if signed or losses.takes_logits(net.loss) else 0.5
        _field(canvas, ax, xs, ys, Y.reshape(len(ys), len(xs)), middle)
        guesses = (at_samples[:, 0] > middle).astype(np.int64)
        colours, legend = (canvas.SKY, canvas.ORANGE), {"bbox_to_anchor": (0.0, -0.14), "ncols": 3}
    else:
        _regions(canvas, ax, xs, ys, Y.argmax(axis=1).reshape(len(ys), len(xs)), known)
        guesses = at_samples.argmax(axis=1)
        colours, legend = canvas.COLOURS, {"bbox_to_anchor": (1.0, 1.0)}
    _points(canvas, ax, points, classes, guesses, colours, signed)
    ax.grid(False)
    count = len(np.unique(classes))
    if count <= MOST_NAMED:
        ax.legend(loc="upper left", frameon=False, **legend)
    ax.set(xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]), xlabel="feature 0", ylabel="feature 1")
    right = int((guesses == classes).sum())
    many = f", {count} classes" if count > MOST_NAMED else ""
    ax.set_title(f"{right:,} of {len(points):,} samples right{many}", loc="left", fontsize="medium")
    return ax


def _targets(y: Any, count: int) -> tuple[np.ndarray, bool]:
    """The class of each sample, and whether the targets were -1 and 1."""
    targets = on_host(y, "y")
    if targets.ndim == 0 or len(targets) != count:
        raise ValueError(f"x holds {count} samples, y has shape {targets.shape}: give a target for each")
    column = targets.reshape(count, -1)
    if column.shape[1] == 1 and column.min() < 0.0:
        if not np.isin(column, (-1, 1)).all():
            raise ValueError("y holds negative numbers: classes are whole numbers from 0, or -1 and 1")
        return (column[:, 0] > 0).astype(np.int64), True
    return given.classes(targets, "y"), False


def _grid(points: np.ndarray, one_by_one: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The places along both axes, and all their pairs, (number of pairs, 2)."""
    n = COARSE if one_by_one else FINE
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.where(high > low, MARGIN * (high - low), 1.0)
    xs, ys = (np.linspace(low[i] - room[i], high[i] + room[i], n) for i in (0, 1))
    return xs, ys, np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def _field(canvas: Any, ax: Any, xs: np.ndarray, ys: np.ndarray, Y: np.ndarray, middle: float) -> None:
    """One output: its value as colour, around the value where the class changes, and the line of that value."""
    finite = Y[np.isfinite(Y)] - middle
    limit = min(float(np.abs(finite).max()), 20.0) if finite.any() else 1.0
    image = ax.pcolormesh(
        xs, ys, Y, cmap="PuOr_r", vmin=middle - limit, vmax=middle + limit, shading="nearest", rasterized=True
    )
    ax.figure.colorbar(image, ax=ax, label=f"output (class 1 above {middle:g})")
    if finite.size and finite.min() < 0.0 < finite.max():
        ax.contour(xs, ys, Y, levels=[middle], colors="black", linewidths=1.5)


def _regions(canvas: Any, ax: Any, xs: np.ndarray, ys: np.ndarray, classes: np.ndarray, known: int) -> None:
    """Several outputs: the colour of the class whose output is the largest, lightened, and lines in between."""
    light = np.array([_light(canvas, i) for i in range(known)])
    ax.pcolormesh(xs, ys, light[classes], shading="nearest", rasterized=True)
    for i in np.unique(classes)[1:]:
        ax.contour(xs, ys, classes >= i, levels=[0.5], colors="black", linewidths=1.0)


def _light(canvas: Any, i: int) -> tuple[float, ...]:
    colour = canvas.COLOURS[i % len(canvas.COLOURS)]
    return tuple(1.0 - 0.35 * (1.0 - int(colour[k : k + 2], 16) / 255.0) for k in (1, 3, 5))


def _points(
    canvas: Any, ax: Any, points: np.ndarray, classes: np.ndarray, guesses: np.ndarray, colours: Any, signed: bool
) -> None:
    """The samples, a marker and a colour for each class; crosses on those that are predicted wrongly."""
    for i in np.unique(classes):
        chosen = points[classes == i]
        ax.plot(
            *chosen.T,
            canvas.MARKERS[i % len(canvas.MARKERS)],
            color=colours[i % len(colours)],
            markeredgecolor="black",
            markersize=10 if len(points) <= 50 else 7,
            linestyle="none",
            label=f"class {(-1, 1)[i] if signed else i}",
        )
    wrong = points[classes != guesses]
    if len(wrong):
        ax.plot(
            *wrong.T,
            "X",
            color="black",
            markeredgecolor="white",  # seen on any background
            markersize=7 if len(points) <= 50 else 5,
            markeredgewidth=0.6,
            linestyle="none",
            label="wrong",
        )
