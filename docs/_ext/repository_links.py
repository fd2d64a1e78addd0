"""Links from a page to a file outside docs/, which work on GitHub, lead to the repository from the built pages too.

And the badge of Colab, an image on Colab's server, becomes a link in words: built pages load nothing from elsewhere.
"""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

BADGE = re.compile(r"!\[(Open in Colab)\]\(https:[^)]*\.svg\)")
LINK = re.compile(r"\]\((?P<path>\.\./[^)\s#]*)(?P<anchor>#[^)\s]*)?\)")


def rewrite(app: Sphinx, docname: str, source: list[str]) -> None:
    folder, docs = Path(app.env.doc2path(docname)).parent, Path(app.srcdir).resolve()

    def replaced(match: re.Match[str]) -> str:
        place = (folder / match["path"]).resolve()
        if docs in (place, *place.parents) or not place.exists():
            return match[0]
        kind = "tree" if place.is_dir() else "blob"
        path = place.relative_to(docs.parent).as_posix()
        return f"](https://github.com/{app.config.repository}/{kind}/main/{path}{match['anchor'] or ''})"

    source[0] = LINK.sub(replaced, BADGE.sub(r"\1", source[0]))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("repository", "", "env")
    app.connect("source-read", rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
