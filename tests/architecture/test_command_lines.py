"""Every ``portnn ...`` in README.md and the documentation is one that the command line accepts."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from portnn.cli import parser

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = re.compile(r"^(?:\$ |!|%)?(?:[\w./]*/)?(?:python3? -m )?portnn (?P<rest>[-\w].*)$")
FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = next(action.choices for action in parser()._actions if isinstance(action, argparse._SubParsersAction))


def known(command):
    """The options of a command."""
    return {name for action in COMMANDS[command]._actions for name in action.option_strings}


def blocks(page):
    """The command lines of each block of a page, without comments."""
    found = FENCED.findall(page.read_text(encoding="utf-8"))
    for code in (code for language, code in found if language in ("bash", "console", "sh", "shell")):
        lines = [PROGRAM.match(line.strip()) for line in code.replace("\\\n", " ").splitlines()]
        if any(lines):
            yield [shlex.split(line["rest"], comments=True) for line in lines if line]


def named(page):
    """What the sentences and tables of a page call the command line by."""
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    codes = (code.replace("\\|", "|").strip() for code in re.findall(r"`([^`\n]+)`", text))
    return [found["rest"] for code in codes if (found := PROGRAM.match(code))]


BLOCKS = [pytest.param(lines, id=f"{page.name}: {lines[0][0]}") for page in PAGES for lines in blocks(page)]
NAMED = [pytest.param(line, id=f"{page.name}: {line}") for page in PAGES for line in named(page)]


def test_there_are_some():
    assert any("README.md: train" in param.id for param in BLOCKS)
    assert len(NAMED) > 15


@pytest.mark.parametrize("lines", BLOCKS)
def test_a_block_runs_with_the_files_that_it_makes(lines, capsys):
    saved = set()
    for words in lines:
        try:
            options = parser().parse_args(words)
        except SystemExit as end:
            if end.code:
                pytest.fail(capsys.readouterr().err)
            continue  # --help
        if options.command == "train":
            saved.add(options.save)
        elif options.command == "run":
            mistaken = known("run") & set(options.args)
            assert not mistaken, f"{mistaken} stands behind SCRIPT, and goes to the script"
        elif options.command != "info" and saved:
            assert options.model in saved, f"no line above {' '.join(words)} saves {options.model}"


@pytest.mark.parametrize("line", NAMED)
def test_what_is_named_exists(line):
    command, *_ = line.split()
    options = set(re.findall(r"--[\w-]+", line))
    if command in ("COMMAND", "...") or command.startswith("-"):
        assert options <= {"--help", "--version", "--debug"}
    else:
        assert command in COMMANDS
        assert options <= known(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_reference_lists_every_option(command):
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith(f"| `portnn {command}"))
    listed = set(re.findall(r"--[\w-]+", line.split("` |")[0]))
    assert listed == known(command) - {"--help", "-h", "--debug"}
