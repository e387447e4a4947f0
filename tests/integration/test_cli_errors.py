"""No command prints a traceback: closed files, full disks, closed pipes, Ctrl-C, defects."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import typer
from support.launcher import BIN, command
from support.prepared_instances import PreparedInstances
from typer.testing import CliRunner

from cli import boundary, overview
from cli.boundary import DEBUG_VARIABLE
from cli.documents import Schema
from cli.exit_codes import ExitCode
from cli.main import build

NOBODY = 65534
FULL_DISK = Path("/dev/full")


def ended(*words: str | Path, confined: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; with `confined`, it has only a normal user's access, even as root."""
    prefix: list[str] = []
    if confined and os.geteuid() == 0:
        capabilities = "-dac_override,-dac_read_search"
        prefix = ["setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities]
    done = subprocess.run(
        [*prefix, *command(*words)],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def close(path: Path) -> None:
    """Close the folder to every user of the tests, for reading and writing."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    path.chmod(0)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder that is closed to the user of `ended`."""
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "file.dcm").write_text("")
    close(folder)
    yield folder
    folder.chmod(0o700)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("send", "{closed}/file.dcm"), ExitCode.USAGE),
        (("send", "{closed}"), ExitCode.USAGE),
        (("send", "--generate", "1", "--out-dir", "{closed}/out"), ExitCode.USAGE),
        (("lab", "--data", "{closed}/lab"), ExitCode.FAILED),
        (("lab", "--data", "{closed}/lab", "--fresh"), ExitCode.FAILED),
        (("lab", "--data", "/proc/lab"), ExitCode.FAILED),
        (("--install-completion", "bash"), ExitCode.FAILED),
    ],
)
def test_a_folder_without_permission_is_named(closed: Path, words: tuple[str, ...], code: ExitCode) -> None:
    """One sentence with the path, and the exit code."""
    done = ended(
        "mini-pacs",
        *(word.format(closed=closed) for word in words),
        confined=True,
        HOME=str(closed),
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",  # else it needs a shell that started the tests
    )
    assert done.returncode == code, done.stderr
    assert str(closed) in done.stderr.replace("\n", "") or "/proc/lab" in done.stderr


@pytest.mark.parametrize("key", ["data_root", "log_path", "config"])
def test_serve_and_config_check_name_a_path_without_permission(edge_folder: Path, key: str) -> None:
    """Both refuse it before a port is bound; as JSON, too."""
    folder = edge_folder / "closed"
    folder.mkdir()
    path = edge_folder / "config.yaml"
    text = path.read_text()
    if key == "config":
        path.rename(folder / "config.yaml")
        path = folder / "config.yaml"
    else:
        path.write_text(text.replace("edge:\n", f"edge:\n  {key}: closed/{key}\n"))
    close(folder)
    try:
        done = ended("mini-pacs", "config", "check", confined=True, MINI_PACS_CONFIG=str(path))
        as_json = ended("mini-pacs", "config", "check", "--json", confined=True, MINI_PACS_CONFIG=str(path))
    finally:
        folder.chmod(0o700)
    assert done.returncode == as_json.returncode == ExitCode.USAGE
    assert "Permission denied" in done.stderr
    assert json.loads(as_json.stdout)["schema"] == Schema.ERROR


def test_a_spool_that_cannot_be_created_stops_serve_with_its_path(kept: PreparedInstances) -> None:
    """After the database answered, before the port is bound."""
    root = kept.spool.root
    shutil.rmtree(root)
    root.write_text("")
    done = ended("mini-pacs", "serve")
    assert done.returncode == ExitCode.FAILED
    assert f"mini-pacs: prepare {root}: Not a directory" in done.stderr


def test_serve_that_cannot_print_the_log_leaves_no_scp_behind(kept: PreparedInstances) -> None:
    """Otherwise its supervisor would take the parent for a running SCP."""
    logs = kept.configuration.edge.log_path.parent
    logs.mkdir(exist_ok=True)
    close(logs)
    try:
        done = ended(
            "mini-pacs", "serve", "--print-log", confined=True
        )  # ends only when both processes closed its output
    finally:
        logs.chmod(0o700)
    assert done.returncode == ExitCode.FAILED
    assert "edge.log.printed: Permission denied" in done.stderr


