"""Make one message about all new findings: a subject, a text for people, and a document for programs.

It holds what `mini-pacs status` shows: AE titles, addresses, counts and UIDs, and no attribute of a patient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.database.tables.findings import FindingRow
from gateway.times import moment

SCHEMA = "mini-pacs/notification/1"


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: `text` for mails and chats, `document` for programs."""

    subject: str
    text: str
    document: dict[str, object]


def message_of(edge: str, host: str, rows: Sequence[FindingRow]) -> Message:
    """Return the message about findings that opened and closed; `edge` is the AE title of the edge."""
    opened = [row for row in rows if row.closed_at is None]
    closed = [row for row in rows if row.closed_at is not None]
    first = (opened or closed)[0]
    more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
    word = "" if opened else "over: "
    subject = f"{edge} on {host}: {word}{first.what}{more}"
    text = "\n\n".join([*map(_opened, opened), *map(_closed, closed)])
    document: dict[str, object] = {
        "schema": SCHEMA,
        "edge": edge,
        "host": host,
        "text": f"{subject}\n\n{text}",
        "opened": [_document(row) for row in opened],
        "closed": [_document(row) for row in closed],
    }
    return Message(subject, f"{text}\n\n`mini-pacs diagnose` on {host} shows more.\n", document)


def trial(edge: str, host: str) -> Message:
    """Return the message of `mini-pacs notify test`."""
    text = "This is a test of `mini-pacs notify test`. Nothing is wrong."
    document: dict[str, object] = {
        "schema": SCHEMA, "edge": edge, "host": host, "text": text, "opened": [], "closed": [],
    }  # fmt: skip
    return Message(f"{edge} on {host}: a test", f"{text}\n", document)


def _opened(row: FindingRow) -> str:
    lines = [f"{row.severity.upper()} since {moment(row.opened_at)}: {row.what}"]
    lines += [f"  images: {row.means}"] if row.means else []
    lines += [f"  do: {row.remedy}"] if row.remedy else []
    return "\n".join(lines)


def _closed(row: FindingRow) -> str:
    assert row.closed_at is not None
    return f"OVER since {moment(row.closed_at)}: {row.what}"


def _document(row: FindingRow) -> dict[str, object]:
    return {
        "key": row.key,
        "severity": row.severity,
        "what": row.what,
        "means": row.means,
        "remedy": row.remedy,
        "holds_back": row.holds_back,
        "opened_at": row.opened_at.isoformat(),
        "closed_at": None if row.closed_at is None else row.closed_at.isoformat(),
    }
