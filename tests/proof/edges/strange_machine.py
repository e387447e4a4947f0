"""Edges whose machine refuses a thread, a file, memory, or a write, and processes that are half stopped."""

import os
import signal
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import yaml

from proof.edges import sender
from proof.edges.edge import broken
from proof.edges.lab import Lab, Setup, merge
from proof.edges.machine import NOBODY, drop_to_nobody, free_port, run
from proof.edges.sender import NotAssociatedError

STRANGE = Setup("strange-machine", spool="ext4 96")
NOT_ROOT = Setup("strange-user", nobody=True)


def _try_to_send(lab: Lab, times: int = 4) -> None:
    for _ in range(times):
        with suppress(NotAssociatedError, RuntimeError):
            sender.send(lab.port, [sender.synthetic()])


def _processes(lab: Lab, name: str) -> list[str]:
    return run("pgrep", "-g", str(lab.processes[name].pid)).split()


@broken(
    NOT_ROOT,
    (r"\bsent\b", r"nobody|65534|user|owner", r"writ|permission"),
    (r"chown|chmod|owner|writable",),
)
def sent_folder_of_another_user(lab: Lab) -> Generator[None]:
    """Somebody copied the folder sent/ back as root; the processes run as nobody."""
    os.chown(lab.data / "sent", 0, 0)
    lab.send(4)
    time.sleep(8)
    yield
    os.chown(lab.data / "sent", NOBODY, NOBODY)
    lab.sent_again()


@broken(
    NOT_ROOT,
    (r"receiver|serve", r"thread|process(es)? .*limit|nproc|LimitNPROC|ulimit -u"),
    (r"ulimit -u|LimitNPROC|TasksMax|pids",),
)
def receivers_may_start_no_thread(lab: Lab) -> Generator[None]:
    """The limit of processes of the user is used up, so the receiver starts no thread."""
    for pid in _processes(lab, "serve"):
        run(*drop_to_nobody(), "prlimit", "--pid", pid, "--nproc=1:1")
    _try_to_send(lab)
    time.sleep(6)
    yield
    lab.restart("serve")
    lab.sent_again()


@broken(
    NOT_ROOT,
    (r"actors|pacs", r"thread|process(es)? .*limit|nproc|LimitNPROC|ulimit -u"),
    (r"ulimit -u|LimitNPROC|TasksMax|pids",),
)
def actors_may_start_no_thread(lab: Lab) -> Generator[None]:
    """The limit of processes of the user is used up, so the forwarder starts no thread."""
    for pid in _processes(lab, "pacs"):
        run(*drop_to_nobody(), "prlimit", "--pid", pid, "--nproc=1:1")
    time.sleep(7)  # the connections that it has are released
    lab.send(4)
    time.sleep(8)
    yield
    lab.restart("pacs")


@broken(NOT_ROOT, (r"\blog\b|edge\.log", r"writ|permission|open"), (r"chown|log_path|chmod|owner",))
def log_of_another_user(lab: Lab) -> Generator[None]:
    """Somebody ran a command as root after the log was rotated, so the log is root's."""
    log = lab.logs / "edge.log"
    os.chown(log, 0, 0)
    log.chmod(0o600)
    os.chown(lab.logs, 0, 0)
    for name in ("serve", "pacs"):
        lab.stop(name)
        lab.start(name)
    time.sleep(6)
    _try_to_send(lab, 2)
    yield
    for path in [lab.logs, *lab.logs.iterdir()]:
        os.chown(path, NOBODY, NOBODY)
    lab.restart("serve", "pacs")
    lab.sent_again()


@broken(STRANGE, (r"serve", r"frozen|stopped|SIGSTOP|silent|state T"), (r"kill -CONT",))
def parent_of_the_receivers_frozen(lab: Lab) -> Generator[None]:
    """Only the parent of `mini-pacs serve` is stopped; then its receiver dies."""
    parent = lab.processes["serve"].pid
    os.kill(parent, signal.SIGSTOP)
    for pid in _processes(lab, "serve"):
        if int(pid) != parent:
            os.kill(int(pid), signal.SIGKILL)
    _try_to_send(lab, 2)
    time.sleep(14)
    yield
    os.kill(parent, signal.SIGCONT)
    lab.sent_again()


@broken(
    STRANGE,
    (r"incoming|spool", r"not permitted|immutable|cannot|not writable"),
    (r"chattr|lsattr|chown|writable|ls -ld",),
)
def folder_of_the_spool_immutable(lab: Lab) -> Generator[None]:
    """A hardening script made the folder incoming/ immutable."""
    run("chattr", "+i", lab.data / "incoming")
    try:
        _try_to_send(lab)
        time.sleep(6)
        yield
    finally:
        run("chattr", "-i", lab.data / "incoming")
    lab.sent_again()


@broken(
    STRANGE,
    (r"\bqueued\b", r"not a (folder|directory)|file"),
    (r"mkdir|delete|remove|rm\b|folder",),
)
def file_in_the_place_of_a_folder(lab: Lab) -> Generator[None]:
    """A backup tool left a file with the name of the folder queued/."""
    queued = lab.data / "queued"
    kept = lab.data / "queued.kept"
    queued.rename(kept)
    queued.write_bytes(b"")
    lab.pacs_peer("--store", "status", "--status", "A700")
    lab.send(3)
    time.sleep(8)
    yield
    queued.unlink()
    kept.rename(queued)
    lab.pacs_ok()
    lab.command("destinations", "resume", "PACS")


@broken(STRANGE, (r"receiver|serve", r"memory"), (r"memory|LimitAS|ulimit|mem_limit",))
def receivers_have_no_memory(lab: Lab) -> Generator[None]:
    """The receiver may use no more memory than it has."""
    for pid in _processes(lab, "serve"):
        size = Path(f"/proc/{pid}/statm").read_text().split()[0]
        run("prlimit", "--pid", pid, f"--as={int(size) * 4096}:unlimited")
    _try_to_send(lab, 8)
    time.sleep(8)
    yield
    lab.restart("serve")
    lab.sent_again()


@broken(
    STRANGE,
    (r"two configurations", r"EDGE2"),
    (r"kill", r"config reload"),
)
def second_serve_with_another_port(lab: Lab) -> Generator[None]:
    """Somebody started a second `mini-pacs serve` with a copy of config.yaml and another port."""
    other = lab.folder / "copy.yaml"
    other.write_text(yaml.safe_dump(merge(lab.base, {"edge": {"port": free_port(), "ae_title": "EDGE2"}})))
    lab.start("serve", environment={"MINI_PACS_CONFIG": str(other)}, label="serve-other")
    time.sleep(9)
    yield
    lab.stop("serve-other", signal.SIGTERM)
    lab.mini_pacs("config", "reload", "--yes")
