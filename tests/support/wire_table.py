"""The rows of `make bench`: our figure, the peer's figure, their ratio, the target, met or missed."""

import datetime as dt
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from support.wire_data import QUICK

RESULT = Path(__file__).resolve().parents[2] / "build" / "bench.json"


@dataclass(frozen=True)
class Row:
    """One measurement. `met` is None if there is no target."""

    what: str
    ours: str
    peer: str
    ratio: float | None
    target: str
    met: bool | None


class Rows:
    """The measurements of this run."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self.figures: dict[str, float] = {}
        """Figures to which later rows refer by name."""

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
            )
        )

    def within(self, what: str, ours: float, unit: str, *, at_most: float | None, peer: str = "") -> None:
        """Add a figure that must stay at or below `at_most`; None only reports it."""
        met = None if at_most is None else ours <= at_most
        target = "reported" if at_most is None else f"≤ {at_most:g} {unit}"
        self._rows.append(Row(what, f"{ours:.3g} {unit}", peer, None, target, met))

    def save(self) -> None:
        """Print the table, and write it as JSON to build/bench.json."""
        if not self._rows:
            return
        table = Table(title=f"make bench · {machine()}" + (" · QUICK" if QUICK else ""))
        for column in ("what", "ours", "peer", "ratio", "target", ""):
            table.add_column(column)
        for row in self._rows:
            verdict = {True: "[green]met", False: "[red]missed", None: ""}[row.met]
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            table.add_row(row.what, row.ours, row.peer, ratio, row.target, verdict)
        Console(width=150).print("\n", table)
        RESULT.parent.mkdir(exist_ok=True)
        content = {
            "machine": machine(),
            "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "quick": QUICK,
            "rows": [asdict(row) for row in self._rows],
            "figures": self.figures,
        }
        RESULT.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def machine() -> str:
    """Return cores, Python version and kernel."""
    system = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {system}"
