"""Puts MathJax beside the pages, so that formulas need no network: to build the pages, or to read them.

Sphinx itself only knows how to link to a copy on a server. The one file that draws all formulas as SVG, without fonts,
is taken from the package sphinx-mathjax-offline, which holds MathJax 3 (Apache License 2.0).
"""

from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

FILE = "tex-svg.js"


def copy(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        target = Path(app.outdir) / "_static" / "mathjax" / FILE
        target.parent.mkdir(parents=True, exist_ok=True)
        copyfile(source(), target)


def source() -> Path:
    found = find_spec("sphinx-mathjax-offline")
    if found is None or found.origin is None:
        raise ExtensionError('MathJax is not there: install the extra "docs", python -m pip install -e ".[docs]"')
    return Path(found.origin).parent / "static" / "mathjax" / FILE


def setup(app: Sphinx) -> dict[str, Any]:
    source()
    app.config.mathjax_path = f"mathjax/{FILE}"
    app.config.mathjax3_config = {"svg": {"fontCache": "global"}}
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
