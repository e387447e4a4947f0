"""What the edge turned away lately: associations, contexts, C-STOREs, TLS, limits.

A refusal is no finding any more when its sender sent an instance afterwards, or when the configuration lets
it in now. Unknown titles that come from the address of a worker are its results.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from gateway.config import Configuration
from gateway.database.tables.progress import Accepted
from gateway.database.tables.refusals import RefusalRow
from gateway.diagnosis.finding import Finding, Holds, Severity
from gateway.diagnosis.words import in_words
from gateway.dicom.contexts import storage_sop_classes
from gateway.domain import allowlist
from gateway.domain.refusal import Reason, RefusalKind
from gateway.domain.refusal_words import meaning, remedy
from gateway.times import moment

WINDOW = timedelta(minutes=10)
"""Refusals of this time are shown; a modality that is refused tries again within minutes."""
MOST = 20
"""More peers are counted in one finding: somebody scans the network."""

SAME_ASSOCIATION = timedelta(seconds=1)
"""Clock and order of rows of one association may differ by this."""
SEVERAL = 2
TLS_AGAIN = 3
BROKEN_AGAIN = 3
_UID = re.compile(r"(?<![\d.])\d+(?:\.\d+){3,}(?![\d.])")

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
_RELOADED = {
    Reason.CALLING_AE_TITLE,
    Reason.CALLING_ADDRESS,
    Reason.LIMIT_OF_PEER,
    Reason.LIMIT_OF_ALL,
    Reason.SOP_CLASS,
    Reason.TRANSFER_SYNTAX,
    Reason.WRONG_CONTEXT,
}
"""The remedy changes a key of config.yaml that a reload takes."""
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
    if row.kind is RefusalKind.TLS and configuration.edge.tls is None:
        return True
    if row.kind is RefusalKind.CONTEXT and _is_offered_now(row, configuration):
        return True
    if row.kind in {RefusalKind.C_STORE, RefusalKind.CONTEXT} and row.reason not in _OF_THE_MOMENT:
        return False  # others of the same sender are accepted
    times = [
        at
        for (title, address), at in accepted.items()
        if address == row.remote_address and title == (row.calling_ae_title or title)
    ]
    return any(at > row.last_at for at in times)


def _is_offered_now(row: RefusalRow, configuration: Configuration) -> bool:
    """Tell whether the edge would accept by now all that is named in the detail of declined contexts."""
    edge = configuration.edge
    accepted = frozenset(edge.accepted_sop_classes) or storage_sop_classes()
    for part in (row.detail or "").split("; "):
        sop_class, _, syntaxes = part.partition(" in ")
        uids = set(_UID.findall(sop_class if row.reason is Reason.SOP_CLASS else syntaxes))
        if row.reason is Reason.SOP_CLASS:
            is_offered = bool(uids) and uids <= accepted | set(edge.additional_sop_classes)
        elif edge.accepts_as_archives:
            return False  # what the archives accept is not in the configuration
        else:
            is_offered = not edge.accepted_transfer_syntaxes or bool(
                uids & set(edge.accepted_transfer_syntaxes)
            )
        if not is_offered:
            return False
    return True


def _sends_others(row: RefusalRow, last: Mapping[tuple[str, str], datetime]) -> bool:
    """Tell whether a sender proposes more than it sends: its instances arrive after a declined context."""
    at = last.get((row.calling_ae_title, row.remote_address))
    if at is None:
        return False
    if at >= row.last_at - SAME_ASSOCIATION:
        return True
    # Declined several times since its last instance: it wants to send what was declined.
    return row.first_at <= at or row.count < SEVERAL


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
    if row.reason is Reason.CALLED_AE_TITLE:
        detail = f" (it called {row.called_ae_title}; this is {configuration.edge.ae_title})"
    often = f"{_VERBS[row.kind]} {times} since {moment(row.first_at)}"
    text = f"{refused.peer} {meaning(row.reason)}{detail}: {often}"
    then = remedy(refused, edge_ae_title=configuration.edge.ae_title)
    if row.reason in _RELOADED:
        then += _RESTART
    elif row.kind is RefusalKind.TLS:
        then += ", then restart `mini-pacs serve`"
    means = "its images do not arrive at the edge; the sender keeps them"
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
    is_note = row.reason in _NOTES and not (_speaks_tls(row) or _breaks_each(row))
    severity = Severity.NOTE if is_note else Severity.PROBLEM
    if row.kind is RefusalKind.CONTEXT and _sends_others(row, accepted):
        severity, means = Severity.NOTE, "instances in other presentation contexts arrive"
    key = f"refused.{row.reason}:{row.calling_ae_title or 'unknown'}@{row.remote_address}"
    return Finding(key, severity, text, means, then, row.first_at, holds)


def _speaks_tls(row: RefusalRow) -> bool:
    """Tell whether a sender tries TLS again and again: a probe of the port does it once."""
    return row.reason is Reason.NOT_DICOM and row.count >= TLS_AGAIN and "TLS" in (row.detail or "")


def _breaks_each(row: RefusalRow) -> bool:
    """Tell whether a sender that was let in broke its associations again and again."""
    of_sender = row.reason in {Reason.MALFORMED, Reason.SILENT_IN_A_MESSAGE} and bool(row.calling_ae_title)
    return of_sender and row.count >= BROKEN_AGAIN


def _workers_at(row: RefusalRow, configuration: Configuration, silent: Sequence[str]) -> list[str]:
    """Return the workers whose results these may be: at that address, the silent ones if there are any."""
    if row.reason not in _UNKNOWN:
        return []
    at_address = [w.ae_title for w in configuration.forwarder.all_workers if w.host == row.remote_address]
    known = [title for title in at_address if title in silent]
    others = {d.host for d in configuration.forwarder.all_archives}
    return known or ([] if row.remote_address in others else at_address)
