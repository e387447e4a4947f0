"""The parts of the chaos run on which its ledger relies: PACS, senders, proxies, each with real DICOM."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from proof.chaos.journal import BROKEN, HAS_IT, SUCCESS, Journal, read
from proof.chaos.pacs import WELL, Behaviour, ChaosPacs, behave
from proof.chaos.sender import SenderOptions
from proof.chaos.tcp_proxy import TcpProxy
from proof.chaos.worker import GAVE, TOOK, VARIABLE
from support.launcher import Process, Processes
from support.peers import peer
from support.synthetic_instances import Instance, study_of
from support.waiting import wait_until

from gateway.dicom.association import PeerAddress
from gateway.dicom.requestor import associate
from gateway.errors import AssociationBrokenError, AssociationRejectedError
from gateway.lab import layout

TESTS = str(Path(__file__).resolve().parents[1])


class Running:
    """The PACS of the chaos run as a process."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        [self.port] = layout.free_ports(1)
        self.room = ChaosPacs(folder, "ORTHANC", self.port)
        self._processes = processes
        self._program = self.room.program()
        self.process = self.start()

    def start(self) -> Process:
        """Start it in the same folder as before; return it when it listens."""
        self.process = self._processes.start(*self._program.command, PYTHONPATH=TESTS)
        self.process.wait_for_port(self.port)
        return self.process

    def send(self, *instances: Instance) -> list[int]:
        """Send each instance; return the statuses."""
        address = PeerAddress(
            "127.0.0.1", self.port, "ORTHANC", timeout_seconds=10, connect_timeout_seconds=5
        )
        contexts = [instance.context for instance in instances]
        with associate(address, calling_ae_title="MINI_EDGE", contexts=contexts) as association:
            return [
                association.store(one.context, one.sop_instance_uid, [one.data_set()])[0] for one in instances
            ]


@pytest.fixture
def pacs(processes: Processes, tmp_path: Path) -> Running:
    """Return a running PACS that accepts everything."""
    return Running(processes, tmp_path / "pacs")


def test_the_journal_of_the_pacs_survives_its_kill(pacs: Running) -> None:
    """Each success and each refusal is there, with the digest of the bytes on the wire."""
    instances = study_of(3)
    assert pacs.send(instances[0]) == [0x0000]
    behave(pacs.room.folder, Behaviour(status=0xA700))
    assert pacs.send(instances[1]) == [0xA700]
    pacs.process.kill()
    pacs.start()
    assert pacs.send(instances[1]) == [0xA700]  # its behaviour is kept, too
    behave(pacs.room.folder, Behaviour(status=0xB000))
    assert pacs.send(instances[2]) == [0xB000]
    entries = [(e.sop_instance_uid, e.digest, e.status) for e in read(pacs.room.journal)]
    assert entries == [
        (instances[0].sop_instance_uid, instances[0].digest, "0000"),
        (instances[1].sop_instance_uid, instances[1].digest, "A700"),
        (instances[1].sop_instance_uid, instances[1].digest, "A700"),
        (instances[2].sop_instance_uid, instances[2].digest, "B000"),
    ]


def test_the_pacs_journals_only_what_it_answered(pacs: Running) -> None:
    """An instance that was aborted in the data set, or rejected before it, is not in the journal."""
    behave(pacs.room.folder, Behaviour(aborts=True))
    with pytest.raises(AssociationBrokenError):
        pacs.send(Instance())
    behave(pacs.room.folder, Behaviour(rejects=True))
    with pytest.raises(AssociationRejectedError):
        pacs.send(Instance())
    behave(pacs.room.folder, WELL)
    assert list(read(pacs.room.journal)) == []


def test_a_pacs_answers_0x0111_to_a_uid_that_it_has(pacs: Running) -> None:
    """It does so for every version of the UID, also after a restart.

    That answer does not mean that it has this version.
    """
    had, refused, fresh = study_of(3)
    other = Instance(had.sop_instance_uid, had.study_instance_uid, payload=b"\x05\x06" * 40)
    assert pacs.send(had) == [0x0000]
    behave(pacs.room.folder, Behaviour(status=0xA700))
    assert pacs.send(refused) == [0xA700]
    behave(pacs.room.folder, Behaviour(remembers=True))
    for _ in range(2):
        assert pacs.send(had, other) == [0x0111, 0x0111]
        pacs.process.kill()
        pacs.start()
    assert pacs.send(refused, fresh, fresh) == [0x0000, 0x0000, 0x0111]
    taken = {(e.sop_instance_uid, e.digest) for e in read(pacs.room.journal) if e.status in HAS_IT}
    assert taken == {(one.sop_instance_uid, one.digest) for one in (had, refused, fresh)}


