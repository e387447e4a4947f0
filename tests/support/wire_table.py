"""The rows of `make bench`: our figure, the peer's figure, their ratio, the target, met or missed.

Each run is compared with the last one on this machine: a row that became worse by more than WORSE is named.
build/bench.json keeps the rows of the benchmarks that did not run this time, with the time at which they were
measured; so each benchmark can run alone. `python -m support.wire_page` writes docs/benchmarks.md from it.
"""

import datetime as dt
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from support.wire_data import QUICK

RESULT = Path(__file__).resolve().parents[2] / "build" / "bench.json"
WORSE = 0.15


@dataclass(frozen=True)
class Row:
    """One measurement. `met` is None if there is no target.

    `figure` is compared with that of the last run: the ratio to a peer if there is one, because the rates of
    a machine vary from hour to hour. `more_is_better` is False for times and sizes.
    """

    what: str
    ours: str
    peer: str
    ratio: float | None
    target: str
    met: bool | None
    figure: float
    more_is_better: bool
    benchmark: str = field(default_factory=lambda: _running()[0])
    """The test that measured it, without its parameters."""
    case: str = field(default_factory=lambda: _running()[1])
    """The parameters of the test."""
    measured: str = field(default_factory=lambda: dt.datetime.now(dt.UTC).isoformat(timespec="minutes"))


def _running() -> tuple[str, str]:
    test = os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)")
    name, _, case = test.partition("[")
    return name, case.removesuffix("]")


class Rows:
    """The measurements of this run."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._plots: dict[str, dict[str, list[tuple[float, float]]]] = {}

    def faster(
        self,
        what: str,
        ours: float,
        *,
        than: str,
        theirs: float,
        at_least: float | None,
        unit: str = "/s",
    ) -> None:
        """Add a rate that must reach `at_least` times the peer's rate; None only reports it."""
        ratio = ours / theirs
        self._rows.append(
            Row(
                what,
                f"{ours:.0f}{unit}",
                f"{than} {theirs:.0f}{unit}",
                ratio,
                "reported" if at_least is None else f"≥ {at_least:g} x",
                None if at_least is None else ratio >= at_least,
                ratio,
                more_is_better=True,
            )
        )

    def within(self, what: str, ours: float, unit: str, *, at_most: float | None, peer: str = "") -> None:
        """Add a figure that must stay at or below `at_most`; None only reports it."""
        met = None if at_most is None else ours <= at_most
        target = "reported" if at_most is None else f"≤ {at_most:g} {unit}"
        self._rows.append(
            Row(what, f"{ours:.3g} {unit}", peer, None, target, met, ours, more_is_better=False)
        )

    def point(self, plot: str, series: str, x: float, y: float) -> None:
        """Add a point to a line of a plot."""
        self._plots.setdefault(plot, {}).setdefault(series, []).append((x, y))

    def save(self) -> None:
        """Print the table, and what is worse than in the last run; write it as JSON and as Markdown."""
        if not self._rows:
            return
        table = Table(title=f"make bench · {machine()}" + (" · QUICK" if QUICK else ""))
        for column in ("what", "ours", "peer", "ratio", "target", ""):
            table.add_column(column)
        for row in self._rows:
            verdict = {True: "[green]met", False: "[red]missed", None: ""}[row.met]
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            table.add_row(row.what, row.ours, row.peer, ratio, row.target, verdict)
        last = _last_run()
        worse = worse_than(figures_of(last), self._rows)
        Console(width=150).print("\n", table)
        for text in worse:
            Console(width=150).print(f"[red]worse than the last run: {text}")
        RESULT.parent.mkdir(exist_ok=True)
        content = {
            "machine": machine(),
            "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "quick": QUICK,
            "rows": [*kept(last.get("rows", []), self._rows), *(asdict(row) for row in self._rows)],
            "plots": {**last.get("plots", {}), **self._plots},
            "worse": worse,
        }
        RESULT.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def kept(before: Sequence[dict[str, Any]], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows of earlier runs that none of these cases has measured again."""
    again = {(row.benchmark, row.case) for row in rows}
    return [row for row in before if (row["benchmark"], row["case"]) not in again]


def figures_of(content: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Return the figures of a run by what was measured and the name of the peer."""
    return {(row["what"], _name(row["peer"])): float(row["figure"]) for row in content.get("rows", [])}


def worse_than(before: Mapping[tuple[str, str], float], rows: Sequence[Row]) -> list[str]:
    """Name the rows whose figure is worse than `before` by more than WORSE.

    `before` has the figures by `what` and the name of the peer.
    """
    found = []
    for row in rows:
        last = before.get((row.what, _name(row.peer)))
        if not last or not row.figure:
            continue
        share = row.figure / last if row.more_is_better else last / row.figure
        if share < 1 - WORSE:
            found.append(f"{row.what}, {_name(row.peer)}: {row.figure:.3g}, was {last:.3g}")
    return found


def markdown(rows: Sequence[Row]) -> str:
    """Return the table for docs/benchmarks.md."""
    lines = ["| what | edge | peer | ratio | target | |", "|---|---|---|---|---|---|"]
    for row in rows:
        verdict = {True: "met", False: "**missed**", None: ""}[row.met]
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append(f"| {row.what} | {row.ours} | {row.peer} | {ratio} | {row.target} | {verdict} |")
    return "\n".join(lines) + "\n"


def _last_run() -> dict[str, Any]:
    """Return the content of the last run; nothing if there was none, or if the other one was quick."""
    try:
        content: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
        for row in content["rows"]:
            Row(**row)  # of this version
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return {}
    return content if content["quick"] is QUICK else {}


def _name(peer: str) -> str:
    """Return the name of a peer without its figure."""
    return re.split(r"\s*\d", peer, maxsplit=1)[0]


def machine() -> str:
    """Return cores, Python version and kernel."""
    system = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {system}"
