"""The spool's disk is not mounted: nothing is told lost, nothing is kept below it, and all goes on with it.

An unmounted disk is a folder without what was in it: here it is moved away, and an empty folder stands there.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import MakeEdge
from edge_bed import EdgeBed, children
from forwarding import QUICK, forwarding, pacs_of
from peers import peer
from specimens import Instance
from typer.testing import CliRunner

from cli.exit_codes import ExitCode
from cli.main import build
from gateway import log
from gateway.domain.outcome import Outcome
from gateway.forward.attempt import forward_to_pacs
from gateway.recognize import recognize
from gateway.spool import ID
from gateway.sweep.reconcile import reconcile

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G2"), pytest.mark.guarantee("G6")]

SENTENCE = "the database knows the spool"


@contextmanager
def unmounted(root: Path) -> Iterator[None]:
    """An empty folder stands where the spool was; it is back afterwards, and nothing was kept below it."""
    away = root.with_name("away")
    root.rename(away)
    root.mkdir()
    try:
        yield
        assert not [path for path in root.rglob("*") if path.is_file()], "kept below the disk"
    finally:
        for path in sorted(root.rglob("*"), reverse=True):
            path.rmdir()
        root.rmdir()
        away.rename(root)


def test_no_process_starts_on_a_folder_that_is_not_the_spool(make_edge: MakeEdge) -> None:
    """SCP, actors and the sweep by hand refuse with a sentence; with the disk back all is delivered."""
    edge = make_edge()
    instance = Instance()
    edge.serve()
    assert edge.send(instance) == [0]
    edge.scp.stop()
    with unmounted(edge.configuration.edge.data_root):
        for words in (
            ("mini-pacs", "serve"),
            ("dramatiq", "actors", "-p", "1", "-t", "1", "-Q", "pacs"),
            ("mini-pacs", "sweep"),
        ):
            process = edge.start(*words)
            assert process.wait(30) != 0, words
            assert SENTENCE in process.text(), process.text()[-2000:]
        assert edge.delivery(instance)["state"] == "pending"
    with peer(edge.configuration.forwarder.orthanc.port) as pacs:
        edge.serve()
        edge.actors("pacs")
        edge.wait_state(instance, "delivered")
        assert [one.digest for one in pacs.taken] == [instance.digest]
        edge.kill()


def test_what_is_owed_waits_for_a_disk_that_went_away(make_edge: MakeEdge) -> None:
    """An attempt is our own trouble, not a lost file; the sweep tells nothing lost; then it is delivered."""
    edge = make_edge({"forwarder": QUICK, "sweep": {"orphan_grace_seconds": 0.01}})
    with forwarding(edge) as core, pacs_of(core) as pacs:
        recognize(core.spool, edge.database)
        instance = Instance()
        delivery_id = core.owed(instance)
        with unmounted(core.spool.root):
            for _ in range(4):  # more than max_retries
                core.due()
                assert forward_to_pacs(core.context, delivery_id) is Outcome.NOT_READ
            delivery = edge.delivery(instance)
            assert delivery["state"] == "pending"
            assert SENTENCE in delivery["last_error"]
            counts = reconcile(core.sweeping())
            assert (counts["files_missing"], counts["files_refused"]) == (0, 1)
            assert SENTENCE in edge.wait_log(outcome="file_refused")["error"]
        core.due()
        assert forward_to_pacs(core.context, delivery_id) is Outcome.DELIVERED
        assert [one.digest for one in pacs.taken] == [instance.digest]


def test_a_receiver_takes_nothing_without_its_disk(make_edge: MakeEdge) -> None:
    """0xA700 from the one that runs; one that is started anew stays away; with the disk back both receive."""
    edge = make_edge({"edge": {"receivers": 1}})
    edge.serve()
    before, refused = Instance(), Instance()
    assert edge.send(before) == [0]
    with unmounted(edge.configuration.edge.data_root):
        assert edge.send(refused) == [0xA700]
        [receiver] = children(edge.scp.pid)
        os.kill(receiver, signal.SIGKILL)
        assert SENTENCE in edge.wait_log(outcome="receiver_failed")["error"]
    assert edge.send(refused) == [0]
    edge.check_ledger([before, refused])


@pytest.fixture
def emptied(make_edge: MakeEdge) -> Iterator[EdgeBed]:
    """An edge whose disk was replaced by an empty one, with an instance that is owed."""
    edge = make_edge()
    with forwarding(edge) as core:
        recognize(core.spool, edge.database)
        core.owed(Instance())
    root = edge.configuration.edge.data_root
    root.rename(root.with_name("lost"))
    root.mkdir()
    yield edge
    log.configure(None, "tests")


def run(*words: str, answer: str | None = None) -> tuple[int, str]:
    """Exit code and output of a command."""
    result = CliRunner().invoke(build(words[0]), list(words), input=answer)
    return result.exit_code, result.output


def test_the_screen_says_so_and_a_new_disk_is_adopted(emptied: EdgeBed) -> None:
    """`status --check` fails until then; adopting asks, says what is lost, and is harmless twice."""
    code, output = run("status", "--check")
    assert code == ExitCode.REFUSED
    assert SENTENCE in output
    assert "adopt-spool" in output
    assert "not the one that the database knows" in run("status")[1]

    root = emptied.configuration.edge.data_root
    assert run("adopt-spool", answer="n\n")[0] == ExitCode.REFUSED
    assert not (root / ID).exists()
    code, output = run("adopt-spool", answer="y\n")
    assert code == ExitCode.OK, output
    assert "1 instances are said to be in it, of which 2 deliveries are still owed" in output
    assert emptied.log(outcome="spool_adopted")[0]["count"] == 2
    assert '"adopted": false' in run("adopt-spool", "--yes", "--json")[1]

    assert SENTENCE not in run("status")[1]
    counts = run("sweep", "reconcile", "--json")[1]
    assert '"files_missing": 1' in counts, counts


def test_the_command_says_what_to_do(emptied: EdgeBed) -> None:
    """`mini-pacs sweep` as a shell sees it: one sentence, and the exit code of another error."""
    process = emptied.start("mini-pacs", "sweep")
    assert process.wait(30) == ExitCode.FAILED
    assert process.text().startswith(f"mini-pacs: {emptied.configuration.edge.data_root} has no {ID}, and ")
