"""The report of all runs: a table as text, and JSON."""

from collections import Counter, defaultdict
from typing import Any

from proof.crash_points.points import Kind
from proof.crash_points.trials import TrialResult


def as_text(results: list[TrialResult], seconds: float) -> str:
    """Return a line for each scenario: points by kind, and deviations; then each deviation in full."""
    points: Counter[tuple[str, str]] = Counter()
    missed: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    names = list(dict.fromkeys(one.scenario for one in results))
    for one in results:
        if one.site and one.point:
            points[one.scenario, one.point.kind] += 1
        missed[one.scenario] += not one.site
        wrong[one.scenario] += bool(one.deviations)
    head = ["scenario", *Kind, "points", "without a crash", "deviations"]
    lines = [head]
    for name in names:
        of = [points[name, kind] for kind in Kind]
        lines.append([name, *map(str, of), str(sum(of)), str(missed[name]), str(wrong[name])])
    of = [sum(points[name, kind] for name in names) for kind in Kind]
    lines.append(["in all", *map(str, of), str(sum(of)), str(sum(missed.values())), str(sum(wrong.values()))])
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    slowest = max((one.seconds for one in results), default=0.0)
    table.append(f"{len(results)} runs in {seconds:.0f} s, the slowest {slowest:.1f} s")
    for one in results:
        if one.deviations:
            table.append(f"\n{one.scenario} {one.point or 'without a crash'} {one.site}:")
            table += [f"    {deviation}" for deviation in one.deviations]
            table.append(one.output)
    return "\n".join(table)


def as_json(results: list[TrialResult], seconds: float, seed: int | None) -> dict[str, Any]:
    """Return every run, and the sites by scenario."""
    sites: dict[str, dict[str, int]] = defaultdict(dict)
    for one in results:
        if one.site and one.point:
            key = f"{one.point.kind} {one.site}"
            sites[one.scenario][key] = sites[one.scenario].get(key, 0) + 1
    return {
        "seed": seed,
        "seconds": round(seconds, 1),
        "points": sum(bool(one.site) for one in results),
        "deviations": sum(bool(one.deviations) for one in results),
        "sites": sites,
        "runs": [
            {
                "scenario": one.scenario,
                "point": one.point and str(one.point),
                "site": one.site,
                "seconds": round(one.seconds, 2),
                "deviations": one.deviations,
            }
            for one in results
        ],
    }
