"""Builds the documentation as CI does: from scratch, every cell run, warnings as errors, and without a network.

    python tools/build_docs.py [FOLDER]      # by default docs/_build/html

It needs the extra "docs". On Linux the network is cut off by a namespace of its own, in which there is only the
machine itself (the kernels that run the cells talk over that); where such a namespace cannot be made, proxies that do
not answer stand in for it. The last lines say which it was, and how long the build took.
"""

import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
CUT = ["unshare", "--map-root-user", "--net"]
INSIDE = "PORTNN_DOCS_WITHOUT_NETWORK"
DEAD = "http://127.0.0.1:9"  # the port "discard", at which nobody listens


def can_cut() -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*CUT, "true"], capture_output=True).returncode == 0


def raise_loopback() -> None:
    """Switches on the interface "lo", which in a new namespace is off: it sets its flag IFF_UP."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 1))  # SIOCSIFFLAGS


def build(folder: Path) -> int:
    shutil.rmtree(folder, ignore_errors=True)
    begin = time.perf_counter()
    options = ["-b", "html", "-j", "2", "-n", "-W", "--keep-going", "-q", "-d", str(folder.parent / "doctrees"), "-E"]
    done = subprocess.run([sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(folder)])
    pages = len(list(folder.rglob("*.html")))
    print(f"{pages} pages in {folder}, built in {time.perf_counter() - begin:.0f} s")
    return done.returncode


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs" / "_build" / "html").resolve()
    if os.environ.get(INSIDE):
        raise_loopback()
        return build(folder)
    if can_cut():
        print("network: cut off, in a namespace of its own", flush=True)
        command = [*CUT, sys.executable, __file__, str(folder)]
        return subprocess.run(command, env={**os.environ, INSIDE: "yes"}).returncode
    print("network: proxies that do not answer (a namespace without one cannot be made here)", flush=True)
    os.environ |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), DEAD)
    return build(folder)


if __name__ == "__main__":
    sys.exit(main())
