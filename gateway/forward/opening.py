"""Open an association; if the peer refuses it, find out why.

A peer that accepts none of the proposed presentation contexts should answer A-ASSOCIATE-AC, with a result for
each context (PS3.8 §9.3.3.2). Some peers reject or abort the association instead, DCMTK's dcmrecv among them.
A peer that does not recognize our AE title rejects or aborts it, too. So a refusal alone must not make an
instance dead.

If the contexts may be the cause, the needed context is proposed again, together with contexts that peers
usually accept:

    the peer accepts some of them            its answer to each context counts
    it accepts, but no Storage SOP Class     StorageNotAcceptedError: the instance is not the cause
    it refuses again                         propose the context alone, because another one may be the cause
    it refuses that as well                  propose the others without it. If they are accepted, propose the
                                             context alone again; if it is refused: ContextRefusedError
    it refuses the others, too               PeerAwayError, with the first reason
"""

from collections.abc import Callable, Sequence

from gateway.dicom.association import Association, PeerAddress
from gateway.dicom.contexts import (
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    MAX_CONTEXTS,
    VERIFICATION,
    ProposedContext,
)
from gateway.dicom.requestor import associate
from gateway.errors import (
    AssociationAbortedError,
    AssociationRejectedError,
    ContextRefusedError,
    PeerAwayError,
    StorageNotAcceptedError,
)

Contexts = Callable[[], Sequence[ProposedContext]]

_COMMON_SOP_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.2",  # CT
    "1.2.840.10008.5.1.4.1.1.2.1",  # Enhanced CT
    "1.2.840.10008.5.1.4.1.1.4",  # MR
    "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
    "1.2.840.10008.5.1.4.1.1.1.2",  # Digital Mammography, for presentation
    "1.2.840.10008.5.1.4.1.1.6.1",  # Ultrasound
    "1.2.840.10008.5.1.4.1.1.3.1",  # Ultrasound Multi-frame
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
    "1.2.840.10008.5.1.4.1.1.12.1",  # X-Ray Angiographic
    "1.2.840.10008.5.1.4.1.1.20",  # Nuclear Medicine
    "1.2.840.10008.5.1.4.1.1.128",  # Positron Emission Tomography
    "1.2.840.10008.5.1.4.1.1.481.1",  # RT Image
    "1.2.840.10008.5.1.4.1.1.88.11",  # Basic Text SR
    "1.2.840.10008.5.1.4.1.1.104.1",  # Encapsulated PDF
)
_UNCOMPRESSED = (IMPLICIT_LITTLE_ENDIAN, EXPLICIT_LITTLE_ENDIAN)

VERIFICATIONS = tuple(ProposedContext(VERIFICATION, uid) for uid in _UNCOMPRESSED)
COMMON = tuple(
    ProposedContext(sop_class, transfer_syntax)
    for sop_class in _COMMON_SOP_CLASSES
    for transfer_syntax in _UNCOMPRESSED
)
"""Contexts that most archives accept (PS3.4 §B.5, Table B.5-1), uncompressed (PS3.5 §A.1 and §A.2)."""


def open_association(
    peer: PeerAddress,
    *,
    calling_ae_title: str,
    context: ProposedContext,
    others: Sequence[ProposedContext],
    likely: Contexts,
    has_others_open: Callable[[], bool] = lambda: False,
) -> Association:
    """Open an association that proposes `context`, and as many of `others` as fit.

    `likely` returns contexts that the peer accepted before; it is called only after a refusal. If the peer
    rejects it for now while `has_others_open`, the peer serves no more associations: nothing else is tried.

    Raises:
        StorageNotAcceptedError: the peer accepts associations, but no Storage SOP Class.
        ContextRefusedError: the peer refuses associations that propose `context`, and accepts others.
        PeerAwayError: no association can be opened.
    """

    def request(*contexts: ProposedContext) -> Association:
        return associate(peer, calling_ae_title=calling_ae_title, contexts=_first(contexts))

    refusal: PeerAwayError | None = None
    try:
        association = request(context, *others)
    except (AssociationRejectedError, AssociationAbortedError) as error:
        if not may_be_due_to_contexts(error) or (_is_transient(error) and has_others_open()):
            raise
        refusal = error
    else:
        if association.accepted:
            return association
        # No context was accepted. Find out whether the peer accepts any Storage SOP Class.
        association.release()
    usual = [*VERIFICATIONS, *likely(), *COMMON, *others]
    try:
        wide = request(context, *usual)
    except (AssociationRejectedError, AssociationAbortedError) as error:
        return _open_alone(request, context, usual, refusal or error)
    if _accepts_storage(wide):
        return wide
    wide.release()
    raise StorageNotAcceptedError(
        f"{peer} takes associations from {calling_ae_title}, but accepts no Storage SOP Class: neither "
        f"{context.sop_class_uid} in {context.transfer_syntax_uid} nor any of {len(COMMON)} usual contexts"
    )


def _open_alone(
    request: Callable[..., Association],
    context: ProposedContext,
    usual: Sequence[ProposedContext],
    refusal: PeerAwayError,
) -> Association:
    """Open an association for `context` alone, or find out whether the peer refuses this context or us.

    Raises:
        ContextRefusedError: the peer refuses `context`, and accepts an association without it.
        PeerAwayError: the peer refuses the others, too; `refusal` is raised.
    """
    try:
        return request(context)
    except (AssociationRejectedError, AssociationAbortedError) as error:
        if _is_transient(error):
            raise refusal from error
    without = [
        one
        for one in usual
        if one.sop_class_uid != context.sop_class_uid
        and one.transfer_syntax_uid != context.transfer_syntax_uid
    ]
    try:
        with request(*without) as association:
            accepts_others = _accepts_storage(association)
    except PeerAwayError as error:
        raise refusal from error
    if not accepts_others:
        raise refusal
    try:
        # Once more, because the peer may have been busy before.
        return request(context)
    except (AssociationRejectedError, AssociationAbortedError) as error:
        raise ContextRefusedError(
            f"{error}: it refuses an association that proposes {context.sop_class_uid} in "
            f"{context.transfer_syntax_uid}, and takes others"
        ) from error


def _accepts_storage(association: Association) -> bool:
    return any(context.sop_class_uid != VERIFICATION for context in association.accepted)


def may_be_due_to_contexts(error: PeerAwayError) -> bool:
    """Tell whether the peer may have refused the proposed contexts, and not our AE title or every caller."""
    if isinstance(error, AssociationRejectedError):
        return not error.is_about_us
    return isinstance(error, AssociationAbortedError)


def _is_transient(error: PeerAwayError) -> bool:
    return isinstance(error, AssociationRejectedError) and error.is_transient


def _first(contexts: Sequence[ProposedContext]) -> list[ProposedContext]:
    return list(dict.fromkeys(contexts))[:MAX_CONTEXTS]
