"""`mini-pacs diagnose`: examine everything, and say what is wrong, what it means for images, what to type."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli import bundle as support_bundle
from cli import entry
from cli.documents import Json, Schema, print_document
from cli.exit_codes import ExitCode
from cli.screen import console
from gateway import config, log
from gateway.database.dsn import dsn_from_environment
from gateway.diagnosis.configuration import unreadable
from gateway.diagnosis.examine import Check, Examined, examine
from gateway.diagnosis.finding import Finding
from gateway.diagnosis.gather import ALL_SECONDS
from gateway.errors import ConfigurationError
from gateway.times import moment, since, span

_STYLES = {"✓": "green", "!": "yellow", "✗": "red"}
PROMISED_SECONDS = 9.0
"""From the start of the process to the last check: ten seconds, minus the time to print and to end."""
LEAST_SECONDS = 5.0
"""The least time for the checks: with less, a healthy but slow peer would look as if it hung."""
_ALSO = "The running edge may use the file as it was before; nothing else was examined."


def diagnose(
    as_json: Json = False,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write a support bundle (.tar.gz): findings, configuration without secrets, "
            "versions, the last log lines, sizes of tables. It holds no patient data.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Examine everything, within ten seconds; say what is wrong, what it means, what to type next.

    It prints a line for each check: ✓ is well, ! is a note, ✗ is a problem. Then come the findings; those
    that hold back most images come first. Exit codes: 0 if there is no problem (notes are no problem), 1 if
    there is one, 4 where the bundle cannot be written.
    """
    screen = console()
    try:
        configuration = config.load()
        dsn = dsn_from_environment()
    except ConfigurationError as error:
        _without_configuration(screen, error, as_json=as_json)
        raise typer.Exit(ExitCode.REFUSED) from error
    log.configure(configuration.edge.log_path, "cli")
    # On a busy host the import of this program takes seconds.
    left = max(PROMISED_SECONDS - entry.seconds_since_start(), LEAST_SECONDS)
    tell = (lambda _: None) if as_json else (lambda check: _line(screen, check))
    seen = examine(configuration, dsn, tell, seconds=min(left, ALL_SECONDS))
    if as_json:
        print_document(Schema.DIAGNOSIS, document(seen))
    else:
        _print(screen, seen)
    if bundle is not None:
        support_bundle.write(bundle, seen, dsn)
        typer.echo(f"The support bundle is {bundle}.", err=True)
    if any(one.problem for one in seen.findings):
        raise typer.Exit(ExitCode.REFUSED)


def document(seen: Examined) -> dict[str, object]:
    """Return what `--json` prints."""
    return {
        "well": not any(one.problem for one in seen.findings),
        "seconds": round(seen.seconds, 3),
        "checks": seen.checks,
        "findings": [one.document() for one in seen.findings],
    }


def _without_configuration(screen: Console, error: ConfigurationError, *, as_json: bool) -> None:
    finding = unreadable(error)
    if as_json:
        checks = [Check("✗", "configuration", finding.what)]
        content = {"well": False, "seconds": 0.0, "checks": checks, "findings": [finding.document()]}
        print_document(Schema.DIAGNOSIS, content)
        return
    _line(screen, Check("✗", "configuration", finding.what))
    _say(screen, 1, finding)
    screen.print(_ALSO)


def _line(screen: Console, check: Check) -> None:
    screen.print(check.mark, style=_STYLES[check.mark], end=" ")
    screen.print(check.name.ljust(14), style="bold", end=" ")
    screen.print(check.text, soft_wrap=True)


def _print(screen: Console, seen: Examined) -> None:
    problems = sum(one.problem for one in seen.findings)
    notes = len(seen.findings) - problems
    screen.print()
    if not seen.findings:
        screen.print(f"All is well ({span(seen.seconds)}).", style="green")
        return
    screen.print(
        f"{_counted(problems, 'problem')}, {_counted(notes, 'note')} ({span(seen.seconds)}). "
        + ("The findings that hold back most images come first." if len(seen.findings) > 1 else ""),
        style="bold",
    )
    for number, finding in enumerate(seen.findings, 1):
        _say(screen, number, finding)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _say(screen: Console, number: int, finding: Finding) -> None:
    mark = "✗" if finding.problem else "!"
    screen.print(f"\n{number}.", mark, style=_STYLES[mark], end=" ")
    screen.print(finding.what, soft_wrap=True)
    rows = [("images", finding.means), ("do", finding.remedy)]
    if finding.since is not None and " since " not in finding.what:
        ago = since(finding.since, datetime.now(UTC))
        rows.insert(0, ("since", f"{moment(finding.since)} ({ago})"))
    for name, text in rows:
        if text:
            screen.print(f"     {name:<7}", style="bold", end="")
            screen.print(text, soft_wrap=True)
