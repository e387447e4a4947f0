"""`mini-pacs config reload`: every running process takes config.yaml, or none does. All are real."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import MakeEdge, Reconfigure
from support.edge_setup import EdgeSetup, children, store
from support.launcher import Process
from support.peers import peer
from support.synthetic_instances import Instance
from support.waiting import wait_until

from cli.exit_codes import ExitCode
from gateway import config
from gateway.config import Configuration
from gateway.database.tables import configurations, processes
from gateway.database.tables.processes import ProcessKind, ProcessRow
from gateway.errors import AssociationRejectedError
from gateway.lab.layout import WORKERS, free_ports
from gateway.processes import reload

RECEIVERS = {"receivers": 2}
CALLERS = ["ORTHANC", *WORKERS]
TITLE = "CT_NEW"


@pytest.fixture
def edge(make_edge: MakeEdge) -> EdgeSetup:
    """Return an edge with two receivers, not started."""
    return make_edge({"edge": RECEIVERS})


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses."""
    [port] = free_ports(1)
    return port


def edit(reconfigure: Reconfigure, **edge: object) -> Configuration:
    """Write other values into the section edge of config.yaml."""
    return reconfigure({"edge": {**RECEIVERS, **edge}})


def with_new_sender(reconfigure: Reconfigure) -> Configuration:
    """Write TITLE into the allowlist of config.yaml."""
    return edit(reconfigure, allowed_calling_aets=[*CALLERS, TITLE])


def command(edge: EdgeSetup, *words: str, **environment: str) -> Process:
    """Run a command to its end."""
    process = edge.start("mini-pacs", *words, **environment)
    process.wait(60)
    return process


def load(edge: EdgeSetup, *words: str, code: ExitCode = ExitCode.OK, **environment: str) -> str:
    """Run `config reload`; return what it printed."""
    process = command(edge, "config", "reload", *words, **environment)
    assert process.popen.returncode == code, process.text()
    return process.text()


def rows(edge: EdgeSetup, kind: ProcessKind) -> list[ProcessRow]:
    """Return the rows of the living processes of that kind."""
    with edge.database.statement() as session:
        return [row for row in processes.processes(session) if row.kind is kind and row.connected]


def serve(edge: EdgeSetup) -> Process:
    """Start the SCP; return it when its receivers beat and its start is recorded."""
    scp = edge.serve()
    wait_until(lambda: len(rows(edge, ProcessKind.RECEIVER)) == 2, 15, "the receivers to beat")
    wait_until(lambda: versions(edge), 15, "the start to be recorded")
    return scp


def versions(edge: EdgeSetup) -> list[tuple[int, str]]:
    """Return number and state of each version, the oldest first."""
    with edge.database.statement() as session:
        return [(one.version, one.state) for one in reversed(configurations.history(session, limit=100))]


def admits(edge: EdgeSetup, calling: str) -> bool:
    """Tell whether both receivers let in that AE title: several associations, since either may answer."""
    for _ in range(6):
        try:
            with edge.association([Instance().context], calling):
                pass
        except AssociationRejectedError:
            return False
    return True


@contextmanager
def sending(edge: EdgeSetup) -> Iterator[list[int]]:
    """Send over a long association and over new ones until the end of the block; yield the statuses."""
    statuses: list[int] = []
    stopped = threading.Event()

    def long() -> None:
        with edge.association([Instance().context]) as association:
            while not stopped.is_set():
                statuses.append(store(association, Instance())[0])

    def short() -> None:
        while not stopped.is_set():
            statuses.extend(edge.send(Instance()))

    threads = [threading.Thread(target=target) for target in (long, short)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(statuses) > 10, 15, "the load to run")
        yield statuses
    finally:
        stopped.set()
        for thread in threads:
            thread.join(30)


def test_a_new_sender_is_admitted_while_a_load_runs(edge: EdgeSetup, reconfigure: Reconfigure) -> None:
    """The allowlist changes without a restart; no C-STORE fails, and the same processes go on."""
    scp = serve(edge)
    receivers = children(scp.pid)
    assert not admits(edge, TITLE)
    with sending(edge) as statuses:
        with_new_sender(reconfigure)
        said = load(edge)
        assert admits(edge, TITLE)
        seen = len(statuses)
        wait_until(lambda: len(statuses) > seen + 10, 15, "the load to go on")
    assert set(statuses) == {0}
    assert children(scp.pid) == receivers
    assert f"edge.allowed_calling_aets: {TITLE} added" in said
    assert "Version 2 is taken by 3 processes" in said  # both receivers and their parent
    with edge.database.statement() as session:
        [newest, oldest] = configurations.history(session, limit=10)
    assert (newest.state, newest.difference) == ("taken", (f"edge.allowed_calling_aets: {TITLE} added",))
    assert "@" in newest.proposed_by
    assert oldest.proposed_by.startswith("the start of mini-pacs serve on ")


