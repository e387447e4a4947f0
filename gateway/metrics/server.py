"""Serve the metrics by HTTP: GET /metrics, and GET /runbook for people who get an alert.

There is no password: the figures hold no patient, but the AE titles of the hospital. Bind it to an address
that only Prometheus reaches.
"""

import socket
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from gateway.errors import ConfigurationError
from gateway.metrics.exporter import Exporter
from gateway.metrics.runbook import page

Answer = Callable[[str, list[tuple[str, str]]], Any]

_INDEX = b"mini_pacs_edge: /metrics is for Prometheus, /runbook says what to do when an alert fires.\n"


class _MetricsServer(ThreadingMixIn, WSGIServer):
    """A thread for each request, so that a slow reader does not delay another one."""

    daemon_threads = True


class _MetricsServer6(_MetricsServer):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    """Ends a connection that sends nothing for 30 s; writes no line for each request."""

    timeout = 30

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def server_of(exporter: Exporter, address: str, port: int) -> WSGIServer:
    """Return a server that listens; its `serve_forever` answers requests.

    Raises:
        ConfigurationError: the address cannot be bound.
    """
    registry = CollectorRegistry()
    registry.register(exporter)
    metrics = make_wsgi_app(registry)

    def application(environ: dict[str, Any], answer: Answer) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            answer("405 Method Not Allowed", [("Allow", "GET, HEAD")])
            return []
        if path == "/metrics":
            body: Iterable[bytes] = metrics(environ, answer)
            return body
        if path == "/runbook":
            answer("200 OK", [("Content-Type", "text/html; charset=utf-8")])
            return [page().encode()]
        answer("200 OK" if path == "/" else "404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [_INDEX]

    try:
        return make_server(
            address,
            port,
            application,
            _MetricsServer6 if ":" in address else _MetricsServer,
            handler_class=_Handler,
        )
    except (OSError, ValueError) as error:  # ValueError: it is no host name
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"metrics.bind_address {address}, metrics.port {port}: {reason}; "
            "name another one in config.yaml, or with --bind-address and --port"
        ) from error
