"""`mini-pacs console` and its accounts, as commands."""

import json
import signal
import urllib.request
from pathlib import Path

import pytest
from conftest import MakeEdge
from support.console_client import PASSWORD
from support.launcher import Processes
from typer.testing import CliRunner

from cli import main
from cli.exit_codes import ExitCode
from gateway.lab import layout

runner = CliRunner()


def run(*words: str, code: int = 0, typed: str = "") -> str:
    """Run a command; return what it printed."""
    done = runner.invoke(main.build(words[0]), list(words), input=typed)
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.usefixtures("database_url", "edge_folder")
def test_accounts_on_the_command_line(tmp_path: Path) -> None:
    """Add, list, change, remove; a password from a file or from standard input, never as an argument."""
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\nmore\n", encoding="utf-8")
    run("console", "user", "add", "anna", "--role", "admin", "--password-file", str(file))
    run("console", "user", "add", "otto", "--role", "operator", "--password-file", "-", typed=f"{PASSWORD}\n")
    run("console", "user", "add", "proxy@hospital", "--by-proxy")
    run("console", "user", "add", "anna", "--by-proxy", code=ExitCode.REFUSED)
    run("console", "user", "add", "a b", "--by-proxy", code=ExitCode.USAGE)
    run("console", "user", "add", "x", "--password-file", "-", code=ExitCode.USAGE, typed="short\n")
    run("console", "user", "role", "anna", "viewer", code=ExitCode.REFUSED)
    run("console", "user", "remove", "anna", code=ExitCode.REFUSED)
    run("console", "user", "role", "otto", "admin")
    run("console", "user", "password", "otto", "--password-file", str(file))
    run("console", "user", "password", "nobody", code=ExitCode.REFUSED)
    run("console", "user", "remove", "anna")
    items = json.loads(run("console", "user", "list", "--json"))["items"]
    assert [(one["name"], one["role"], one["has_password"]) for one in items] == [
        ("otto", "admin", True),
        ("proxy@hospital", "viewer", False),
    ]
    assert PASSWORD not in run("activity")


def test_the_console_prints_a_link_only_without_accounts_and_ends_with_a_signal(
    make_edge: MakeEdge, processes: Processes
) -> None:
    """The link is on standard output, not in the log; SIGTERM ends it with exit code 0."""
    edge = make_edge()
    [port] = layout.free_ports(1)
    for has_account in (False, True):
        console = processes.start("mini-pacs", "console", "--port", str(port))
        console.wait_for_line(r"Console on \S+\n", 60)
        console.wait_for_port(port)
        if not has_account:
            console.wait_for_line(r"http://127\.0\.0\.1:\d+/first/\S{40,}\n")
        # it listens before it answers, and a signal before that ends it at once
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
            assert answer.status == 200
        console.send(signal.SIGTERM)
        assert console.wait() == 0
        assert ("/first/" in console.text()) is not has_account
        if not has_account:
            run("console", "user", "add", "anna", "--by-proxy")
    log_path = edge.configuration.edge.log_path
    assert not log_path.exists() or "/first/" not in log_path.read_text(encoding="utf-8")
