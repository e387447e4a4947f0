"""The lab in containers for the tests: start it from a copy of the tree, query, break and remove it.

The project has the name that users use, so only one lab can run on a machine: `ComposeLab.up` refuses to
start if another one exists. It first removes what a killed test run left behind. The copy has its own data/
and logs/, and uses free ports of the host.
"""

import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from gateway.dicom.association import PeerAddress
from gateway.lab.layout import free_ports
from gateway.sender.generate import Study, generate, write
from gateway.sender.send import SendOptions, Sent, send
from support.launcher import REPOSITORY
from support.waiting import wait_until as wait_often

PROJECT = "mini_pacs_edge"
MARK = "mini-pacs-compose-tests-"
"""The prefix of a copy's folder, by which a lab of a test run is recognised."""
IMAGE = "mini-pacs-edge"
BASES = ("debian:trixie-slim", "python:3.13-slim-trixie", "node:20-slim", "postgres:17")
"""The only base images of our images."""
NOT_OURS = (
    "COMPOSE_",
    "EDGE_",
    "WORKER_",
    "POSTGRES_",
    "METRICS_",
    "PROMETHEUS_",
    "ALERTMANAGER_",
    "HTTP_HOSTS",
    "GENERATE_TEST_DICOM",
)
"""Prefixes of variables that would choose another project or lab than the documentation's."""
CLEAR_LINE = "\x1b[2K"
"""What some versions of Compose print before each line of a log, with any colour setting."""
BUILD_SECONDS = 900
COMMAND_SECONDS = 180
HEALTHY_SECONDS = 120
"""Must exceed the slowest start (data folders are made) and two looks of a health check."""

WORKERS = ("app01", "app02", "app03", "app04", "app05")
GATEWAY = ("edge", "actors-pacs", "actors-workers", "actors-sweep", "scheduler")
HOSPITAL = ("actors-archives", "vna")
"""The services that only the profile hospital has."""
MONITORING = ("metrics", "prometheus", "alertmanager")
"""The services of the profile `monitoring`."""
SERVICES = ("postgres", "orthanc", "ohif", "console", *GATEWAY, *WORKERS)

DOWN = ("--profile", "*", "down", "--volumes", "--remove-orphans")
"""Removes the containers of every profile: those that stay would join the next lab."""
Modality = Literal["CT", "MR"]

wait_until = partial(wait_often, every=0.5)
"""As everywhere, but with a pause, since each query starts a process in a container."""


