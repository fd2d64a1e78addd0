"""An explanation as plain text, for a terminal."""

from collections.abc import Iterator
from textwrap import wrap

from portnn.show.explain.page import Block, Equation, Formula, Grid, Grids, Note, Page, Section

WIDTH = 100


def render(page: Page) -> str:
    lines = [page.title, "=" * len(page.title), ""]
    for paragraph in page.intro:
        lines += [*wrap(paragraph, WIDTH), ""]
    lines += ["sample -> forward -> error -> backward -> update", ""]
    width = max((len(row.layer) + 2 * row.depth for row in page.rows), default=0)
    lines += [f"  | {'  ' * row.depth + row.layer:<{width}}  Y {row.shape}" for row in page.rows]
    for part in page.parts:
        lines += ["", "", part.title.upper(), "-" * len(part.title)]
        lines += _of_section(part)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _of_section(section: Section) -> Iterator[str]:
    for block in section.blocks:
        yield from _of_block(block)
    for inner in section.sections:
        yield ""
        yield f"-- {inner.title} --"
        yield from _of_section(inner)


def _of_block(block: Block) -> Iterator[str]:
    if isinstance(block, Note):
        yield from wrap(block.text, WIDTH)
    elif isinstance(block, Formula):
        yield from (f"  | {line}" for line in wrap(block.text, WIDTH - 4, break_long_words=False))
    elif isinstance(block, Equation):
        yield f"    {block.text}"
    elif isinstance(block, Grids):
        yield from _of_grids(block)


def _of_grids(block: Grids) -> Iterator[str]:
    """The tables side by side, with the signs between them in the middle row."""
    columns = [_of_grid(grid) for grid in block.grids]
    height = max(map(len, columns))
    for i in range(height):
        parts = []
        for k, column in enumerate(columns):
            width = max(map(len, column))
            parts.append((column[i] if i < len(column) else "").ljust(width))
            if k < len(block.signs):
                parts.append((block.signs[k] if i == 1 + (height - 1) // 2 else "").center(4))
        yield "  | " + "".join(parts)


def _of_grid(grid: Grid) -> list[str]:
    marks = [[f"[{t}]" if (i, j) in grid.marked else t for j, t in enumerate(row)] for i, row in enumerate(grid.rows)]
    width = max((len(text) for row in marks for text in row), default=0)
    return [grid.title, *(" ".join(text.rjust(width) for text in row) for row in marks)]
