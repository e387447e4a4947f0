"""Describe declined presentation contexts for the log: what a sender cannot send, and why."""

from collections.abc import Iterable, Sequence

from gateway.dicom.contexts import ABSTRACT_SYNTAX_NOT_SUPPORTED, Answer, Offer
from gateway.dicom.names import named
from gateway.domain.refusal import Reason

MAX_SOP_CLASSES = 8
"""How many SOP Classes one line names; the others are counted."""
MAX_TRANSFER_SYNTAXES = 4
"""How many transfer syntaxes a line names for each SOP Class; the others are counted."""

_REASONS = {
    ABSTRACT_SYNTAX_NOT_SUPPORTED: "not in edge.accepted_sop_classes or edge.additional_sop_classes",
}
_TRANSFER_SYNTAX = "no transfer syntax of edge.accepted_transfer_syntaxes"


def by_reason(declined: Iterable[tuple[Offer, Answer]]) -> dict[Reason, list[tuple[Offer, Answer]]]:
    """Return the declined contexts by the reason."""
    found: dict[Reason, list[tuple[Offer, Answer]]] = {}
    for offer, answer in declined:
        is_sop_class = answer.result == ABSTRACT_SYNTAX_NOT_SUPPORTED
        found.setdefault(Reason.SOP_CLASS if is_sop_class else Reason.TRANSFER_SYNTAX, []).append(
            (offer, answer)
        )
    return found


def describe(declined: Iterable[tuple[Offer, Answer]]) -> str:
    """Return each SOP Class once, with its offered transfer syntaxes and the reason, by name and UID."""
    offered: dict[tuple[str, str], list[str]] = {}
    for offer, answer in declined:
        reason = _REASONS.get(answer.result, _TRANSFER_SYNTAX)
        syntaxes = offered.setdefault((offer.abstract_syntax_uid, reason), [])
        syntaxes += (uid for uid in offer.transfer_syntax_uids if uid not in syntaxes)
    parts = []
    for (sop_class, reason), syntaxes in list(offered.items())[:MAX_SOP_CLASSES]:
        shown = [named(uid) for uid in syntaxes[:MAX_TRANSFER_SYNTAXES]]
        parts.append(f"{named(sop_class)} in {_listed(shown, len(syntaxes))}: {reason}")
    return _listed(parts, len(offered), between="; ")


def _listed(shown: Sequence[str], count: int, *, between: str = ", ") -> str:
    more = f"{between}and {count - len(shown)} more" if count > len(shown) else ""
    return (between.join(shown) or "no transfer syntax") + more
