"""Every ``portnn ...`` in README.md and the documentation is one that the command line accepts."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from portnn.cli import parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = re.compile(r"^(?:\$ |!|%)?(?:[\w./]*/)?(?:python3? -m )?portnn (?P<rest>.*)$")
COMMANDS = next(
    action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
)  # fmt: skip


def told(page):
    """The command lines on a page, those of a block together, and those within a sentence each alone."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:bash|console|sh|shell)\b[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for block in blocks:
        yield [
            found["rest"] for line in block.replace("\\\n", " ").splitlines() if (found := PROGRAM.match(line.strip()))
        ]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`\n]+)`", prose):
        if found := PROGRAM.match(code.replace("\\|", "|").strip()):
            yield [found["rest"]]


EVERYTHING = [(page, lines) for page in PAGES for lines in told(page) if lines]


def test_there_are_some():
    pages = {page.name for page, _ in EVERYTHING}
    assert {"README.md", "api.md"} <= pages
    assert sum(len(lines) for _, lines in EVERYTHING) > 15


@pytest.mark.parametrize(
    "page, lines", EVERYTHING, ids=lambda value: value.name if isinstance(value, Path) else value[0]
)
def test_the_command_line_accepts_it(page, lines, capsys):
    saved = set()
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[0].startswith("-") or len(words) == 1 and words[0] not in ("train", "run"):
            if words[0] not in ("--help", "--version", "COMMAND"):
                assert words[0] in COMMANDS, line  # a command that a sentence names
            continue
        if words[0] == "COMMAND" or words == ["train"] or words == ["run"]:
            continue
        if "[" in line or "..." in line:
            options = set(re.findall(r"--[\w-]+", line))
            assert options <= known(words[0]), line
            continue
        try:
            options = parser().parse_args(words)
        except SystemExit:
            pytest.fail(f"{line}: {capsys.readouterr().err}")
        model = getattr(options, "model", None)
        if len(lines) > 1 and options.command not in ("train", "run") and model is not None:
            assert model in saved, f"{line}: no line above it saves {model}"
        if options.command == "train" and options.save:
            saved.add(options.save)
        if options.command == "run":
            mistaken = known("run") & set(options.args)
            assert not mistaken, f"{line}: {mistaken} stands behind SCRIPT, and goes to the script"


def known(command):
    """The options of a command."""
    return {name for action in COMMANDS[command]._actions for name in action.option_strings}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_reference_lists_every_option(command):
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith(f"| `portnn {command}"))
    listed = set(re.findall(r"--[\w-]+", line.replace("\\|", "|").split("` |")[0]))
    assert listed == known(command) - {"--help", "-h", "--debug"}
