"""The tables "from Keras, PyTorch, scikit-learn to portnn" of the documentation: the rows of code, by heading."""

import re

from documents import ROOT

HOWTO = ROOT / "docs" / "howto"


def tables(name):
    """Of a page the rows (theirs, ours) below each heading; a cell is one piece of code."""
    found, heading = {}, ""
    page = HOWTO / name
    for line in page.read_text().splitlines() if page.exists() else []:  # a source distribution may lack it
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if row := re.fullmatch(r"\| `(.+?)` \| `(.+?)` \|", line):
            found.setdefault(heading, []).append(row.groups())
    return found


def value_of(code, names):
    """Runs statements, separated by semicolons, and returns the value of the last, an expression."""
    *before, last = code.split("; ")
    for statement in before:
        exec(statement, names)
    return eval(last, names)
