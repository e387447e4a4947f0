"""The log: complete lines with a closed list of fields, from many processes, through a rotation."""

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest
from support.waiting import wait_until

from gateway import log
from gateway.log import Stage


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """Yield the log of this process."""
    found = tmp_path / "logs" / "edge.log"
    log.configure(found, "test")
    yield found
    log.configure(None, "mini-pacs")


def lines(path: Path) -> list[dict[str, object]]:
    """Every line; each must be JSON."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_holds_the_given_fields_only(path: Path) -> None:
    """Absent fields are left out; a status is hexadecimal."""
    log.write(Stage.RECEIVE, "success", status=0xA700, duration_ms=1.23456)
    [line] = lines(path)
    assert set(line) == {"time", "level", "stage", "outcome", "process", "pid", "status", "duration_ms"}
    assert (line["status"], line["duration_ms"], line["process"]) == ("0xA700", 1.23, "test")


def test_no_field_is_a_patient_attribute() -> None:
    """G8: the list of fields is closed."""
    parameters = inspect.signature(log.write).parameters
    assert all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values())
    assert not [name for name in parameters if "patient" in name or "name" in name]


def test_a_stranger_cannot_forge_a_line(path: Path) -> None:
    """G7: line ends, control characters and excess length are removed from external text."""
    log.write(Stage.RECEIVE, "rejected", calling_ae_title='X"}\n{"stage":"db"', error="\x1b[2J" + "y" * 9999)
    [line] = lines(path)
    assert line["calling_ae_title"] == 'X"}?{"stage":"db"'
    assert len(str(line["error"])) <= log.MAX_TEXT + 1


def _write_many(path: Path, count: int) -> None:
    log.configure(path, "child")
    for number in range(count):
        log.write(Stage.QUEUE, "x" * 500, count=number)


def test_lines_of_several_processes_never_mix(path: Path) -> None:
    """Each is appended by one write."""
    context = get_context("fork")
    children = [context.Process(target=_write_many, args=(path, 300)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    found = lines(path)
    assert len(found) == 1200
    assert len({(line["pid"], line["count"]) for line in found}) == 1200


def test_a_rotation_is_followed_within_a_second_and_loses_nothing(path: Path) -> None:
    """Only the sweep renames; the others notice that the name is another file."""
    log.write(Stage.SWEEP, "before")
    assert not log.rotate(path, max_bytes=1_000_000, backups=2)
    assert log.rotate(path, max_bytes=1, backups=2)
    written = 0

    def look() -> bool:
        nonlocal written
        log.write(Stage.SWEEP, "after")
        written += 1
        return path.exists()

    wait_until(look, 30, "the log to be opened anew")
    backup = path.with_name("edge.log.1")
    assert len(lines(backup)) + len(lines(path)) == 1 + written


def test_backups_are_numbered_and_bounded(path: Path) -> None:
    """`.1` is the youngest; the oldest is deleted."""
    for number in range(4):
        path.parent.mkdir(exist_ok=True)
        path.write_text(str(number))
        assert log.rotate(path, max_bytes=1, backups=2)
    assert sorted(found.name for found in path.parent.iterdir()) == ["edge.log.1", "edge.log.2"]
    assert path.with_name("edge.log.1").read_text() == "3"
    path.write_text("x")
    assert log.rotate(path, max_bytes=1, backups=0)
    assert not path.exists()


def test_a_log_that_cannot_be_written_stops_no_process(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its lines go to standard error."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    log.configure(blocked / "edge.log", "test")
    try:
        log.write(Stage.DB, "told")
    finally:
        log.configure(None, "mini-pacs")
    assert "told" in capfd.readouterr().err
    assert os.path.getsize(blocked) == 0  # noqa: PTH202


LOGS = """
import sys
from pathlib import Path
from gateway import log
log.configure(Path(sys.argv[1]) if sys.argv[1] else None, "test")
for _ in range(200):
    log.write(log.Stage.DB, "x" * 500)
print("went on")
"""


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null/edge.log", ""], ids=["full", "no folder", "stderr"])
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2> >(:)"], ids=["full", "closed", "broken"])
def test_a_log_without_any_output_stops_no_process(path: str, stderr: str) -> None:
    """A line between a commit and its answer must not prevent the answer; only the line is lost."""
    command = ["bash", "-c", f'exec "$@" {stderr}', "bash", sys.executable, "-c", LOGS, path]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.stdout == "went on\n"
