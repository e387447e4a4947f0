"""`mini-pacs serve`: the Storage SCP."""

import signal
import sys

import typer

from gateway import config, log
from gateway.log import Stage
from gateway.receive import server
from gateway.store import destinations
from gateway.store.database import Database, dsn_from_environment
from gateway.store.migrate import migrate
from gateway.store.wait import wait_for_database


def serve() -> None:
    """Receive instances: bind the port and accept associations until SIGTERM.

    Waits for PostgreSQL at its start and brings the schema up to date. Reads config.yaml from
    MINI_PACS_CONFIG, else from the current folder.
    """
    configuration = config.load()
    log.configure(configuration.edge.log_path, "edge")
    dsn = dsn_from_environment()
    # Until the receivers are there nothing is under way: leave at once. (Without a handler the first
    # process of a container would ignore the signal.)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    def prepare() -> None:
        for version in migrate(dsn):
            log.write(Stage.DB, "migrated", detail=version)
        database = Database(dsn, application_name="mini-pacs serve", size=1)
        with database.transaction() as session:
            destinations.configure(session, configuration)
        database.close()

    wait_for_database(prepare)
    raise typer.Exit(server.serve(configuration, dsn))
