"""Presentation contexts at a real SCP: which are accepted, how, and what the log says of the others."""

import pynetdicom
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.synthetic_instances import CT, EXPLICIT, MR

IMPLICIT, JPEG, JPEG_2000 = "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
PRIVATE = "1.2.276.0.7230010.3.1.99"


def accepted(edge: EdgeSetup, *contexts: tuple[str, list[str]]) -> list[tuple[str, str]]:
    """Return SOP Class and transfer syntax of the contexts that the edge accepts."""
    entity = pynetdicom.AE("ORTHANC")
    for sop_class, syntaxes in contexts:
        entity.add_requested_context(sop_class, syntaxes)
    address = edge.peer()
    association = entity.associate(address.host, address.port, ae_title=address.ae_title)
    assert association.is_established
    found = [(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in association.accepted_contexts]
    association.release()
    return found


def test_an_uncompressed_transfer_syntax_is_preferred(make_edge: MakeEdge) -> None:
    """If a context offers several, an uncompressed one is chosen; compressed ones alone are accepted, too."""
    edge = make_edge()
    edge.serve()
    assert accepted(edge, (CT, [JPEG, IMPLICIT, EXPLICIT]), (MR, [JPEG_2000, JPEG])) == [
        (CT, EXPLICIT),
        (MR, JPEG_2000),
    ]
    edge.wait_log(outcome="released")
    assert edge.log(outcome="contexts_declined") == []


def test_a_private_sop_class_and_an_order_of_preference(make_edge: MakeEdge) -> None:
    """Configured ones are accepted beside the standard's; the declined ones are one log line with names."""
    edge = make_edge(
        {
            "edge": {
                "additional_sop_classes": [PRIVATE],
                "accepted_transfer_syntaxes": [JPEG_2000, EXPLICIT],
            }
        }
    )
    edge.serve()
    worklist = "1.2.840.10008.5.1.4.31"
    offers = (
        (PRIVATE, [EXPLICIT]),
        (CT, [EXPLICIT, JPEG_2000]),
        (MR, [IMPLICIT, JPEG]),
        (worklist, [EXPLICIT]),
    )
    assert accepted(edge, *offers) == [(PRIVATE, EXPLICIT), (CT, JPEG_2000)]
    line = edge.wait_log(outcome="contexts_declined")
    assert len(edge.log(outcome="contexts_declined")) == 1
    assert (line["count"], line["calling_ae_title"]) == (2, "ORTHANC")
    assert f"MR Image Storage ({MR}) in Implicit VR Little Endian" in line["detail"]
    assert f"JPEG Baseline (Process 1) ({JPEG}): no transfer syntax of edge.accepted" in line["detail"]
    assert f"({worklist}) in Explicit VR Little Endian" in line["detail"]
