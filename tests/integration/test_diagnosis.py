"""Each broken edge: the diagnosis names cause and remedy, nothing is green, and the remedy mends it."""

import inspect
import json
import os
import socket
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeEdge
from support.broken_edges import CASES, Breaking, Case
from support.forwarding import QUICK
from support.healthy_edge import HealthyEdge, healthy_edge
from support.other_servers import serving, silent
from support.synthetic_instances import Instance
from typer.testing import CliRunner

from cli.exit_codes import ExitCode
from cli.main import build
from gateway.diagnosis.finding import Finding

pytestmark = pytest.mark.guarantee("G2")
SECONDS = 10.0
PATIENT = b"Secret^Patient"


@pytest.fixture
def edge(make_edge: MakeEdge) -> Iterator[HealthyEdge]:
    """Yield a healthy edge."""
    with healthy_edge(make_edge({"forwarder": QUICK, "edge": {"disk_reserve_mb": 1}})) as edge:
        yield edge


def run(*words: str) -> Any:
    """Run a command in this process."""
    return CliRunner().invoke(build(words[0]), list(words))


def test_a_healthy_edge_has_no_finding(edge: HealthyEdge) -> None:
    """`diagnose`, `status` and `status --check` say that all is well."""
    assert edge.examine().findings == []
    diagnosed = run("diagnose")
    assert diagnosed.exit_code == ExitCode.OK, diagnosed.output
    assert "All is well" in diagnosed.stdout
    assert "✗" not in diagnosed.stdout
    assert "All is well." in run("status").stdout
    assert run("status", "--check").exit_code == ExitCode.OK
    nagios = run("status", "--nagios")
    assert nagios.exit_code == ExitCode.OK
    assert nagios.stdout.startswith("MINI-PACS OK - 0 problems, 0 notes")


@pytest.mark.parametrize("subject", list(dict.fromkeys(case.subject for case in CASES)))
def test_a_broken_edge_is_named_with_its_remedy(
    subject: str, edge: HealthyEdge, request: pytest.FixtureRequest
) -> None:
    """The finding says what is wrong and what to type; no check of it is green; mended, it is gone."""
    for case in [case for case in CASES if case.subject == subject]:
        wanted = inspect.signature(case.breaking).parameters
        fixtures = {name: request.getfixturevalue(name) for name in wanted if name != "edge"}
        with pytest.MonkeyPatch.context() as monkeypatch:
            if "monkeypatch" in wanted:
                fixtures["monkeypatch"] = monkeypatch
            if "tmp_path" in wanted:
                fixtures["tmp_path"] = fixtures["tmp_path"] / case.name
                fixtures["tmp_path"].mkdir()
            try:
                is_named_and_mended(case, edge, case.breaking(edge, **fixtures))
            except BaseException as error:
                error.add_note(f"the broken edge: {case.name}")
                raise


def is_named_and_mended(case: Case, edge: HealthyEdge, breaking: Breaking) -> None:
    """Break the edge, look at the findings, apply the remedy, look again."""
    with closing(breaking):
        _is_named_and_mended(case, edge, breaking)


def _is_named_and_mended(case: Case, edge: HealthyEdge, breaking: Breaking) -> None:
    next(breaking)
    seen = edge.examine()
    finding = one_with(case.key, seen.findings)
    assert finding.problem, "nothing is green while it lasts"
    for word in case.what:
        assert word in finding.what
    for word in case.remedy:
        assert word in finding.text
    assert seen.seconds < SECONDS
    assert any(check.mark == "✗" for check in seen.checks)
    assert "secret" not in "".join(one.text for one in seen.findings)
    with pytest.raises(StopIteration):
        breaking.send(finding)
    assert edge.examine().findings == []


def one_with(key: str, found: list[Finding]) -> Finding:
    """Return the finding with that key, or whose key begins with it."""
    matching = [
        one for one in found if one.key == key or (key.endswith((":", "@")) and one.key.startswith(key))
    ]
    assert matching, [(one.key, one.text) for one in found]
    return matching[0]


