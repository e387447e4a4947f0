"""`mini-pacs serve`: the Storage SCP."""

import signal

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
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))

    def prepare() -> None:
        for version in migrate(dsn):
            log.write(Stage.DB, "migrated", detail=version)
        database = Database(dsn, application_name="mini-pacs serve", size=1)
        with database.transaction() as session:
            destinations.configure(session, configuration)
        database.close()

    if not wait_for_database(prepare, give_up=lambda: bool(stopped)):
        raise typer.Exit(0)
    raise typer.Exit(server.serve(configuration, dsn))
