"""What the edge turned away lately: associations, contexts, C-STOREs, TLS, limits.

A refusal is no finding any more when its sender sent an instance afterwards, or when the configuration lets
it in now. Unknown titles that come from the address of a worker are its results.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from gateway.config import Configuration
from gateway.database.tables.progress import Accepted
from gateway.database.tables.refusals import RefusalRow
from gateway.diagnosis.finding import Finding, Holds, Severity
from gateway.diagnosis.words import in_words
from gateway.domain import allowlist
from gateway.domain.refusal import Reason, RefusalKind, meaning, remedy
from gateway.times import moment

WINDOW = timedelta(minutes=10)
"""Refusals of this time are shown; a modality that is refused tries again within minutes."""
MOST = 20
"""More peers are counted in one finding: somebody scans the network."""

_NOTES = {
    Reason.CLOSED_IN_HANDSHAKE,
    Reason.NO_ASSOCIATION_REQUEST,
    Reason.SILENT_IN_A_MESSAGE,
    Reason.NOT_DICOM,
    Reason.MALFORMED,
    Reason.FAULT,
    Reason.DISK_FULL,
}
"""A probe of the port causes the first ones. A fault, or a full disk, is a finding itself while it lasts."""
_OF_THE_MOMENT = {Reason.DISK_ERROR, Reason.SPOOL_UNUSABLE, Reason.DATABASE_UNUSABLE}
"""Refused C-STOREs that are over when the sender sent another instance afterwards."""
_NO_FINDING = {Reason.IDLE}
_VERBS = {
    RefusalKind.CONNECTION: "refused",
    RefusalKind.TLS: "refused",
    RefusalKind.TIMEOUT: "aborted",
    RefusalKind.BROKEN: "aborted",
    RefusalKind.ASSOCIATION: "rejected",
    RefusalKind.CONTEXT: "declined",
    RefusalKind.C_STORE: "refused",
}
_OF_EDGE = {Reason.DISK_RESERVE, Reason.UNKNOWN_SPOOL, Reason.NOT_REGISTRABLE, Reason.LIMIT_OF_ALL}
"""Reasons that turn every sender away."""
_UNKNOWN = {Reason.CALLING_AE_TITLE, Reason.CALLING_ADDRESS}
_RESTART = ", then `mini-pacs config reload`"


def turned_away(
    rows: Sequence[RefusalRow],
    accepted: Sequence[Accepted],
    configuration: Configuration,
    silent_workers: Sequence[str] = (),
) -> Iterator[Finding]:
    """Yield who was turned away and is not let in yet; `silent_workers` returned no results lately."""
    last = {(one.calling_ae_title, one.remote_address): one.last_at for one in accepted}
    shown = [row for row in rows if row.reason not in _NO_FINDING and not _is_over(row, last, configuration)]
    for row in shown[:MOST]:
        yield _finding(row, last, configuration, silent_workers)


def _is_over(
    row: RefusalRow, accepted: Mapping[tuple[str, str], datetime], configuration: Configuration
) -> bool:
    if row.reason in _UNKNOWN and _is_allowed(row, configuration):
        return True
    if row.kind in {RefusalKind.C_STORE, RefusalKind.CONTEXT} and row.reason not in _OF_THE_MOMENT:
        return False  # others of the same sender are accepted
    times = [
        at
        for (title, address), at in accepted.items()
        if address == row.remote_address and title == (row.calling_ae_title or title)
    ]
    return any(at > row.last_at for at in times)


def _is_allowed(row: RefusalRow, configuration: Configuration) -> bool:
    try:
        address = allowlist.address_of(row.remote_address)
    except ValueError:
        return False
    return any(
        entry.ae_title == row.calling_ae_title
        and (entry.origin is None or (entry.network is not None and address in entry.network))
        for entry in configuration.edge.allowed_callers
    )


def _finding(
    row: RefusalRow,
    accepted: Mapping[tuple[str, str], datetime],
    configuration: Configuration,
    silent_workers: Sequence[str],
) -> Finding:
    refused = row.refused
    times = "once" if row.count == 1 else f"{row.count:,} times"
    detail = f" ({in_words(row.detail)})" if row.detail else ""
    often = f"{_VERBS[row.kind]} {times} since {moment(row.first_at)}"
    text = f"{refused.peer} {meaning(row.reason)}{detail}: {often}"
    then = remedy(refused, edge_ae_title=configuration.edge.ae_title)
    if "edge." in then:
        then += _RESTART
    means = "what it sends does not arrive; it keeps its images"
    holds = Holds.ALL if row.reason in _OF_EDGE else Holds.RECEPTION
    workers = _workers_at(row, configuration, silent_workers)
    if workers:
        name = workers[0] if len(workers) == 1 else f"one of {', '.join(workers)}"
        text += f"; that is the address of {name}: these are its results"
        means = "its results are lost for the PACS until it sends them again"
        then = (
            f"add {row.calling_ae_title} to calling_ae_titles of {workers[0]}, and to "
            f"edge.allowed_calling_aets: {refused.allowlist_entry or row.calling_ae_title}{_RESTART}"
        )
        holds = Holds.WORKERS
    severity = Severity.NOTE if row.reason in _NOTES else Severity.PROBLEM
    if row.kind is RefusalKind.CONTEXT and (row.calling_ae_title, row.remote_address) in accepted:
        # Senders propose more than they send: instances of other contexts arrive.
        severity, means = Severity.NOTE, "instances in other presentation contexts arrive"
    key = f"refused.{row.reason}:{row.calling_ae_title or 'unknown'}@{row.remote_address}"
    return Finding(key, severity, text, means, then, row.first_at, holds)


def _workers_at(row: RefusalRow, configuration: Configuration, silent: Sequence[str]) -> list[str]:
    """Return the workers whose results these may be: at that address, the silent ones if there are any."""
    if row.reason not in _UNKNOWN:
        return []
    at_address = [w.ae_title for w in configuration.forwarder.all_workers if w.host == row.remote_address]
    known = [title for title in at_address if title in silent]
    others = {d.host for d in configuration.forwarder.all_archives}
    return known or ([] if row.remote_address in others else at_address)
