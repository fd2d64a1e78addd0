"""Runs programs of the repository in a separate process, with warnings as errors."""

import os
import subprocess
import sys
from pathlib import Path

import software_gpu

ROOT = Path(__file__).parents[2]


def run(*arguments, cwd=ROOT, warnings="error"):
    """Runs Python with the library of this checkout, and with the GPU in software if that is in use here."""
    path = [str(ROOT), str(ROOT / "backends"), *[str(software_gpu.SITE)] * software_gpu.is_wanted()]
    if given := os.environ.get("PYTHONPATH"):
        path.append(given)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONWARNINGS": warnings}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
