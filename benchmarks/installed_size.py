"""How much disk space portnn and other libraries take once installed, each with all that it needs.

    python benchmarks/installed_size.py [portnn portnn[fast] scikit-learn torch==2.13.0 ...] [--save FILE]

Each is installed by pip into an empty folder of its own, without compiled bytecode, and the sizes of its files are
added up. What pip takes from its index decides whether PyTorch is the build for the CPU or the one for CUDA: the
version says which.
"""

import argparse
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEFAULT = ["portnn", "portnn[fast]", "scikit-learn", "torch==2.13.0", "micrograd"]


def installed(requirement: str) -> tuple[int, str]:
    """The bytes that a requirement takes with its dependencies, and its version. ``portnn`` is this checkout."""
    source = re.sub(r"^portnn", str(ROOT), requirement)
    name = re.split(r"[\[<>=!~]", requirement)[0]
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        subprocess.run([*pip, "--target", folder, source], check=True, stderr=subprocess.DEVNULL)
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        (information,) = Path(folder).glob(f"{name.replace('-', '_')}-*.dist-info")
    return size, information.name.removesuffix(".dist-info").split("-")[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requirements", nargs="*", default=DEFAULT, help="what pip is to install")
    parser.add_argument("--save", type=Path, help="also write the table into this file")
    options = parser.parse_args()
    lines = [f"Python {platform.python_version()}, {platform.system()} {platform.machine()}", ""]
    lines += ["| installed | version | MB |", "|---|---|---|"]
    for requirement in options.requirements:
        size, version = installed(requirement)
        lines.append(f"| {requirement} | {version} | {f'{size / 1e6:.0f}' if size > 1e6 else 'below 1'} |")
    print("\n".join(lines))
    if options.save:
        options.save.write_text(
            "# Installed sizes\n\n`python benchmarks/installed_size.py`\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
