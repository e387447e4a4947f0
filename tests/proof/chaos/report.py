"""The results of a run: as text, and as JSON."""

import platform
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from proof.chaos.counters import CounterVerdict
from proof.chaos.faults import KINDS, Done
from proof.chaos.journal import BROKEN, NOT_OPENED, SUCCESS, Entry
from proof.chaos.ledger import OLDER, Ledger
from proof.chaos.outages import MAX_SECONDS, OutageVerdict
from proof.chaos.reasons import causes, unexplained
from proof.chaos.recovery import Recovery, percentile, slowest

SHOWN = 20
"""Printed deviations of each kind; the JSON has all."""
FAULTS_PER_MINUTE = 20
INSTANCES_PER_MINUTE = 2000
WHOLE_MINUTES = 10
"""A run of at least this length must have had each kind of the catalogue."""
SLOWEST = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """All results of a run."""

    seed: int
    minutes: float
    settled_seconds: float | None
    faults: list[Done]
    skipped: list[str]
    entries: list[Entry]
    ledger: Ledger
    recoveries: list[Recovery]
    latencies: list[float]
    stretch_seconds: float
    peaks: Counter[str]
    counters: CounterVerdict
    outages: OutageVerdict
    disk_is_real: bool
    disk_is_asked_for: bool
    """True in CI on a machine that allows it: a run without a disk that was really full does not count."""

    def never_done(self) -> list[str]:
        """Return the kinds of the catalogue that did not happen."""
        return sorted({kind.name for kind in KINDS} - {fault.name for fault in self.faults})

    def gaps(self) -> list[str]:
        """Return what this run does not prove, whether it passes or fails."""
        found = []
        if not self.disk_is_real:
            found.append("the spool's disk was never full: that needs root and a loop device")
        done = {fault.name for fault in self.faults}
        for name, reason in sorted(dict(line.split(": ", 1) for line in self.skipped).items()):
            if name not in done:
                found.append(f"{name}: skipped each time, {reason}")
        if not self.outages.judged:
            found.append("no C-STORE was sent while PostgreSQL was away and nothing else was wrong")
        if not self.latencies:
            found.append("no instance was received in a period in which only workers failed (G5)")
        never = self.never_done()
        if never and self.minutes >= WHOLE_MINUTES:
            found.append(f"never done in so long a run: {', '.join(never)}")
        return found

    def failures(self) -> list[str]:
        """Return why the run fails; empty if it passes."""
        found = []
        if not self.ledger.closes:
            older = sum(deviation.what == OLDER for deviation in self.ledger.deviations)
            found.append(
                f"the ledger does not close: {self.ledger.missing()} deliveries are missing, the PACS ends"
                f" with an older version of {older} UIDs"
            )
        if strange := unexplained(self.ledger.deviations, self.faults):
            one = strange[0]
            found.append(
                f"{len(strange)} deliveries ended for nothing that this run did, the first:"
                f" {one.sop_instance_uid} {one.route} {one.what}, {one.reason or 'without a reason'}"
            )
        if self.disk_is_asked_for and not self.disk_is_real:
            found.append("no file system could be mounted for the spool, although this machine allows it")
        if felt := self.outages.felt:
            first = felt[0]
            found.append(
                f"{len(felt)} times a sender noticed that PostgreSQL was away, the first:"
                f" {first.sop_instance_uid} answered {first.status} after {first.seconds:.1f} s"
            )
        if self.settled_seconds is None:
            found.append("it did not settle: something waits although all is well")
        if any(recovery.seconds is None for recovery in self.recoveries):
            found.append("a way did not recover from a fault")
        found += self.counters.failures(self.minutes)
        for what, count, rate in (
            ("faults", len(self.faults), FAULTS_PER_MINUTE),
            ("instances", self.ledger.instances, INSTANCES_PER_MINUTE),
        ):
            if count < rate * self.minutes:
                found.append(f"too little happened: {count} {what}, {rate * self.minutes:.0f} are asked for")
        return found


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return all results, with each deviation."""
    worst = slowest(outcome.recoveries)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}",
        "seed": outcome.seed,
        "minutes": outcome.minutes,
        "passed": not outcome.failures(),
        "failures": outcome.failures(),
        "faults": len(outcome.faults),
        "faults_by_kind": dict(sorted(Counter(fault.name for fault in outcome.faults).items())),
        "all_faults": [
            {"fault": fault.name, "began": fault.began, "ended": fault.ended} for fault in outcome.faults
        ],
        "kinds": f"{len({fault.name for fault in outcome.faults})} of {len({k.name for k in KINDS})}",
        "never_done": outcome.never_done(),
        "skipped": outcome.skipped,
        "gaps": outcome.gaps(),
        "disk_is_real": outcome.disk_is_real,
        "instances": outcome.ledger.instances,
        "results_of_workers": outcome.ledger.results,
        "answers": dict(Counter(entry.status for entry in outcome.entries)),
        "sent_as": dict(Counter(entry.word for entry in outcome.entries if entry.status == SUCCESS)),
        "deliveries": {route: dict(states) for route, states in outcome.ledger.states.items()},
        "missing": outcome.ledger.missing(),
        "ended_by_what_was_done": dict(causes(outcome.ledger.deviations, outcome.faults)),
        "ended_by_nothing_that_was_done": len(unexplained(outcome.ledger.deviations, outcome.faults)),
        "deviations": [asdict(deviation) for deviation in outcome.ledger.deviations],
        "settled_seconds": outcome.settled_seconds,
        "recoveries": len(outcome.recoveries),
        "slowest_recovery": None if worst is None else asdict(worst),
        "all_recoveries": [asdict(recovery) for recovery in outcome.recoveries],
        "only_workers_broken": {
            "seconds": outcome.stretch_seconds,
            "instances": len(outcome.latencies),
            **{f"p{share * 100:g}": percentile(outcome.latencies, share) for share in (0.5, 0.95, 0.99, 1)},
        },
        "postgres_away": {
            "seconds": outcome.outages.seconds,
            "c_stores": outcome.outages.judged,
            "slowest": outcome.outages.slowest,
            "felt": [asdict(entry) for entry in outcome.outages.felt],
        },
        "metrics": asdict(outcome.counters),
        "memory_peaks_kib": dict(outcome.peaks),
    }


def as_text(outcome: Outcome) -> str:
    """Return the results as text."""
    return "\n".join(
        [
            "",
            *_faults(outcome),
            "",
            *_instances(outcome),
            "",
            *_deviations(outcome),
            "",
            *_recoveries(outcome),
            *_memory(outcome),
            outcome.counters.text(),
            "",
            *(f"NOT PROVEN by this run: {gap}" for gap in outcome.gaps()),
            *(f"FAILED: {failure}" for failure in outcome.failures()),
            *([] if outcome.failures() else [_passed(outcome)]),
        ]
    )


def _passed(outcome: Outcome) -> str:
    gaps = len(outcome.gaps())
    return "PASSED: every acknowledged instance is accounted for" + (f"; {gaps} NOT PROVEN" if gaps else "")


def _faults(outcome: Outcome) -> list[str]:
    counts = Counter(fault.name for fault in outcome.faults)
    never = outcome.never_done()
    kinds = f"{len(counts)} of {len(counts) + len(never)} kinds"
    lines = [f"{len(outcome.faults)} faults of {kinds}, seed {outcome.seed}:"]
    lines += [f"  {count:4d}  {name}" for name, count in sorted(counts.items())]
    lines += [f"     0  {name}" for name in never]
    lines += [f"     -  skipped: {reason}" for reason in outcome.skipped]
    return lines


def _instances(outcome: Outcome) -> list[str]:
    answers = Counter(entry.status for entry in outcome.entries)
    not_opened = answers.pop(NOT_OPENED, 0)
    refused = sum(answers.values()) - answers[SUCCESS] - answers[BROKEN]
    words = Counter(entry.word.partition(":")[0] for entry in outcome.entries if entry.status == SUCCESS)
    ledger = outcome.ledger
    lines = [
        f"{ledger.instances} instances acknowledged to senders, {ledger.results} results to workers",
        f"  {answers[SUCCESS]} answers Success, of them "
        + ", ".join(f"{count} {word}" for word, count in sorted(words.items()) if word != "new")
        + f"; {refused} refused, {answers[BROKEN]} without an answer, {not_opened} associations not opened",
        _away(outcome.outages),
        "",
        "deliveries owed = delivered + pending + in flight + dead + cancelled",
        "                + given up + taken as sent + missing",
    ]
    for route, states in ledger.states.items():
        counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        lines.append(f"  {route:16} {ledger.count(route):6d} = {counts}")
    return lines


def _away(outages: OutageVerdict) -> str:
    return (
        f"  while PostgreSQL was away ({outages.seconds:.0f} s), and nothing else was wrong:"
        f" {outages.judged} C-STOREs, the slowest {outages.slowest:.2f} s;"
        f" {len(outages.felt)} refused, aborted or slower than {MAX_SECONDS:g} s"
    )


def _deviations(outcome: Outcome) -> list[str]:
    found, faults = outcome.ledger.deviations, outcome.faults
    lines = [f"deviations: {len(found)}"]
    lines += [f"  {count:4d}  {cause}" for cause, count in causes(found, faults).most_common()]
    lines += (
        [f"  {len(strange):4d}  for NOTHING that was done"] if (strange := unexplained(found, faults)) else []
    )
    shown: Counter[str] = Counter()
    for deviation in found:
        shown[deviation.what] += 1
        if shown[deviation.what] <= SHOWN:
            lines.append(
                f"  {deviation.what:9} {deviation.route:7} {deviation.sop_instance_uid}"
                f" {deviation.digest[:12]} {deviation.reason}"
            )
    lines += [f"  … {count - SHOWN} more {what}" for what, count in shown.items() if count > SHOWN]
    return lines


def _recoveries(outcome: Outcome) -> list[str]:
    found = sorted(
        outcome.recoveries, key=lambda r: float("inf") if r.seconds is None else r.seconds, reverse=True
    )
    times = sorted(r.seconds for r in found if r.seconds is not None)
    lines = [
        f"{len(found)} recoveries, from a fault's end to the next success of its way:",
        f"  half within {percentile(times, 0.5):.2f} s, 95 % within {percentile(times, 0.95):.2f} s:",
    ]
    for recovery in found[:SLOWEST]:
        seconds = "never" if recovery.seconds is None else f"{recovery.seconds:.2f} s"
        lines.append(f"  {seconds:>8}  {recovery.way} after: {recovery.fault}")
    settled = "not at all" if outcome.settled_seconds is None else f"{outcome.settled_seconds:.0f} s"
    lines += [
        f"all was settled after the last fault within: {settled}",
        f"while only workers failed ({outcome.stretch_seconds:.0f} s), from Success to the PACS' answer:",
        f"  {len(outcome.latencies)} instances:"
        + "".join(
            f" {share:.0%} within {percentile(outcome.latencies, share) * 1000:.0f} ms"
            for share in (0.5, 0.95, 0.99, 1)
        ),
    ]
    return lines


def _memory(outcome: Outcome) -> list[str]:
    peaks = ", ".join(f"{name} {kib / 1024:.0f}" for name, kib in sorted(outcome.peaks.items()))
    return [f"most memory of one process, MB: {peaks}"]