def test_a_new_worker_gets_instances(make_edge: MakeEdge, reconfigure: Reconfigure) -> None:
    """A running actor process sends to a worker that was added, and no more to one that was removed."""
    edge = make_edge({"edge": RECEIVERS, "forwarder": {"mode": "workers_only"}})
    serve(edge)
    edge.actors("workers")
    port = free_port()
    new = {"host": "127.0.0.1", "port": port, "ae_title": "APP06", "timeout_s": 10}
    reconfigure(
        {
            "edge": {**RECEIVERS, "allowed_calling_aets": [*CALLERS, "APP06"]},
            "forwarder": {"mode": "workers_only", "workers": [new]},
        }
    )
    said = load(edge)
    assert f"forwarder.workers: APP06 added (127.0.0.1:{port})" in said
    assert "forwarder.workers: APP01 removed" in said
    instance = Instance()
    with peer(port) as worker:
        assert edge.send(instance) == [0]
        worker.wait_for(instance.sop_instance_uid)
    assert edge.rows("SELECT ae_title FROM destinations WHERE configured AND route = 'workers'") == [
        ("APP06",)
    ]


def test_a_process_with_another_file_refuses_for_all(
    edge: EdgeSetup, reconfigure: Reconfigure, tmp_path: Path
) -> None:
    """Its reason is shown with its name, and no process has changed."""
    serve(edge)
    copy = tmp_path / "copy.yaml"
    content = yaml.safe_load(edge.configuration.source.read_text())
    content["edge"] |= {
        "data_root": str(edge.configuration.edge.data_root),
        "log_path": str(edge.configuration.edge.log_path),
    }
    copy.write_text(yaml.safe_dump(content))
    other = edge.start("dramatiq", "actors", "-p", "1", "-t", "1", "-Q", "sweep", MINI_PACS_CONFIG=str(copy))
    other.wait_for_line("ready for action", 30)
    with_new_sender(reconfigure)
    said = load(edge, code=ExitCode.REFUSED)
    [actor] = rows(edge, ProcessKind.ACTORS)
    assert f"actors sweep (process {actor.pid} on " in said
    assert f"its file {copy} has other values" in said
    assert not admits(edge, TITLE)
    assert versions(edge)[-1][1] == "refused"
    copy.write_text(edge.configuration.source.read_text())
    other.kill()


@pytest.mark.parametrize(
    ("break_file", "said"),
    [
        (lambda text: text.replace("edge:", "edge:\n  portt: 1"), "unknown key edge.portt"),
        (lambda text: text + "\n: {", "config.yaml"),
        (lambda text: text.replace("ORTHANC", "ORTHANC\\"), "AE title"),
    ],
)
def test_a_broken_file_changes_nothing(edge: EdgeSetup, break_file: Callable[[str], str], said: str) -> None:
    """The command names the error, and proposes nothing to the processes."""
    serve(edge)
    source = edge.configuration.source
    source.write_text(break_file(source.read_text()))
    assert said in load(edge, code=ExitCode.USAGE)
    assert versions(edge) == [(1, "taken")]
    assert admits(edge, "ORTHANC")


def propose(edge: EdgeSetup, configuration: Configuration) -> int:
    """Propose a configuration and wait until every process has said that it can take it."""
    version = reload.propose(edge.database, configuration, difference=["x"], by="test")
    assert reload.refusals(edge.database, version) == []
    return version


def decide(edge: EdgeSetup, version: int, configuration: Configuration) -> None:
    """Decide that all take it, and wait until they have."""
    with edge.database.transaction() as session:
        reload.decide(session, version, configuration)
    wait_until(
        lambda: (
            {row.configuration_digest for row in rows(edge, ProcessKind.RECEIVER)} == {configuration.digest}
            and len(rows(edge, ProcessKind.RECEIVER)) == 2
        ),
        20,
        "both receivers to use it",
    )