def run(
    *words: str | Path, timeout: float = COMMAND_SECONDS, check: bool = True, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command on the host; fail the test with its output if it fails, unless it may fail."""
    done = subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **options,
    )
    if check:
        assert done.returncode == 0, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done


def once(options: Sequence[str], entrypoint: str, *words: str, check: bool = True) -> str:
    """Return the output of a command that runs as root in a new container.

    `options` are those of `docker run`.
    """
    return run(
        "docker", "run", "--rm", "--user", "0:0", *options, "--entrypoint", entrypoint, IMAGE, *words,
        check=check,
    ).stdout  # fmt: skip


class ComposeLab:
    """One lab. Its services run from `up` to `remove`; a test leaves them as it found them."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=MARK))
        self.folder.chmod(0o755)
        self.edge_port, self.orthanc_port, self.ohif_port, self.console_port, *monitoring = free_ports(
            4 + len(MONITORING)
        )
        self.metrics_port, self.prometheus_port, self.alertmanager_port = monitoring
        self.orthanc_url = f"http://127.0.0.1:{self.orthanc_port}"
        self.ohif_url = f"http://127.0.0.1:{self.ohif_port}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)},
            "EDGE_PORT": str(self.edge_port),
            "ORTHANC_PORT": str(self.orthanc_port),
            "OHIF_PORT": str(self.ohif_port),
            "CONSOLE_PORT": str(self.console_port),
            "METRICS_PORT": str(self.metrics_port),
            "PROMETHEUS_PORT": str(self.prometheus_port),
            "ALERTMANAGER_PORT": str(self.alertmanager_port),
        }

    # ---- the whole -----------------------------------------------------------------------------------

    def up(self) -> None:
        """Build a copy of the working tree and start it, as `docker compose up --build` does.

        Only the owner can read its files, as in a clone made under umask 077.
        """
        self._refuse_another()
        listed = run("git", "ls-files", "-coz", "--exclude-standard", cwd=REPOSITORY).stdout
        for name in filter(None, listed.split("\0")):
            source = REPOSITORY / name
            if source.is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, self.folder / name)
        for path in self.folder.rglob("*"):
            path.chmod(path.stat().st_mode & 0o700)
        self.compose("up", "--build", "--detach", timeout=BUILD_SECONDS)
        self.wait_well()

    def remove(self) -> None:
        """Remove its containers, networks and files."""
        self.compose(*DOWN, "--timeout", "20", check=False)
        if self.folder.exists():
            # the containers' users own the files that they wrote
            once(["-v", f"{self.folder}:/copy"], "rm", "-rf", "/copy/data", "/copy/logs", check=False)
            shutil.rmtree(self.folder)

    def _refuse_another(self) -> None:
        label = "com.docker.compose.project"
        form = '{{.Label "com.docker.compose.project.working_dir"}}'
        there = run("docker", "ps", "--all", "--filter", f"label={label}={PROJECT}", "--format", form)
        folders = set(there.stdout.split())
        theirs = {folder for folder in folders if not Path(folder).name.startswith(MARK)}
        assert not theirs, (
            f"a lab {PROJECT} is there already, of {theirs}: take it down first (docker compose down)"
        )
        if folders:
            which = ("--project-directory", REPOSITORY, "--file", REPOSITORY / "docker-compose.yml")
            self.compose(*which, *DOWN, "--timeout", "5")

    def compose(
        self, *words: str | Path, timeout: float = COMMAND_SECONDS, check: bool = True, **environment: str
    ) -> str:
        """Run `docker compose …` in the copy; keywords are added to its environment variables."""
        done = run(
            "docker", "compose", *words, timeout=timeout, check=check, cwd=self.folder,
            env={**self._environment, **environment},
        )  # fmt: skip
        return done.stdout

    # ---- one container -------------------------------------------------------------------------------

    def container(self, service: str) -> str:
        """Return the container's name of a service, as in docs/operate/containers.md."""
        return PROJECT if service == "edge" else f"{PROJECT}-{service}-1"

    def inspect(self, service: str) -> dict[str, Any]:
        """Return what `docker inspect` prints for its container."""
        [found] = json.loads(run("docker", "inspect", self.container(service)).stdout)
        return dict(found)

    def exec(self, service: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in its container."""
        return run("docker", "exec", self.container(service), *words, check=check)

    def kill(self, service: str) -> None:
        """Send SIGKILL to its first process, as in a crash.

        Docker does not restart it after `docker kill`.
        """
        process = str(self.inspect(service)["State"]["Pid"])
        once(["--network", "none", "--pid", "host"], "sh", "-c", f"kill -9 {process}")

    def wait_running_again(self, service: str, started_before: str) -> None:
        """Wait until it was restarted and runs."""

        def look() -> bool:
            state = self.inspect(service)["State"]
            return bool(state["Running"]) and str(state["StartedAt"]) != started_before

        wait_until(look, 60, f"{service} to run again")

    # ---- the gateway ---------------------------------------------------------------------------------

    def cli(self, *words: str) -> str:
        """Run `docker exec mini_pacs_edge python /app/cli.py …`, as the lab's users type it."""
        return self.exec("edge", "python", "/app/cli.py", *words).stdout

    def status(self) -> dict[str, Any]:
        """`mini-pacs status`."""
        return dict(json.loads(self.cli("status", "--json")))

    def paused(self) -> list[str] | None:
        """Return the paused destinations; None if the lab cannot be asked."""
        asked = self.exec("edge", "mini-pacs", "status", "--json", check=False)
        if asked.returncode != 0:
            return None
        destinations = json.loads(asked.stdout)["overview"]["destinations"]
        return [one["ae_title"] for one in destinations if one["paused"]]

    def well(self) -> bool:
        """Tell whether `mini-pacs status --check` reports no problem; False if it cannot run."""
        return self.exec("edge", "mini-pacs", "status", "--check", check=False).returncode == 0

    def wait_well(self) -> None:
        """Wait until the lab is healthy: all processes run, all destinations are up, the PACS answers."""
        try:
            wait_until(self.well, HEALTHY_SECONDS, "a status without problems")
        except AssertionError as error:
            status = self.exec("edge", "mini-pacs", "status", "--check", check=False)
            raise AssertionError(f"{error}; the status says: {status.stdout}{status.stderr}") from None
        wait_until(self.pacs_answers, HEALTHY_SECONDS, "Orthanc to answer")

    def pacs_answers(self) -> bool:
        """Tell whether Orthanc's REST API answers."""
        try:
            self.orthanc("/system")
        except OSError:
            return False
        return True

    def study(self, study_instance_uid: str) -> dict[str, Any]:
        """`mini-pacs status --study UID`."""
        return dict(json.loads(self.cli("status", "--study", study_instance_uid, "--json")))

    def done(self, study_instance_uid: str) -> dict[str, int]:
        """Return how many of its instances have completed each step."""
        return {step["name"]: step["done"] for step in self.study(study_instance_uid)["steps"]}

    def rows(self, statement: str) -> list[list[str]]:
        """Return the output of psql as text."""
        words = ("psql", "--username=mini_pacs", "--no-align", "--tuples-only", "--field-separator=\t")
        lines = self.exec("postgres", *words, "--command", statement).stdout.splitlines()
        return [line.split("\t") for line in lines]

    def log(self, pattern: str = "") -> list[dict[str, Any]]:
        """Return the lines of `docker compose logs edge` that hold `pattern`."""
        text = self.compose("logs", "--no-color", "--no-log-prefix", "edge")
        lines = [line.removeprefix(CLEAR_LINE) for line in text.splitlines()]
        return [json.loads(line) for line in lines if line.startswith("{") and pattern in line]

    def wait_for_line(self, *, timeout: float = 30, **fields: str) -> dict[str, Any]:
        """Return a line of `docker compose logs edge` with those fields."""

        def look() -> dict[str, Any] | None:
            found = [line for line in self.log() if fields.items() <= line.items()]
            return found[-1] if found else None

        line = wait_until(look, timeout, f"a log line with {fields}")
        assert line is not None
        return line

    # ---- sending, and the PACS -----------------------------------------------------------------------

    def send(self, count: int, *, calling: str = "ORTHANC", modality: Modality = "MR") -> list[Sent]:
        """Send one generated study of `count` instances to the published port; return the outcome of each."""
        return list(self.sending(count, calling=calling, modality=modality))

    def sending(self, count: int, *, calling: str = "ORTHANC", modality: Modality = "MR") -> Iterator[Sent]:
        """Do the same, but yield each outcome as soon as it is known."""
        with tempfile.TemporaryDirectory() as folder:
            study = Study(count, datetime.now(UTC), modality)
            outgoing = [write(instance, Path(folder)) for instance in generate(study)]
            yield from send(
                outgoing, PeerAddress("127.0.0.1", self.edge_port, "MINI_EDGE", 30, 10), SendOptions(calling)
            )

    def accepted(self, count: int, *, modality: Modality = "MR") -> tuple[str, set[str]]:
        """Send one study, all of it accepted; return its Study Instance UID and its SOP Instance UIDs."""
        sent = self.send(count, modality=modality)
        assert [one.status for one in sent] == [0] * count
        [study] = {one.instance.study_instance_uid for one in sent}
        return study, {one.instance.sop_instance_uid for one in sent}

    def orthanc(self, path: str, body: object = None) -> Any:
        """Return the answer of Orthanc's REST API to GET, or to POST if there is a body."""
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(  # noqa: S310  http on loopback
            urllib.request.Request(self.orthanc_url + path, data),  # noqa: S310
            timeout=30,
        ) as answer:
            return json.load(answer)

    def held(self, study_instance_uid: str = "") -> set[str]:
        """Return the SOP Instance UIDs in the PACS, of one study or of all, by its own REST API."""
        query = {"StudyInstanceUID": study_instance_uid} if study_instance_uid else {}
        found = self.orthanc("/tools/find", {"Level": "Instance", "Expand": True, "Query": query})
        return {instance["MainDicomTags"]["SOPInstanceUID"] for instance in found}

    def wait_held(self, wanted: set[str], timeout: float = 60, study_instance_uid: str = "") -> None:
        """Wait until the PACS holds all of them."""
        wait_until(
            lambda: not wanted - self.held(study_instance_uid),
            timeout,
            f"{len(wanted)} instances in the PACS",
        )

    def results(self, sop_instance_uids: Sequence[str] | set[str]) -> dict[str, str]:
        """Return the SOP Instance UID of one result of each original that has a result."""
        rows = self.rows(
            "SELECT o.sop_instance_uid, min(r.sop_instance_uid) FROM result_sources s"
            " JOIN instances o ON o.id = s.source_instance_id JOIN instances r ON r.id = s.result_instance_id"
            " GROUP BY 1"
        )
        return {row[0]: row[1] for row in rows if row[0] in sop_instance_uids}

    def wait_results(self, originals: set[str], timeout: float = 60) -> set[str]:
        """Wait until the PACS has a result of each; return the results."""

        def look() -> set[str]:
            results = self.results(originals)
            found = set(results.values())
            return found if set(results) == originals and not found - self.held() else set()

        return wait_until(look, timeout, f"a result of each of {len(originals)} originals in the PACS")
