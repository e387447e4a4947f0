"""`mini-pacs serve`: the Storage SCP."""

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType
from typing import Annotated

import typer

from gateway import config, log
from gateway.config import Configuration
from gateway.database.dsn import dsn_from_environment
from gateway.database.migrate import migrate
from gateway.database.pool import Database
from gateway.database.tables import destinations
from gateway.database.wait import wait_for_database
from gateway.log import Stage
from gateway.log_tail import LogFollower
from gateway.receive import server


def serve(
    print_log: Annotated[
        bool,
        typer.Option(
            "--print-log", help="Print the log of every process, too: for a container, whose output is kept."
        ),
    ] = False,
) -> None:
    """Receive instances: bind the port and accept associations until SIGTERM.

    Waits for PostgreSQL at its start and brings the schema up to date. Reads config.yaml from
    MINI_PACS_CONFIG, else from the current folder.
    """
    configuration = config.load()
    if print_log and (served := os.fork()):
        # The SCP is the child: who reads our output slowly holds up nothing but this process.
        raise typer.Exit(_print_log(configuration, served))
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


def _print_log(configuration: Configuration, served: int) -> int:
    """Print the log until the SCP has ended, which is asked to when we are; its exit code."""

    def hand_on(number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(served, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hand_on)
    ended = threading.Event()
    try:
        follower = LogFollower(configuration.edge.log_path, sys.stdout.fileno())
    except OSError:
        # whoever started us takes us for the SCP: it must not live on without us
        os.kill(served, signal.SIGTERM)
        os.waitpid(served, 0)
        raise

    def follow() -> None:
        try:
            follower.run(ended)
        except OSError as error:  # nobody reads our output, or the disk refuses: the SCP matters more
            log.write_stderr(
                f"mini-pacs: the log is no longer printed ({error.strerror}); the SCP goes on; "
                f"the log is in {configuration.edge.log_path}\n"
            )

    thread = threading.Thread(target=follow, name="print-log")
    thread.start()
    _, status = os.waitpid(served, 0)
    ended.set()
    thread.join()
    follower.close()
    return os.waitstatus_to_exitcode(status) % 256
