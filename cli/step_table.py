"""The steps that `mini-pacs status --study` and `mini-pacs demo` print."""

from collections.abc import Sequence

from rich.console import Console

from cli.screen import table
from gateway.domain.timeline import StepSummary
from gateway.times import clock, dated, span


def print_steps(screen: Console, title: str, steps: Sequence[StepSummary], instances: int) -> None:
    """Print a line for each step; `instances` is the number of instances that have to complete it."""
    rows = table("step", "done", "first", "last", "median", "longest", "by")
    for step in steps:
        rows.add_row(
            step.name.value,
            f"{step.done}/{instances}",
            clock(step.first),
            clock(step.last),
            "" if step.median_seconds is None else span(step.median_seconds),
            "" if step.longest_seconds is None else span(step.longest_seconds),
            ", ".join(step.by),
        )
    # Not the title of the table: Rich would wrap it at the width of the table, inside a UID.
    screen.print(dated(title), style="bold", markup=False, soft_wrap=True)
    screen.print(rows)
