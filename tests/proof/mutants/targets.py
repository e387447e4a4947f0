"""The targets of the data sets: the edge, Orthanc and DCMTK's storescp, and how to send to each."""

import json
import shutil
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from support.dicom_peers import Script, p_data, pdv
from support.edge_setup import EdgeSetup
from support.launcher import Process
from support.synthetic_instances import CT
from support.waiting import wait_until

from gateway.dicom import command, pdu
from gateway.dicom.contexts import ACCEPTANCE, Offer
from gateway.dicom.negotiation import decode_accept, encode_request
from gateway.lab.layout import free_ports
from gateway.lab.pacs import Orthanc
from proof.mutants.dataset import SYNTAXES, Plan

TAKEN = "taken"
ABORTED = "abort"
NOT_NEGOTIATED = "transfer syntax not accepted"
OFFERS = {uid: Offer(2 * number + 1, CT, (uid,)) for number, uid in enumerate(SYNTAXES.values())}
TIMEOUT_SECONDS = 60.0
TRIES = 3
ORTHANC_TIMEOUT_SECONDS = 1
ORTHANC_SENDERS = 64


@dataclass(frozen=True)
class Mutant:
    """One data set with its kind and plan."""

    number: int
    kind: str
    plan: Plan
    raw: bytes


class Target:
    """One peer; `revive` starts it again if a data set ended it."""

    def __init__(self, name: str, ae_title: str, port: int, *, senders: int) -> None:
        self.name = name
        self.senders = senders
        self.crashes = 0
        self._ae_title = ae_title
        self._port = port

    def revive(self) -> None:
        """Start it again; do nothing if that is impossible from here."""

    def ask(self, mutants: Iterable[Mutant]) -> dict[int, str]:
        """Return its answer to each; use a new association after an abort."""
        answers: dict[int, str] = {}
        association: Script | None = None
        accepted: set[int] = set()
        for mutant in mutants:
            if association is None:
                association, accepted = self._associate()
            context_id = OFFERS[mutant.plan.transfer_syntax_uid].context_id
            if context_id not in accepted:
                answers[mutant.number] = NOT_NEGOTIATED
                continue
            answers[mutant.number] = answer = _store(association, context_id, mutant)
            if answer == ABORTED:
                association.sock.close()
                association = None
        if association is not None:
            association.send(pdu.RELEASE_RQ_PDU)
            association.pdu()
            association.sock.close()
        return answers

    def _associate(self) -> tuple[Script, set[int]]:
        request = encode_request(
            called_ae_title=self._ae_title,
            calling_ae_title="ORTHANC",
            offers=tuple(OFFERS.values()),
            max_pdu_bytes=16_384,
        )
        for left in range(TRIES - 1, -1, -1):
            try:
                script = Script(socket.create_connection(("127.0.0.1", self._port), TIMEOUT_SECONDS))
                script.send(request)
                kind, body = script.pdu()
                if kind == pdu.ASSOCIATE_AC:
                    answers = decode_accept(body).answers
                    return script, {answer.context_id for answer in answers if answer.result == ACCEPTANCE}
            except OSError:
                if not left:
                    raise
            self.revive()
        raise AssertionError(f"{self.name} takes no association")


def _store(script: Script, context_id: int, mutant: Mutant) -> str:
    """Send one C-STORE with the data set as one fragment: DCMTK accepts no fragment of odd length."""
    request = command.c_store_request(1, CT, mutant.plan.sop_instance_uid, 0)
    try:
        script.send(p_data(pdv(context_id, 3, request)), p_data(pdv(context_id, 2, mutant.raw)))
        kind, body = script.pdu()
    except OSError:
        return ABORTED
    if kind != pdu.P_DATA_TF:
        return ABORTED
    response = command.CommandSet(body[6:])
    status = response.required(command.STATUS)
    return f"0x{status:04X} {response.text(command.ERROR_COMMENT)}".rstrip() if status else TAKEN


def edge(edge: EdgeSetup) -> Target:
    """Return the running edge as a target."""
    section = edge.configuration.edge
    return Target("edge", section.ae_title, section.port, senders=4)


def orthanc(edge: EdgeSetup, folder: Path) -> Target | None:
    """Return Orthanc, in processes of `edge`; None if it is not installed."""
    executable = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if executable is None:
        return None
    port, http = free_ports(2)
    pacs = edge.configuration.forwarder.orthanc.model_copy(update={"port": port})
    forwarder = edge.configuration.forwarder.model_copy(update={"orthanc": pacs})
    it = Orthanc(executable, folder, edge.configuration.model_copy(update={"forwarder": forwarder}), http)
    program = it.program()
    # If Orthanc cannot read a data set, it does not answer, and aborts after this timeout.
    path = folder / "orthanc.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    more = {
        "DicomScpTimeout": ORTHANC_TIMEOUT_SECONDS,
        "DicomThreadsCount": ORTHANC_SENDERS,
        "DicomAlwaysAllowStore": True,  # the lab's Orthanc accepts the edge's AE title only
    }
    path.write_text(json.dumps(settings | more), encoding="utf-8")
    edge.start(*program.command, name="orthanc")
    assert program.ready is not None
    wait_until(program.ready, 60, "Orthanc")
    return Target("Orthanc", pacs.ae_title, port, senders=ORTHANC_SENDERS)


class StoreScp(Target):
    """DCMTK's storescp: one process for one association at a time."""

    def __init__(self, edge: EdgeSetup, program: str, folder: Path, port: int) -> None:
        super().__init__("storescp", "STORESCP", port, senders=1)
        folder.mkdir()
        self._edge = edge
        self._words = (program, "+xa", "-aet", "STORESCP", "-od", str(folder), str(port))
        self._process = self._start()

    def _start(self) -> Process:
        process = self._edge.start(*self._words, name=f"storescp-{self.crashes}")
        process.wait_for_port(self._port)
        return process

    def revive(self) -> None:
        """Start it again if it has ended."""
        if self._process.popen.poll() is not None:
            self.crashes += 1
            self._process = self._start()


def storescp(edge: EdgeSetup, folder: Path) -> Target | None:
    """Return storescp as a target; None if it is not installed."""
    program = shutil.which("storescp")
    [port] = free_ports(1)
    return None if program is None else StoreScp(edge, program, folder, port)
