"""Count what this receiver turns away: in memory first, every few seconds in PostgreSQL.

Memory is bounded: beyond MAX_PEERS peers and reasons a minute, AE titles and addresses become `other`. A
stranger cannot fill memory, the table or a label with names of its choice (G7). Nothing here waits for
PostgreSQL. Refusals that were counted while PostgreSQL was away are written when it is back.

If the process dies, its counts of the last 5 s are lost; the log has each refusal.
"""

import threading
from dataclasses import replace
from datetime import UTC, datetime

from gateway.database.counting import Counting
from gateway.database.pool import Database
from gateway.database.tables import refusals
from gateway.database.tables.refusals import RefusalRow, RefusedInstance
from gateway.domain.identifiers import MAX_AE_TITLE_LENGTH, is_uid, printable
from gateway.domain.refusal import KIND_OF, OTHER, Reason
from gateway.errors import DatabaseError, OutcomeUnknownError

REFUSALS = "refusals"
"""The counter of all refusals, with the labels `kind` and `reason`."""
MAX_PEERS = 200
"""Pairs of peer and reason that are counted separately in one minute."""
MAX_MINUTES = 60
"""Minutes that wait while PostgreSQL is away. Later refusals are added to the last minute."""
MAX_INSTANCES = 1000
"""Refused instances that wait for PostgreSQL; beyond them only their number is counted."""
MAX_DETAIL = 500
_MAX_ADDRESS = 45  # an IPv6 address with an embedded IPv4 address

_Key = tuple[datetime, Reason, str, str, str]
_InstanceKey = tuple[str, str, str, Reason]


class Refusals:
    """The refusals of one receiver process. Safe across threads; create it after the fork."""

    def __init__(self, counting: Counting) -> None:
        self._counting = counting
        self._lock = threading.Lock()
        self._rows: dict[_Key, RefusalRow] = {}
        self._peers: dict[datetime, set[_Key]] = {}
        self._instances: dict[_InstanceKey, RefusedInstance] = {}

    def note(
        self,
        reason: Reason,
        *,
        remote_address: str,
        calling_ae_title: str = "",
        called_ae_title: str = "",
        detail: str | None = None,
        status: int | None = None,
        uid: str = "",
        study_instance_uid: str | None = None,
    ) -> None:
        """Count a refusal; texts that the peer chose are made printable and cut.

        `uid` is that of the instance or SOP Class. With a `study_instance_uid` the refused thing is an
        instance; empty: its data set was not read so far.
        """
        now = datetime.now(UTC)
        calling = printable(calling_ae_title, MAX_AE_TITLE_LENGTH)
        called = printable(called_ae_title, MAX_AE_TITLE_LENGTH)
        address = printable(remote_address, _MAX_ADDRESS)
        text = None if detail is None else printable(detail, MAX_DETAIL)
        self._counting.add(REFUSALS, {"kind": KIND_OF[reason].value, "reason": reason.value})
        with self._lock:
            self._add(
                RefusalRow(
                    kind=KIND_OF[reason],
                    reason=reason,
                    calling_ae_title=calling,
                    called_ae_title=called,
                    remote_address=address,
                    count=1,
                    first_at=now,
                    last_at=now,
                    status=status,
                    detail=text,
                    last_uid=uid if is_uid(uid) else None,
                )
            )
            if study_instance_uid is not None and status is not None and is_uid(uid):
                one = RefusedInstance(
                    uid, study_instance_uid, calling, address, reason, status, text, 1, now, now
                )
                self._add_instance(one)

    def flush(self, database: Database) -> None:
        """Write the counts and refused instances that are in memory.

        Raises:
            DatabaseError: PostgreSQL is away or refuses; what was not written is kept for the next call.
        """
        with self._lock:
            rows, self._rows = self._rows, {}
            instances, self._instances = self._instances, {}
        if not rows and not instances:
            return
        try:
            with database.transaction() as session:
                refusals.add(session, list(rows.values()), list(instances.values()))
        except OutcomeUnknownError:
            raise  # it may be committed; nothing is counted twice
        except DatabaseError:
            with self._lock:
                for row in rows.values():
                    self._add(row)
                for one in instances.values():
                    self._add_instance(one)
            raise
        with self._lock:
            waiting = {key[0] for key in self._rows} | {_minute(datetime.now(UTC))}
            self._peers = {minute: keys for minute, keys in self._peers.items() if minute in waiting}

    def _add(self, row: RefusalRow) -> None:
        minute = _minute(row.first_at)
        if minute not in self._peers and len(self._peers) >= MAX_MINUTES:
            minute = max(self._peers)
        key = (minute, row.reason, row.calling_ae_title, row.called_ae_title, row.remote_address)
        told_apart = self._peers.setdefault(minute, set())
        if key not in told_apart and len(told_apart) >= MAX_PEERS:
            row = replace(row, calling_ae_title=OTHER, called_ae_title=OTHER, remote_address=OTHER)
            key = (minute, row.reason, OTHER, OTHER, OTHER)
        else:
            told_apart.add(key)
        known = self._rows.get(key)
        if known is not None:
            newer = row if row.last_at >= known.last_at else known
            row = replace(
                newer,
                count=known.count + row.count,
                first_at=min(known.first_at, row.first_at),
                last_uid=newer.last_uid or known.last_uid or row.last_uid,
            )
        self._rows[key] = row

    def _add_instance(self, one: RefusedInstance) -> None:
        key = (one.sop_instance_uid, one.calling_ae_title, one.remote_address, one.reason)
        known = self._instances.get(key)
        if known is None and len(self._instances) >= MAX_INSTANCES:
            return
        if known is not None:
            newer = one if one.last_at >= known.last_at else known
            one = replace(
                newer,
                count=known.count + one.count,
                first_at=min(known.first_at, one.first_at),
                study_instance_uid=newer.study_instance_uid or known.study_instance_uid,
            )
        self._instances[key] = one


def _minute(when: datetime) -> datetime:
    return when.replace(second=0, microsecond=0)
