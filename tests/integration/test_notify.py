"""Findings have rows that keep `since`; a webhook and a mail are told once what opened and what closed."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeEdge
from support.forwarding import QUICK
from support.healthy_edge import HealthyEdge, healthy_edge
from support.other_servers import serving, silent
from typer.testing import CliRunner

from cli.exit_codes import ExitCode
from cli.main import build
from gateway.config.operation import Mail, Notify, Webhook
from gateway.database.wakeup import Wakeup
from gateway.diagnosis import sessions
from gateway.diagnosis.watch import watch
from gateway.lab.layout import choose_ports
from gateway.notify import outage
from gateway.notify.endpoints import send
from gateway.notify.message import trial
from gateway.notify.outage import OutageTeller
from gateway.notify.tell import tell


@pytest.fixture
def edge(make_edge: MakeEdge) -> Iterator[HealthyEdge]:
    """Yield a healthy edge."""
    with healthy_edge(make_edge({"forwarder": QUICK, "edge": {"disk_reserve_mb": 1}})) as edge:
        yield edge


@contextmanager
def webhook(status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the URL of a webhook, and the documents that it got."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            got[-1]["authorization"] = self.headers["Authorization"]
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", got
    server.shutdown()
    server.server_close()
    thread.join(30)


@contextmanager
def mail_server() -> Iterator[tuple[int, list[str]]]:
    """Yield the port of a mail server, and the letters that it got."""
    got: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            for raw in self.rfile:
                word = raw[:4].upper()
                if word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = iter(self.rfile.readline, b".\r\n")
                    got.append(b"".join(lines).decode())
                if word == b"QUIT":
                    self.wfile.write(b"221 bye\r\n")
                    return
                self.wfile.write(b"250 well\r\n")

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1], got
    server.shutdown()
    server.server_close()
    thread.join(30)


def configure(edge: HealthyEdge, **keys: Any) -> None:
    """Let the edge tell at once."""
    notify = Notify(**({"after_seconds": 0, "at_most_every_seconds": 0} | keys))
    edge.configuration = edge.configuration.model_copy(update={"notify": notify})


def minute(edge: HealthyEdge) -> bool:
    """Do what the two actors do each minute; tell whether an endpoint took a message."""
    wakeup = Wakeup(edge.dsn)
    watch(edge.configuration, edge.edge.database, wakeup)
    wakeup.close()
    if not edge.edge.run("DELETE FROM dramatiq.queue WHERE message ->> 'actor_name' = 'notify'"):
        return False
    return tell(edge.configuration, edge.edge.database)


def test_what_opens_and_closes_is_told_once(edge: HealthyEdge) -> None:
    """Webhook and mail get one message about what opened, and one about its end; nothing in between."""
    with webhook() as (url, documents), mail_server() as (port, letters):
        mail = Mail(host="127.0.0.1", port=port, sender="edge@x.example", recipients=("oncall@x.example",))
        configure(edge, webhook=Webhook(url=url), mail=mail)
        assert not minute(edge)
        edge.pacs.off()
        edge.workers["APP01"].off()
        assert minute(edge)
        assert not minute(edge)
        edge.pacs.on()
        edge.workers["APP01"].on()
        assert minute(edge)
        assert not minute(edge)
    assert [(len(one["opened"]), len(one["closed"])) for one in documents] == [(2, 0), (0, 2)]
    assert documents[0]["opened"][0]["key"] == "peer:ORTHANC"
    assert "forwarder.orthanc.host" in documents[0]["opened"][0]["remedy"]
    assert len(letters) == 2
    assert "ORTHANC is not running" in letters[0].replace("=\r\n", "").replace("\r\n ", " ")
    assert "OVER" in letters[1]


def test_since_survives(edge: HealthyEdge) -> None:
    """A finding that has no time of its own gets that of its row."""
    configure(edge, webhook=Webhook(url="http://127.0.0.1:1/"))
    edge.pacs.off()
    assert not minute(edge)
    edge.edge.run("UPDATE findings SET opened_at = now() - interval '1 hour'")
    minute(edge)
    finding = next(one for one in edge.examine().findings if one.key == "peer:ORTHANC")
    assert finding.since == edge.edge.one("SELECT opened_at FROM findings WHERE key = 'peer:ORTHANC'")
    assert edge.edge.one("SELECT max(now() - opened_at) > interval '59 minutes' FROM findings")


@pytest.mark.parametrize("kind", ["away", "refuses", "hangs"])
def test_what_an_endpoint_does_not_take_is_told_later(edge: HealthyEdge, kind: str) -> None:
    """The rows stay untold, and a hung endpoint ends after `timeout_seconds`."""
    [port] = choose_ports(well_known=False).workers[:1]
    edge.pacs.off()
    if kind == "hangs":
        with serving(port, silent):
            configure(edge, webhook=Webhook(url=f"http://127.0.0.1:{port}/"), timeout_seconds=0.5)
            assert not minute(edge)
    elif kind == "refuses":
        with webhook(503) as (url, _):
            configure(edge, webhook=Webhook(url=url))
            assert not minute(edge)
    else:
        configure(edge, webhook=Webhook(url=f"http://127.0.0.1:{port}/"))
        assert not minute(edge)
    assert edge.edge.one("SELECT count(*) FROM findings WHERE told_open_at IS NULL") == 1
    with webhook() as (url, documents):
        configure(edge, webhook=Webhook(url=url))
        assert minute(edge)
    assert len(documents) == 1


def test_messages_are_grouped_and_limited(edge: HealthyEdge) -> None:
    """What lasts shorter than `after_seconds` is not told; a second message waits."""
    with webhook() as (url, documents):
        configure(edge, webhook=Webhook(url=url), after_seconds=3600, at_most_every_seconds=3600)
        edge.pacs.off()
        assert not minute(edge)
        edge.edge.run("UPDATE findings SET opened_at = now() - interval '2 hours'")
        assert minute(edge)
        edge.workers["APP01"].off()
        minute(edge)
        edge.edge.run("UPDATE findings SET opened_at = now() - interval '2 hours'")
        assert not minute(edge)
        edge.edge.run(
            "UPDATE findings SET told_open_at = now() - interval '2 hours' WHERE told_open_at IS NOT NULL"
        )
        assert minute(edge)
    assert [len(one["opened"]) for one in documents] == [1, 1]


AWAY = "postgresql://edge:x@127.0.0.1:1/mini_pacs"


def test_an_outage_of_postgresql_is_told_once_without_the_queue(edge: HealthyEdge) -> None:
    """Once that it began and once that it is over; a restart, and a second check, repeat nothing."""

    def teller(dsn: str) -> OutageTeller:
        return OutageTeller(lambda: edge.configuration, dsn)

    with webhook() as (url, documents):
        configure(edge, webhook=Webhook(url=url))
        assert not teller(edge.dsn).check()
        first = teller(AWAY)
        assert first.check()
        assert not first.check()
        assert not teller(AWAY).check()
        assert teller(edge.dsn).check()
        assert not teller(edge.dsn).check()
    assert [(len(one["opened"]), len(one["closed"])) for one in documents] == [(1, 0), (0, 1)]
    [opened] = documents[0]["opened"]
    assert opened["key"] == "postgres.away"
    assert "127.0.0.1:1" in opened["what"]
    assert "start PostgreSQL" in opened["remedy"]
    assert documents[1]["closed"][0]["opened_at"] == opened["opened_at"]


def test_an_outage_is_told_late_and_seldom(edge: HealthyEdge) -> None:
    """A restart of PostgreSQL is not told, and one that comes and goes is told within the limit only."""
    teller = OutageTeller(lambda: edge.configuration, AWAY)
    with webhook() as (url, documents):
        configure(edge, webhook=Webhook(url=url), after_seconds=3600)
        assert not teller.check()
        assert not teller.check()
        configure(edge, webhook=Webhook(url=url), at_most_every_seconds=3600)
        assert teller.check()
        assert not OutageTeller(lambda: edge.configuration, edge.dsn).check()
    assert len(documents) == 1


def test_what_blocks_postgresql_is_told_when_no_finding_gets_a_row(
    edge: HealthyEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL answers, so the queue tells its findings; if they get no rows for long, this thread does."""
    blocker = edge.session("nightly-report")
    with blocker.cursor() as cursor:
        cursor.execute("LOCK TABLE deliveries IN ACCESS EXCLUSIVE MODE")
    monkeypatch.setattr(sessions, "LOCK_LONG", timedelta(0))
    teller = OutageTeller(lambda: edge.configuration, edge.dsn)
    with webhook() as (url, documents):
        configure(edge, webhook=Webhook(url=url))
        assert not teller.check()
        monkeypatch.setattr(outage, "SILENCE_SECONDS", -1.0)
        assert teller.check()
        blocker.rollback()
        assert teller.check()
    assert "nightly-report" in documents[0]["opened"][0]["what"]
    assert len(documents[1]["closed"]) == 1


