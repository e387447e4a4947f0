"""Findings that need no edge: what a schema lacks, who may write the log, how a handshake is mended."""

import os
import pwd
import resource
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from gateway.database.describe import Object, expected_objects
from gateway.database.tables.processes import ProcessKind, ProcessRow
from gateway.diagnosis.limits import limits
from gateway.diagnosis.log_file import may_write
from gateway.diagnosis.peer import with_addresses
from gateway.diagnosis.peer_answer import PeerAnswer, tls_remedy
from gateway.diagnosis.postgres import more_connections
from gateway.diagnosis.schema import schema

ONE_PER_ROUTE = Object("constraint", "deliveries", "deliveries_one_per_route")


def test_a_complete_schema_has_no_finding() -> None:
    """Further indexes and functions are nobody's business."""
    assert not list(schema({*expected_objects(), Object("index", "deliveries", "of_a_report")}))


def test_what_a_restore_lost_is_named_with_the_statement_that_makes_it() -> None:
    """One object has its statement; several need a restore."""
    every = set(expected_objects())
    [one] = schema(every - {ONE_PER_ROUTE})
    assert one.problem
    assert "constraint deliveries_one_per_route of deliveries" in one.what
    statement = (
        "ALTER TABLE deliveries ADD CONSTRAINT deliveries_one_per_route UNIQUE (instance_id, route, target)"
    )
    assert f"`{statement}`" in one.remedy
    [several] = schema({found for found in every if found.kind != "trigger"})
    assert "12 more" in several.what
    assert "restore the database again" in several.remedy


def test_a_trigger_of_somebody_is_a_note() -> None:
    """It may be wanted: an audit trail of the hospital."""
    [one] = schema({*expected_objects(), Object("trigger", "instances", "audit")})
    assert not one.problem
    assert "`DROP TRIGGER audit ON instances`" in one.remedy


def test_the_owner_and_the_mode_decide_who_may_write_the_log(tmp_path: Path) -> None:
    """Root may write everything."""
    log = tmp_path / "edge.log"
    log.touch()
    me = pwd.getpwuid(os.getuid()).pw_name
    log.chmod(0o600)
    assert may_write(log, me)
    assert may_write(log, "root")
    assert may_write(log, "nobody") is (me == "nobody")
    log.chmod(0o602)
    assert may_write(log, "nobody")


def test_each_refusal_of_a_handshake_has_its_remedy() -> None:
    """A version, a certificate that is missing, and the rest."""
    place = "forwarder.orthanc"
    assert "TLS 1.2 or later" in tls_remedy("TLS handshake: TLSV1_ALERT_PROTOCOL_VERSION", "PACS", place)
    required = tls_remedy("tlsv13 alert certificate required", "PACS", place)
    assert "forwarder.orthanc.tls.certificate" in required
    assert "(certificate, key, ca)" in tls_remedy("something else", "PACS", place)


def test_the_address_behind_a_name_is_named_where_another_host_may_have_answered() -> None:
    """An address in config.yaml needs no such word, and a peer that answers well none either."""
    wrong = PeerAnswer("TCP", "is not the AE title of what answers", "correct the title")
    named = with_addresses(wrong, "pacs.hospital", ["10.1.2.3"], "forwarder.orthanc")
    assert named.wrong.endswith("; pacs.hospital has the address 10.1.2.3")
    assert "or forwarder.orthanc.host" in named.remedy
    for answer, host in ((wrong, "10.1.2.3"), (PeerAnswer("C-ECHO"), "pacs.hospital")):
        assert with_addresses(answer, host, ["10.1.2.3"], "forwarder.orthanc") == answer


def test_the_limit_that_postgresql_names_is_the_one_to_raise() -> None:
    """Its own words for a role, a database, and the whole server."""
    assert "`ALTER ROLE edge " in more_connections('too many connections for role "edge"')
    assert "`ALTER DATABASE mini_pacs " in more_connections('too many connections for database "mini_pacs"')
    assert "max_connections" in more_connections("sorry, too many clients already")


def test_a_process_without_address_space_is_named() -> None:
    """Its soft limit is below what it has."""
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert not list(limits([_row(process.pid)]))
        resource.prlimit(process.pid, resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
        [found] = limits([_row(process.pid)])
        process.kill()
    assert found.problem
    assert "gets no further memory" in found.what
    assert "LimitAS=" in found.remedy
    assert not list(limits([_row(process.pid)]))


def _row(pid: int) -> ProcessRow:
    now = datetime.now(UTC)
    return ProcessRow(
        id="", kind=ProcessKind.RECEIVER, serves="MINI_EDGE:11112", host=socket.gethostname(), pid=pid,
        os_user="pacs", version="0", started_at=now, beat_at=now, silent_seconds=0.0, connected=True,
        consumer_id=None, configuration_digest=None, restart_for=(), answered=None, answer=None,
        spool_name=None, spool_epoch=None, spool_problem=None, clock_offset_ms=None,
    )  # fmt: skip
