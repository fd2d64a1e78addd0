"""The parts of an explanation, and the object that ``Network.explain`` returns."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from portnn import checks


@dataclass
class Note:
    """A sentence."""

    text: str


@dataclass
class Formula:
    """A formula in letters, as on the blackboard."""

    text: str


@dataclass
class Equation:
    """An equation in numbers; its grammar is in ``arithmetic.py``."""

    text: str


@dataclass
class Grid:
    """Numbers in rows; ``marked`` are the places (row, column) to be looked at."""

    title: str
    rows: list[list[str]]
    marked: frozenset[tuple[int, int]] = frozenset()


@dataclass
class Grids:
    """Grids side by side, with a sign such as "*" between them."""

    grids: list[Grid]
    signs: list[str]


@dataclass
class Pictures:
    """Channels as grey pictures, from the smallest number (black) to the largest (white); only a page shows them."""

    title: str
    images: list[np.ndarray]


Block = Note | Formula | Equation | Grids | Pictures


@dataclass
class Section:
    """A heading with what stands below it; sections of layers inside a layer are nested."""

    title: str
    anchor: str
    blocks: list[Block] = field(default_factory=list)
    sections: list["Section"] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.blocks.append(Note(text))

    def formula(self, *lines: str) -> None:
        self.blocks += [Formula(line) for line in lines]

    def equation(self, text: str) -> None:
        self.blocks.append(Equation(text))

    def walk(self) -> Iterator["Section"]:
        yield self
        for section in self.sections:
            yield from section.walk()


@dataclass
class Row:
    """A layer in the table of contents."""

    layer: str
    depth: int
    shape: str
    anchors: dict[str, str]  # "forward", "backward", "update" -> where it is explained


@dataclass
class Page:
    """All of an explanation, without a form."""

    title: str
    intro: list[str]
    rows: list[Row]
    parts: list[Section]  # the sample, forward, the error, backward, the update


class Explanation:
    """The whole calculation of one sample: ``.text`` for a terminal, ``.html`` as a page of its own.

    Every line of the text that begins with four spaces is an equation, ``NAME = expression = NUMBER``, which holds for
    the numbers as they are printed, within half a unit of the last digit of the result; whole numbers are exact. In
    place of the expression may stand the name of the cell that is copied, or nothing. Its grammar is Python's, with
    the functions abs, cos, erf, exp, log, max, min, round, sign, sin, sqrt and tanh, but for
    ``(rest of 781 terms: 0.25)``, which stands for the number after the colon. Lines that begin with two spaces and
    ``|`` are formulas in letters, or tables of numbers. The page holds the same equations, each in an element
    ``<code class="equation">``.

    ``save(path)`` writes the page to a path that ends in ``.html``, the text to one that ends in ``.txt``.
    """

    def __init__(self, page: Page):
        self._page = page

    @cached_property
    def text(self) -> str:
        """The explanation as plain text."""
        from portnn.show.explain.text import render

        return render(self._page)

    @cached_property
    def html(self) -> str:
        """The explanation as one page, which fetches nothing."""
        from portnn.show.explain.html import render

        return render(self._page)

    @property
    def equations(self) -> list[str]:
        """All equations, in the order of the text."""
        blocks = (block for part in self._page.parts for section in part.walk() for block in section.blocks)
        return [block.text for block in blocks if isinstance(block, Equation)]

    def save(self, path: Any) -> None:
        """Writes the explanation to a file; its form follows from the ending, ``.html`` or ``.txt``.

        ValueError for another ending, OSError where the file cannot be written.
        """
        target = Path(checks.path("path", path))
        forms = {".html": "html", ".htm": "html", ".txt": "text"}
        form = forms.get(target.suffix.lower())
        if form is None:
            raise ValueError(
                f"an explanation is saved as .html or .txt, got {target.name!r}: write "
                f"save({target.with_suffix('.html').name!r})"
            )
        target.write_text(getattr(self, form), encoding="utf-8")

    def _repr_html_(self) -> str:
        from portnn.show.explain.html import framed

        return framed(self.html)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text