def test_a_closed_pipe_is_no_error(kept: PreparedInstances) -> None:
    """`mini-pacs faults | head -1` prints no error and exits with 141, as for SIGPIPE; with --json, too."""
    for words in (("faults",), ("faults", "--json"), ("deliveries", "list"), ("config", "check")):
        process = subprocess.Popen(
            command("mini-pacs", *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        with process.stderr as pipe:
            stderr = pipe.read()
        process.wait()
        assert (process.returncode, stderr) == (ExitCode.NOT_READ, ""), words
    del kept


@pytest.mark.parametrize(
    "environment", [{"COLUMNS": "0"}, {"COLUMNS": "²"}, {"COLUMNS": "60", "PYTHONIOENCODING": "ascii"}]
)
def test_a_command_prints_where_the_environment_describes_no_usable_terminal(
    kept: PreparedInstances, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    """No width, a width that is no number, an encoding without the ellipsis of a shortened UID."""
    kept.receive(1, study="1.2." + "3" * 56)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = ended("mini-pacs", "deliveries", "list")
    assert done.returncode == 0, done.stderr
    assert "33333" in done.stdout


@pytest.mark.skipif(not FULL_DISK.exists(), reason="this system has no /dev/full")
def test_an_output_to_a_full_disk_is_an_error(kept: PreparedInstances) -> None:
    """The command reports it, not the interpreter at its end; the exit code is no success."""
    for words in (("faults",), ("faults", "--json"), ("config", "check")):
        with FULL_DISK.open("w") as full:
            done = subprocess.run(
                command("mini-pacs", *words), stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert done.returncode == ExitCode.FAILED
        assert done.stderr.startswith("mini-pacs: No space left on device; free space")
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
    del kept


@pytest.mark.parametrize("closing", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_a_closed_output_is_no_error(kept: PreparedInstances, closing: str) -> None:
    """The caller closed standard output on purpose."""
    done = subprocess.run(
        ["sh", "-c", f"exec {BIN / 'mini-pacs'} faults {closing}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.OK
    assert done.stderr == ""
    del kept


def test_ctrl_c_at_a_question_prints_one_word_and_exits_with_130(kept: PreparedInstances) -> None:
    """While the command waits for an answer."""
    kept.receive(1)
    primary, secondary = os.openpty()
    process = subprocess.Popen(
        command("mini-pacs", "deliveries", "cancel", "--all"),
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
    )
    os.close(secondary)
    shown = b""
    try:
        while b"allow?" not in shown:
            shown += os.read(primary, 1000)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == ExitCode.INTERRUPTED
        with suppress(OSError):  # the end of a terminal that no process holds open
            while select.select([primary], [], [], 0)[0]:
                shown += os.read(primary, 1000)
    finally:
        process.kill()  # a kill of an ended process does nothing
        process.wait()
        os.close(primary)
    assert b"mini-pacs: interrupted: nothing was done" in shown
    assert b"Traceback" not in shown
    assert kept.value("SELECT count(*) FROM deliveries WHERE state = 'cancelled'") == 0


SWALLOWED = """
import os, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == module:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                sum(range(1000))
            except KeyboardInterrupt:
                pass  # as compiled extensions do

module = sys.argv.pop()
sys.meta_path.insert(0, Finder())
from cli.entry import run
run()
"""


@pytest.mark.parametrize("module", ["cli.main", "cli.faults"])
def test_ctrl_c_is_not_lost_while_modules_are_imported(module: str) -> None:
    """The command does not run if an import ignores the interruption."""
    done = subprocess.run(
        [sys.executable, "-c", SWALLOWED, "faults", "--help", module],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "mini-pacs: interrupted\n")


def test_a_question_without_a_terminal_names_yes(kept: PreparedInstances) -> None:
    """In a script the message names the option --yes."""
    kept.receive(1)
    done = ended("mini-pacs", "deliveries", "cancel", "--all", "--json")
    assert done.returncode == ExitCode.REFUSED
    assert "give --yes" in json.loads(done.stdout)["error"]


@pytest.fixture
def defect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: PreparedInstances) -> Path:
    """Let `mini-pacs status` raise an unforeseen error; return the folder of temporary files."""
    del kept

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a value that may be a patient's")

    monkeypatch.setattr(overview, "examine", broken)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_defect_names_the_file_with_its_details(defect: Path) -> None:
    """The line has the kind of the error only; the file, which other users cannot read, has the traceback."""
    result = CliRunner().invoke(build("status"), ["status", "--json"])
    assert result.exit_code == ExitCode.FAILED
    document = json.loads(result.stdout)
    [file] = defect.glob("mini-pacs-error-*.txt")
    assert str(file) in document["hint"]
    assert document["error"].endswith("a defect of mini-pacs: ZeroDivisionError")
    assert "patient" not in result.output
    assert "ZeroDivisionError: a value" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_mini_pacs_debug_prints_the_traceback_of_a_defect(
    defect: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MINI_PACS_DEBUG=1; then no file is written."""
    monkeypatch.setenv(DEBUG_VARIABLE, "1")
    result = CliRunner().invoke(build("status"), ["status"])
    assert result.exit_code == ExitCode.FAILED
    assert "Traceback" in result.stderr
    assert not list(defect.glob("mini-pacs-error-*.txt"))


def test_a_defect_where_no_file_can_be_written_names_the_variable(
    defect: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a read-only file system no file with details can be written."""
    monkeypatch.setattr(tempfile, "tempdir", str(defect / "gone"))
    result = CliRunner().invoke(build("status"), ["status"])
    assert f"{DEBUG_VARIABLE}=1" in result.stderr


@pytest.mark.parametrize(
    ("environment", "code", "sentence"),
    [
        ({"DATABASE_URL": "garbage"}, ExitCode.USAGE, "DATABASE_URL is not shown"),
        ({"DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/x"}, ExitCode.UNREACHABLE, "at 127.0.0.1:1: "),
        ({"DATABASE_URL": "postgresql://u:secret@[::1]:2/x"}, ExitCode.UNREACHABLE, "at [::1]:2: "),
        (
            {"DATABASE_URL": "postgresql://u:secret@127.0.0.1:1,127.0.0.1:2/x"},
            ExitCode.UNREACHABLE,
            "at 127.0.0.1:1, 127.0.0.1:2: ",
        ),
        ({"DATABASE_URL": "postgresql://u:secret@no.invalid:5/x"}, ExitCode.UNREACHABLE, "at no.invalid:5: "),
        ({"DATABASE_URL": "", "POSTGRES_PORT": "2"}, ExitCode.UNREACHABLE, "at 127.0.0.1:2: "),
        ({"DATABASE_URL": "", "POSTGRES_PORT": "x"}, ExitCode.USAGE, "POSTGRES_PORT = 'x'"),
        ({"DATABASE_URL": "postgresql://u:secret@h:99999/x"}, ExitCode.USAGE, "DATABASE_URL is not shown"),
    ],
)
def test_an_error_of_the_database_names_host_and_port(
    environment: dict[str, str], code: ExitCode, sentence: str
) -> None:
    """It never names a password."""
    done = ended("mini-pacs", "studies", confined=False, **environment)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "secret" not in done.stderr


def test_a_statement_that_is_refused_names_host_port_and_what_to_do(kept: PreparedInstances) -> None:
    """The schema is gone: the message names the command that creates it."""
    kept.run("DROP TABLE deliveries CASCADE")
    done = ended("mini-pacs", "studies")
    assert done.returncode == ExitCode.FAILED
    assert "PostgreSQL at " in done.stderr
    assert "`mini-pacs db migrate`" in done.stderr


def test_the_simulator_ends_like_every_command(tmp_path: Path) -> None:
    """`python sender_simulator.py`: -h, an error as JSON, and no traceback."""
    assert "Usage:" in ended("python", "sender_simulator.py", "-h").stdout
    done = ended("python", "sender_simulator.py", "--json", str(tmp_path / "gone"))
    assert done.returncode == ExitCode.USAGE
    assert json.loads(done.stdout)["schema"] == Schema.ERROR


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("mini-pacs del", "deliveries"),
        ("mini-pacs deliveries re", "resend"),
        ("mini-pacs studies --la", "--last"),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands_and_options(shell: str, typed: str, expected: str) -> None:
    """Run what the installed completion runs when the user presses TAB."""
    words = typed.split()
    done = ended(
        "mini-pacs",
        _MINI_PACS_COMPLETE=f"complete_{shell}",
        COMP_WORDS=typed,
        COMP_CWORD=str(len(words) - 1),
        _TYPER_COMPLETE_ARGS=typed,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert expected in done.stdout


def test_errors_of_typer_are_usage_errors() -> None:
    """Typer may bundle its own copy of click; errors of those classes count as well."""
    assert issubclass(typer.BadParameter, boundary.ClickError)
