"""A bare loop of the steps that every router needs: the lower limit of the cost of an instance.

Read the bytes from a socket, write and flush a file and its folder, insert and commit a row for it, read the
file, and write its bytes to a socket. No DICOM, no queue, one process, one row.
"""

import os
import resource
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from gateway.lab.postgres import EmbeddedPostgres
from support.wire_budget import cost
from support.wire_data import Load

CHUNK = 128 * 1024


@dataclass(frozen=True)
class Floor:
    """What the loop needs for each instance; `flushes` are those of file, folder and log."""

    milliseconds: float
    cpu_ms: float
    log_bytes: float
    flushes: int = 3


def floor(load: Load, postgres: EmbeddedPostgres, folder: Path) -> Floor:
    """Run the loop once over as many instances as `load` has."""
    place = folder / f"floor-{load.name}"
    place.mkdir()
    payload = bytes(len(load.payload))
    incoming, sender = socket.socketpair()
    outgoing, receiver = socket.socketpair()
    threads = [
        threading.Thread(target=_send, args=(sender, payload, load.count), daemon=True),
        threading.Thread(target=_drain, args=(receiver,), daemon=True),
    ]
    connection = psycopg2.connect(postgres.dsn())
    connection.autocommit = True
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE floor (id bigint PRIMARY KEY, name text, size bigint)")
        cursor.execute("SELECT wal_bytes FROM pg_stat_wal")
        log_before = cursor.fetchone()
        for thread in threads:
            thread.start()
        assert postgres.process is not None
        server = [connection.info.backend_pid]
        cpu_before = _own_cpu() + _cpu(server)
        began = time.perf_counter()
        for number in range(load.count):
            _one(number, place, descriptor, len(payload), incoming, outgoing, cursor)
        seconds = time.perf_counter() - began
        cpu = _own_cpu() + _cpu(server) - cpu_before
        time.sleep(1.1)  # PostgreSQL reports its counters once a second
        cursor.execute("SELECT wal_bytes FROM pg_stat_wal")
        log_after = cursor.fetchone()
        cursor.execute("DROP TABLE floor")
    connection.close()
    os.close(descriptor)
    for end in (incoming, sender, outgoing, receiver):
        end.close()
    assert log_before is not None
    assert log_after is not None
    log_bytes = float(log_after[0] - log_before[0]) / load.count
    return Floor(1000 * seconds / load.count, 1000 * cpu / load.count, log_bytes)


def _one(  # noqa: PLR0917  the parts of one loop
    number: int,
    place: Path,
    directory: int,
    size: int,
    incoming: socket.socket,
    outgoing: socket.socket,
    cursor: "psycopg2.extensions.cursor",
) -> None:
    path = place / f"{number}.dcm"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
    left = size
    while left:
        piece = incoming.recv(min(CHUNK, left))
        os.write(descriptor, piece)
        left -= len(piece)
    os.fdatasync(descriptor)
    os.fsync(directory)
    cursor.execute("INSERT INTO floor VALUES (%s, %s, %s)", (number, path.name, size))
    at = 0
    while piece := os.pread(descriptor, CHUNK, at):
        outgoing.sendall(piece)
        at += len(piece)
    os.close(descriptor)


def _send(sender: socket.socket, payload: bytes, count: int) -> None:
    for _ in range(count):
        sender.sendall(payload)


def _drain(receiver: socket.socket) -> None:
    while receiver.recv(CHUNK):
        pass


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _cpu(pids: list[int]) -> float:
    used = cost(pids)
    return used.user + used.system
