"""Figures, axes and colours. This file imports matplotlib, and the functions that draw import this file.

The figures are made without pyplot: nothing is registered anywhere, no backend is chosen, no setting changes, and a
figure is freed like any other object. So that a notebook shows them all the same, they bring ``_repr_png_``.
"""

from io import BytesIO
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from portnn.show.markup import cut

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
FAR = 1e150  # matplotlib computes in float64: beyond, its differences, squares and margins would be infinite
LETTER = 0.6  # the width of most letters, by their size
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


def whole(part: Any) -> Figure:
    """The figure that axes or a subfigure are in, if within others."""
    while not isinstance(part, Figure):
        part = part.figure
    return part


def axes(given: Any, width: float, height: float) -> Axes:
    """The axes to draw into: those that were given, or those of a new figure, of a size in inches."""
    if given is None:
        return Picture(figsize=(width, height), layout="constrained").add_subplot(axes_class=Panel)
    if isinstance(given, Axes):
        if given.name != "rectilinear":
            raise ValueError(f"ax must be flat Axes with two straight axes, got {given.name} ones: give fig.subplots()")
        if given.figure is None:
            raise ValueError("ax was removed from its figure: give fig.subplots()")
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


def inches(figure: Any) -> tuple[float, float]:
    """Width and height of a figure, or of a part of one."""
    dpi = whole(figure).dpi
    return figure.bbox.width / dpi, figure.bbox.height / dpi


def columns(fig: Any, count: int, usual: int, width: float, height: float) -> int:
    """How many panels to put side by side: the usual number, or, in a figure that was given, what lets them be largest.

    ``width`` and ``height`` are those that a panel should have, in inches.
    """
    if not isinstance(fig, FigureBase):
        return min(count, usual)
    wide, high = inches(fig)
    return max(range(1, count + 1), key=lambda c: min(wide / (c * width), high / (-(-count // c) * height)))


def image(ax: Axes, values: Any, low: float, high: float, colours: str, **options: Any) -> Any:
    """A table of numbers as colours: its first row on top, and no grid, whatever style is in use."""
    options = {"interpolation": "nearest", "aspect": "equal", "origin": "upper", **options}
    drawn = ax.imshow(values, cmap=colours, vmin=low, vmax=high, **options)
    ax.grid(False)
    return drawn


def drawable(values: Any, is_logarithmic: bool = False) -> np.ndarray:
    """Numbers as float64, none so large, or on a logarithmic axis so small, that matplotlib cannot draw them."""
    return np.clip(np.asarray(values, np.float64), 1.0 / FAR if is_logarithmic else -FAR, FAR)


def written(text: object, most: int = 40) -> str:
    """Text as it stands, abbreviated: dollar signs begin no formula."""
    return cut(str(text), most).replace("$", r"\$")


def fitting(text: str, room: float, size: float) -> float:
    """The size of letters, in points, at which the longest line of a text is as wide as there is room, at most."""
    longest = max(map(len, text.split("\n")), default=0)
    return max(min(size, room / (LETTER * max(longest, 1))), 4.0)


def heading(figure: Any, text: str) -> None:
    """A title above all panels, in as many lines as it needs; a letter of 10 points is 5.5 wide on average."""
    figure.suptitle(fill(text, max(int(72 * inches(figure)[0] / 5.5), 12)), fontsize=10)


def bare(ax: Axes) -> None:
    """Axes for an image: without ticks, whose frame stays."""
    ax.set_xticks([])
    ax.set_yticks([])


def decades_only(axis: Any) -> None:
    """Numbers at the powers of ten of a logarithmic axis only."""
    axis.set_minor_formatter(NullFormatter())


def plain_numbers(axis: Any, decades: float) -> None:
    """Numbers as 0.2, not as a product with a power of ten, along a logarithmic axis; few in between."""
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    axis.set_minor_formatter(StrMethodFormatter("{x:g}") if decades < 2.0 else NullFormatter())


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
