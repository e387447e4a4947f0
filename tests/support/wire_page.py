"""`python -m support.wire_page`: write what build/bench.json holds into docs/benchmarks.md, with its plot.

The rows stand between two comments of the page; the rest of the page is written by hand. Figures of a quick
run are not published.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from support import plot
from support.launcher import REPOSITORY
from support.wire_table import RESULT, Row, markdown

PAGE = REPOSITORY / "docs" / "benchmarks.md"
PICTURES = REPOSITORY / "docs" / "pictures"
_AT_ONCE = re.compile(r"accept, (\w+), (\d+) associations at once")
BEGIN, END = "<!-- the rows of build/bench.json -->", "<!-- end of the rows -->"

PARTS = {
    "test_wire_1_accept": "Accepting",
    "test_wire_2_forward": "Forwarding",
    "test_wire_3_endurance": "Load over a long time",
    "test_wire_4_latency": "Latency against offered load",
    "test_wire_5_scale": "Associations, receivers and memory",
    "test_wire_6_budget": "What an instance costs",
    "test_wire_7_orthancs": "Other Orthancs",
    "test_growth": "Growth",
    "test_queue_rate": "The queue",
    "test_console_cost": "The console",
    "test_rules_cost": "Rules",
}
"""The heading of each file of benchmarks, in the order of the page."""


def main() -> int:
    """Write page and picture unless the run was quick; return the exit code."""
    content = json.loads(RESULT.read_text(encoding="utf-8"))
    if content["quick"]:
        sys.stderr.write("a quick run is not published: docs/benchmarks.md stays as it is\n")
        return 0
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"{PAGE} has no line {END}"
    PAGE.write_text(f"{before}{BEGIN}\n{tables(content)}\n{END}{after}", encoding="utf-8")
    if series := content["plots"].get("latency"):
        (PICTURES / "latency.svg").write_text(picture(series), encoding="utf-8")
    if series := of_associations([Row(**row) for row in content["rows"]]):
        drawn = plot.lines("Accepting over several associations", "associations", "instances/s", series)
        (PICTURES / "associations.svg").write_text(drawn, encoding="utf-8")
    return 0


def tables(content: Mapping[str, Any]) -> str:
    """Return the headings and tables of the page."""
    rows = [Row(**row) for row in content["rows"]]
    parts = [f"\nThe machine: {content['machine']}. Last run: {content['date']}."]
    if content["worse"]:
        parts.append("\nWorse than in the run before by more than 15 %:\n")
        parts += [f"- {text}" for text in content["worse"]]
    for file, heading in PARTS.items():
        if here := [row for row in rows if file in row.benchmark]:
            parts.append(f"\n## {heading}\n\nMeasured {_times(here)}.\n\n{markdown(here)}")
            if file == "test_wire_4_latency":
                parts.append("![Latency against offered load](pictures/latency.svg)\n")
            if of_associations(here):
                parts.append("![Rate by the number of associations](pictures/associations.svg)\n")
    return "\n".join(parts)


def picture(series: Mapping[str, plot.Points]) -> str:
    """Return the plot of latency against load."""
    return plot.lines("Latency of small instances, open loop", "offered, instances/s", "ms", series)


def of_associations(rows: Sequence[Row]) -> dict[str, plot.Points]:
    """Return the rates of edge and Orthanc by the number of associations, for each kind of instance."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if found := _AT_ONCE.fullmatch(row.what):
            for name, rate in (("edge", row.ours), ("Orthanc", row.peer.removeprefix("Orthanc "))):
                point = float(found[2]), float(rate.removesuffix("/s"))
                series.setdefault(f"{name}, {found[1]}", []).append(point)
    return {name: sorted(points) for name, points in sorted(series.items())}


def _times(rows: Sequence[Row]) -> str:
    first, last = min(row.measured for row in rows), max(row.measured for row in rows)
    return first if first == last else f"{first} to {last}"


if __name__ == "__main__":
    sys.exit(main())
