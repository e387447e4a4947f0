"""Edges whose processes are dead, frozen, or not the right ones."""

import signal
import sys
import time
from collections.abc import Generator

import yaml

from proof.edges.edge import broken
from proof.edges.lab import Lab, Setup, merge
from proof.edges.machine import is_open, run, wait_for, wrong_clock

PROCESSES = Setup("processes")
_HTTP = """
import http.server, sys
at = ("127.0.0.1", int(sys.argv[1]))
http.server.ThreadingHTTPServer(at, http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@broken(
    PROCESSES,
    (r"Storage SCP|receiver|serve|{port}", r"not answer|no answer|frozen|stopped|SIGSTOP|silent"),
    (r"kill|SIGCONT|restart|serve",),
)
def receivers_frozen(lab: Lab) -> Generator[None]:
    """The processes of `mini-pacs serve` are stopped by SIGSTOP."""
    lab.send_signal("serve", signal.SIGSTOP)
    time.sleep(12)
    yield
    lab.send_signal("serve", signal.SIGCONT)


@broken(PROCESSES, (r"{port}", r"refused|nothing listens|closed|no receiver|not run"), (r"mini-pacs serve",))
def receivers_dead(lab: Lab) -> Generator[None]:
    """`mini-pacs serve` was killed."""
    lab.stop("serve")
    time.sleep(3)
    yield
    lab.start("serve")
    wait_for("the port", lambda: is_open(lab.port))


@broken(PROCESSES, (r"{port}", r"HTTP|another program|other program"), (r"edge\.port|end|stop",))
def port_taken_by_another_program(lab: Lab) -> Generator[None]:
    """A web server took the port of the edge while `mini-pacs serve` was down."""
    lab.stop("serve")
    web = lab.helper(sys.executable, "-c", _HTTP, str(lab.port))
    wait_for("the web server", lambda: is_open(lab.port))
    lab.start("serve")
    time.sleep(5)
    yield
    lab.end(web)
    lab.stop("serve")
    lab.start("serve")
    wait_for("the port", lambda: is_open(lab.port))


@broken(
    PROCESSES,
    (r"actor|process", r"pacs", r"frozen|stopped|SIGSTOP|not answer|no (sign|heartbeat)|silent"),
    (r"kill -CONT|SIGCONT|restart|kill",),
)
def actors_frozen(lab: Lab) -> Generator[None]:
    """The actor process of the PACS is stopped by SIGSTOP."""
    lab.send_signal("pacs", signal.SIGSTOP)
    lab.send(3)
    time.sleep(12)
    yield
    lab.send_signal("pacs", signal.SIGCONT)


@broken(
    PROCESSES, (r"pacs", r"no (actor )?process|nobody|no consumer|not served"), (r"dramatiq actors.*pacs",)
)
def actors_dead(lab: Lab) -> Generator[None]:
    """The actor process of the PACS was killed, and nobody starts it again."""
    lab.stop("pacs")
    lab.send(3)
    time.sleep(5)
    yield
    lab.start("pacs")


@broken(
    PROCESSES,
    (r"workers", r"no (actor )?process|nobody|no consumer|not served"),
    (r"dramatiq actors.*workers",),
)
def actors_of_the_workers_dead(lab: Lab) -> Generator[None]:
    """The actor process of the workers was killed, and nobody starts it again."""
    lab.stop("workers")
    lab.send(3)
    time.sleep(5)
    yield
    lab.start("workers")


@broken(
    PROCESSES,
    (r"sweep", r"no (actor )?process|nobody|no consumer|not (served|run)"),
    (r"dramatiq actors.*sweep",),
)
def actors_of_the_sweep_dead(lab: Lab) -> Generator[None]:
    """The actor process of the sweep was killed, and nobody starts it again."""
    lab.stop("sweep")
    time.sleep(6)
    yield
    lab.start("sweep")


@broken(
    PROCESSES,
    (r"sweep|scheduler", r"not run|late|since|no scheduler|should run each minute"),
    (r"periodiq actors",),
    within=240,
)
def scheduler_dead(lab: Lab) -> Generator[None]:
    """The scheduler was killed, so no sweep runs."""
    lab.stop("scheduler")
    time.sleep(3)
    yield
    lab.start("scheduler")


@broken(
    PROCESSES,
    (r"sweep", r"frozen|stopped|SIGSTOP|not answer|no (sign|heartbeat)|silent"),
    (r"kill -CONT|SIGCONT|restart|kill",),
)
def sweep_frozen(lab: Lab) -> Generator[None]:
    """The actor process of the sweep is stopped by SIGSTOP."""
    lab.send_signal("sweep", signal.SIGSTOP)
    time.sleep(12)
    yield
    lab.send_signal("sweep", signal.SIGCONT)


@broken(
    PROCESSES,
    (r"configuration|config\.yaml|config", r"another|differ|other|not the (same|one)"),
    (r"MINI_PACS_CONFIG|config reload|restart|copy",),
)
def actors_with_another_configuration(lab: Lab) -> Generator[None]:
    """An actor process was started with an old copy of config.yaml."""
    other = lab.folder / "old.yaml"
    other.write_text(
        yaml.safe_dump(merge(lab.base, {"forwarder": {"orthanc": {"timeout_s": 9}, "max_retries": 9}}))
    )
    lab.start("pacs", environment={"MINI_PACS_CONFIG": str(other)}, label="pacs-other")
    time.sleep(9)
    yield
    lab.stop("pacs-other", signal.SIGTERM)


@broken(
    PROCESSES,
    (r"spool|data_root", r"another|differ|other|not the (same|one)|no spool|empty"),
    (r"data_root|mount|MINI_PACS_CONFIG|restart",),
)
def actors_with_another_spool(lab: Lab) -> Generator[None]:
    """An actor process was started with another data_root."""
    elsewhere = lab.folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    other = lab.folder / "other-spool.yaml"
    other.write_text(yaml.safe_dump(merge(lab.base, {"edge": {"data_root": str(elsewhere)}})))
    lab.start("pacs", environment={"MINI_PACS_CONFIG": str(other)}, label="pacs-other")
    time.sleep(9)
    yield
    lab.stop("pacs-other", signal.SIGTERM)


@broken(PROCESSES, (r"clock", r"\b(1(19|20|21)) ?s|2 ?min"), (r"NTP|chrony|clock|timedatectl|time",))
def clock_of_an_actor_process_is_wrong(lab: Lab) -> Generator[None]:
    """The clock of the host of an actor process is two minutes behind."""
    lab.start("pacs", environment=wrong_clock(lab.folder, -120), label="pacs-other")
    time.sleep(9)
    lab.send(2)
    yield
    lab.stop("pacs-other", signal.SIGTERM)


@broken(PROCESSES, (r"config", r"edited|not (been )?loaded|differs", r"max_retries"), (r"config reload",))
def configuration_not_loaded(lab: Lab) -> Generator[None]:
    """Somebody edited config.yaml and did not load it."""
    lab.write(merge(lab.base, {"forwarder": {"max_retries": 7}}))
    time.sleep(3)
    yield
    lab.mini_pacs("config", "reload", "--yes")
    lab.configure({})


@broken(PROCESSES, (r"config", r"max_retrys|port"), (r"max_retries|config",))
def configuration_invalid(lab: Lab) -> Generator[None]:
    """Somebody edited config.yaml, and misspelled a key."""
    lab.write(merge(lab.base, {"forwarder": {"max_retrys": 7}}))
    time.sleep(1)
    yield
    lab.write(lab.base)


@broken(
    PROCESSES,
    (r"open files|file descriptors|too many",),
    (r"ulimit|LimitNOFILE|open files|restart|association",),
)
def receivers_have_no_file_left(lab: Lab) -> Generator[None]:
    """The receiver may not open one file more."""
    for pid in run("pgrep", "-g", str(lab.processes["serve"].pid)).split():
        run("prlimit", "--pid", pid, "--nofile=1:4096")
    time.sleep(4)
    yield
    lab.restart("serve")


@broken(PROCESSES, (r"log", r"edge\.log|logs", r"space|full|writ"), (r"log_path|space|disk",))
def disk_of_the_log_full(lab: Lab) -> Generator[None]:
    """The disk of the log is full."""
    run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", lab.logs)
    lab.restart("serve", "pacs")
    (lab.logs / "filler").write_bytes(b"")
    try:
        with (lab.logs / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
    except OSError:
        pass
    lab.send(2)
    time.sleep(4)
    yield
    (lab.logs / "filler").unlink()
    run("umount", "-l", str(lab.logs))
    lab.restart("serve", "pacs")
