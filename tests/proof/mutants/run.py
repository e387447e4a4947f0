"""Send every data set to every target, wait until the edge has delivered what it accepted, and compare."""

import random
import secrets
import threading
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from support.edge_setup import EdgeSetup
from support.peers import Peer, peer
from support.waiting import wait_until

from proof.mutants import targets
from proof.mutants.kinds import plans
from proof.mutants.targets import TAKEN, Mutant, Target

SETTLE_SECONDS = 900.0


@dataclass(frozen=True)
class Outcome:
    """The answers of every target by the data set's number, and the violations of the edge."""

    seed: int
    mutants: list[Mutant]
    answers: dict[str, dict[int, str]]
    crashes: dict[str, int]
    violations: list[str]
    seconds: float


def run(edge: EdgeSetup, folder: Path, *, count: int, seed: int) -> Outcome:
    """Run against `edge`, whose SCP and actors of the PACS's queue are running."""
    began = time.monotonic()
    root = f"1.2.826.0.1.{secrets.randbits(40)}"
    mutants = [
        Mutant(number, name, plan, raw)
        for number, (name, plan, raw) in enumerate(plans(random.Random(seed), count, root))  # noqa: S311  repeatable
    ]
    found = (
        targets.edge(edge),
        targets.orthanc(edge, folder / "orthanc"),
        targets.storescp(edge, folder / "scp"),
    )
    asked = [target for target in found if target is not None]
    with peer(edge.configuration.forwarder.orthanc.port) as sink:
        answers = _ask_all(asked, mutants)
        wait_until(lambda: _is_settled(edge), SETTLE_SECONDS, "the edge to deliver what it took", every=0.5)
        violations = _violations(edge, mutants, answers["edge"], sink)
    crashes = {target.name: target.crashes for target in asked}
    return Outcome(seed, mutants, answers, crashes, violations, time.monotonic() - began)


def _ask_all(asked: list[Target], mutants: list[Mutant]) -> dict[str, dict[int, str]]:
    answers: dict[str, dict[int, str]] = {target.name: {} for target in asked}
    errors: list[BaseException] = []

    def ask(target: Target, share: list[Mutant]) -> None:
        try:
            answers[target.name].update(target.ask(share))
        except BaseException as error:  # noqa: BLE001  raised by the caller's thread
            errors.append(error)

    threads = [
        threading.Thread(target=ask, args=(target, mutants[first :: target.senders]))
        for target in asked
        for first in range(target.senders)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return answers


def _is_settled(edge: EdgeSetup) -> bool:
    return not edge.one("SELECT count(*) FROM deliveries WHERE state IN ('pending', 'in_flight')")


def _violations(edge: EdgeSetup, mutants: list[Mutant], answers: dict[int, str], sink: Peer) -> list[str]:
    """Return violations of G1, G2, G3.

    The sink must have all acknowledged data sets, byte for byte, and no others.
    """
    delivered = {(taken.sop_instance_uid, taken.digest) for taken in sink.taken}
    acknowledged = {
        (m.plan.sop_instance_uid, sha256(m.raw).hexdigest()): m for m in mutants if answers[m.number] == TAKEN
    }
    lost = [
        f"{_name(m)}: acknowledged, not delivered" for key, m in acknowledged.items() if key not in delivered
    ]
    more = [f"{uid}: delivered, not acknowledged" for uid, digest in delivered - acknowledged.keys()]
    unforeseen = [
        f"{_name(m)}: {answers[m.number]}"
        for m in mutants
        if answers[m.number] == targets.ABORTED or answers[m.number].startswith("0x0110")
    ]
    rowless = len(edge.files(partial=True)) - int(edge.one("SELECT count(*) FROM instances"))
    files = [f"{rowless} files are no instance's"] if rowless else []
    return lost + more + unforeseen + files


def _name(mutant: Mutant) -> str:
    return f"data set {mutant.number} ({mutant.kind})"
