"""The statements that this process sends to PostgreSQL."""

from collections.abc import Mapping

import pytest

from gateway.database.session import Session


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that is sent from here on, in the list that this returns; it is sent all the same."""
    sent: list[str] = []
    execute = Session._execute

    def note(session: Session, statement: str, parameters: Mapping[str, object] | None) -> None:
        sent.append(statement)
        execute(session, statement, parameters)

    monkeypatch.setattr(Session, "_execute", note)
    return sent
