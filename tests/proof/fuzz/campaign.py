"""The campaign against a running SCP: attackers, held connections, well-behaved senders, and a watcher."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from support.edge_setup import EdgeSetup
from support.launcher import Process

from proof.fuzz.honest import Honest, Latencies
from proof.fuzz.watch import MEMORY_BOUND_MB, Watch

TESTS = Path(__file__).resolve().parents[2]
PEERS = ("ORTHANC", "APP01", "APP02")
HOLDER = "APP03"
STOP_SECONDS = 60.0
"""The time of a process to end its last conversation."""
HONEST_BOUND_SECONDS = 10.0
"""The longest wait of a well-behaved sender, on a machine whose cores the attackers share."""
LEDGER_SAMPLE = 40


@dataclass(frozen=True, slots=True)
class Outcome:
    """The counts of a campaign, its measurements, and its violations."""

    seconds: float
    seed: int
    attacks: Counter[str]
    held: Counter[str]
    echo: Latencies
    store: Latencies
    watch: Watch
    at_least: int

    @property
    def malformed(self) -> int:
        """Return how many malformed PDUs the SCP has read."""
        return self.attacks["pdus"]

    def violations(self) -> list[str]:
        """Return why the campaign fails; empty if it passes."""
        found = list(self.watch.violations)
        for latencies in (self.echo, self.store):
            found += [f"{latencies.name}: {failure}" for failure in latencies.failures]
            if not latencies.seconds:
                found.append(f"{latencies.name}: nobody was served")
            elif max(latencies.seconds) > HONEST_BOUND_SECONDS:
                found.append(f"{latencies.name}: {max(latencies.seconds):.1f} s")
        if self.attacks["hung"]:
            found.append(f"{self.attacks['hung']} conversations had no end")
        if not self.attacks["nested"]:
            found.append("no sequences 1,000 deep were among it")
        if self.malformed < self.at_least:
            found.append(f"too little happened: {self.malformed} malformed PDUs of {self.at_least}")
        return found


def run(
    edge: EdgeSetup, *, seconds: float, seed: int, connections: int, attackers: int = 2, at_least: int = 1
) -> Outcome:
    """Attack `edge` for that many seconds; its SCP is listening."""
    section = edge.configuration.edge
    watch, honest = Watch(edge), Honest(edge)
    common = ("--port", str(section.port), "--seconds", str(seconds), "--called", section.ae_title)

    def start(program: str, name: str, *more: str) -> Process:
        path = str(TESTS)
        return edge.start("python", "-m", f"proof.fuzz.{program}", *common, *more, name=name, PYTHONPATH=path)

    watch.start()
    honest.start()
    try:
        holder = start("holder", "holder", "--connections", str(connections), "--calling", HOLDER)
        hostile = [
            start("attacker", f"attacker-{number}", "--seed", str(seed * 1000 + number), "--calling", *PEERS)
            for number in range(attackers)
        ]
        attacks: Counter[str] = Counter()
        for process in hostile:
            attacks.update(_said(process, seconds))
        held = _said(holder, seconds)
    finally:
        honest.stop()
        watch.stop()
    edge.check_ledger(honest.acknowledged[-LEDGER_SAMPLE:])
    return Outcome(seconds, seed, attacks, held, honest.echo, honest.store, watch, at_least)


def _said(process: Process, seconds: float) -> Counter[str]:
    code = process.wait(seconds + STOP_SECONDS)
    assert code == 0, process.text()[-3000:]
    return Counter(json.loads(process.text().splitlines()[-1]))


__all__ = ("MEMORY_BOUND_MB", "Outcome", "run")
