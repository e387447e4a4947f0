"""Faults that somebody injected on purpose, and that are still active."""

from collections.abc import Iterator

from gateway.database.tables.overview import Overview
from gateway.diagnosis.finding import Finding, Holds, problem
from gateway.times import moment


def injected(view: Overview) -> Iterator[Finding]:
    """Yield each active fault."""
    for fault in view.faults:
        until = "until it is cleared" if fault.until is None else f"until {moment(fault.until)}"
        yield problem(
            f"fault:{fault.name}",
            f"Fault {fault.name} is injected by {fault.injected_by} {until}",
            "the edge fails on purpose",
            f"`mini-pacs clear-faults {fault.name}`",
            since=fault.injected_at,
            holds=Holds.ALL,
        )
