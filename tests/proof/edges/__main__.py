"""`python -m proof.edges [NAME…]`: break edges, and ask what is wrong with each.

Exit codes: 0 each is named and mended, and nothing was green; 1 one is not; 2 usage; 3 this machine
cannot build them.
"""

import argparse
import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

# the families register their edges
from proof.edges import (  # noqa: F401
    database,
    leftovers,
    machine,
    pacs,
    processes,
    report,
    results,
    security,
    senders,
    spool,
    strange_database,
    strange_machine,
    strange_pacs,
    strange_peers,
)
from proof.edges.edge import ALL, Edge
from proof.edges.judge import Row, judge
from proof.edges.lab import Lab


def say(text: str) -> None:
    """Print without buffering."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="proof.edges", description="break edges, and ask what is wrong")
    parser.add_argument("names", nargs="*", metavar="NAME", help="edges, or families of them; default all")
    parser.add_argument("--list", action="store_true", help="print the edges, and break none")
    parser.add_argument("--build-only", action="store_true", help="break and mend, and ask nothing")
    parser.add_argument("--json", type=Path, help="where the rows go, with all that diagnose said")
    parser.add_argument("--markdown", type=Path, help="where the table goes")
    parser.add_argument(
        "--number", type=int, default=1, help="tells runs apart that go on at the same time (1)"
    )
    arguments = parser.parse_args()
    known = set(ALL) | {edge.setup.name for edge in ALL.values()}
    if unknown := set(arguments.names) - known:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return arguments


def _build(edge: Edge, lab: Lab) -> str:
    """Break and mend an edge without asking; say how long that took."""
    lab.facts.clear()
    begun = time.monotonic()
    steps = edge.steps(lab)
    next(steps)
    broke = time.monotonic() - begun
    for _ in steps:
        raise AssertionError("yields twice")
    return f"built {edge.name:40} broken in {broke:.1f} s, mended in {time.monotonic() - begun - broke:.1f} s"


def _run(edges: list[Edge], arguments: argparse.Namespace) -> list[Row]:
    rows: list[Row] = []
    lab: Lab | None = None
    try:
        for edge in edges:
            if lab is not None and lab.setup != edge.setup:
                lab.close()
                lab = None
            try:
                lab = lab or Lab(edge.setup, arguments.number)
                if arguments.build_only:
                    say(_build(edge, lab))
                    continue
                row = judge(edge, lab)
            except Exception as error:  # noqa: BLE001  the next edge gets a new lab
                row = Row(edge.name, edge.about, failed=f"{type(error).__name__}: {error}"[:500])
            rows.append(row)
            _keep(row, rows, arguments)
            if lab is not None and (row.failed or not row.well_after):
                lab.close()
                lab = None
    finally:
        if lab is not None:
            lab.close()
    return rows


def _keep(row: Row, rows: list[Row], arguments: argparse.Namespace) -> None:
    """Print a row, and write all rows so far."""
    say(report.line(row))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in rows], indent=1))
    if arguments.markdown:
        arguments.markdown.write_text(report.markdown(rows) + "\n" + report.summary(rows) + "\n")


def main() -> int:
    """Do one run; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process of a lab stays
    arguments = _arguments()
    names = set(arguments.names)
    edges = [edge for edge in ALL.values() if not names or names & {edge.name, edge.setup.name}]
    edges.sort(key=lambda edge: [one.setup.name for one in ALL.values()].index(edge.setup.name))
    if arguments.list:
        for edge in edges:
            say(f"{edge.name:40} {edge.about}")
        say(f"{len(edges)} edges")
        return 0
    for path in filter(None, (arguments.json, arguments.markdown)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if lacks := machine.missing():
        say(f"NOT PROVEN: this machine lacks {', '.join(lacks)}")
        return 3
    rows = _run(edges, arguments)
    if arguments.build_only:
        return 1 if rows else 0
    say(report.summary(rows))
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
