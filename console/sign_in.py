"""Passwords, sessions and lock-out.

A wrong name and a wrong password get the same answer after the same work: a hash is verified in both cases.
An account or an address that is locked gets that answer, too, even for the right password.

What a session may do is read again after CHECKED_SECONDS, so an account that is removed loses its access
within that time. While PostgreSQL is away, a session that counted before may still read pages that need no
rows; it can change nothing, because every change is a transaction.
"""

import re
import secrets
import threading
from datetime import timedelta
from time import monotonic
from typing import NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from gateway import log
from gateway.database.pool import Database
from gateway.database.tables import console_users as store
from gateway.database.tables.console_users import Role, SessionRow
from gateway.errors import DatabaseError
from gateway.log import Stage

LONGEST = {
    Role.VIEWER: timedelta(days=30),
    Role.OPERATOR: timedelta(hours=12),
    Role.ADMIN: timedelta(hours=12),
}
"""How long a session lasts at most. A viewer can change nothing: a screen on a wall stays signed in."""
CHECKED_SECONDS = 3.0
USED_SECONDS = 20.0
"""The time of use is written at most this often."""
REMEMBERED = 1000
PASSWORD_LEAST, PASSWORD_MOST = 10, 1000

_HASHER = PasswordHasher()  # argon2id with the parameters of RFC 9106 for little memory: 64 MiB, 3 passes
_TURN = threading.BoundedSemaphore(2)
"""Hashes at the same time: each takes 64 MiB and 50 ms of a core, also for strangers."""


NAME_RULE = "A name has 1 to 64 letters, digits and . _ @ -, and begins with a letter or digit."
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")


def is_name(name: str) -> bool:
    """Tell whether an account may have that name."""
    return _NAME.fullmatch(name) is not None


class WeakPasswordError(ValueError):
    """A password that is too short or too long; the text says so."""


def hashed(password: str) -> str:
    """Return the argon2id hash of a new password.

    Raises:
        WeakPasswordError: it has fewer than PASSWORD_LEAST or more than PASSWORD_MOST characters.
    """
    if not PASSWORD_LEAST <= len(password) <= PASSWORD_MOST:
        raise WeakPasswordError(f"a password has {PASSWORD_LEAST} to {PASSWORD_MOST} characters")
    with _TURN:
        return _HASHER.hash(password)


def verified(password_hash: str, password: str) -> bool:
    """Tell whether the password is that of the hash."""
    with _TURN:
        try:
            return _HASHER.verify(password_hash, password[: PASSWORD_MOST + 1])
        except (Argon2Error, InvalidHashError):
            return False


_NOBODY = _HASHER.hash(secrets.token_urlsafe(32))
"""Verified where there is no account or no password, so that the answer takes as long."""


class Session(NamedTuple):
    """Who a session's cookie belongs to."""

    name: str
    role: Role


class _Seen(NamedTuple):
    session: Session
    checked: float
    used: float
    last_request: float


class SignIn:
    """Begins, finds and ends sessions."""

    def __init__(self, database: Database, idle: timedelta) -> None:
        self._database = database
        self._idle = idle
        self._seen: dict[bytes, _Seen] = {}

    def begin(self, name: str, password: str, address: str) -> str | None:
        """Return the cookie of a new session; None if name, password or lock refuse it."""
        with self._database.statement() as session:
            found = store.login(session, name) if len(name) <= 64 else None  # noqa: PLR2004  the longest name
            locked = store.address_is_locked(session, address) or (found is not None and found.is_locked)
        known = found.password_hash if found is not None else None
        right = verified(known or _NOBODY, password) and known is not None
        if found is None or not right or locked:
            with self._database.transaction() as session:
                store.note_failure(session, name, address)
            log.write(Stage.CONSOLE, "sign_in_refused", level="warning", remote_address=address)
            return None
        token = secrets.token_urlsafe(32)
        with self._database.transaction() as session:
            store.forget_sessions(
                session, idle=max(self._idle, timedelta(days=1)), longest=max(LONGEST.values())
            )
            store.begin_session(session, found.name, token, address)
        log.write(Stage.CONSOLE, "signed_in", remote_address=address, detail=found.name)
        return token

    def find(self, token: str, *, uses: bool, fresh: bool) -> Session | None:
        """Return the account of a cookie; None if its session has ended.

        `uses`: the request keeps the session from being idle. `fresh`: ask PostgreSQL, because the request
        changes something.

        Raises:
            DatabaseError: PostgreSQL is away, and the session is not known from before, or `fresh`.
        """
        now = monotonic()
        key = store.digest(token)
        seen = self._seen.get(key)
        is_checked = seen is not None and not fresh and now - seen.checked < CHECKED_SECONDS
        if seen is not None and is_checked and (not uses or now - seen.used < USED_SECONDS):
            self._seen[key] = seen._replace(last_request=now if uses else seen.last_request)
            return self._within_idle(seen, now)
        try:
            return self._ask(token, key, uses=uses, now=now)
        except DatabaseError:
            if seen is None or fresh:
                raise
            return self._within_idle(seen, now)

    def end(self, token: str) -> None:
        """End a session."""
        self._seen.pop(store.digest(token), None)
        with self._database.transaction() as session:
            store.end(session, token)

    def forget(self, name: str) -> None:
        """Ask PostgreSQL at the next request of each session of an account: it was changed."""
        self._seen = {key: seen for key, seen in self._seen.items() if seen.session.name != name}

    def _ask(self, token: str, key: bytes, *, uses: bool, now: float) -> Session | None:
        with self._database.transaction() as session:
            row = store.of_token(session, token)
            if row is None or self._has_ended(row):
                if row is not None:
                    store.end(session, token)
                self._seen.pop(key, None)
                return None
            known = self._seen.get(key)
            # a viewer's open page keeps the session: see LONGEST
            keeps = uses or row.role is Role.VIEWER
            writes = keeps and (known is None or now - known.used >= USED_SECONDS)
            if writes:
                store.use(session, token)
        if len(self._seen) >= REMEMBERED:
            self._seen.pop(next(iter(self._seen)))
        last = now if keeps else (known.last_request if known else now - row.idle.total_seconds())
        used = now if writes else (known.used if known else now - USED_SECONDS)
        found = Session(row.name, row.role)
        self._seen[key] = _Seen(found, now, used, last)
        return found

    def _has_ended(self, row: SessionRow) -> bool:
        return row.idle > self._idle or row.age > LONGEST[row.role]

    def _within_idle(self, seen: _Seen, now: float) -> Session | None:
        return seen.session if now - seen.last_request <= self._idle.total_seconds() else None
