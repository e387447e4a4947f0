"""Valid bytes for each target, from which fuzzers and mutations start."""

import zlib

from support.dicom_peers import CT, EXPLICIT, echo_command, p_data, pdv, store_command
from support.synthetic_instances import Instance, result_of

from gateway.dicom import command, pdu
from gateway.dicom.dataset.part10 import preamble_and_file_meta
from proof.fuzz.targets import ACCEPTED, ASSOCIATE

DATA_SET = Instance(sop_instance_uid="1.2.3", study_instance_uid="1.2.4", payload=bytes(64)).data_set()
RESULT = result_of(Instance(sop_instance_uid="1.2.5", study_instance_uid="1.2.4")).data_set()
_DEFLATE = zlib.compressobj(wbits=-zlib.MAX_WBITS)
DEFLATED_SET = _DEFLATE.compress(RESULT) + _DEFLATE.flush()

STORE = p_data(store_command(), pdv(1, 2, DATA_SET))
SPLIT = p_data(store_command()) + p_data(pdv(1, 0, DATA_SET[:50])) + p_data(pdv(1, 2, DATA_SET[50:]))
MESSAGES = STORE + p_data(echo_command()) + SPLIT + pdu.RELEASE_RQ_PDU

_REQUEST = command.CommandSet(store_command()[pdu.PDV_OVERHEAD :])
ANSWER = p_data(pdv(1, 3, command.response(_REQUEST, 0)))

SEEDS: dict[str, tuple[bytes, ...]] = {
    "associate_request": (ASSOCIATE[pdu.HEADER.size :],),
    "associate_accept": (ACCEPTED[pdu.HEADER.size :],),
    "command_set": (store_command()[pdu.PDV_OVERHEAD :], echo_command()[pdu.PDV_OVERHEAD :]),
    "header": (DATA_SET, RESULT, DEFLATED_SET),
    "part10": (preamble_and_file_meta(CT, "1.2.3", EXPLICIT, source_ae_title="FUZZ") + DATA_SET,),
    "acceptor": (ASSOCIATE + MESSAGES,),
    "associated_acceptor": (MESSAGES, STORE, SPLIT),
    "requestor": (ACCEPTED + ANSWER, pdu.reject_pdu(1, 1, 3)),
    "associated_requestor": (ANSWER, pdu.abort_pdu(2, 6)),
    "identifiers": (b"1.2.840.10008.1.2", b"ORTHANC", b"../../etc/passwd"),
    "allowlist": (b"ORTHANC", b"APP01@10.0.0.0/8", b"A@fd00::/8", b"A@host.example"),
}
