"""The deliveries on a screen: one a line, also on a terminal of 80 columns, or one with all its values."""

from collections.abc import Sequence

from rich.table import Table

from cli.screen import dimse, shortened, table
from gateway.database.tables.selected_deliveries import Delivery
from gateway.domain.routing import Target
from gateway.times import clock, dated

GAP = 2
"""Characters between two columns of the table."""
REASON_COLUMNS = 10
"""Characters that are reserved for a reason."""
MINIMUM, WHOLE = 8, 64
"""Characters of a UID: MINIMUM tells the instances of a study apart; WHOLE is the longest UID."""


def delivery_table(shown: Sequence[Delivery], width: int) -> Table:
    """Return a table for a screen of `width`; a narrow one has no study column, and only the ends of UIDs."""
    columns: dict[str, list[str]] = {
        "id": [str(one.delivery_id) for one in shown],
        "target": [Target(one.route, one.target).queue for one in shown],
        "state": [one.state.value for one in shown],
        "to": [one.destination or "" for one in shown],
        "tries": [str(one.attempts) for one in shown],
        "owed": [clock(one.owed_since) for one in shown],
    }
    uids = {
        "instance": [one.sop_instance_uid for one in shown],
        "study": [one.study_instance_uid for one in shown],
    }
    reasons = [one.waiting or one.last_error or "" for one in shown]
    has_reason = any(reasons)
    left = width - sum(_width(name, cells) + GAP for name, cells in columns.items())
    left -= (REASON_COLUMNS + GAP) if has_reason else 0
    if left < 2 * (MINIMUM + GAP):
        del uids["study"]
    each = min(max(left // len(uids) - GAP, MINIMUM), WHOLE)
    rows = table(title=dated("Deliveries"))
    for name in columns:
        rows.add_column(name, no_wrap=True, overflow="ellipsis")
    for name in uids:
        rows.add_column(name, no_wrap=True)
    if has_reason:
        rows.add_column("reason", no_wrap=True, overflow="ellipsis", ratio=1)
        rows.expand = True
    for number, cells in enumerate(zip(*columns.values(), strict=True)):
        short = [shortened(values[number], each) for values in uids.values()]
        rows.add_row(*cells, *short, *([reasons[number]] if has_reason else []))
    return rows


def _width(name: str, cells: Sequence[str]) -> int:
    return max(len(name), *map(len, cells))


def facts(one: Delivery) -> list[tuple[str, str]]:
    """Return what is known of a delivery, as names and values for a table of two columns."""
    conflict = "yes: this SOP Instance UID was received with other bytes, too" if one.conflict else ""
    found = [
        ("delivery", f"{one.delivery_id} to {Target(one.route, one.target).queue}"),
        ("state", one.state.value),
        ("to", one.destination or ""),
        ("owed since", clock(one.owed_since)),
        ("attempts", f"{one.attempts}"),
        ("redispatches", f"{one.redispatches}" if one.redispatches else ""),
        ("next attempt", "" if one.waiting else clock(one.next_attempt_at)),
        ("waits", one.waiting.removeprefix("waits ") if one.waiting else ""),
        ("settled", f"{clock(one.settled_at)} {one.settled_by or ''}".strip()),
        ("last status", dimse(one.last_status)),
        ("last error", one.last_error or ""),
        ("instance", f"{one.sop_instance_uid} ({one.kind.value})"),
        ("study", one.study_instance_uid),
        ("conflict", conflict),
        ("file", f"{one.place.value}/{one.study_instance_uid}/{one.file_name}"),
    ]
    return [(name, value) for name, value in found if value]
