"""The screen Refusals: who was turned away, why, how often, and the line to add to config.yaml."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.database.session import Session
from gateway.database.tables import refusals
from gateway.database.tables.refusals import RefusalRow
from gateway.domain.refusal_words import meaning, remedy

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*@[A-Za-z0-9][A-Za-z0-9.-]*")

NEWEST = 20_000
"""Rows that are read: one for each minute, peer and reason. Older ones are left out, and the page says so."""
WINDOWS = {
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}


@dataclass(frozen=True, slots=True)
class RefusalShown:
    """What one peer was refused for one reason; `entry` is a line of `edge.allowed_calling_aets`."""

    row: RefusalRow
    what: str
    remedy: str
    entry: str | None

    @property
    def advice(self) -> str:
        """What to do, as a sentence."""
        return f"{self.remedy[:1].upper()}{self.remedy[1:]}."

    @property
    def config_line(self) -> str:
        """The line as it stands in config.yaml."""
        return f"    - {quoted(self.entry)}" if self.entry is not None else ""


@dataclass(frozen=True, slots=True)
class RefusalsShown:
    """A page of refusals, the last ones first; `after` is the position of the next page."""

    rows: tuple[RefusalShown, ...]
    after: tuple[datetime, str] | None
    is_cut: bool


def look(
    session: Session,
    window: timedelta,
    *,
    limit: int,
    after: tuple[datetime, str] | None = None,
    calling_ae_title: str | None = None,
    edge_ae_title: str = "edge.ae_title",
) -> RefusalsShown:
    """Read a page of what was refused within `window`."""
    found = refusals.page(
        session, window, limit=limit + 1, after=after, calling_ae_title=calling_ae_title, newest=NEWEST
    )
    rows = found[:limit]
    return RefusalsShown(
        tuple(_shown(row, edge_ae_title) for row in rows),
        (rows[-1].last_at, rows[-1].id) if len(found) > limit else None,
        refusals.has_more_than(session, window, NEWEST),
    )


def _shown(row: RefusalRow, edge_ae_title: str) -> RefusalShown:
    refused = row.refused
    return RefusalShown(
        row, meaning(row.reason), remedy(refused, edge_ae_title=edge_ae_title), refused.allowlist_entry
    )


def quoted(text: str) -> str:
    """Return a text as a scalar of YAML; quoted unless it is as plain as `CT1@10.1.2.3`."""
    return text if _PLAIN.fullmatch(text) else "'" + text.replace("'", "''") + "'"
