"""Open an association, and find out what a peer means by refusing one.

A peer that accepts none of the proposed presentation contexts should answer A-ASSOCIATE-AC and say so for
each (PS3.8 §9.3.3.2). Some reject or abort the association instead, DCMTK's dcmrecv among them. A peer that
does not know our AE title does the same, so a refusal alone makes no instance dead. Where it may be due to
what was proposed, the same context is proposed again beside contexts that the peer is likely to accept:

    the peer accepts some of them            its answer to each context is explicit, and believed
    it accepts, but no Storage SOP Class     StorageNotAcceptedError: no instance is to blame
    it refuses again                         the context is proposed alone: another one may be the cause
    it refuses that as well                  others are proposed without it: if they are accepted, and the
                                             context alone is refused once more, ContextRefusedError
    it refuses those, too                    the peer is away, with the first reason
"""

from collections.abc import Callable, Sequence

from gateway.dicom.contexts import (
    EXPLICIT_LITTLE_ENDIAN,
    IMPLICIT_LITTLE_ENDIAN,
    MAX_CONTEXTS,
    VERIFICATION,
    ProposedContext,
)
from gateway.dicom.requestor import Association, PeerAddress, associate
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
"""What archives accept as a rule (PS3.4 §B.5, Table B.5-1), uncompressed (PS3.5 §A.1 and §A.2)."""


def open_association(
    peer: PeerAddress,
    *,
    calling_ae_title: str,
    context: ProposedContext,
    others: Sequence[ProposedContext],
    likely: Contexts,
    has_others_open: Callable[[], bool] = lambda: False,
) -> Association:
    """Open an association that proposed `context`, and `others` as far as there is room.

    `likely` gives contexts that the peer accepted before; it is asked only after a refusal. A transient
    rejection while `has_others_open` is the peer's limit: nothing else is tried.

    Raises:
        StorageNotAcceptedError: the peer takes associations, and no Storage SOP Class.
        ContextRefusedError: the peer refuses associations that propose `context`, and takes others.
        PeerAwayError: the peer cannot be associated with.
    """

    def ask(*contexts: ProposedContext) -> Association:
        return associate(peer, calling_ae_title=calling_ae_title, contexts=_first(contexts))

    refusal: PeerAwayError | None = None
    try:
        association = ask(context, *others)
    except (AssociationRejectedError, AssociationAbortedError) as error:
        if not may_be_due_to_contexts(error) or (_is_transient(error) and has_others_open()):
            raise
        refusal = error
    else:
        if association.accepted:
            return association
        # Nothing at all was accepted: its word on this context, but maybe on every other one as well.
        association.release()
    usual = [*VERIFICATIONS, *likely(), *COMMON, *others]
    try:
        wide = ask(context, *usual)
    except (AssociationRejectedError, AssociationAbortedError) as error:
        return _alone(ask, context, usual, refusal or error)
    if _accepts_storage(wide):
        return wide
    wide.release()
    raise StorageNotAcceptedError(
        f"{peer} takes associations from {calling_ae_title}, but accepts no Storage SOP Class: neither "
        f"{context.sop_class_uid} in {context.transfer_syntax_uid} nor any of {len(COMMON)} usual contexts"
    )


def _alone(
    ask: Callable[..., Association],
    context: ProposedContext,
    usual: Sequence[ProposedContext],
    refusal: PeerAwayError,
) -> Association:
    """The peer refused `context` beside the usual ones: it cannot bear this one, another one, or us."""
    try:
        return ask(context)
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
        with ask(*without) as association:
            takes_others = _accepts_storage(association)
    except PeerAwayError as error:
        raise refusal from error
    if not takes_others:
        raise refusal
    try:
        # Once more: it may have been busy before, and may have got room since.
        return ask(context)
    except (AssociationRejectedError, AssociationAbortedError) as error:
        raise ContextRefusedError(
            f"{error}: it refuses an association that proposes {context.sop_class_uid} in "
            f"{context.transfer_syntax_uid}, and takes others"
        ) from error


def _accepts_storage(association: Association) -> bool:
    return any(context.sop_class_uid != VERIFICATION for context in association.accepted)


def may_be_due_to_contexts(error: PeerAwayError) -> bool:
    """Tell whether the peer may have refused what was proposed, rather than us or everybody."""
    if isinstance(error, AssociationRejectedError):
        return not error.is_about_us
    return isinstance(error, AssociationAbortedError)


def _is_transient(error: PeerAwayError) -> bool:
    return isinstance(error, AssociationRejectedError) and error.is_transient


def _first(contexts: Sequence[ProposedContext]) -> list[ProposedContext]:
    return list(dict.fromkeys(contexts))[:MAX_CONTEXTS]
