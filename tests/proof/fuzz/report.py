"""The report of a campaign as text."""

from proof.fuzz.campaign import Outcome
from proof.fuzz.watch import MEMORY_BOUND_MB


def as_text(outcome: Outcome) -> str:
    """Return a table and the violations."""
    watch, attacks, held = outcome.watch, outcome.attacks, outcome.held
    rows = [
        ("malformed PDUs read", f"{outcome.malformed:,} in {outcome.seconds:g} s, seed {outcome.seed}"),
        ("  answered with a status", f"{attacks['answered']:,}"),
        ("  instead of an association", f"{attacks['before an association']:,}"),
        ("  with sequences 1,000 deep", f"{attacks['nested']:,}"),
        ("  that ended an association", f"{attacks['ended by a PDU']:,}"),
        (
            "conversations",
            f"{attacks['connections']:,}; reset {attacks['reset']:,}; hung {attacks['hung']:,}",
        ),
        ("not let in, ended early", f"{attacks['not let in']:,}, {attacks['ended early']:,}"),
        ("connections held", f"{held['open at once']:,} at once, {held['opened']:,} opened"),
        ("  ended by the edge", f"{held['ended by the edge']:,}; drips {held['drips']:,}"),
        (
            "log lines",
            f"{watch.lines:,}; " + ", ".join(f"{n} {c:,}" for n, c in watch.outcomes.most_common(12)),
        ),
        (
            "memory of a process",
            f"{watch.begun_with_mb:.0f} MB, at most {watch.peak_mb:.0f} of {MEMORY_BOUND_MB}",
        ),
        ("threads of a process", f"at most {watch.peak_threads}"),
    ]
    for latencies in (outcome.echo, outcome.store):
        half, most = latencies.percentile(0.5), latencies.percentile(0.99)
        rows.append(
            (
                f"honest {latencies.name}",
                (
                    f"{len(latencies.seconds):,}, {len(latencies.failures)} failed; p50 {half * 1000:.0f} ms,"
                    f" p99 {most * 1000:.0f} ms, max {max(latencies.seconds, default=0) * 1000:.0f} ms"
                ),
            )
        )
    found = outcome.violations()
    lines = [f"{name:30} {value}" for name, value in rows]
    lines += ["", *(f"VIOLATION {violation}" for violation in found)] if found else ["", "no violation"]
    return "\n".join(lines)
