"""Warnings of `mini-pacs rules check` and `config check`: conditions that never hold."""

from collections.abc import Iterator

from gateway.config import Configuration
from gateway.config.edge import Edge
from gateway.dicom.contexts import storage_sop_classes
from gateway.dicom.names import named
from gateway.rules.comparisons import OneOf
from gateway.rules.tree import AssociationCondition, AssociationPart


def warnings(configuration: Configuration) -> Iterator[str]:
    """Yield a warning for each value of a rule that no reception can have."""
    for target, rule in configuration.forwarder.rules.rules.items():
        if rule is None:
            continue
        for _, node in rule.nodes():
            if isinstance(node, AssociationCondition) and isinstance(node.comparison, OneOf):
                for value in node.comparison.allowed:
                    reason = _why_never(configuration.edge, node.part, str(value))
                    if reason:
                        yield f"the rule of {target.name} names {reason}: that condition never holds"


def _why_never(edge: Edge, part: AssociationPart, value: str) -> str:
    match part:
        case AssociationPart.CALLING_AE if value not in edge.calling_ae_titles:
            return f"{part} {value}, which edge.allowed_calling_aets does not allow"
        case AssociationPart.CALLED_AE if value != edge.ae_title:
            return f"{part} {value}, and the edge answers to {edge.ae_title} (edge.ae_title) only"
        case AssociationPart.SOP_CLASS if value not in _sop_classes(edge):
            return f"{named(value)}, which the edge does not accept"
        case AssociationPart.TRANSFER_SYNTAX if (
            edge.accepted_transfer_syntaxes and value not in edge.accepted_transfer_syntaxes
        ):
            return f"{named(value)}, which edge.accepted_transfer_syntaxes does not accept"
        case _:
            return ""


def _sop_classes(edge: Edge) -> frozenset[str]:
    return frozenset((*(edge.accepted_sop_classes or storage_sop_classes()), *edge.additional_sop_classes))
