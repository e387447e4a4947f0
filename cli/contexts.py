"""Warnings of `mini-pacs config check` about the SOP Classes and transfer syntaxes that the edge accepts."""

from collections.abc import Iterator

from gateway.config.edge import Edge
from gateway.dicom.contexts import IMPLICIT_LITTLE_ENDIAN, storage_sop_classes
from gateway.dicom.names import TRANSFER_SYNTAX, kind_of, named


def warnings(edge: Edge) -> Iterator[str]:
    """Yield a warning for each value that is allowed but may be a mistake."""
    for uid in edge.additional_sop_classes:
        if uid in storage_sop_classes() and not edge.accepted_sop_classes:
            yield f"edge.additional_sop_classes names {named(uid)}, which is accepted without it"
        elif uid not in storage_sop_classes() and kind_of(uid):
            yield (
                f"edge.additional_sop_classes names {named(uid)}, which is no Storage SOP Class: the edge "
                "accepts it from senders, and serves nothing but C-STORE"
            )
    accepted = () if edge.accepts_as_archives else edge.accepted_transfer_syntaxes
    for uid in accepted:
        if kind_of(uid) != TRANSFER_SYNTAX:
            yield (
                f"edge.accepted_transfer_syntaxes names {named(uid)}, which is no transfer syntax of the "
                "standard"
            )
    if accepted and IMPLICIT_LITTLE_ENDIAN not in accepted:
        yield (
            f"edge.accepted_transfer_syntaxes lacks {named(IMPLICIT_LITTLE_ENDIAN)}, the default of DICOM: "
            "the edge declines the images of a sender that offers nothing else"
        )
