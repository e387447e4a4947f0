"""The commands of the edge and of its workers in a lab; lab.py says in which order they start."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from gateway.config import Configuration
from gateway.errors import LabError
from gateway.lab import layout
from gateway.lab.program import Program

WORKER = {"WORKER_UNIT": "series", "WORKER_QUIET_SECONDS": "1"}
"""How the workers of a lab differ from those in containers: each returns one result series for a series."""

RESTART_DELAY_MS = 500
"""How long Dramatiq waits before it restarts, after one of its children died (default 3000)."""
FORK_TIMEOUT = ("--worker-fork-timeout", "2000")
"""Milliseconds until Dramatiq notices that a child died while it started (default 30,000)."""


def workers(configuration: Configuration, environment: Mapping[str, str]) -> list[Program]:
    """Return a worker application for each worker; `environment` is added to the one of each."""
    edge = configuration.edge
    return [
        Program(
            worker.ae_title.lower(),
            (sys.executable, "-m", "worker_app"),
            {
                "WORKER_AE_TITLE": worker.ae_title,
                "WORKER_BIND_ADDRESS": layout.LOOPBACK,
                "WORKER_PORT": str(worker.port),
                "GATEWAY_HOST": layout.LOOPBACK,
                "GATEWAY_PORT": str(edge.port),
                "GATEWAY_AE_TITLE": edge.ae_title,
                **WORKER,
                **environment,
            },
            ports=(worker.port,),
        )
        for worker in configuration.forwarder.all_workers
    ]


def actors(
    configuration: Configuration, environment: Mapping[str, str], count: int, threads: int
) -> list[Program]:
    """Return `count` actor processes of each queue, with `threads` each; one of the sweep; the scheduler."""
    environment = {**environment, "dramatiq_restart_delay": str(RESTART_DELAY_MS)}
    counts = {"pacs": (count, threads), "workers": (count, threads), "sweep": (1, 2)}
    if configuration.forwarder.archives:
        counts["archives"] = (count, threads)
    # A program for each process: if one of several processes of a `dramatiq` dies, it stops the others,
    # and is started again only after they have ended what they are sending.
    found = [
        Program(
            f"actors-{queue}" if number == 0 else f"actors-{queue}-{number + 1}",
            (_script("dramatiq"), "actors", "-p", "1", "-t", str(t), "-Q", queue, *FORK_TIMEOUT),
            environment,
            ready_line="ready for action",
        )
        for queue, (processes, t) in counts.items()
        for number in range(processes)
    ]
    return [*found, Program("scheduler", (_script("periodiq"), "actors"), environment)]


def scp(configuration: Configuration, environment: Mapping[str, str]) -> Program:
    """Return the Storage SCP."""
    command = (sys.executable, "-m", "cli", "serve")
    return Program("edge", command, environment, ports=(configuration.edge.port,))


def console(port: int, environment: Mapping[str, str]) -> Program:
    """Return the console on that port."""
    words = ("console", "--bind", layout.LOOPBACK, "--port", str(port))
    command = (sys.executable, "-m", "cli", *words)
    return Program("console", command, environment, ports=(port,))


def _script(name: str) -> str:
    """Return the path of a command that is installed beside this interpreter."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(name)
    if found is None:
        raise LabError(f"the command {name} is not installed: pip install mini-pacs-edge")
    return found
