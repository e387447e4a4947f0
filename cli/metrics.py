"""`mini-pacs metrics`: serve the figures of the edge for Prometheus."""

import signal
import threading
from typing import Annotated

import typer

from cli.operator import configured
from gateway.database.dsn import dsn_from_environment
from gateway.database.pool import Database
from gateway.metrics.current import CurrentConfiguration
from gateway.metrics.exporter import Exporter
from gateway.metrics.findings import FindingsWatch
from gateway.metrics.from_database import DEADLINE, FromDatabase
from gateway.metrics.from_host import FromHost
from gateway.metrics.server import server_of
from gateway.metrics.spool_usage import SpoolUsage


def metrics(
    bind_address: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on, instead of metrics.bind_address of config.yaml.", show_default=False
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Port, instead of metrics.port of config.yaml.", show_default=False
        ),
    ] = None,
) -> None:
    """Serve the figures of the edge for Prometheus, at /metrics, until SIGTERM or Ctrl-C.

    One process for each edge, on the host of its spool. While PostgreSQL is away it serves the figures of
    this host, and mini_pacs_postgres_up 0. docs/operate/metrics.md explains each figure.
    """
    configuration = configured()
    database = Database(
        dsn_from_environment(),
        application_name="mini-pacs metrics",
        size=1,
        deadline_seconds=DEADLINE.total_seconds() + 1,
    )
    usage = SpoolUsage(configuration.edge.data_root)
    current = CurrentConfiguration(configuration)
    findings = FindingsWatch(current, database.dsn)
    exporter = Exporter([FromHost(current, usage), FromDatabase(current, database), findings])
    address = bind_address or configuration.metrics.bind_address
    server = server_of(exporter, address, port or configuration.metrics.port)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    usage.start()
    findings.start()
    thread = threading.Thread(target=server.serve_forever, name="metrics")
    thread.start()
    typer.echo(f"Metrics on http://{address}:{server.server_port}/metrics")
    while not stopped.wait(1.0):
        pass  # on some systems a wait without a timeout never runs the handler of a signal
    server.shutdown()
    thread.join()
    server.server_close()
    usage.stop()
    findings.stop()
    database.close()
