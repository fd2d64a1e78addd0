"""An explanation as one page of HTML, which fetches nothing; for wide screens and phones, light and dark."""

import zlib
from base64 import b64encode
from collections.abc import Iterator
from html import escape
from struct import pack

import numpy as np

from portnn.show.explain.page import Block, Equation, Formula, Grid, Note, Page, Pictures, Section
from portnn.show.explain.style import STYLE

WAYS = ("forward", "backward", "update")
MANY = 12  # layers: of more, those inside other layers are folded at first
SIGNS = {"*": "\N{MULTIPLICATION SIGN}", "->": "→"}


def render(page: Page) -> str:
    return "\n".join(_page(page)) + "\n"


def framed(html: str) -> str:
    """The page within a notebook, where its style touches nothing else."""
    return (
        f'<iframe srcdoc="{escape(html, quote=True)}" style="width: 100%; height: 40em; border: 1px solid #8888" '
        'title="The calculation of one sample"></iframe>'
    )


def _page(page: Page) -> Iterator[str]:
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(page.title)}</title>"
    yield f"<style>{STYLE}</style></head><body>"
    yield f"<header><h1>{escape(page.title)}</h1>"
    yield from (f"<p>{escape(paragraph)}</p>" for paragraph in page.intro)
    yield "</header>"
    yield from _order(page)
    yield from _contents(page)
    yield "<main>"
    for part in page.parts:
        yield f'<section class="part {part.anchor}" id="{escape(part.anchor)}"><h2>{escape(part.title)}</h2>'
        yield from _blocks(part)
        for inner in part.sections:
            yield from _section(inner, True, len(page.rows) <= MANY)
        yield "</section>"
    yield "</main></body></html>"


def _order(page: Page) -> Iterator[str]:
    """A small diagram of the order of the parts."""
    says = {
        "sample": "X and its target Y*",
        "forward": "X → Y, layer by layer",
        "error": "E compares Y with Y*",
        "backward": "dE/dY → dE/dX, the other way",
        "update": "W and B move a little",
    }
    yield '<nav class="order" aria-label="The order of the calculation"><ol>'
    for part in page.parts:
        text = f"<b>{escape(part.title)}</b><span>{escape(says[part.anchor])}</span>"
        yield f'<li class="{part.anchor}"><a href="#{part.anchor}">{text}</a></li>'
    yield "</ol></nav>"


def _contents(page: Page) -> Iterator[str]:
    yield '<nav class="contents" aria-label="Contents"><table><thead><tr>'
    yield '<th>layer</th><th class="shape">shape of Y</th>'
    yield "".join(f"<th>{way}</th>" for way in WAYS) + "</tr></thead><tbody>"
    for row in page.rows:
        links = "".join(
            f'<td><a href="#{escape(row.anchors[way])}" aria-label="{way} of {escape(row.layer)}">{arrow}</a></td>'
            if way in row.anchors
            else "<td></td>"
            for way, arrow in zip(WAYS, "↓↑✎", strict=True)
        )
        name = f'<th style="padding-left:{0.5 + row.depth}em">{escape(row.layer)}</th>'
        yield f'<tr>{name}<td class="shape">{row.shape}</td>{links}</tr>'
    yield "</tbody></table></nav>"


def _section(section: Section, is_open: bool, inner_open: bool) -> Iterator[str]:
    opened = " open" if is_open else ""
    yield f'<details{opened} id="{escape(section.anchor)}"><summary>{escape(section.title)}</summary>'
    yield from _blocks(section)
    for inner in section.sections:
        yield from _section(inner, inner_open, inner_open)
    yield "</details>"


def _blocks(section: Section) -> Iterator[str]:
    return (html for block in section.blocks for html in _block(block))


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Note):
        yield f"<p>{escape(block.text)}</p>"
    elif isinstance(block, Formula):
        yield f'<p class="formula">{escape(block.text)}</p>'
    elif isinstance(block, Equation):
        yield f'<p class="line"><code class="equation">{_marked(block.text)}</code></p>'
    elif isinstance(block, Pictures):
        yield '<figure class="pictures"><div>'
        yield from (f'<img alt="{escape(block.title)}" src="{_png(image)}">' for image in block.images)
        scale = "from the smallest number (black) to the largest (white)"
        yield f"</div><figcaption>{escape(block.title)} {scale}</figcaption></figure>"
    else:
        yield '<div class="grids">'
        for k, grid in enumerate(block.grids):
            yield from _grid(grid)
            if k < len(block.signs):
                yield f'<span class="sign">{escape(SIGNS.get(block.signs[k], block.signs[k]))}</span>'
        yield "</div>"


def _marked(equation: str) -> str:
    """The equation's text, with its name and its result marked."""
    name, _, rest = equation.partition(" = ")
    middle, equals, result = rest.rpartition(" = ")
    return f"<i>{escape(name)}</i> = {escape(middle)}{equals}<b>{escape(result)}</b>"


def _grid(grid: Grid) -> Iterator[str]:
    yield f'<table class="grid"><caption>{escape(grid.title)}</caption>'
    for i, row in enumerate(grid.rows):
        cells = (f"<td{' class=marked' * ((i, j) in grid.marked)}>{escape(text)}</td>" for j, text in enumerate(row))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</table>"


def _png(image: np.ndarray) -> str:
    """A grey picture (H, W) as a PNG within the page. Source: the PNG specification, W3C, 2003."""
    low, span = float(image.min()), float(np.ptp(image))
    grey = np.zeros(image.shape, np.uint8) if span == 0.0 else ((image - low) * (255.0 / span)).astype(np.uint8)
    height, width = grey.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), grey], axis=1)  # each row begins with its filter, none

    def chunk(kind: bytes, data: bytes) -> bytes:
        return pack(">I", len(data)) + kind + data + pack(">I", zlib.crc32(kind + data))

    header = pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + b64encode(b"\x89PNG\r\n\x1a\n" + parts).decode()
