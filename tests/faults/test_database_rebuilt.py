"""The database is dropped under load and restored from an older dump: no destination misses an instance."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlsplit

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.forwarding import QUICK
from support.peers import peer
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.domain.dimse_status import Status
from gateway.errors import PeerError
from gateway.lab.postgres import EmbeddedPostgres
from gateway.spool.marks import read_marks

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G2"), pytest.mark.guarantee("G6")]

REFUSED, NEVER = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.7"
"""SOP Classes that the PACS of the test refuses for now, and for good."""


class Load:
    """A modality that sends one instance after the other, and keeps what was acknowledged."""

    def __init__(self, edge: EdgeSetup) -> None:
        self._edge = edge
        self._stopped = threading.Event()
        self.acknowledged: list[Instance] = []
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Send for the length of the `with`."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            self._thread.join(60)

    def more(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= wanted, 60, f"{count} more to be acknowledged")

    def _run(self) -> None:
        classes = ("1.2.840.10008.5.1.4.1.1.2", REFUSED, "1.2.840.10008.5.1.4.1.1.2", NEVER)
        number = 0
        while not self._stopped.is_set():
            instance = Instance(sop_class_uid=classes[number % 4])
            number += 1
            try:
                if self._edge.send(instance) == [0]:
                    self.acknowledged.append(instance)
            except (PeerError, OSError):
                time.sleep(0.2)  # rejected for now: the pause of a modality
            time.sleep(0.02)  # the rate of the load, not a wait


def holds_file(edge: EdgeSetup, place: str) -> bool:
    """Tell whether that folder of the spool holds a file."""
    return any((edge.spool.root / place).glob("*/*.dcm"))


def dump(postgres: EmbeddedPostgres, dsn: str) -> str:
    """Return a dump of the database, made while the processes run."""
    made = subprocess.run(
        [postgres._programs / "pg_dump", "--no-owner", dsn], capture_output=True, check=True, text=True
    )
    return made.stdout


def restore(postgres: EmbeddedPostgres, dsn: str, backup: str) -> None:
    """Drop the database with all its connections; create it again of the dump."""
    name = urlsplit(dsn).path[1:]
    postgres.drop_database(name)
    postgres.create_database(name, template="template0")
    subprocess.run(
        [postgres._programs / "psql", "--quiet", "-v", "ON_ERROR_STOP=1", dsn],
        input=backup,
        capture_output=True,
        check=True,
        text=True,
        env={**os.environ, "PGOPTIONS": ""},
    )


def test_a_dropped_and_restored_database_loses_no_instance(
    make_edge: MakeEdge, postgres: EmbeddedPostgres
) -> None:
    """Instances in each place, received before and after the dump, and while the database is gone."""
    edge = make_edge(
        {"edge": {"receivers": 2}, "forwarder": {**QUICK, "mode": "pacs_only", "max_retries": 50}}
    )
    edge.serve()
    edge.actors("pacs", "sweep")
    load = Load(edge)
    mended = threading.Event()
    with peer(edge.configuration.forwarder.orthanc.port) as pacs, load.running():
        statuses = {REFUSED: Status.OUT_OF_RESOURCES, NEVER: Status.SOP_CLASS_NOT_SUPPORTED}
        pacs.answer = lambda request: 0 if mended.is_set() else statuses.get(request.sop_class_uid, 0)
        load.more(20)
        backup = dump(postgres, edge.dsn)
        marked = read_marks(edge.spool.root).seen_at
        wait_until(lambda: read_marks(edge.spool.root).seen_at != marked, 30, "the next time mark")
        load.more(20)
        for place in ("queued", "sent", "failed"):
            wait_until(partial(holds_file, edge, place), 30, f"a file in {place}")
        restore(postgres, edge.dsn, backup)
        said = edge.wait_log(outcome="spool_unknown", timeout=30)["error"]
        assert "Run `mini-pacs db rebuild`" in said or "keeps no instance" in said
        wait_until(lambda: bool(edge.log(outcome="rejected")), 30, "the SCP to reject")
        before = len(pacs.taken)
        rebuilt = edge.start("mini-pacs", "db", "rebuild", "--yes")
        mended.set()
        assert rebuilt.wait(60) == 0, rebuilt.text()
        load.more(20)
        assert len(pacs.taken) >= before
    with peer(edge.configuration.forwarder.orthanc.port) as pacs_again:
        retried = edge.start("mini-pacs", "deliveries", "retry", "--state", "dead")
        assert retried.wait(60) == 0, retried.text()
        wait_until(
            lambda: edge.one("SELECT count(*) FROM deliveries WHERE state <> 'delivered'") == 0,
            120,
            "everything to be delivered",
        )
        arrived = {one.digest for one in (*pacs.taken, *pacs_again.taken) if one.status == 0}
        missing = [one.sop_instance_uid for one in load.acknowledged if one.digest not in arrived]
        assert not missing, f"{len(missing)} of {len(load.acknowledged)} never arrived"
        edge.check_ledger(load.acknowledged)
        assert edge.one("SELECT count(*) FROM instances") >= len(load.acknowledged)
        edge.kill()