def test_peers_and_a_database_that_hang_cost_no_more_than_one(
    edge: HealthyEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PACS, workers, the own port and PostgreSQL take connections and say nothing: each is named, in time."""
    edge.pacs.off()
    for worker in edge.workers.values():
        worker.off()
    edge.port.off()
    forwarder = edge.configuration.forwarder
    ports = {edge.configuration.edge.port, *(one.port for one in edge.configuration.destinations)}
    with ExitStack() as stack:
        for port in ports:
            stack.enter_context(serving(port, silent))
        listener = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
        dsn = f"postgresql://nobody:secret@127.0.0.1:{listener.getsockname()[1]}/none"
        monkeypatch.setenv("DATABASE_URL", dsn)
        diagnosis = json.loads(run("diagnose", "--json").stdout)
    assert diagnosis["seconds"] < SECONDS
    found = {one["key"]: one for one in diagnosis["findings"]}
    assert {"postgres.away", "port.silent", f"peer:{forwarder.orthanc.ae_title}"} <= set(found)
    for one in forwarder.workers:
        assert "does not answer the association request" in found[f"peer:{one.ae_title}"]["what"]


def test_all_commands_show_the_same_findings(edge: HealthyEdge) -> None:
    """`status`, its JSON, `diagnose --json` and the exit codes agree."""
    edge.pacs.off()
    status = json.loads(run("status", "--json").stdout)
    diagnosis = json.loads(run("diagnose", "--json").stdout)
    assert not status["well"]
    assert not diagnosis["well"]
    assert [one["key"] for one in status["findings"]] == [one["key"] for one in diagnosis["findings"]]
    assert run("diagnose").exit_code == ExitCode.REFUSED
    assert run("status", "--check").exit_code == ExitCode.REFUSED
    nagios = run("status", "--nagios")
    assert nagios.exit_code == 2
    assert nagios.stdout.startswith("MINI-PACS CRITICAL - 1 problems, 0 notes: ORTHANC is not running")


def test_the_bundle_holds_no_patient_and_no_secret(edge: HealthyEdge, tmp_path: Path) -> None:
    """Findings, configuration, versions, sizes and log lines: none has an attribute of a patient."""
    instance = Instance()
    edge.core.receive(instance)
    edge.pacs.off()
    bundle = tmp_path / "support.tar.gz"
    dsn = os.environ["DATABASE_URL"]
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("DATABASE_URL", f"{dsn}&password=secret-word")
        assert run("diagnose", "--bundle", str(bundle)).exit_code == ExitCode.REFUSED
    assert bundle.stat().st_mode & 0o077 == 0
    with tarfile.open(bundle) as archive:
        parts = {entry.name: archive.extractfile(entry) for entry in archive.getmembers()}
        contents = {name: part.read() for name, part in parts.items() if part is not None}
    assert {name.rpartition("/")[2] for name in contents} == {
        "findings.json", "checks.txt", "overview.json", "configuration.json", "versions.json",
        "postgresql.json", "edge.log",
    }  # fmt: skip
    everything = b"".join(contents.values())
    assert b"ORTHANC is not running" in everything
    assert b"secret-word" not in everything
    data_set = instance.data_set()
    assert PATIENT in data_set
    assert PATIENT not in everything


def test_a_wrong_configuration_is_a_finding(edge: HealthyEdge) -> None:
    """`diagnose` says file, key and value, and does not end with a traceback."""
    path = edge.configuration.source
    path.write_text(path.read_text().replace("port:", "prot:", 1))
    result = run("diagnose")
    assert result.exit_code == ExitCode.REFUSED
    assert "prot" in result.stdout
    assert "config check" in result.stdout
    assert json.loads(run("diagnose", "--json").stdout)["findings"][0]["key"] == "configuration.invalid"
