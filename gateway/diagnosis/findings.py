"""The findings of everything that was read, ranked by what holds images back."""

from collections.abc import Iterable

from gateway.database.tables.overview import Overview
from gateway.diagnosis.deliveries import dead, waiting_long
from gateway.diagnosis.destinations import destinations
from gateway.diagnosis.finding import Finding, Holds, problem, ranked
from gateway.diagnosis.injected import injected
from gateway.diagnosis.processes import processes
from gateway.diagnosis.results import repeats, results
from gateway.diagnosis.rules import undecided
from gateway.diagnosis.spool import Space, damaged, space, unregistered


def findings(
    view: Overview, measured: Space | None, unknown: str = "", others: Iterable[Finding] = ()
) -> list[Finding]:
    """Return the findings, ranked; none where all is well.

    `unknown` says why spool and database do not belong together; empty if they do. `others` are findings of
    sources that need neither overview nor spool.
    """
    return ranked(
        (
            *(pairing(unknown)),
            *injected(view),
            *processes(view),
            *space(measured),
            *unregistered(measured, view.now),
            *damaged(measured),
            *destinations(view),
            *dead(view),
            *waiting_long(view),
            *results(view),
            *repeats(view),
            *undecided(view),
            *others,
        )
    )


def pairing(unknown: str) -> Iterable[Finding]:
    """Return a finding if spool and database do not belong together."""
    return [problem("spool.unknown", unknown, holds=Holds.ALL)] if unknown else []
