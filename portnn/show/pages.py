"""What networks, histories, summaries and reports show in a notebook: HTML that is legible in light and dark themes.

Text and lines have the colour of their surroundings, backgrounds are transparent; nothing is loaded from elsewhere.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from portnn.show.markup import escaped

CELL = "padding: 0.2em 0.7em; border-bottom: 1px solid color-mix(in srgb, currentColor 25%, transparent)"
FIGURES = f"{CELL}; text-align: right; font-variant-numeric: tabular-nums"
TEXT = f"{CELL}; text-align: left"
WIDTH, HEIGHT = 160, 32  # of a curve


def network(net: Any) -> str | None:
    """The diagram; None where the layers do not fit together, so that the text is shown instead."""
    try:
        svg = net.diagram().svg
    except (ValueError, TypeError, RuntimeError):
        return None
    number = net.summary().total["parameters"]
    said = f"{number:,} parameters, backend {net.backend.name}, {net.dtype}, seed {net.seed}"
    loss = getattr(net.loss, "__name__", None) or (repr(net.loss) if net.loss is not None else "")
    said += f", loss {loss}" * bool(loss) + f", {net.optimizer!r}" * (net.optimizer is not None)
    return (
        f'<figure class="portnn" style="margin: 0"><div style="overflow-x: auto">{svg}</div>'
        f"<figcaption>{escaped(said)}</figcaption></figure>"
    )


def history(values: Any) -> str:
    """A row for each name: first and last value, the range, and the curve."""
    epochs = max(map(len, values.values()), default=0)
    caption = f"{epochs} epoch{'s' * (epochs != 1)}"
    rows = []
    for name, numbers in values.items():
        seen = [(v, i) for i, v in enumerate(numbers, 1) if v - v == 0.0]
        if not seen:
            rows.append((name, "", "", "", ""))
            continue
        low, high = min(seen)[0], max(seen)[0]
        ends = (f"{seen[0][0]:.6g}", f"{seen[-1][0]:.6g}", f"{low:.6g} to {high:.6g}")
        rows.append((name, *ends, _curve(name, [number for number, _ in seen])))
    return table(("value", "first", "last", "range", "curve"), rows, caption, raw=4)


def _curve(name: str, numbers: Sequence[float]) -> str:
    """The course of the numbers as a small SVG; of one number a point."""
    low, high = min(numbers), max(numbers)
    step = (WIDTH - 6) / max(len(numbers) - 1, 1)
    height = (HEIGHT - 6) / ((high - low) or 1.0)
    stride = max(1, len(numbers) // 400)
    kept = [*range(0, len(numbers) - 1, stride), len(numbers) - 1]
    places = [(3 + step * i, HEIGHT - 3 - (numbers[i] - low) * height) for i in kept]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    x, y = places[-1]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escaped(name)} over the epochs" '
        f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="1.5"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="currentColor"/></svg>'
    )


def summary(rows: Iterable[dict[str, Any]], total: dict[str, int], heads: Sequence[str]) -> str:
    """A row for each layer, those inside others indented, and the total."""
    body = []
    for row in rows:
        indent = "\u2003" * row["path"].count(".")
        shape = "?" if row["output shape"] is None else str(row["output shape"])
        counts = [f"{row[head]:,}" for head in heads[2:]]
        body.append((f"{indent}{row['path']} {row['layer']}", shape, *counts))
    end = ("total", "", *(f"{total[head]:,}" for head in heads[2:]))
    return table(heads, body, "layers of the network", end=end)


def gradcheck(report: Any, tolerance: float) -> str:
    """A row for each derivative, and the diagnosis."""
    rows = [
        (f"dE/d{name}", f"{error:.1e}", "right" if error <= tolerance else "WRONG")
        for name, error in report.errors.items()
    ]
    found = table(
        ("gradient", "relative error", "verdict"), rows, f"gradcheck {'passed' if report.passed else 'FAILED'}"
    )
    if report.diagnosis:
        found += f'<p class="portnn" style="white-space: pre-wrap"><strong>{escaped(report.diagnosis)}</strong></p>'
    return found


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str,
    *,
    end: Sequence[str] | None = None,
    raw: int | None = None,
) -> str:
    """A table whose first column names the rows; the column ``raw`` holds HTML already."""

    def cells(row: Sequence[str], weight: str = "normal") -> str:
        first = f'<th scope="row" style="{TEXT}; font-weight: {weight}">{escaped(row[0])}</th>'
        others = (
            f'<td style="{FIGURES}; font-weight: {weight}">{value if i == raw else escaped(value)}</td>'
            for i, value in enumerate(row[1:], 1)
        )
        return f"<tr>{first}{''.join(others)}</tr>"

    head = "".join(
        f'<th scope="col" style="{FIGURES if i else TEXT}; font-weight: bold">{escaped(name)}</th>'
        for i, name in enumerate(heads)
    )
    foot = f"<tfoot>{cells(end, 'bold')}</tfoot>" if end else ""
    return (
        '<table class="portnn" style="border-collapse: collapse; color: inherit; background: transparent">'
        f'<caption style="text-align: left; font-weight: bold; padding: 0.2em 0.7em">{escaped(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(map(cells, rows))}</tbody>{foot}</table>"
    )
