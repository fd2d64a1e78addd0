"""Training as a picture: its curves, and the sizes of the gradients."""

from collections.abc import Mapping
from math import ceil
from typing import Any

import numpy as np

from portnn.show.plots import given
from portnn.show.plots.given import drawing, on_host

FEW = 40  # epochs; up to so many, each is marked
MOST_BARS = 60
PANEL = 3.8, 2.9  # inches
SMALL = 8.5  # points


def history(history: Any, *, fig: Any = None) -> Any:
    """Draws error and metrics over the epochs, with validation beside training; returns the Figure.

    ``history`` is what ``fit`` returns, or ``net.history``. There is a panel for the error, one for each metric, and
    one for the learning rate where it changed; epochs without validation are left out. The error's axis is logarithmic
    if it spans a factor of ten or more. ``fig`` is an empty matplotlib Figure or SubFigure to draw into.

    Raises ValueError if there are no epochs, TypeError for anything but a history.
    """
    values = _series(history)
    canvas = drawing()
    curves = _panels(values)
    columns = canvas.columns(fig, len(curves), 3, *PANEL)
    rows = ceil(len(curves) / columns)
    picture = canvas.panels(fig, 1.2 + PANEL[0] * columns, 0.4 + PANEL[1] * rows)
    axes = picture.subplots(rows, columns, squeeze=False).ravel()
    lines: dict[str, Any] = {}
    wide, high = canvas.inches(picture)
    room = 72.0 * wide / columns - 24.0, 72.0 * high / rows - 60.0  # points, for titles and for labels at the side
    for ax, (name, kinds) in zip(axes, curves.items(), strict=False):
        decades = _decades(name, kinds)
        for (kind, numbers), colour, marker, style in zip(
            kinds.items(), (canvas.BLUE, canvas.VERMILLION), "os", ("-", "--"), strict=False
        ):
            epochs = np.arange(1, len(numbers) + 1)
            there, numbers = np.isfinite(numbers), canvas.drawable(numbers, decades >= 1.0)
            marked = marker if there.sum() <= FEW else ""
            (lines[kind],) = ax.plot(
                epochs[there], numbers[there], style, color=colour, marker=marked, markersize=4, label=kind
            )
        if decades >= 1.0:
            ax.set_yscale("log")
            canvas.plain_numbers(ax.yaxis, decades)
        _label(canvas, ax, name, kinds, room)
    for ax in axes[len(curves) :]:
        ax.remove()
    if len(lines) > 1:
        picture.legend(lines.values(), lines.keys(), loc="outside upper center", ncols=2, frameon=False)
    return picture


def _series(history: Any) -> dict[str, np.ndarray]:
    """The values of each name, as float64; those without any are left out."""
    if not isinstance(history, Mapping):
        hint = ": write net.history" if hasattr(history, "predict_classes") else ", what fit returns"
        raise TypeError(f"plot.history takes a history{hint}, got {history!r:.60}")
    found = {}
    for name, values in history.items():
        numbers = on_host(values, f"history[{name!r:.40}]")
        if numbers.ndim != 1:
            raise ValueError(f"history[{name!r:.40}] must hold one number for each epoch, got shape {numbers.shape}")
        if len(numbers):
            found[str(name)] = numbers.astype(np.float64)
    if not found:
        raise ValueError("the history holds no epochs yet: call net.fit(x, y, epochs=10) first")
    return found