def test_a_process_that_dies_between_the_two_steps_holds_nobody_up(
    edge: EdgeSetup, reconfigure: Reconfigure
) -> None:
    """The receiver that replaces it takes the version as well."""
    scp = serve(edge)
    version = propose(edge, with_new_sender(reconfigure))
    os.kill(children(scp.pid)[0], signal.SIGKILL)
    decide(edge, version, config.load(edge.configuration.source))
    assert admits(edge, TITLE)


def test_a_process_that_starts_between_the_two_steps_takes_it(
    edge: EdgeSetup, reconfigure: Reconfigure
) -> None:
    """An actor process has read the new file already; it is not asked twice, and uses the same version."""
    serve(edge)
    new = with_new_sender(reconfigure)
    version = propose(edge, new)
    edge.actors("sweep")
    decide(edge, version, new)
    wait_until(
        lambda: [row.configuration_digest for row in rows(edge, ProcessKind.ACTORS)] == [new.digest],
        15,
        "the actor process to use it",
    )


def test_a_receiver_that_starts_later_uses_what_was_taken(edge: EdgeSetup, reconfigure: Reconfigure) -> None:
    """Also if the file was edited again since, and not loaded."""
    scp = serve(edge)
    with_new_sender(reconfigure)
    load(edge)
    edit(reconfigure)  # without the new sender
    killed = children(scp.pid)
    for receiver in killed:
        os.kill(receiver, signal.SIGKILL)
    wait_until(lambda: len(set(children(scp.pid)) - set(killed)) == 2, 15, "both receivers to be replaced")
    wait_until(lambda: admits(edge, TITLE), 15, "the new receivers to let it in")
    assert "was edited and not loaded" in command(edge, "status").text()


def test_a_frozen_process_is_named_and_refuses_for_all(edge: EdgeSetup, reconfigure: Reconfigure) -> None:
    """It cannot answer, and would go on with the old values when it wakes."""
    scp = serve(edge)
    [frozen, _] = children(scp.pid)
    with_new_sender(reconfigure)
    os.kill(frozen, signal.SIGSTOP)
    try:
        said = load(edge, code=ExitCode.REFUSED)
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert f"(process {frozen} on " in said
    assert f"kill -CONT {frozen}" in said
    load(edge)
    assert admits(edge, TITLE)


def test_an_interrupted_command_leaves_nothing_proposed(edge: EdgeSetup, reconfigure: Reconfigure) -> None:
    """Ctrl-C while it waits for a frozen process."""
    scp = serve(edge)
    [frozen, _] = children(scp.pid)
    with_new_sender(reconfigure)
    os.kill(frozen, signal.SIGSTOP)
    try:
        process = edge.start("mini-pacs", "config", "reload")
        wait_until(lambda: versions(edge)[-1][1] == "proposed", 15, "the version to be proposed")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(30) == ExitCode.INTERRUPTED
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert versions(edge)[-1][1] == "refused"


def test_what_needs_a_restart_is_named_and_not_taken(edge: EdgeSetup, reconfigure: Reconfigure) -> None:
    """The other keys of the same file count at once."""
    serve(edge)
    before = edge.configuration.edge.port
    edit(reconfigure, port=free_port(), allowed_calling_aets=[*CALLERS, TITLE])
    said = load(edge)
    assert "edge.port: counts after a restart only; restart `mini-pacs serve`" in said
    assert edge.configuration.edge.port == before
    assert admits(edge, TITLE)
    assert {row.restart_for for row in rows(edge, ProcessKind.RECEIVER)} == {("edge.port",)}
    assert (
        "edge.port changed in config.yaml and counts after a restart only" in command(edge, "status").text()
    )


def test_without_postgresql_nothing_is_proposed(edge: EdgeSetup, reconfigure: Reconfigure) -> None:
    """The command says that PostgreSQL cannot be reached; the processes keep what they have."""
    serve(edge)
    with_new_sender(reconfigure)
    away = f"postgresql://mini_pacs@127.0.0.1:{free_port()}/mini_pacs"
    said = load(edge, code=ExitCode.UNREACHABLE, DATABASE_URL=away)
    assert "cannot connect to PostgreSQL" in said
    assert not admits(edge, TITLE)


def test_only_one_reload_runs_at_a_time(edge: EdgeSetup, reconfigure: Reconfigure) -> None:
    """The second is refused, and names the first. What a killed command left counts as refused later."""
    new = with_new_sender(reconfigure)
    first = reload.propose(edge.database, new, difference=[], by="first@host")
    assert "another reload is running (version 1, by first@host)" in load(edge, code=ExitCode.REFUSED)
    edge.run("UPDATE configurations SET proposed_at = proposed_at - interval '31 seconds'")
    assert "No process runs" in load(edge)
    assert versions(edge)[0] == (first, "refused")


