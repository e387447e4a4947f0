"""The log as a container prints it: every line of every process, once."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.waiting import wait_until

from gateway import log
from gateway.log_tail import LogFollower


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log is to be; nobody has written yet."""
    return tmp_path / "logs" / "edge.log"


@contextmanager
def following(path: Path, output: Path) -> Iterator[Callable[[], list[str]]]:
    """Follow `path`; yield a function that returns what was printed so far."""
    ended = threading.Event()
    descriptor = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    follower = LogFollower(path, descriptor)
    thread = threading.Thread(target=follower.run, args=(ended,))
    thread.start()
    try:
        yield lambda: output.read_text(encoding="utf-8").splitlines()
    finally:
        ended.set()
        thread.join()
        follower.close()
        os.close(descriptor)


def append(path: Path, *lines: str) -> None:
    """Lines by some other process."""
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def test_each_line_is_printed_once_through_a_restart(path: Path, tmp_path: Path) -> None:
    """Also lines written while no process printed; the next process starts where the last ended."""
    output = tmp_path / "output"
    with following(path, output) as printed:
        append(path, "one", "two")
        wait_until(lambda: printed() == ["one", "two"], 30, "both lines")
    append(path, "while nobody printed")
    with following(path, output) as printed:
        append(path, "three")
        wait_until(lambda: len(printed()) >= 4, 30, "the other lines")
    assert printed() == ["one", "two", "while nobody printed", "three"]


def test_lines_written_before_the_end_are_printed(path: Path, tmp_path: Path) -> None:
    """The container prints the last lines of a process that stops."""
    with following(path, tmp_path / "output") as printed:
        append(path, *map(str, range(50_000)))
    assert printed() == [str(number) for number in range(50_000)]


def test_half_a_line_waits_for_its_other_half(path: Path, tmp_path: Path) -> None:
    """Only complete lines are printed."""
    append(path, "whole")
    with path.open("a", encoding="utf-8") as file:
        file.write("ha")
        file.flush()
        with following(path, tmp_path / "output") as printed:
            wait_until(lambda: printed() == ["whole"], 30, "the whole line")
            file.write("lf\n")
            file.flush()
            wait_until(lambda: printed() == ["whole", "half"], 30, "the other")


def test_a_rotation_loses_and_repeats_nothing(path: Path, tmp_path: Path) -> None:
    """Nor lines that a process wrote to the rotated file before it reopened the log."""
    with following(path, tmp_path / "output") as printed:
        append(path, "old")
        wait_until(lambda: printed() == ["old"], 30, "the first line")
        with path.open("a", encoding="utf-8") as slow:
            assert log.rotate(path, max_bytes=1, backups=3)
            append(path, "new")
            slow.write("late\n")
        wait_until(lambda: len(printed()) == 3, 30, "the lines of both files")
        assert printed() == ["old", "late", "new"]


def test_two_rotations_while_nobody_printed_lose_nothing(path: Path, tmp_path: Path) -> None:
    """The recorded position finds its file among the backups, and continues with the younger ones."""
    output = tmp_path / "output"
    with following(path, output) as printed:
        append(path, "first")
        wait_until(lambda: printed() == ["first"], 30, "the first line")
    append(path, "second")
    log.rotate(path, max_bytes=1, backups=3)
    append(path, "third")
    log.rotate(path, max_bytes=1, backups=3)
    append(path, "fourth")
    with following(path, output) as printed:
        wait_until(lambda: len(printed()) == 4, 30, "every line")
    assert printed() == ["first", "second", "third", "fourth"]
