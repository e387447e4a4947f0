"""`mini-pacs demo`: the main job, once, on a lab of its own."""

import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.demo_report import as_json, show, show_missing
from cli.exit_codes import ExitCode
from gateway.database.connection import Database
from gateway.database.tables.flow import InstanceFlow, ways
from gateway.dicom.requestor import PeerAddress
from gateway.errors import DatabaseUnavailableError, LabError
from gateway.lab.lab import Lab
from gateway.lab.specimens import specimens
from gateway.sender.send import SendOptions, Sent, send

TIMEOUT_SECONDS = 240.0
"""Must exceed the two minutes that the whole demo takes on two slow cores."""
SEND_TIMEOUT_SECONDS = 30.0
"""Must exceed edge.commit_timeout_seconds."""
LOG_COLUMNS = 132
"""A log has no width of its own; a table that is not broken is easier to search."""

_POLL_SECONDS = 0.3
_STEPS = ("received", "at the PACS", "at workers", "results", "results at the PACS")


@dataclass(slots=True)
class Run:
    """What the demo knows: what it sent, what became of it."""

    names: dict[str, str] = field(default_factory=dict)
    """Study Instance UID → what was sent as that study."""
    sent: dict[str, Sent] = field(default_factory=dict)
    """SOP Instance UID → the answer of the edge."""
    ways: list[InstanceFlow] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    """SOP Instance UIDs that the PACS itself says it holds."""
    seconds: float = 0.0

    def is_complete(self) -> bool:
        """Tell whether the PACS holds every original and a result for each."""
        expected = {way.sop_instance_uid for way in self.ways}
        results = {way.result_sop_instance_uid for way in self.ways}
        return (
            set(self.sent) == expected
            and all(way.complete for way in self.ways)
            and expected | results <= self.held
        )


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the lab's folder, to look into it.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Print every study, not only the totals, the CT and the MR study.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Start a lab, send through it, wait until the PACS has every result, print every step, stop.

    Sent are a generated CT study of 20 instances, an MR study of 10, and every sendable file that pydicom
    brings for its tests. Printed are the steps of all together, and of the CT and the MR study. Exit codes:
    0 the PACS holds each original and its result, 1 something is missing.
    """
    console = Console(stderr=json_output, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=json_output, highlight=False, width=LOG_COLUMNS)
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-demo-"))
    folder.chmod(0o711)  # as root, PostgreSQL's user must pass through
    the_lab = Lab(folder / "lab")
    run = Run()
    try:
        with console.status("Starting PostgreSQL, a PACS, five workers, actors and the Storage SCP…"):
            the_lab.start()
        with _progress(console) as progress:
            _send(run, the_lab, folder / "specimens", progress)
            _follow(run, the_lab, progress)
    finally:
        with console.status("Stopping…"):
            the_lab.stop()
            if not keep:
                the_lab.remove()
                shutil.rmtree(folder, ignore_errors=True)
    if json_output:
        typer.echo(
            json.dumps(as_json(run.ways, run.sent, run.names, run.seconds, complete=run.is_complete()))
        )
    else:
        show(console, run.ways, run.sent, run.names, every=every)
    _conclude(console, run, the_lab, keep=keep, every=every)


def _conclude(console: Console, run: Run, the_lab: Lab, *, keep: bool, every: bool) -> None:
    """Print the verdict and what to type next; the exit code is that of the verdict."""
    console.print()
    complete = run.is_complete()
    if complete:
        console.print(
            f"[green bold]OK:[/] {len(run.ways)} instances in {len(run.names)} studies: the PACS "
            f"({the_lab.pacs.title}) holds every original and a result for each, {run.seconds:.1f} s "
            "after the first was sent.",
            soft_wrap=True,
        )
    else:
        show_missing(console, run.ways, run.sent, run.held, every=every)
        console.print(
            f"[red bold]FAILED:[/] not everything arrived within {run.seconds:.0f} s; see above.",
            soft_wrap=True,
        )
    command = _command()
    following = [("demo --all", "the same, with every study")]
    if keep:
        following.append((f"lab --data {shlex.quote(str(the_lab.folder))}", "start this lab again"))
    else:
        following.append(("demo --keep", "the same, and keep the lab's folder with its logs"))
    following.append(("lab", "a lab that stays: send your own images to it, and break it"))
    console.print("\nNext:")
    for words, purpose in following:
        console.print(f"  {command} {words:14}  {purpose}", markup=False, soft_wrap=True)
    if not complete:
        raise typer.Exit(ExitCode.REFUSED)


def _command() -> str:
    """Return how to type this command here: `make demo` runs it from a folder that is not on the path."""
    beside = Path(sys.executable).parent / "mini-pacs"
    if shutil.which("mini-pacs") is not None or not beside.exists():
        return "mini-pacs"
    return shlex.quote(os.path.relpath(beside))


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _send(run: Run, the_lab: Lab, folder: Path, progress: Progress) -> None:
    """Everything was sent once and accepted.

    Raises:
        LabError: the edge did not accept an instance.
    """
    instances = []
    preparing = progress.add_task("prepared", total=None)
    for name, instance in specimens(folder):
        run.names[instance.study_instance_uid] = name
        instances.append(instance)
        progress.update(preparing, completed=len(instances))
    progress.update(preparing, total=len(instances))
    edge = the_lab.configuration.edge
    peer = PeerAddress("127.0.0.1", edge.port, edge.ae_title, SEND_TIMEOUT_SECONDS, SEND_TIMEOUT_SECONDS)
    sending = progress.add_task("sent", total=len(instances))
    run.seconds = -time.monotonic()
    for sent in send(instances, peer, SendOptions(the_lab.configuration.forwarder.orthanc.ae_title)):
        if not sent.accepted:
            raise LabError(f"the edge did not accept {sent.instance.origin}: {sent.status} {sent.comment}")
        run.sent[sent.instance.sop_instance_uid] = sent
        progress.advance(sending)
    run.seconds += time.monotonic()


def _follow(run: Run, the_lab: Lab, progress: Progress) -> None:
    """The PACS holds everything, or TIMEOUT_SECONDS have passed."""
    total = len(run.sent)
    tasks = [progress.add_task(step, total=total) for step in _STEPS]
    database = Database(the_lab.postgres.dsn(), application_name="mini-pacs demo", size=1)
    begun = time.monotonic() - run.seconds
    try:
        while not run.is_complete() and run.seconds < TIMEOUT_SECONDS:
            time.sleep(_POLL_SECONDS)
            run.seconds = time.monotonic() - begun
            try:
                run.ways = ways(database)
            except DatabaseUnavailableError:
                continue  # it was restarted under us; the next look tells
            for task, count in zip(tasks, _counts(run.ways), strict=True):
                progress.update(task, completed=count)
            if len(run.ways) == total and all(way.complete for way in run.ways):
                run.held = the_lab.pacs.holds()
    finally:
        database.close()


def _counts(the_ways: Sequence[InstanceFlow]) -> tuple[int, ...]:
    return (
        len(the_ways),
        sum(way.to_pacs.delivered for way in the_ways),
        sum(way.to_worker.delivered for way in the_ways),
        sum(way.result_sop_instance_uid is not None for way in the_ways),
        sum(way.result_to_pacs.delivered for way in the_ways),
    )