def _panels(values: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """What stands in each panel, by the name of the quantity: training and validation; at last the learning rate."""
    panels: dict[str, dict[str, np.ndarray]] = {}
    for name, numbers in values.items():
        whose = name.removeprefix("val_")
        if name != "learning_rate":
            is_validation = whose != name and (whose in values or "error" in values)
            panels.setdefault(whose if is_validation else name, {})["validation" if is_validation else "training"] = (
                numbers
            )
    if len(np.unique(rates := _finite(values.get("learning_rate", np.empty(0))))) > 1 or (len(rates) and not panels):
        panels["learning rate"] = {"training": values["learning_rate"]}
    return panels or {name: {"training": numbers} for name, numbers in values.items()}


def _finite(numbers: np.ndarray) -> np.ndarray:
    return numbers[np.isfinite(numbers)]


def _decades(name: str, kinds: dict[str, np.ndarray]) -> float:
    """How many factors of ten lie between the least and the largest value; 0 where a logarithm means nothing."""
    numbers = np.concatenate([_finite(numbers) for numbers in kinds.values()])
    if name not in ("error", "learning rate") or not len(numbers) or numbers.min() <= 0.0:
        return 0.0
    return float(np.log10(numbers.max()) - np.log10(numbers.min()))


def _label(canvas: Any, ax: Any, name: str, kinds: dict[str, np.ndarray], room: tuple[float, float]) -> None:
    """Axis labels, and the last values as the title, in letters that fit; ``room`` is width and height in points."""
    numbers = np.concatenate([_finite(numbers) for numbers in kinds.values()])
    ax.set_xlabel("epoch")
    text = canvas.written(name, 30)
    ax.set_ylabel(text, fontsize=canvas.fitting(text, room[1], 10.0))
    canvas.whole_ticks(ax.xaxis)
    ax.grid(alpha=0.3)
    ends = [f"{kind} {ended[-1]:.3g}" for kind, series in kinds.items() if len(ended := _finite(series))]
    if name == "learning rate":
        ends = [end.removeprefix("training ") for end in ends]
    title = "at the end: " + ", ".join(ends) if ends else "no finite values"
    if canvas.fitting(title, room[0], SMALL) < SMALL:
        title = title.replace(", ", ",\n")
    ax.set_title(title, loc="left", fontsize=canvas.fitting(title, room[0], SMALL))
    epochs = max(map(len, kinds.values()))
    if not len(numbers):
        ax.set_xlim(0.5, epochs + 0.5)
    if epochs == 1:
        ax.set_xlim(0.5, 1.5)
        ax.set_xticks([1])


def gradients(network: Any, *, ax: Any = None) -> Any:
    """Draws how large the gradient of each parameter is, layer by layer; returns the Axes.

    The bars are the root mean squares of dE/dW, dE/dB and so on, of the last step or backward pass, on a logarithmic
    axis: bars that shrink from the last layer to the first show gradients that vanish. A gradient that is zero, or
    absent, as in a frozen layer, is written instead. ``ax`` are matplotlib Axes to draw into.

    Raises RuntimeError if there are no gradients, as before the first ``fit``.
    """
    net = given.network(network, "gradients")
    found = {path: on_host(array, path).astype(np.float64) for path, array in net.gradients.items()}
    if not found:
        raise RuntimeError("the network has no gradients yet: they are those of the last step, call net.fit(...) first")
    canvas = drawing()
    paths = list(dict.fromkeys([*net.parameters, *found]))
    shown = paths[:MOST_BARS]
    layers = {part.path: type(part).__name__ for part in net.walk()}
    sizes = [_root_mean_square(found.get(path)) for path in shown]
    ax = canvas.axes(ax, 7.0, 1.2 + 0.3 * len(shown))
    seen = canvas.drawable([size for size in sizes if size and np.isfinite(size)], True).tolist()
    least = 10.0 ** np.floor(np.log10(min(seen, default=1e-3)) - 0.3)  # the smallest bar, too, has some length
    most = 10.0 ** np.ceil(np.log10(max(seen, default=1e-3)) + 0.1)
    colours = {"weights": canvas.BLUE, "bias": canvas.ORANGE}
    places = np.arange(len(shown))
    values = [float(canvas.drawable(size, True)) if size and np.isfinite(size) else least for size in sizes]
    kinds = [path.rpartition(".")[2] for path in shown]
    bars = ax.barh(places, [v - least for v in values], left=least, color=[colours.get(k, canvas.GREEN) for k in kinds])
    for bar, kind in zip(bars, kinds, strict=True):
        bar.set_hatch({"weights": "", "bias": "//"}.get(kind, ".."))
        bar.set_edgecolor("white")
    ax.grid(False)  # behind numbers
    ax.set_xscale("log")
    canvas.decades_only(ax.xaxis)
    ax.set_xlim(least, most * (most / least) ** 0.25)  # with room for the numbers
    for place, size, value in zip(places, sizes, values, strict=True):
        ax.annotate(
            "no gradient" if size is None else f"{size:.1e}" if size and np.isfinite(size) else _words(size),
            (value, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
        )
    ax.set_yticks(
        places,
        [f"{canvas.written(path)}  ({canvas.written(layers.get(path.rpartition('.')[0], ''), 24)})" for path in shown],
    )
    ax.set_ylim(len(shown) - 0.4, -0.6)  # the first layer on top
    ax.set_xlabel("root mean square of dE/dW, dE/dB, ...")
    ax.set_ylabel("parameter")
    left_out = f"; the first {len(shown)} of {len(paths)} parameters" if len(paths) > len(shown) else ""
    ax.set_title(f"gradients of the last step{left_out}", loc="left", fontsize="medium")
    return ax


def _root_mean_square(gradient: np.ndarray | None) -> float | None:
    """The root mean square, scaled so that neither tiny nor huge values are lost; None without a gradient."""
    if gradient is None or gradient.size == 0:
        return None
    largest = float(np.abs(gradient).max())
    if largest == 0.0 or not np.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.mean((gradient / largest) ** 2)))


def _words(size: float) -> str:
    return "zero" if size == 0.0 else "not finite"
