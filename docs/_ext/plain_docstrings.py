"""Turns portnn's docstrings, which are written to be read in the source, into reStructuredText.

A block that is indented is a formula, or code: it is shown as it stands. Everywhere else characters that mean something
to reStructuredText, such as the asterisk of Y*, are only themselves, but ``code`` and examples (>>>). Where ``code`` is
a public name of portnn, it becomes a link.
"""

import inspect
import re
from typing import Any

from sphinx.application import Sphinx

import portnn

CODE = re.compile(r"(``.+?``)")
NAME = re.compile(r"``(\w+)``")


def plain(lines: list[str], itself: str = "") -> list[str]:
    """The lines of a docstring as reStructuredText; ``itself`` is the name that is not linked."""
    done: list[str] = []
    inside = None  # of what: "formula", "example"
    for i, line in enumerate(lines):
        begins = i == 0 or not lines[i - 1].strip()
        if not line.strip():
            done.append("")
            inside = None if inside == "example" else inside
            continue
        if line.lstrip().startswith(">>>"):
            inside = "example"
        elif inside != "example" and line.startswith("    ") and (begins or inside == "formula"):
            if inside != "formula":
                done += [".. code-block:: text", ""]
            inside = "formula"
        elif not line.startswith("    ") and inside == "formula":
            inside = None
        done.append(line if inside else _text(line, itself))
    return done


def _text(line: str, itself: str) -> str:
    parts = CODE.split(line)
    return "".join(_code(part, itself) if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    return re.sub(r"([\\*|`])|_(?!\w)", lambda match: "\\" + match[0], text)


def _code(code: str, itself: str) -> str:
    match = NAME.fullmatch(code)
    public = match and match[1] in portnn.__all__ and match[1] != itself
    return f":py:obj:`{match[1]} <portnn.{match[1]}>`" if match and public else code


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if name.startswith("portnn"):
        lines[:] = plain(lines, name.removeprefix("portnn."))


def parameters_of(thing: Any) -> list[inspect.Parameter]:
    """The parameters; if a class takes ``**kwargs``, its base class's parameters replace them."""
    parameters = [p for p in inspect.signature(thing).parameters.values() if p.name not in ("self", "unknown")]
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD and isinstance(thing, type):
        named = {p.name for p in parameters}
        parameters[-1:] = [p for p in parameters_of(thing.__base__) if p.name not in named]
    return parameters


def signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, given: str | None, returns: str | None
) -> tuple[str, None] | None:
    """A class shows what its ``__init__`` takes: Sphinx would show ``Layer.__new__``, which takes anything."""
    if what != "class" or not name.startswith("portnn") or given is None:
        return None
    if obj is portnn.Layer:
        return "()", None
    return str(inspect.Signature([p.replace(annotation=inspect.Parameter.empty) for p in parameters_of(obj)])), None


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
