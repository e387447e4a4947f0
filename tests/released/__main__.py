"""`make release-data VERSION=0.2.0 COMMIT=f854704`: make the data of a release for tests of later versions.

A real edge of that commit receives the instances of `support.release_scenario`, sends some of them, and is
killed. Its database becomes tests/released/VERSION.sql, its spool tests/released/VERSION.tar.gz. What needs
an error of a program (a message that is dead) is set by statements.
"""
# ruff: noqa: T201  it says what it wrote

import argparse
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg2
from support import release_scenario as scenario
from support import released_tree
from support.database_dump import dump
from support.edge_setup import EdgeSetup, store
from support.launcher import Process, Processes
from support.peers import Peer, peer
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway import config
from gateway.database.migrate import Migration
from gateway.dicom.policy import StoreRequest
from gateway.errors import PeerError
from gateway.lab import layout
from gateway.lab.postgres import EmbeddedPostgres

FOLDER = Path(__file__).resolve().parent
CHANGES = {"forwarder": {"max_retries": 0, "backoff_base_seconds": 300, "worker_timeout_seconds": 3600}}
"""Whatever fails once is dead, or waits until long after the dump; so do the results that are owed."""
AWAY, PAUSED = "APP04", "APP05"


class Release:
    """The edge of the release, with a PACS and four of its five workers."""

    def __init__(self, edge: EdgeSetup, tree: Path, peers: dict[str, Peer]) -> None:
        self.edge = edge
        self._tree = tree
        self._pacs = peers["ORTHANC"]
        self._statuses = {scenario.RETRIED.sop_instance_uid: 0xA700, scenario.DEAD.sop_instance_uid: 0xA900}
        self._hanging = threading.Event()
        self._go_on = threading.Event()
        self._pacs.answer = self._answer

    def _answer(self, request: StoreRequest) -> int:
        """Answer as the PACS."""
        if request.sop_instance_uid == scenario.IN_FLIGHT.sop_instance_uid:
            self._hanging.set()
            self._go_on.wait(60)
        return self._statuses.get(request.sop_instance_uid, 0)

    def run(self) -> None:
        """Receive and send everything, then kill every process."""
        edge = self.edge
        edge.serve(*released_tree.words(self._tree, "-m", "cli", "serve"))
        self._command("destinations", "pause", PAUSED)
        pacs, workers = self._actors("pacs"), self._actors("workers")
        self._deliver()
        self._results()
        workers.stop()
        self._leave_in_flight(pacs)
        self._leave_waiting()
        self._kill_receivers()
        edge.kill()

    def _deliver(self) -> None:
        """Send what the release completes, refuses or retries."""
        done = (scenario.DELIVERED, scenario.SENT_FIRST, scenario.LATE, scenario.UNANSWERED, scenario.OWED)
        self._receive(*done, scenario.RETRIED, scenario.DEAD)
        for instance in done:
            self.edge.wait_state(instance, "delivered")
        for instance in (*done, scenario.RETRIED, scenario.DEAD):
            self.edge.wait_state(instance, "delivered", route="workers", timeout=60)
        self.edge.wait_state(scenario.DEAD, "dead")
        wait_until(lambda: self.edge.delivery(scenario.RETRIED)["attempts"] == 1, 15, "the attempt")

    def _results(self) -> None:
        """Return results in time and too late; let one instance be given up."""
        self._receive(scenario.ARRIVED_RESULT, calling=self._worker(scenario.DELIVERED))
        self.edge.wait_state(scenario.ARRIVED_RESULT, "delivered")
        self._receive(scenario.DELIVERED)  # a repeat that is not forwarded
        first = self._worker(scenario.LATE)
        self._expire(scenario.LATE)
        self._receive(scenario.LATE_RESULT, calling=first)
        self.edge.wait_state(scenario.LATE_RESULT, "delivered")
        for _ in range(3):
            self._expire(scenario.UNANSWERED)

    def _expire(self, instance: Instance) -> None:
        """End the deadline of its result; wait until another worker has it, if there is one."""
        before = self.edge.delivery(instance, "workers")["redispatches"]
        self.edge.run(
            "UPDATE expected_results e SET due_at = now() - interval '1 hour' FROM instances i"
            " WHERE i.id = e.instance_id AND i.sop_instance_uid = %(uid)s AND e.state = 'owed'",
            uid=instance.sop_instance_uid,
        )
        self._command("sweep", "expire")
        if before < 2:  # forwarder.max_redispatch
            wait_until(
                lambda: self.edge.delivery(instance, "workers")["redispatches"] > before, 15, "the redispatch"
            )
        self.edge.wait_state(instance, "delivered", route="workers", timeout=60)

    def _leave_in_flight(self, pacs: Process) -> None:
        """Kill the actors while the PACS does not answer; another instance of the study is parked."""
        self._receive(scenario.IN_FLIGHT)
        wait_until(self._hanging.is_set, 15, "the PACS to hang")
        self._receive(scenario.PARKED)
        parked = "SELECT count(*) FROM deliveries WHERE parked_for IS NOT NULL"
        wait_until(lambda: self.edge.one(parked) == 1, 15, "the other one to be parked")
        pacs.kill()
        self._go_on.set()

    def _leave_waiting(self) -> None:
        """Receive what is never tried; cancel one, and make a message dead."""
        self._receive(
            scenario.FIRST, scenario.SECOND, scenario.NEWER, scenario.CANCELLED, scenario.DEAD_MESSAGE,
            scenario.PENDING, scenario.PENDING,
        )  # fmt: skip
        self._receive(scenario.WAITING_RESULT, calling="APP01")
        self._receive(scenario.UNMATCHED_RESULT, calling="APP02")
        self._command("deliveries", "cancel", "--yes", "--study", scenario.CANCELLED.study_instance_uid)
        killed = "the process died three times while this message ran"
        self.edge.run(
            "UPDATE dramatiq.queue SET state = 'rejected', deaths = 3, reason = %(reason)s"
            " WHERE delivery_id = %(delivery)s",
            reason=killed,
            delivery=self.edge.delivery(scenario.DEAD_MESSAGE)["id"],
        )
        self.edge.wait_state(scenario.DEAD_MESSAGE, "dead")

    def _kill_receivers(self) -> None:
        """Leave a file without a row, and a partial file, by killing the SCP twice."""
        edge = self.edge
        edge.scp.kill()
        crashing = released_tree.words(self._tree, "tests/support/crashing_serve.py")
        edge.serve(*crashing, CRASH_AT="link:1:after")
        try:
            edge.send(scenario.NO_ROW)
            raise AssertionError("the receiver was to be killed")
        except PeerError:
            edge.scp.kill()
        edge.serve(*released_tree.words(self._tree, "-m", "cli", "serve"))
        cut_off = scenario.CUT_OFF
        with edge.association([cut_off.context]) as association:
            try:
                association.store(cut_off.context, cut_off.sop_instance_uid, self._half(cut_off))
                raise AssertionError("the receiver was to be killed")
            except PeerError:
                pass

    def _half(self, instance: Instance) -> Iterator[bytes]:
        """Yield the first half of the data set; kill the SCP when its partial file holds some of it."""
        raw = instance.data_set()
        yield raw[: len(raw) // 2]
        wait_until(self._has_a_partial_file, 15, "the partial file")
        self.edge.scp.kill()
        yield raw[len(raw) // 2 :]

    def _has_a_partial_file(self) -> bool:
        """Tell whether there is one that holds data and has no final name."""
        parts = [path.stat() for path in self.edge.configuration.edge.data_root.glob("partial/*/*.part")]
        return any(part.st_size and part.st_nlink == 1 for part in parts)

    def _receive(self, *instances: Instance, calling: str = "ORTHANC") -> None:
        for instance in instances:
            with self.edge.association([instance.context], calling) as association:
                status, comment = store(association, instance)
            assert status == 0, comment

    def _actors(self, queue: str) -> Process:
        started = released_tree.start(
            self.edge, self._tree, "dramatiq", "actors", "-p", "1", "-t", "4", "-Q", queue
        )
        started.wait_for_line("ready for action", 60)
        return started

    def _worker(self, instance: Instance) -> str:
        return str(self.edge.delivery(instance, "workers")["destination"])

    def _command(self, *words: str) -> None:
        command = released_tree.start(self.edge, self._tree, "cli", *words)
        assert command.wait(60) == 0, command.text()


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    """Yield the DSN of an empty database."""
    server = EmbeddedPostgres(folder / "postgres")
    try:
        server.start()
        server.create_database("release")
        os.environ["DATABASE_URL"] = server.dsn("release")
        yield server.dsn("release")
    finally:
        server.remove()


def _write_dump(dsn: str, version: str, commit: str) -> None:
    connection = psycopg2.connect(dsn)
    with connection, connection.cursor() as cursor:
        text = dump(cursor)
    connection.close()
    target = FOLDER / f"{version}.sql"
    head = (
        f"-- The data of a database of {version} (commit {commit}), with times relative to its loading.\n"
        "-- Written by `make release-data`: see tests/released/__main__.py.\n"
    )
    target.write_text(head + text, "utf-8")
    print(f"wrote {target}: {len(text.splitlines())} statements")


def _write_spool(root: Path, version: str) -> None:
    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    target = FOLDER / f"{version}.tar.gz"
    with tarfile.open(target, "w:gz") as archive:
        archive.add(root, arcname=".", filter=plain)
    print(f"wrote {target}: {target.stat().st_size} bytes")


def _print_digests(tree: Path, version: str) -> None:
    """Print the lines for `DIGESTS` in tests/support/released_data.py."""
    print(f'    "{version}": {{')
    for path in sorted((tree / "gateway/database/migrations").glob("*.sql")):
        migration = Migration(path.stem, path.read_text(encoding="utf-8"))
        print(f'        "{migration.version}": "{migration.digest}",')
    print("    },")


def main() -> None:
    """Make both files."""
    parser = argparse.ArgumentParser(prog="make release-data", description=__doc__)
    parser.add_argument("version")
    parser.add_argument("commit", nargs="?", default="HEAD", help="the commit of the release; default HEAD")
    words = parser.parse_args()
    short = ["git", "rev-parse", "--short", words.commit]
    commit = subprocess.run(short, capture_output=True, text=True, check=True).stdout.strip()
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-release-"))
    folder.chmod(0o711)  # PostgreSQL's user must be able to enter it
    try:
        tree = released_tree.extract(commit, folder / "tree")
        path = layout.write(
            folder / "edge", layout.configuration(layout.choose_ports(well_known=False), CHANGES)
        )
        os.environ[config.PATH_VARIABLE] = str(path)
        configuration = config.load(path)
        (folder / "output").mkdir()
        processes = Processes(folder / "output")
        with _postgres(folder) as dsn, ExitStack() as stack:
            edge = EdgeSetup(configuration, dsn, processes)
            peers = {
                d.ae_title: stack.enter_context(peer(d.port, on=d.ae_title != AWAY))
                for d in configuration.destinations
            }
            try:
                Release(edge, tree, peers).run()
            except BaseException:
                print(processes.report())
                raise
            finally:
                edge.kill()
                edge.close()
            _write_dump(dsn, words.version, commit)
            _write_spool(configuration.edge.data_root, words.version)
            _print_digests(tree, words.version)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
