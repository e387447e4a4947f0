"""What the rules decided for each instance, and the versions of the rules."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from gateway.database.queries import load
from gateway.database.session import Session
from gateway.domain.instance import Kind, Place
from gateway.domain.routing import Target

_Q = load("decisions")

_MAX_VERSIONS = 20
"""How many versions of one SOP Instance UID are explained."""


class Decided(NamedTuple):
    """What the rules with that digest decided for an instance."""

    instance_id: int
    rules: bytes
    accepted: tuple[Target, ...]
    refused: tuple[Target, ...]
    undecided: tuple[Target, ...]


class KeptDecision(NamedTuple):
    """One version of a SOP Instance UID, and the decision about it; targets as text: see `Target.of`.

    Without `by_rules` no target had a rule when it was received, or a version before 0.3.0 received it.
    `rules` is the text of the version, empty if it is not known any more. `owed` are its deliveries.
    """

    instance_id: int
    received_at: datetime
    kind: Kind
    place: Place
    study_instance_uid: str
    file_name: str
    transfer_syntax_uid: str
    calling_ae_title: str
    called_ae_title: str
    by_rules: bool
    digest: bytes | None
    accepted: list[str]
    refused: list[str]
    undecided: list[str]
    rules: str
    first_used: datetime | None
    owed: list[str]


class UndecidedCount(NamedTuple):
    """How many instances one version of a target's rule could not decide, and the newest UID."""

    target: str
    rules: bytes
    instances: int
    newest: str
    newest_at: datetime


class SentNowhere(NamedTuple):
    """The number of recent originals that one version of the rules sent to no archive.

    `rules` is the digest of the version, `newest` the last of these instances, and who sent it.
    """

    decided: int
    nowhere: int
    first_at: datetime
    newest: str
    calling_ae_title: str
    rules: bytes


def keep(session: Session, decided: Sequence[Decided], texts: Mapping[bytes, str]) -> None:
    """Write decisions, and the texts of versions of the rules by their digests."""
    session.run(
        _Q["keep"],
        digests=list(texts),
        texts=list(texts.values()),
        instance_ids=[one.instance_id for one in decided],
        rules=[one.rules for one in decided],
        accepted=[_joined(one.accepted) for one in decided],
        refused=[_joined(one.refused) for one in decided],
        undecided=[_joined(one.undecided) for one in decided],
    )


def _joined(targets: Sequence[Target]) -> str:
    return "\\".join(map(str, targets))  # no AE title and no name of an application has a backslash


def of_instances(session: Session, sop_instance_uid: str) -> list[KeptDecision]:
    """Return the decision about each version of a SOP Instance UID, the newest first."""
    return session.rows(KeptDecision, _Q["of_instances"], uid=sop_instance_uid, limit=_MAX_VERSIONS)


def undecided(session: Session, *, window: timedelta, limit: int) -> list[UndecidedCount]:
    """Return the targets whose rules could not be decided for instances received in that time."""
    return session.rows(UndecidedCount, _Q["undecided"], window=window, limit=limit)


def sent_nowhere(session: Session, *, window: timedelta, limit: int) -> SentNowhere | None:
    """Return the instances that the newest rules sent to no archive in that time; None if there are none."""
    return session.row(SentNowhere, _Q["sent_nowhere"], window=window, limit=limit)
