"""`python -m proof.chaos`: one run, from the start of a lab to its ledger.

Exit codes: 0 the ledger closes; 1 it does not, or too little happened for a result; 2 usage.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from gateway.database.pool import Database
from gateway.errors import DatabaseError
from proof.chaos import evidence, outage, report
from proof.chaos.counters import Counters
from proof.chaos.disk import enter_namespace, is_to_be_real
from proof.chaos.evidence import unregistered, waiting
from proof.chaos.fault_runner import FaultRunner
from proof.chaos.faults import Way
from proof.chaos.journal import HAS_IT, SUCCESS, Entry, read
from proof.chaos.ledger import draw
from proof.chaos.outages import judge
from proof.chaos.reasons import HANG
from proof.chaos.recovery import latencies, recoveries
from proof.chaos.sender import NEW
from proof.chaos.setup import Setup
from proof.chaos.unit_ledger import draw_units
from proof.chaos.watch import Watch

RATE = 42.0
"""Instances a second, of all senders together; senders catch up after an outage."""
TAIL_SECONDS = 4.0
"""The senders go on for this long after the last fault, so that its recovery can be measured."""
SETTLE_SECONDS = 300.0
STUCK_SECONDS = 100.0
"""Must exceed the minute of the sweep, and the work that the sweep then starts."""
POLL_SECONDS = 2.0


def say(line: str) -> None:
    """Print without buffering."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run once; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="proof.chaos", description="kill anything, and count every instance"
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, help=f"instances a second ({RATE:g}; in an outage: all it can)")
    parser.add_argument("--json", type=Path, help="where the report goes, as JSON")
    parser.add_argument(
        "--outage-minutes", type=float, help="instead: PostgreSQL away for so long, under full load"
    )
    parser.add_argument(
        "--hospital", action="store_true", help="two archives, rules, and applications by series and by study"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run")
    arguments = parser.parse_args()
    if arguments.outage_minutes is None:
        enter_namespace()  # a long outage needs a disk that is larger than the memory
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-chaos-"))
    folder.chmod(0o711)  # as root: PostgreSQL's user must be able to enter the folder
    outcome: report.Outcome | outage.OutageReport
    if arguments.outage_minutes is None:
        outcome = _run(folder, arguments)
        text, content = report.as_text(outcome), report.as_json(outcome)
    else:
        outcome = outage.run(
            folder, arguments.outage_minutes, arguments.seed, say, rate=arguments.rate or 0.0
        )
        text, content = outcome.as_text(), outcome.as_json()
    say(text)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        say(f"report: {arguments.json}")
    if arguments.keep or outcome.failures():
        say(f"kept, without the spool: {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if outcome.failures() else 0


def _run(folder: Path, arguments: argparse.Namespace) -> report.Outcome:
    seed, minutes = arguments.seed, arguments.minutes
    setup = Setup(
        folder, seed=seed, rate=arguments.rate or RATE, is_hospital=arguments.hospital, has_metrics=True
    )
    database = Database(setup.lab.postgres.dsn(), application_name="chaos", size=2)
    assert setup.lab.metrics_port is not None
    watch = Watch(setup, database, say)
    counters = Counters(setup.lab.metrics_port, database)
    fault_runner = FaultRunner(setup, seed, lambda: _waits_for_pacs(setup, database))
    watch.faults = lambda: len(fault_runner.done)
    say(f"chaos for {minutes:g} minutes, seed {seed}, in {folder}")
    try:
        setup.open(counters.prepare)
        watch.start()
        counters.start()
        fault_runner.run(minutes * 60)
        time.sleep(TAIL_SECONDS)
        setup.stop_senders()
        settled = _settle(setup, database, watch)
        for name in ("scheduler", "actors-sweep"):
            setup.supervisor.take_down(name)  # rows and files must not change while the ledger reads them
        counters.stop()
        balance = counters.judge(settled=settled is not None)
        say("drawing the ledger")
        watch.learn()
        hangs = [(fault.began, fault.ended) for fault in fault_runner.done if fault.name == HANG]
        of_units = draw_units(watch.units.seen.values(), evidence.took_by(setup), hangs)
        ledger = draw(
            evidence.gather(setup, database, watch.versions, hangs, not_sent_in_unit=of_units.not_sent)
        )
        ledger.states |= of_units.states
        ledger.deviations += of_units.deviations
    finally:
        watch.stop()
        counters.stop()
        database.close()
        setup.close()
    entries = evidence.sent(setup)
    taken = [entry for entry in read(setup.pacs.journal) if entry.status in HAS_IT]
    return report.Outcome(
        seed=seed,
        minutes=minutes,
        settled_seconds=settled,
        faults=fault_runner.done,
        skipped=fault_runner.skipped,
        entries=entries,
        ledger=ledger,
        recoveries=recoveries(fault_runner.done, _successes(setup, fault_runner, entries, taken)),
        latencies=_latencies(fault_runner, entries, taken),
        stretch_seconds=sum(ended - began for began, ended in fault_runner.stretches),
        peaks=watch.peaks,
        counters=balance,
        outages=judge(fault_runner.done, entries),
        disk_is_real=setup.disk.is_real,
        disk_is_asked_for="CI" in os.environ and is_to_be_real(),
    )


def _waits_for_pacs(setup: Setup, database: Database) -> int:
    """Return how many instances are on their way to the PACS, also those that have no rows yet.

    It is a large number if PostgreSQL does not answer.
    """
    try:
        return waiting(database)[0] + unregistered(setup)
    except DatabaseError:
        return sys.maxsize


def _settle(setup: Setup, database: Database, watch: Watch) -> float | None:
    """Return the seconds until nothing is open any more; None if the number stops decreasing."""
    began = moved = time.monotonic()
    last: tuple[int, ...] | None = None
    while True:
        try:
            now = (*waiting(database), unregistered(setup))
        except DatabaseError:
            now = None
        if now is not None and not any(now):
            return time.monotonic() - began
        if now != last:
            last, moved = now, time.monotonic()
        if time.monotonic() - moved > STUCK_SECONDS or time.monotonic() - began > SETTLE_SECONDS:
            watch.tell("it does not settle")
            return None
        time.sleep(POLL_SECONDS)  # the interval between two looks


def _successes(
    setup: Setup, fault_runner: FaultRunner, entries: list[Entry], taken: list[Entry]
) -> dict[Way, list[float]]:
    return {
        Way.RECEIVE: sorted(entry.at for entry in entries if entry.status == SUCCESS),
        Way.PACS: sorted(entry.at for entry in taken),
        Way.ARCHIVES: sorted(e.at for e in read(setup.archive.journal) if e.status in HAS_IT),
        Way.WORKERS: sorted(entry.at for entry in evidence.worked(setup)),
        Way.SWEEP: sorted(fault_runner.swept),
    }


def _latencies(fault_runner: FaultRunner, entries: list[Entry], taken: list[Entry]) -> list[float]:
    first: dict[str, float] = {}
    for entry in taken:
        first.setdefault(entry.digest, entry.at)
    acknowledged = {
        entry.digest: entry.at
        for entry in entries
        if entry.status == SUCCESS and entry.word.startswith(f"{NEW}:")
    }
    return latencies(acknowledged, first, fault_runner.stretches)


if __name__ == "__main__":
    sys.exit(main())
