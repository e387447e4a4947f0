"""Run the console with uvicorn, on an address that is bound before anything is printed."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn

from console.app import application
from console.first_link import FirstLink
from console.guard import WILDCARDS
from gateway.config import Configuration
from gateway.dicom.tls import check_pair
from gateway.errors import ConfigurationError

BACKLOG = 256
GRACE_SECONDS = 3
"""After SIGTERM: for requests that run. Open pages hold a connection for events, which is then closed."""
CONNECTIONS_MOST = 1000


class _ConsoleServer(uvicorn.Server):
    """A server whose process ends with exit code 0 after a signal, as `mini-pacs serve` does."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal. Uvicorn's own function raises the signal again after that."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


@dataclass(frozen=True, slots=True)
class BoundServer:
    """A server that listens on `socket`; `run` answers requests until SIGTERM or SIGINT."""

    server: uvicorn.Server
    socket: socket.socket
    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """Return the address for the terminal."""
        return f"{self.scheme}://{_in_url(self.host)}:{self.port}"

    @property
    def local_url(self) -> str:
        """Return an address that reaches it from this machine."""
        host = "127.0.0.1" if self.host in {*WILDCARDS, "::1"} and self.host != "::1" else self.host
        return f"{self.scheme}://{_in_url(host)}:{self.port}"

    def run(self) -> None:
        """Answer requests until a signal."""
        self.server.run(sockets=[self.socket])


def bound(
    configuration: Configuration,
    dsn: str,
    link: FirstLink,
    *,
    address: str | None = None,
    port: int | None = None,
) -> BoundServer:
    """Bind the address; return a server for it.

    Raises:
        ConfigurationError: the address cannot be bound, or the certificate cannot be used.
    """
    console = configuration.console
    host, number = address or console.bind, port or console.port
    _check_certificate(configuration)
    config = uvicorn.Config(
        application(configuration, dsn, link=link),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the address of a request is that of its connection, whatever headers say
        backlog=BACKLOG,
        limit_concurrency=CONNECTIONS_MOST,
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=32 * 1024,
        ssl_certfile=str(console.tls.certificate) if console.tls else None,
        ssl_keyfile=str(console.tls.key) if console.tls else None,
    )
    made = _listen(host, number)
    scheme = "https" if console.tls else "http"
    return BoundServer(_ConsoleServer(config), made, scheme, host, made.getsockname()[1])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.socket(family, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((host, port))
            made.listen(BACKLOG)
        except OSError:
            made.close()
            raise
    except (OSError, ValueError) as error:  # ValueError: it is no host name
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"console.bind {host}, console.port {port}: {reason}; name another one in "
            "config.yaml, or with --bind and --port"
        ) from error
    return made


def _check_certificate(configuration: Configuration) -> None:
    tls = configuration.console.tls
    if tls is not None:
        check_pair(tls.certificate, tls.key, "console.tls")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
