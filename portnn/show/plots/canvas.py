"""Figures, axes and colours. This file imports matplotlib, and the functions that draw import this file.

The figures are made without pyplot: nothing is registered anywhere, no backend is chosen, no setting changes, and a
figure is freed like any other object. So that a notebook shows them all the same, they bring ``_repr_png_``.
"""

from io import BytesIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator, NullFormatter

# Okabe and Ito's palette: told apart with any kind of colour vision. Black is last, for it is the colour of text.
BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, YELLOW = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
)
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, YELLOW, "#000000")
MARKERS = "osD^vP*"  # one fewer than colours, so that the pairs repeat late
SIGNED, AMOUNT, SHARE = "RdBu_r", "cividis", "Blues"  # colour maps: around zero, from zero on, under text


class Picture(Figure):
    """A figure that pyplot does not know, and that a notebook shows."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        FigureCanvasAgg(self)

    def _repr_png_(self) -> bytes:
        return png(self)


class Panel(Axes):
    """Axes that a notebook shows, as the picture that they are in."""

    def _repr_png_(self) -> bytes:
        return png(whole(self))


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    into = BytesIO()
    figure.savefig(into, format="png")
    return into.getvalue()


def whole(ax: Axes) -> Figure:
    """The figure that axes are in, if within subfigures."""
    figure: Any = ax.figure
    while not isinstance(figure, Figure):
        figure = figure.figure
    return figure


def axes(given: Any, width: float, height: float) -> Axes:
    """The axes to draw into: those that were given, or those of a new figure, of a size in inches."""
    if given is None:
        return Picture(figsize=(width, height), layout="constrained").add_subplot(axes_class=Panel)
    if isinstance(given, Axes):
        return given
    hint = ": give fig.subplots()" if isinstance(given, FigureBase) else ""
    hint = hint or (": give one of them, axes[0]" if hasattr(given, "__len__") else "")
    raise TypeError(f"ax must be matplotlib Axes, got {given!r:.60}{hint}")


def panels(fig: Any, width: float, height: float) -> Any:
    """The figure to draw into: the one that was given, or a new one, of a size in inches."""
    if fig is None:
        return Picture(figsize=(width, height), layout="constrained")
    if not isinstance(fig, FigureBase):
        hint = ": the picture has several panels, give ax.figure" if isinstance(fig, Axes) else ""
        raise TypeError(f"fig must be a matplotlib Figure, or a SubFigure, got {fig!r:.60}{hint}")
    taken: Any = fig.axes
    if taken:
        raise ValueError(
            f"fig has {len(taken)} axes already, which the panels would cover: give an empty figure, or one of "
            "fig.subfigures(1, 2)"
        )
    if isinstance(fig, Figure) and fig.get_layout_engine() is None:
        fig.set_layout_engine("constrained")  # otherwise the labels of one panel lie on the next
    return fig


def bare(ax: Axes) -> None:
    """Axes for an image: without ticks, whose frame stays."""
    ax.set_xticks([])
    ax.set_yticks([])


def decades_only(axis: Any) -> None:
    """Numbers at the powers of ten of a logarithmic axis only."""
    axis.set_minor_formatter(NullFormatter())


def few_ticks(axis: Any) -> None:
    """Ticks whose numbers do not touch each other in a small panel."""
    axis.set_major_locator(MaxNLocator(5))


def whole_ticks(axis: Any) -> None:
    """Ticks at whole numbers only."""
    axis.set_major_locator(MaxNLocator(integer=True, nbins="auto"))


def readable_on(colour: Any) -> str:
    """Black or white, whichever has the greater contrast on a colour (r, g, b, ...), by WCAG 2's formula."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "white"


def points_per_unit(ax: Axes) -> float:
    """How many points of text one unit of the axes is high, or wide, whichever is less."""
    box = ax.get_window_extent()
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    pixels = min(box.width / abs(right - left), box.height / abs(high - low))
    return float(pixels * 72 / whole(ax).dpi)
