"""Claim TCP ports for one lab, so that two labs that start at once do not choose the same.

A claim is an abstract Unix socket whose name holds the port. The kernel lets one process of a network
namespace bind a name, and frees it when that process ends, by kill -9 too. Only labs look at claims:
whether another program listens on the port is asked beside it.
"""

import os
import socket

from gateway.lab.layout import is_free


class Claims:
    """The ports that one lab claimed."""

    def __init__(self) -> None:
        self._sockets: dict[int, int] = {}

    def take(self, port: int) -> bool:
        """Claim `port`; tell whether it is this lab's now, and nobody listens there."""
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
        """Give every port back; harmless where none is claimed."""
        for claim in self._sockets.values():
            os.close(claim)
        self._sockets.clear()
