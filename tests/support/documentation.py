"""The built documentation, as its tests read it: the links and anchors of a page, and what it loads."""

from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

LOADS = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}
ONLY_NAMED = ("canonical", "next", "prev", "search", "index", "author", "help", "copyright")  # <link>s not fetched


@dataclass
class Page:
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if given.get("id"):
            self.page.anchors.add(given["id"])
        if tag == "a" and given.get("href"):
            self.page.links.append(given["href"])
        if tag in LOADS and given.get(LOADS[tag]) and given.get("rel") not in ONLY_NAMED:
            self.page.loaded.append(given[LOADS[tag]])


@cache
def read(path: Path) -> Page:
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def is_outside(target: str) -> bool:
    return target.startswith(("http:", "https:", "//", "mailto:"))


def dead(page: Path, root: Path) -> list[str]:
    """The links of a page, and the files that it loads, which do not exist within ``root``."""
    found = []
    for target in [*read(page).links, *read(page).loaded]:
        if is_outside(target) or target.startswith(("data:", "javascript:")):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file.partition("?")[0]).resolve() if file else page
        there = place.is_file() and (place == root or root in place.parents)
        if not there or (anchor and place.suffix == ".html" and anchor not in read(place).anchors):
            found.append(target)
    return found