def test_notify_test_says_who_took_it(edge: HealthyEdge, tmp_path: Path) -> None:
    """Exit code 0 where each endpoint took it, 3 where one did not, 2 without the section."""
    source = edge.configuration.source
    text = source.read_text()
    runner = CliRunner()
    assert runner.invoke(build("notify"), ["notify", "test"]).exit_code == ExitCode.USAGE
    token = tmp_path / "token"
    token.write_text("Bearer 4711\n")
    with webhook() as (url, documents):
        source.write_text(f"{text}\nnotify:\n  webhook: {{url: '{url}', authorization_file: {token}}}\n")
        result = runner.invoke(build("notify"), ["notify", "test"])
        assert result.exit_code == ExitCode.OK, result.output
        assert "it took the message" in result.stdout
    assert documents[0]["authorization"] == "Bearer 4711"
    result = runner.invoke(build("notify"), ["notify", "test", "--json"])
    assert result.exit_code == ExitCode.UNREACHABLE
    assert json.loads(result.stdout)["items"][0]["well"] is False


@pytest.mark.parametrize(
    ("password", "reason"), [("pässword", "is not ASCII"), (None, "it is no UTF-8 text")]
)
def test_a_password_that_cannot_be_sent_is_a_reason_without_it(
    tmp_path: Path, password: str | None, reason: str
) -> None:
    """The mail server asks for a login; SMTP's login takes ASCII only."""

    class Answers(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 mail\r\n")
            while line := self.rfile.readline():
                bye = line.startswith(b"QUIT")
                self.wfile.write(b"221 bye\r\n" if bye else b"250-mail\r\n250 AUTH PLAIN\r\n")

    secret = tmp_path / "password"
    secret.write_bytes(b"\xff" if password is None else password.encode())
    with socketserver.TCPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        mail = Mail(
            host="127.0.0.1",
            port=server.server_address[1],
            sender="edge@hospital",
            recipients=("it@hospital",),
            username="edge",
            password_file=secret,
        )
        [(name, why)] = send(Notify(mail=mail), trial("MINI_EDGE", "host"))
        thread.join()
    assert name == "mail"
    assert reason in why
    assert "ä" not in why
