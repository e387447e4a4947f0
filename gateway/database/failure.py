"""Translate psycopg2's errors into the edge's own, and say what each proves about the commit.

    DatabaseUnavailableError  nothing was committed: no connection, or it was lost before a commit was sent
    OutcomeUnknownError       a commit was sent and its answer did not come: it may have happened
    DatabaseRefusedError      PostgreSQL answered with an error: nothing was committed

No other package imports psycopg2, except gateway/lab/postgres.py, which administers the server.
"""

import re

import psycopg2

from gateway.errors import DatabaseError, DatabaseRefusedError, DatabaseUnavailableError, OutcomeUnknownError

_AT_SERVER = re.compile(r"connection to server (?:at|on) .*? failed: ")

_LOGIN_REFUSALS = (
    "authentication failed",
    "no pg_hba.conf entry",
    "no password supplied",
    '" does not exist',
)
"""Parts of the messages of SQLSTATE classes 28 and 3D. A server with `lc_messages` of another language says
them in that language, and then counts as away."""

_MAY_FOLLOW_A_COMMIT = ("57P", "08", "XX")
"""Classes of errors after which a commit may have happened: shutdown, connection, internal error."""

_OUT_OF_RESOURCES = "53"
"""The class of a full disk, and of too little memory or connections: transient; nothing was committed."""


def translated(error: psycopg2.Error, where: str, *, commit_sent: bool) -> DatabaseError:
    """Return what to raise `from error`; `where` names the server in its message."""
    code = error.pgcode
    sentence = sentence_of(error)
    if code is None or code.startswith(_MAY_FOLLOW_A_COMMIT):
        if commit_sent:
            return OutcomeUnknownError(f"PostgreSQL at {where} was lost while committing: {sentence}")
        return DatabaseUnavailableError(f"PostgreSQL at {where} was lost: {sentence}")
    if code.startswith(_OUT_OF_RESOURCES):
        return DatabaseUnavailableError(f"PostgreSQL at {where} is out of resources ({code}): {sentence}")
    return DatabaseRefusedError(f"PostgreSQL at {where} refused ({code}): {sentence}", code)


def refuses_login(error: psycopg2.Error) -> bool:
    """Tell whether PostgreSQL refuses the login for good. While connecting there is no SQLSTATE."""
    return any(text in str(error) for text in _LOGIN_REFUSALS)


def sentence_of(error: psycopg2.Error) -> str:
    """Return the primary message only: DETAIL and CONTEXT may quote values of a row."""
    primary = error.diag.message_primary if error.pgcode else None
    text = primary or " ".join(str(error).split()) or type(error).__name__
    # the caller names host and port already; keep the text only if it names several addresses
    return _AT_SERVER.sub("", text) if len(_AT_SERVER.findall(text)) == 1 else text
