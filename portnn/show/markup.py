"""Text on its way into SVG and HTML."""

import html
import re
from unicodedata import combining, east_asian_width

# XML 1.0 has no way to write these, not even as character references.
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


def escaped(text: object) -> str:
    """Text for content and attributes of XML and HTML; what neither can hold becomes the replacement character."""
    return html.escape(FORBIDDEN.sub("\ufffd", str(text)))


def columns(text: str) -> int:
    """How many columns a text takes in a monospaced font."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" or c in "→…" else 1 for c in text)


def cut(text: str, most: int) -> str:
    """The text in one line of at most so many columns, with an ellipsis where it was longer."""
    text = " ".join(FORBIDDEN.sub("\ufffd", text).split())
    if columns(text) <= most:
        return text
    while columns(text) > most - 2:
        text = text[:-1]
    return f"{text}…"


def wrapped(text: str, most: int, lines: int) -> list[str]:
    """The text in lines, broken after commas where it can be; the last one is cut."""
    found: list[str] = []
    line = ""
    for word in re.split(r"(?<=,) ", " ".join(text.split())):
        longer = f"{line} {word}" if line else word
        if line and columns(longer) > most and len(found) < lines - 1:
            found.append(line)
            line = word
        else:
            line = longer
    return [cut(line, most) for line in [*found, line] if line]
