"""An actor process is killed while it starts: its parent ends, so that a supervisor starts both again."""

import os
import re
import signal
from pathlib import Path

import pytest
import yaml
from support.launcher import REPOSITORY, Processes
from support.waiting import wait_until

from gateway.lab import stray_processes
from gateway.lab.lab import Lab

SECONDS = 10.0
"""The time until a dead process is replaced, as in docs/operate/when-something-is-wrong.md."""

COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
COMMANDS = {
    name: [str(word) for word in service["command"]]
    for name, service in COMPOSE.items()
    if service.get("command", [""])[0] == "dramatiq"
}


@pytest.mark.parametrize("service", COMMANDS)
def test_compose_restarts_actors_after_a_crash_at_startup(
    processes: Processes, edge_folder: Path, service: str
) -> None:
    """PID 1 of the container ends, and the container is started again."""
    notice(processes, edge_folder, COMMANDS[service])


def test_the_lab_restarts_actors_after_a_crash_at_startup(
    processes: Processes, edge_folder: Path, tmp_path: Path
) -> None:
    """The supervisor sees its program end; all actor programs are started with that option."""
    programs = [program for program in Lab(tmp_path / "lab")._actor_programs() if program.name != "scheduler"]
    options = [program.command[program.command.index("--worker-fork-timeout") :] for program in programs]
    assert len(set(options)) == 1
    notice(processes, edge_folder, ["dramatiq", *programs[0].command[1:]])


def test_each_actor_process_is_a_program_of_its_own(tmp_path: Path) -> None:
    """One `dramatiq` with several processes stops all of them if one dies, and waits for what they send."""
    programs = Lab(tmp_path / "lab", actor_processes=3)._actor_programs()
    commands = [program.command for program in programs if program.name.startswith("actors-")]
    assert {words[words.index("-p") + 1] for words in [*commands, *COMMANDS.values()]} == {"1"}
    assert [program.name for program in programs if "pacs" in program.name] == [
        "actors-pacs",
        "actors-pacs-2",
        "actors-pacs-3",
    ]


def test_the_page_of_processes_has_the_option() -> None:
    """docs/architecture.md has the value that docker-compose.yml uses."""
    [told] = re.findall(
        r"--worker-fork-timeout \d+", (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    )
    assert all(told in " ".join(words) for words in COMMANDS.values())


def notice(processes: Processes, edge: Path, words: list[str]) -> None:
    """Kill the child that waits for PostgreSQL at its start; its parent must end."""
    parent = processes.start(*words, DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    wait_until(
        lambda: any('"waiting"' in path.read_text(encoding="utf-8") for path in edge.rglob("*.log*")),
        30,
        "the child to boot",
    )
    [child] = [
        pid for pid in stray_processes.descendants(parent.pid) if "resource_tracker" not in command_of(pid)
    ]
    os.kill(child, signal.SIGKILL)
    assert parent.wait(SECONDS) != 0


def command_of(pid: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
