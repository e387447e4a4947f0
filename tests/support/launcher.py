"""Real commands as processes of a test: their output goes to files, and they are ended by process id."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from support.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
STOP_SECONDS = 15.0


def command(*words: str | Path) -> list[str]:
    """Return the command line; use the program in this interpreter's folder if there is one.

    `python` means this interpreter: command("python", "-m", "worker_app").
    """
    program = str(words[0])
    if program == "python":
        program = sys.executable
    elif (BIN / program).exists():
        program = str(BIN / program)
    return [program, *map(str, words[1:])]


class Process:
    """One running command, the leader of a process group of its own."""

    def __init__(self, name: str, words: list[str], output: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.output = output
        with output.open("ab") as sink:
            self.popen = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Return the process id, which is also the id of the group."""
        return self.popen.pid

    def text(self) -> str:
        """Return its output so far."""
        return self.output.read_text(encoding="utf-8", errors="replace")

    def wait_for_line(self, pattern: str, timeout: float = 15.0) -> re.Match[str]:
        """Return the first match of `pattern` in its output; fail at once if the process ends without one."""

        def look() -> re.Match[str] | None:
            ended = self.popen.poll() is not None
            match = re.search(pattern, self.text())
            assert match or not ended, (
                f"{self.name} ended with {self.popen.returncode}: {self.text()[-3000:]}"
            )
            return match

        match = wait_until(look, timeout, f"{pattern!r} in the output of {self.name}")
        assert match is not None
        return match

    def wait_for_port(self, port: int, timeout: float = 15.0) -> None:
        """Wait until it listens on 127.0.0.1; fail at once if the process ends before."""

        def look() -> bool:
            assert self.popen.poll() is None, (
                f"{self.name} ended with {self.popen.returncode}: {self.text()[-3000:]}"
            )
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_until(look, timeout, f"{self.name} to listen on {port}")

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        """Wait until it has ended; return its exit code."""
        return self.popen.wait(timeout)

    def send(self, number: int) -> None:
        """Send a signal to it and to its children in the same group."""
        with suppress(ProcessLookupError):  # the whole group has ended
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL to the whole group."""
        self.send(signal.SIGKILL)
        self.popen.wait(STOP_SECONDS)

    def pause(self) -> None:
        """Send SIGSTOP: the process lives, but does not answer."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self.send(signal.SIGCONT)

    def stop(self, timeout: float = STOP_SECONDS) -> int:
        """Send SIGTERM to the leader, and SIGKILL to the group if it does not end; return the exit code."""
        if self.popen.poll() is None:
            self.popen.terminate()
            self.resume()
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return -int(signal.SIGKILL)
        finally:
            self.kill()


class Processes:
    """The processes of one test; they end with it, the youngest first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Process] = []

    def start(self, *words: str | Path, name: str | None = None, **environment: str) -> Process:
        """Start a command; keywords are added to its environment variables."""
        name = name or f"{Path(words[0]).name}-{len(self._all)}"
        process = Process(name, command(*words), self._folder / f"{name}.out", environment)
        self._all.append(process)
        return process

    def stop_all(self) -> None:
        """End all of them."""
        for process in reversed(self._all):
            process.stop()

    def report(self) -> str:
        """Return the end of the output of each whose output is still there."""
        kept = [process for process in self._all if process.output.exists()]
        return "\n".join(f"--- {process.name}\n{process.text()[-4000:]}" for process in kept)
