"""The findings of everything that was read, ranked by what holds images back."""

from collections.abc import Iterable

from gateway.database.tables.overview import Overview
from gateway.diagnosis.deliveries import dead, waiting_long
from gateway.diagnosis.destinations import destinations
from gateway.diagnosis.files import unread
from gateway.diagnosis.finding import Finding, Holds, problem, ranked
from gateway.diagnosis.injected import injected
from gateway.diagnosis.processes import processes
from gateway.diagnosis.results import repeats, results
from gateway.diagnosis.spool import Space, damaged, folders, inodes, space, unregistered
from gateway.diagnosis.strays import conflicts, unmatched
from gateway.domain.pairing import EFFECT, parted


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
            *inodes(measured),
            *folders(measured),
            *unregistered(measured, view.now),
            *damaged(measured),
            *destinations(view),
            *unread(view),
            *dead(view),
            *waiting_long(view),
            *results(view),
            *unmatched(view),
            *conflicts(view),
            *repeats(view),
            *others,
        )
    )


def pairing(unknown: str) -> Iterable[Finding]:
    """Return a finding if spool and database do not belong together."""
    if not unknown:
        return []
    what, remedy = parted(unknown)
    if not remedy:  # a mark of the spool cannot be read: the sentence has its remedy in itself
        remedy = "restore the file, or mount the right disk; if the spool is lost, `mini-pacs db rebuild`"
    return [problem("spool.unknown", what, EFFECT[0].lower() + EFFECT[1:], remedy, holds=Holds.ALL)]
