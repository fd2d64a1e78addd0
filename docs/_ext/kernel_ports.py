"""Gives the kernels that run the cells ports that nobody else takes in the meantime.

A kernel is told on which ports to listen, before it runs. Jupyter takes ports that are free at that moment, from the
range out of which the system also serves all who ask for any port, such as the kernels of pages that are built at the
same time. Now and then one of those is faster, and the page fails with "Address already in use". So these ports are
from below that range, and each process of the build has its own.
"""

import os
import socket
from typing import Any

from jupyter_client.connect import LocalPortCache
from sphinx.application import Sphinx

FIRST, EACH, PARTS = 10_000, 100, 200  # up to 30,000: systems begin at 32,768 or above when asked for any port


class OwnPorts(LocalPortCache):
    """The ports of this process, in turn: those of kernels that have ended come up again last."""

    turn = 0

    def find_available_port(self, ip: str) -> int:
        first = FIRST + os.getpid() % PARTS * EACH
        for _ in range(EACH):
            port = first + self.turn % EACH
            self.turn += 1
            if port not in self.currently_used_ports and free(ip, port):
                self.currently_used_ports.add(port)
                return port
        raise RuntimeError(f"no port from {first} to {first + EACH - 1} is free for a kernel")


def free(ip: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((ip, port))
        except OSError:
            return False
    return True


def setup(app: Sphinx) -> dict[str, Any]:
    OwnPorts.instance()  # a singleton: LocalPortCache.instance() is this one from now on
    return {"parallel_read_safe": True, "parallel_write_safe": True}
