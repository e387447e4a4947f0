"""Delivered data sets equal the received ones, for every sendable file of pydicom."""

from collections import Counter
from hashlib import sha256

import pytest
from conftest import MakeEdge
from support.dicom_peers import sendable_files
from support.peers import peer
from support.waiting import wait_until

from gateway.dicom.requestor import associate


@pytest.mark.guarantee("G3")
@pytest.mark.guarantee("G4")
def test_every_file_arrives_byte_for_byte(make_edge: MakeEdge) -> None:
    """G3, G4: in its own transfer syntax; files that share a UID are conflicts, and each is forwarded."""
    edge = make_edge({"forwarder": {"mode": "pacs_only"}})
    files = sendable_files()
    contexts = list(dict.fromkeys(file.context for file in files))
    sent = Counter((file.sop_instance_uid, sha256(file.data_set()).hexdigest()) for file in files)
    with peer(edge.configuration.forwarder.orthanc.port) as pacs:
        edge.serve()
        edge.actors("pacs")
        with associate(edge.peer(), calling_ae_title="ORTHANC", contexts=contexts) as association:
            for file in files:
                status, comment = association.store(file.context, file.sop_instance_uid, [file.data_set()])
                assert status == 0, (file.path.name, comment)
        wait_until(lambda: len(pacs.taken) >= len(sent), 60, "all to arrive")
        undelivered = "SELECT count(*) FROM deliveries WHERE state <> 'delivered'"
        wait_until(lambda: edge.one(undelivered) == 0, 10, "all to be settled")
        # a file follows its row: settled first, moved after
        wait_until(lambda: all(name.startswith("sent/") for name in edge.files()), 10, "all to be in sent/")
        edge.kill()
    # the very same bytes twice are one instance
    assert {(taken.sop_instance_uid, taken.digest) for taken in pacs.taken} == set(sent)
    assert len(pacs.taken) == len(sent)
    syntaxes = {(file.sop_instance_uid, file.context.transfer_syntax_uid) for file in files}
    assert {(t.sop_instance_uid, t.request.transfer_syntax_uid) for t in pacs.taken} == syntaxes
    versions = Counter(uid for uid, _ in sent)
    conflicts = sum(count - 1 for count in versions.values())
    assert conflicts > 10
    assert edge.one("SELECT count(*) FROM instances WHERE conflict") == conflicts
