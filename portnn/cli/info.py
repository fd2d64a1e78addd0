"""``portnn info``: which backends work here, and what to do about those that do not."""

import platform
from typing import Any

import portnn
from portnn.backend import STEPS, availability, get_backend, known_backends

DESCRIPTION = """Says which backends work on this machine; of the others, which step fails, why,
and how to fix it."""

EXAMPLES = """examples:
  portnn info
"""


def add(command: Any) -> None:
    parser = command("info", help="say which backends work on this machine", description=DESCRIPTION, epilog=EXAMPLES)
    parser.set_defaults(run=lambda options: print(info()) or 0)


def info() -> str:
    """Returns a paragraph for each known backend."""
    lines = [
        f"portnn {portnn.__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    ]
    for name in known_backends():
        status = availability(name)
        if status.ok:
            details = "".join(f"\n    {key}: {value}" for key, value in get_backend(name).describe().items())
            lines.append(f"{name}: works{details}")
        else:
            number = STEPS.index(status.failed_step or STEPS[0]) + 1
            lines.append(
                f"{name}: not available\n    failed step: {number} of {len(STEPS)}, {status.failed_step}\n"
                f"    reason: {status.reason}\n    to fix it: {status.remedy}"
            )
    return "\n".join(lines)
