"""Claim TCP ports for one lab, so that two labs that start at once choose different ones.

A claim is an abstract Unix socket whose name holds the port. The kernel lets one process of a network
namespace bind a name, and frees the name when that process ends, also by kill -9. Other programs do not use
claims, so `take` also checks that no program listens on the port.
"""

import os
import socket

from gateway.lab.layout import is_free


class Claims:
    """The ports that one lab claimed."""

    def __init__(self) -> None:
        self._sockets: dict[int, int] = {}

    def take(self, port: int) -> bool:
        """Claim `port`; tell whether this lab has it and no program listens there."""
        if port not in self._sockets:
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"\0mini-pacs-lab-port-{port}")
            except OSError:
                claim.close()
                return False
            self._sockets[port] = claim.detach()
        return is_free(port)

    def release(self) -> None:
        """Release every claim; do nothing where there is none."""
        for claim in self._sockets.values():
            os.close(claim)
        self._sockets.clear()
