"""The statements that this process sends to PostgreSQL."""

from collections.abc import Mapping

import pytest

from gateway.database.session import Session


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that records every statement sent from now on; the statements are still sent."""
    sent: list[str] = []
    execute = Session._execute

    def note(session: Session, statement: str, parameters: Mapping[str, object] | None) -> None:
        sent.append(statement)
        execute(session, statement, parameters)

    monkeypatch.setattr(Session, "_execute", note)
    return sent
