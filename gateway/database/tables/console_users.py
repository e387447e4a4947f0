"""The accounts of the console, their sessions, and the failed sign-ins that lock them.

A session is an opaque random cookie; the table has only its SHA-256. A lock-out counts in PostgreSQL, so a
restart of the console does not end it. The name of an account that does not exist leaves no row: only its
sender's address is counted.
"""

import hashlib
from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session

LISTED = 1000
FAILURES_OF_USER = 5
"""This many failures in a row lock an account."""
FAILURES_OF_ADDRESS = 20
"""This many failures, each within FAILURES_KEPT of the one before, lock an address."""
FAILURES_KEPT = timedelta(hours=1)
FIRST_LOCK = timedelta(minutes=1)
LONGEST_LOCK = timedelta(minutes=15)

_Q = load("console")


class Role(StrEnum):
    """What an account may do; each role may do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def may(self, needed: "Role") -> bool:
        """Tell whether this role includes `needed`."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


class ConsoleUser(NamedTuple):
    """An account as an operator sees it."""

    name: str
    role: Role
    has_password: bool
    created_at: datetime
    created_by: str
    used_at: datetime | None
    is_locked: bool


class Login(NamedTuple):
    """What a sign-in needs of an account."""

    name: str
    role: Role
    password_hash: str | None
    is_locked: bool


class SessionRow(NamedTuple):
    """The account of a session, how long it was not used, and how old it is."""

    token_hash: bytes
    name: str
    role: Role
    idle: timedelta
    age: timedelta


def users(session: Session) -> list[ConsoleUser]:
    """Return the accounts by name."""
    return session.rows(ConsoleUser, _Q["users"], limit=LISTED)


def count(session: Session) -> int:
    """Return how many accounts there are."""
    return int(session.value(_Q["count_users"]))


def add(session: Session, name: str, role: Role, password_hash: str | None, *, by: str) -> bool:
    """Add an account; return False if there is one of that name. Without a hash it has no password."""
    added = session.one(_Q["add_user"], name=name, role=role.value, password_hash=password_hash, by=by)
    return added is not None


def add_first(session: Session, name: str, password_hash: str, *, by: str) -> bool:
    """Add the first account, an admin; return False if there is one already. Others wait meanwhile."""
    session.run(_Q["lock_users"])
    return count(session) == 0 and add(session, name, Role.ADMIN, password_hash, by=by)


def role_of(session: Session, name: str) -> Role | None:
    """Return the role of an account; None if there is no such account."""
    found = session.value(_Q["role_of"], name=name)
    return None if found is None else Role(found)


def roles(session: Session) -> dict[str, Role]:
    """Return the roles of the accounts by name; of many accounts, those that signed in last."""
    return {name: Role(role) for name, role in session.all(_Q["roles"], limit=LISTED)}


def is_last_admin(session: Session, name: str) -> bool:
    """Tell whether the account is the only admin; no other transaction changes that before this one ends."""
    session.run(_Q["lock_users"])
    return role_of(session, name) is Role.ADMIN and int(session.value(_Q["count_admins"])) == 1


def remove(session: Session, name: str) -> bool:
    """Delete an account with its sessions; return False if there is none."""
    return session.one(_Q["remove_user"], name=name) is not None


def set_role(session: Session, name: str, role: Role) -> bool:
    """Change the role of an account; return False if there is none. Its sessions have the role at once."""
    return session.one(_Q["set_role"], name=name, role=role.value) is not None


def unlock(session: Session, name: str) -> bool:
    """End the lock of an account; return False if it is not locked."""
    return session.one(_Q["unlock"], name=name) is not None


def set_password(session: Session, name: str, password_hash: str) -> bool:
    """Change the password, end the sessions and the lock of an account; return False if there is none."""
    session.run(_Q["end_sessions_of"], name=name)
    return session.one(_Q["set_password"], name=name, password_hash=password_hash) is not None


# ---- sign-in ------------------------------------------------------------------------------------------


def login(session: Session, name: str) -> Login | None:
    """Return what a sign-in needs; None if there is no such account."""
    return session.row(Login, _Q["login"], name=name)


def address_is_locked(session: Session, address: str) -> bool:
    """Tell whether sign-ins from the address are refused now."""
    return bool(session.value(_Q["address_is_locked"], address=address))


def note_failure(session: Session, name: str, address: str) -> None:
    """Count a failed sign-in for the account, if it exists, and for the address."""
    session.run(
        _Q["note_failure_of_user"],
        name=name,
        least=FAILURES_OF_USER,
        first=FIRST_LOCK,
        longest=LONGEST_LOCK,
    )
    session.run(
        _Q["note_failure_of_address"],
        address=address,
        least=FAILURES_OF_ADDRESS,
        kept=FAILURES_KEPT,
        longest=LONGEST_LOCK,
    )
    session.run(_Q["forget_failures"], kept=FAILURES_KEPT)


def begin_session(session: Session, name: str, token: str, address: str) -> None:
    """Record a sign-in that succeeded, and its session."""
    session.run(_Q["note_success"], name=name)
    session.run(_Q["begin_session"], token_hash=digest(token), name=name, address=address)


def forget_sessions(session: Session, *, idle: timedelta, longest: timedelta) -> int:
    """Delete the sessions that were not used for `idle`, or are older than `longest`; return how many."""
    return session.run(_Q["forget_sessions"], idle=idle, longest=longest)


def sessions(session: Session, token_hashes: Collection[bytes]) -> list[SessionRow]:
    """Return the accounts of those sessions that there are."""
    rows = session.rows(SessionRow, _Q["sessions"], token_hashes=list(token_hashes))
    return [row._replace(token_hash=bytes(row.token_hash)) for row in rows]


def use(session: Session, token_hashes: Collection[bytes]) -> None:
    """Note that the sessions were used now."""
    if token_hashes:
        session.run(_Q["use_sessions"], token_hashes=list(token_hashes))


def end_unused(session: Session, token_hashes: Collection[bytes]) -> None:
    """End sessions that were not used for too long, or are too old."""
    if token_hashes:
        session.run(_Q["end_unused"], token_hashes=list(token_hashes))


def end(session: Session, token: str) -> None:
    """End a session."""
    session.run(_Q["end_session"], token_hash=digest(token))


def digest(token: str) -> bytes:
    """Return what the table has instead of the cookie."""
    return hashlib.sha256(token.encode()).digest()