def test_the_journal_of_a_killed_sender_has_every_answer(processes: Processes, tmp_path: Path) -> None:
    """SIGUSR1 and SIGUSR2; after a restart it continues and skips nothing."""
    [port] = layout.free_ports(1)
    journal = tmp_path / "sent.txt"
    order = SenderOptions(1, 0, 1, "MODALITY0", "EDGE", port, str(journal), rate=100, begun=time.time())

    def accepted() -> list[str]:
        return [e.sop_instance_uid for e in read(journal) if e.status == SUCCESS and "new" in e.word]

    with peer(port) as edge:
        for number in (signal.SIGUSR2, signal.SIGUSR1):
            enough = len(accepted()) + 20
            sender = processes.start("python", "-m", "proof.chaos.sender", order.text(), PYTHONPATH=TESTS)
            wait_until(partial(_has, accepted, enough), 20, "a study to be sent")
            sender.popen.send_signal(number)
            if number == signal.SIGUSR2:
                wait_until(
                    lambda: any(e.status == BROKEN for e in read(journal)), 20, "the abort to be noted"
                )
                sender.popen.terminate()
            assert sender.wait() == (0 if number == signal.SIGUSR2 else -signal.SIGKILL)
        sent = accepted()
        assert len(set(sent)) == len(sent)
        assert [int(uid.rpartition(".")[2]) for uid in sent] == list(range(len(sent)))
        taken = {(one.sop_instance_uid, one.digest) for one in edge.taken}
        assert {(e.sop_instance_uid, e.digest) for e in read(journal) if e.status == SUCCESS} <= taken


def test_a_worker_journals_the_digest_of_what_it_receives_and_sends(
    processes: Processes, tmp_path: Path
) -> None:
    """The digests are those of the bytes on the wire; a second version of a UID has its own line."""
    port, edge_port = layout.free_ports(2)
    journal = tmp_path / "worked.txt"
    first = Instance()
    second = Instance(first.sop_instance_uid, first.study_instance_uid, payload=b"\x05\x06" * 40)
    with peer(edge_port) as edge:
        worker = processes.start(
            "python",
            "-m",
            "proof.chaos.worker",
            PYTHONPATH=TESTS,
            WORKER_AE_TITLE="APP01",
            WORKER_PORT=str(port),
            GATEWAY_HOST="127.0.0.1",
            GATEWAY_PORT=str(edge_port),
            GATEWAY_AE_TITLE="MINI_EDGE",
            **{VARIABLE: str(journal)},
        )
        worker.wait_for_port(port)
        address = PeerAddress("127.0.0.1", port, "APP01", timeout_seconds=10, connect_timeout_seconds=5)
        with associate(address, calling_ae_title="MINI_EDGE", contexts=[first.context]) as association:
            for one in (first, second):
                assert association.store(one.context, one.sop_instance_uid, [one.data_set()])[0] == 0
        wait_until(lambda: [e.word for e in read(journal)].count(GAVE) == 2, 30, "both results")
    noted = {
        word: [(e.sop_instance_uid, e.digest) for e in read(journal) if e.word == word]
        for word in (TOOK, GAVE)
    }
    assert noted[TOOK] == [(one.sop_instance_uid, one.digest) for one in (first, second)]
    assert sorted(noted[GAVE]) == sorted((one.sop_instance_uid, one.digest) for one in edge.taken)


def _has(accepted: Callable[[], list[str]], enough: int) -> bool:
    return len(accepted()) > enough


@contextmanager
def proxied() -> Iterator[tuple[TcpProxy, socket.socket, socket.socket]]:
    """Yield a proxy with a connection through it: both ends of the connection."""
    [port] = layout.free_ports(1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = TcpProxy(port, listener.getsockname()[1])
        proxy.open()
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as near:
                far, _ = listener.accept()
                with far:
                    far.settimeout(10)
                    yield proxy, near, far
        finally:
            proxy.close()


def test_a_proxy_carries_both_directions_and_closes_with_its_ends() -> None:
    """The bytes are unchanged; one direction stays open when the other one ends."""
    with proxied() as (_, near, far):
        near.sendall(b"there")
        assert far.recv(10) == b"there"
        near.shutdown(socket.SHUT_WR)
        assert far.recv(10) == b""
        far.sendall(b"back")
        assert near.recv(10) == b"back"


def test_cut_resets_both_ends() -> None:
    """The same happens when a machine between them fails."""
    with proxied() as (proxy, near, far):
        near.sendall(b"it carries")
        assert far.recv(10) == b"it carries"
        assert proxy.cut() == 1
        for end in (near, far):
            with pytest.raises(ConnectionResetError):
                end.recv(1)


def test_stall_holds_the_bytes_until_mend() -> None:
    """Both ends stay connected, and no byte is lost."""
    with proxied() as (proxy, near, far):
        proxy.stall()
        near.sendall(b"late")
        far.settimeout(0.3)
        with pytest.raises(TimeoutError):
            far.recv(10)
        proxy.mend()
        far.settimeout(10)
        assert far.recv(10) == b"late"


def test_break_after_resets_in_the_middle() -> None:
    """After the given number of bytes, and not before."""
    with proxied() as (proxy, near, far):
        proxy.break_after(6)
        near.sendall(b"four")
        assert far.recv(10) == b"four"
        near.sendall(b"more")
        with pytest.raises(ConnectionResetError):
            far.recv(10)


def test_a_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    """This includes lines that another process appended."""
    path = tmp_path / "journal.txt"
    assert list(read(path)) == []
    for status in (SUCCESS, BROKEN):
        Journal(path).note("1.2.3", "aa", status, "new:original")
    assert [(e.sop_instance_uid, e.digest, e.status, e.word) for e in read(path)] == [
        ("1.2.3", "aa", SUCCESS, "new:original"),
        ("1.2.3", "aa", BROKEN, "new:original"),
    ]