def test_check_and_status_show_what_is_not_loaded(edge: EdgeSetup, reconfigure: Reconfigure) -> None:
    """Both name the change; after the reload, neither does."""
    serve(edge)
    with_new_sender(reconfigure)
    assert f"edge.allowed_calling_aets: {TITLE} added" in command(edge, "config", "check").text()
    status = command(edge, "status").text()
    assert f"was edited and not loaded: edge.allowed_calling_aets: {TITLE} added" in status
    load(edge)
    assert "not loaded" not in command(edge, "status").text()
    assert f"{TITLE} added" not in command(edge, "config", "check").text()


def test_the_history_shows_who_and_what(edge: EdgeSetup, reconfigure: Reconfigure) -> None:
    """Also the keys and values of one version."""
    serve(edge)
    with_new_sender(reconfigure)
    load(edge)
    said = command(edge, "config", "history").text()
    assert f"edge.allowed_calling_aets: {TITLE} added" in said
    shown: Mapping[str, Any] = yaml.safe_load(command(edge, "config", "history", "--show", "2").text())
    assert TITLE in shown["edge"]["allowed_calling_aets"]
    assert command(edge, "config", "history", "--show", "99").popen.returncode == ExitCode.REFUSED


def archive(title: str, port: int) -> dict[str, object]:
    """Return an archive of this machine for config.yaml."""
    return {"host": "127.0.0.1", "port": port, "ae_title": title, "timeout_s": 10}


def test_an_archive_that_is_owed_instances_is_not_removed_silently(
    make_edge: MakeEdge, reconfigure: Reconfigure
) -> None:
    """Refused until the operator says where they go: another archive sends them, or they are cancelled."""
    old, new = free_ports(2)

    def with_archives(*archives: dict[str, object]) -> dict[str, dict[str, Any]]:
        return {"edge": RECEIVERS, "forwarder": {"mode": "pacs_only", "archives": list(archives)}}

    edge = make_edge(with_archives(archive("VNA", old)))
    serve(edge)
    edge.actors("archives")
    instances = [Instance(), Instance()]
    assert edge.send(*instances) == [0, 0]
    owed = "SELECT target, state::text FROM deliveries WHERE route = 'archives' ORDER BY id"
    assert [target for target, _ in edge.rows(owed)] == ["VNA"] * 2

    reconfigure(with_archives(archive("NEW", new)))
    said = load(edge, code=ExitCode.REFUSED)
    assert "VNA is owed 2 instances" in said
    assert versions(edge) == [(1, "taken")]
    assert "--move-to NOBODY: config.yaml has no such archive" in load(
        edge, "--move-to", "NOBODY", code=ExitCode.USAGE
    )
    with peer(new) as taker:
        assert "2 deliveries go to NEW now" in load(edge, "--move-to", "NEW")
        taker.wait_for(*(instance.sop_instance_uid for instance in instances), timeout=60)
    wait_until(lambda: edge.rows(owed) == [("NEW", "delivered")] * 2, 15, "both to be delivered")
    wait_until(lambda: edge.queued("archives.VNA") == 0, 30, "the messages of the removed archive to be gone")

    assert edge.send(Instance()) == [0]  # nobody listens any more
    reconfigure(with_archives())
    assert "1 deliveries were cancelled" in load(edge, "--cancel", "--yes")
    assert edge.rows(owed)[-1] == ("NEW", "cancelled")


def test_a_pause_takes_nothing_of_a_file_that_is_not_loaded(
    make_edge: MakeEdge, reconfigure: Reconfigure
) -> None:
    """Else it would end what the removed archive gets, and pause what no process knows."""
    [old, new] = free_ports(2)

    def with_archive(title: str, port: int) -> dict[str, dict[str, Any]]:
        return {"edge": RECEIVERS, "forwarder": {"mode": "pacs_only", "archives": [archive(title, port)]}}

    edge = make_edge(with_archive("VNA", old))
    serve(edge)
    reconfigure(with_archive("NEW", new))
    assert command(edge, "destinations", "pause", "ORTHANC").popen.returncode == ExitCode.OK
    assert edge.one("SELECT configured FROM destinations WHERE ae_title = 'VNA'")
    refused = command(edge, "destinations", "pause", "NEW")
    assert refused.popen.returncode == ExitCode.REFUSED
    assert "Type `mini-pacs config reload` first" in refused.text()
