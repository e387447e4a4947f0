"""`mini-pacs demo`: start a lab, send studies through it, and show every step of each instance."""

import os
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.demo_report import document, show, show_missing
from cli.demo_run import DemoRun, progress_bars
from cli.documents import Json, Schema, print_document
from cli.exit_codes import ExitCode
from cli.screen import console
from cli.stop_signals import on_stop
from gateway.errors import LabError
from gateway.lab.free_space import DEMO_MIB, lack_of_space
from gateway.lab.lab import Lab


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the folder of the lab, with its logs and its database.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Print every study, not only the totals, the CT and the MR study.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start a lab, send studies through it, wait until the PACS has every result, print each step, stop.

    It sends a generated CT study of 20 instances, an MR study of 10, and every sendable file that pydicom
    brings for its tests. It prints the steps of all studies together, and those of the CT and the MR study.

    Exit codes: 0 the PACS holds each original and its result; 1 something is missing.
    """
    screen = console(stderr=as_json, markup=True)
    on_stop(signal.default_int_handler)  # an interrupt: it stops the lab, and deletes the folder
    run = DemoRun()
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-demo-"))
    try:
        folder.chmod(0o711)  # As root, PostgreSQL runs as another user, who must be able to pass through.
        lab = Lab(folder / "lab")
        try:
            _require_space(lab)
            with screen.status("Starting PostgreSQL, a PACS, five workers, actors and the Storage SCP…"):
                lab.start()
            with progress_bars(screen) as progress:
                run.send(lab, folder / "specimens", progress)
                run.wait(lab, progress)
        finally:
            with screen.status("Stopping…"):
                lab.stop()
                if not keep:
                    lab.remove()
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        print_document(Schema.DEMO, document(run))
    else:
        show(screen, run, every=every)
    _print_verdict(screen, run, lab, every=every)
    _print_next(screen, lab, keep=keep)
    if not run.is_complete():
        raise typer.Exit(ExitCode.REFUSED)


def _require_space(lab: Lab) -> None:
    edge = lab.configuration.edge
    lacks = lack_of_space(edge.data_root, edge.disk_reserve_mb, DEMO_MIB)
    if lacks is not None:
        raise LabError(f"{lacks}. Free some, or name a folder on another disk: TMPDIR=/folder mini-pacs demo")


def _print_verdict(screen: Console, run: DemoRun, lab: Lab, *, every: bool) -> None:
    screen.print()
    if run.is_complete():
        screen.print(
            f"[green bold]OK:[/] {len(run.timelines)} instances in {len(run.names)} studies: the PACS "
            f"({lab.pacs.title}) holds every original and a result for each, {run.seconds:.1f} s "
            "after the first was sent.",
            soft_wrap=True,
        )
        return
    show_missing(screen, run, every=every)
    screen.print(
        f"[red bold]FAILED:[/] not everything arrived within {run.seconds:.0f} s; see above.", soft_wrap=True
    )


def _print_next(screen: Console, lab: Lab, *, keep: bool) -> None:
    following = [("demo --all", "the same, with every study")]
    if keep:
        following.append((f"lab --data {shlex.quote(str(lab.folder))}", "start this lab again"))
    else:
        following.append(("demo --keep", "the same, and keep the lab's folder with its logs"))
    following.append(("lab", "a lab that stays: send your own images to it, and inject faults"))
    screen.print("\nNext:")
    for words, purpose in following:
        screen.print(f"  {_command()} {words:14}  {purpose}", markup=False, soft_wrap=True)


def _command() -> str:
    """Return the command to type; if PATH lacks it, as for `make demo`, return its relative path."""
    beside = Path(sys.executable).parent / "mini-pacs"
    if shutil.which("mini-pacs") is not None or not beside.exists():
        return "mini-pacs"
    return shlex.quote(os.path.relpath(beside))
