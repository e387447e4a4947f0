"""Passwords, signing in, and lock-out.

A wrong name and a wrong password get the same answer after the same work: a hash is verified in both cases.
An account or an address that is locked gets that answer, too, even for the right password.
"""

import re
import secrets
import threading
from datetime import timedelta

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from console.sessions import LONGEST
from gateway import log
from gateway.database.pool import Database
from gateway.database.tables import console_users as store
from gateway.log import Stage

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
"""Verified if there is no account or no password, so that the answer takes as long."""


class SignIn:
    """Begins sessions."""

    def __init__(self, database: Database, idle: timedelta) -> None:
        self._database = database
        self._idle = idle

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
