"""`mini-pacs serve`: run the Storage SCP."""

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
from gateway.log_tail import LogFollower
from gateway.receive import server


def serve(
    print_log: Annotated[
        bool,
        typer.Option(
            "--print-log",
            help="Print the log of all processes as well: for a container, whose output is its log.",
        ),
    ] = False,
) -> None:
    """Run the Storage SCP: listen on the port and receive instances until SIGTERM.

    It listens at once, and receives also while PostgreSQL is away. It migrates the schema when it reaches
    PostgreSQL. It reads the file that MINI_PACS_CONFIG names, else config.yaml in the current folder.
    """
    configuration = config.load()
    if print_log and (served := os.fork()):
        # The SCP is the child: a slow reader of the output then delays this process only.
        raise typer.Exit(_print_log(configuration, served))
    log.configure(configuration.edge.log_path, "edge")
    dsn = dsn_from_environment()
    # Until the receivers run there is nothing to finish: end at once. The handler is needed: without one, the
    # first process of a container ignores the signal.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    raise typer.Exit(server.serve(configuration, dsn))


def _print_log(configuration: Configuration, served: int) -> int:
    """Print the log until the SCP has ended; return its exit code. Pass SIGTERM and SIGINT on to it."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.kill(served, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    ended = threading.Event()
    try:
        follower = LogFollower(configuration.edge.log_path, sys.stdout.fileno())
    except OSError:
        # Our parent sees only this process, so the SCP must end with it.
        os.kill(served, signal.SIGTERM)
        os.waitpid(served, 0)
        raise

    def follow() -> None:
        try:
            follower.run(ended)
        except OSError as error:  # The reader has ended, or the disk is full: continue with the SCP.
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
