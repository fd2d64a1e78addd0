"""A network as a drawing: boxes from top to bottom, branches side by side, written as SVG without another program."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from portnn import checks
from portnn._typing import Shape
from portnn.layers import ActivationLayer, SoftmaxLayer
from portnn.show.markup import columns, cut, escaped, wrapped
from portnn.show.structure import Part, parts

SIZE, LINE, COLUMN = 12.0, 17.0, 7.6  # of letters, pixels; a column of common monospaced fonts is 0.55 to 0.61 em
PAD, STRIPE, GAP, SIDE, EDGE = 12.0, 6.0, 26.0, 22.0, 18.0
MOST = 44  # columns of a line
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"

# What is drawn how: in light themes as attributes, which every program understands, in dark ones as a style.
LIGHT = {
    "card": 'fill="#ffffff" stroke="#d0d7de"',
    "box": 'fill="#f6f8fa" stroke="#57606a"',
    "frame": 'fill="none" stroke="#57606a" stroke-dasharray="5 3"',
    "pill": 'fill="#ffffff" stroke="#57606a"',
    "line": 'fill="none" stroke="#57606a" stroke-width="1.3"',
    "head": 'fill="#57606a"',
    "text": 'fill="#1f2328"',
    "learns": 'fill="#0072b2"',
    "activates": 'fill="#e69f00"',
    "other": 'fill="#8c959f"',
}
DARK = (
    ".card{fill:#0d1117;stroke:#3d444d}.box{fill:#161b22;stroke:#9198a1}.frame{stroke:#9198a1}"
    ".pill{fill:#0d1117;stroke:#9198a1}.line{stroke:#9198a1}.head{fill:#9198a1}.text{fill:#f0f6fc}"
    ".learns{fill:#56b4e9}"
)


class Diagram:
    """A drawing of a network: ``svg`` is its text, ``save(path)`` writes it to a file, notebooks show it."""

    def __init__(self, svg: str):
        self.svg = svg

    def save(self, path: Any) -> None:
        """Writes the drawing to a file whose name ends in ``.svg``; ValueError for another ending."""
        name = checks.path("path", path)
        if Path(name).suffix.lower() != ".svg":
            raise ValueError(
                f"a diagram is saved as SVG, and the name must end so, got {name!r:.120}: write "
                f"{Path(name).stem + '.svg'!r:.120}, which browsers show and print to other formats"
            )
        Path(name).write_text(self.svg, encoding="utf-8")

    def __repr__(self) -> str:
        return 'Diagram: .save("net.svg") writes it, .svg is its text'

    def _repr_svg_(self) -> str:
        return self.svg


@dataclass
class Block:
    """Something of a size; ``draw(x, y)`` returns its elements. What flows enters and leaves at half its width."""

    width: float
    height: float
    draw: Callable[[float, float], list[str]]


def diagram(layers: list[Any], input_shape: Shape | None) -> Diagram:
    """Draws layers in order, from the input X to the output Y."""
    found = parts(layers, input_shape)
    ends = [found[0].before if found else input_shape, found[-1].after if found else input_shape]
    flow = [_pill(f"X {_shape(ends[0])}")]
    flow += [_chain(found)] if found else [_box(["no layers yet"], "net.add(layer) appends one", "other")]
    body = _stack([*flow, _pill(f"Y {_shape(ends[1])}")])
    width, height = body.width + 2 * EDGE, body.height + 2 * EDGE
    elements = [_rect("card", 0.5, 0.5, width - 1, height - 1, 8), *body.draw(EDGE, EDGE)]
    title = f"Diagram of a network of {len(layers)} layer{'s' * (len(layers) != 1)}"
    said = "; ".join(f"{part.path} {part.layer!r:.200} → {_shape(part.after)}" for part in found) or "no layers"
    drawn = "\n".join(elements)
    key = "portnn-" + sha256(f"{said}{drawn}".encode("utf-8", "replace")).hexdigest()[:12]
    dark = "".join(f"#{key} {rule}}}" for rule in DARK.split("}") if rule)
    return Diagram(
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{key}" class="portnn-diagram" width="{width:g}" '
        f'height="{height:g}" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-labelledby="{key}-title {key}-desc" font-family="{FONT}" font-size="{SIZE:g}" '
        'style="max-width: 100%; height: auto">\n'
        f'<title id="{key}-title">{escaped(title)}</title>\n'
        f'<desc id="{key}-desc">{escaped(f"X {_shape(ends[0])}; {said}; Y {_shape(ends[1])}")}</desc>\n'
        f"<style>@media (prefers-color-scheme: dark){{{dark}}}</style>\n{drawn}\n</svg>\n"
    )


# -- blocks ------------------------------------------------------------------------------------------------------------


def _chain(found: Sequence[Part], flows: bool = True) -> Block:
    """Layers in order, those without branches in boxes of one width."""
    if not found:
        return _box(["identity"], "X, unchanged", "other")
    width = max((_width(_lines(part)) for part in found if not part.branches), default=0.0)
    blocks = [_frame(part) if part.branches else _leaf(part, width) for part in found]
    return _stack(blocks, flows)


def _stack(blocks: list[Block], flows: bool = True) -> Block:
    """Blocks below each other, with arrows in between if X flows through them."""
    width = max(block.width for block in blocks)
    gap = GAP if flows else GAP / 2

    def draw(x: float, y: float) -> list[str]:
        elements, middle = [], x + width / 2
        for i, block in enumerate(blocks):
            elements += block.draw(middle - block.width / 2, y)
            y += block.height + gap
            if flows and i < len(blocks) - 1:
                elements += _arrow(middle, y - gap, y)
        return elements

    return Block(width, sum(block.height for block in blocks) + gap * (len(blocks) - 1), draw)


def _fork(branches: list[Block], merge: str | None) -> Block:
    """Blocks side by side, each of which gets X; their outputs are merged, unless only the author knows how."""
    below = _pill(merge) if merge else None
    split = GAP if merge else 0.0
    inner = sum(block.width for block in branches) + SIDE * (len(branches) - 1)
    width, tallest = max(inner, below.width if below else 0.0), max(block.height for block in branches)

    def draw(x: float, y: float) -> list[str]:
        elements: list[str] = []
        middle, left = x + width / 2, x + (width - inner) / 2
        centres = []
        for block in branches:
            elements += block.draw(left, y + split)
            centres.append(left + block.width / 2)
            left += block.width + SIDE
        if below:
            bar = y + split + tallest + GAP / 2
            elements.append(_line(min(middle, *centres), y, max(middle, *centres), y))
            for centre, block in zip(centres, branches, strict=True):
                elements += _arrow(centre, y, y + split)
                elements.append(_line(centre, y + split + block.height, centre, bar))
            elements.append(_line(min(middle, *centres), bar, max(middle, *centres), bar))
            elements += _arrow(middle, bar, bar + GAP / 2 + 4)
            elements += below.draw(middle - below.width / 2, bar + GAP / 2 + 4)
        return elements

    return Block(width, split + tallest + (GAP + 4 + below.height if below else 0.0), draw)


def _frame(part: Part) -> Block:
    """A layer that holds layers: a frame with a heading around them."""
    known = part.merge is not None
    if part.merge == "chain":
        inner = _chain(part.branches[0])
    elif len(part.branches) == 1 and not known:
        inner = _chain(part.branches[0], flows=False)
    else:
        inner = _fork([_chain(branch, flows=known) for branch in part.branches], part.merge)
    lines = _heading(part)
    width = max(inner.width, _width(lines)) + 2 * PAD
    top, lead = _height(lines), GAP / 2 + 4 if known else 0.0

    def draw(x: float, y: float) -> list[str]:
        middle = x + width / 2
        elements = [_rect("frame", x, y, width, block.height, 6), *_texts(lines, middle, y + PAD / 2)]
        start = y + top + lead
        if part.merge == "chain":
            elements += _arrow(middle, y + top, start)
        elif known:
            elements.append(_line(middle, y + top, middle, start))
        elements += inner.draw(middle - inner.width / 2, start)
        if known:
            elements.append(_line(middle, start + inner.height, middle, y + block.height))
        return _group(f"{part.path} {part.layer!r}", elements)

    block = Block(width, top + lead + inner.height + PAD, draw)
    return block


def _leaf(part: Part, width: float) -> Block:
    layer = part.layer
    kind = "activates" if isinstance(layer, (ActivationLayer, SoftmaxLayer)) else "other"
    learns = part.parameters != 0 or layer.updates_itself
    return _box(_lines(part), f"{part.path} {layer!r}", "learns" if learns else kind, width)


def _box(lines: list[str], title: str, kind: str, width: float = 0.0) -> Block:
    width, height = max(width, _width(lines)), _height(lines)

    def draw(x: float, y: float) -> list[str]:
        stripe = _rect(kind, x + 1, y + 1, STRIPE, height - 2, 2)
        middle = x + (width + STRIPE) / 2
        return _group(title, [_rect("box", x, y, width, height, 4), stripe, *_texts(lines, middle, y + PAD / 2)])

    return Block(width, height, draw)


def _pill(text: str) -> Block:
    """A rounded box: where X comes in, where Y goes out, where branches come together."""
    text = cut(text, MOST)
    width, height = columns(text) * COLUMN + 2 * PAD, LINE + 8

    def draw(x: float, y: float) -> list[str]:
        return [_rect("pill", x, y, width, height, height / 2), *_texts([text], x + width / 2, y + 4)]

    return Block(width, height, draw)


# -- what stands in a box ----------------------------------------------------------------------------------------------


def _lines(part: Part) -> list[str]:
    """Path and call, the arguments in lines of their own where they are long; shape and parameters."""
    name, text = type(part.layer).__name__, repr(part.layer)
    if text.startswith(f"{name}(") and columns(f"{part.path} {text}") <= MOST - 8:
        return [cut(f"{part.path} {text}", MOST), cut(_numbers(part), MOST)]
    inside = text.removeprefix(f"{name}(").removesuffix(")") if text.startswith(f"{name}(") else text
    return [cut(f"{part.path} {name}", MOST), *wrapped(inside, MOST, 2), cut(_numbers(part), MOST)]


def _heading(part: Part) -> list[str]:
    return [cut(f"{part.path} {type(part.layer).__name__}", MOST), cut(_numbers(part), MOST)]


def _numbers(part: Part) -> str:
    """The shape of Y, and what is learned."""
    said = [f"→ {_shape(part.after)}"]
    if part.layer.updates_itself:
        said.append("updates its own weights")
    elif part.parameters is None:
        said.append("? parameters")
    elif part.parameters:
        said.append(f"{part.parameters:,} parameter{'s' * (part.parameters != 1)}")
    if part.frozen and part.parameters != 0:
        said.append("frozen")
    return " · ".join(said)


def _shape(shape: Shape | None) -> str:
    return "?" if shape is None else str(tuple(shape))


# -- elements ----------------------------------------------------------------------------------------------------------


def _width(lines: list[str]) -> float:
    return max(map(columns, lines)) * COLUMN + 2 * PAD + STRIPE


def _height(lines: list[str]) -> float:
    return LINE * len(lines) + PAD


def _texts(lines: list[str], middle: float, y: float) -> list[str]:
    """Centred lines, the first one bold where there are several."""
    elements = []
    for i, line in enumerate(lines):
        bold = ' font-weight="bold"' if i == 0 and len(lines) > 1 else ""
        elements.append(
            f'<text class="text" {LIGHT["text"]} x="{middle:g}" y="{y + LINE * i + SIZE:g}" text-anchor="middle"'
            f"{bold}>{escaped(line)}</text>"
        )
    return elements


def _rect(kind: str, x: float, y: float, width: float, height: float, round_: float) -> str:
    place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round_:g}"'
    return f'<rect class="{kind}" {LIGHT[kind]} {place}/>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path class="line" {LIGHT["line"]} d="M{x1:g} {y1:g}L{x2:g} {y2:g}"/>'


def _arrow(x: float, y1: float, y2: float) -> list[str]:
    """A line downwards that ends in an arrow."""
    head = f'<path class="head" {LIGHT["head"]} d="M{x - 4:g} {y2 - 7:g}L{x + 4:g} {y2 - 7:g}L{x:g} {y2:g}Z"/>'
    return [_line(x, y1, x, y2 - 6), head]


def _group(title: str, elements: list[str]) -> list[str]:
    """Elements that belong together; a browser shows the title where the mouse rests on them."""
    return [f"<g><title>{escaped(title)}</title>", *elements, "</g>"]
