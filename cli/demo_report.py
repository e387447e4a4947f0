"""What `mini-pacs demo` prints: the steps of all studies together, of single studies, and what is missing."""

from collections.abc import Iterator

from rich.console import Console

from cli.demo_run import DemoRun
from cli.step_table import print_steps
from gateway.domain.timeline import InstanceTimeline, summary
from gateway.lab.specimens import CT_STUDY, MR_STUDY

SHOWN_MISSING = 20


def show(screen: Console, run: DemoRun, *, every: bool) -> None:
    """Print the totals, then the generated CT and MR study; with `every`, print all other studies first."""
    studies = _by_study(run)
    shown = [study for name in (CT_STUDY, MR_STUDY) for study in studies if run.names[study] == name]
    if every:
        for study in studies:
            if study not in shown:
                _print_study(screen, run, study, studies[study])
    count = f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}"
    print_steps(screen, f"\nAll: {count}", summary(run.timelines), len(run.sent))
    for study in shown:
        _print_study(screen, run, study, studies[study])


def _print_study(screen: Console, run: DemoRun, study: str, timelines: list[InstanceTimeline]) -> None:
    title = f"\n{run.names[study]}: study {study}"
    print_steps(screen, title, summary(timelines), len(timelines))
    series = run.result_series.get(study, [])
    if series:
        sizes = ", ".join(str(results) for results in series)
        screen.print(f"AI series: {len(series)}, with {sizes} instances", markup=False)


def show_missing(screen: Console, run: DemoRun, *, every: bool) -> None:
    """Print a line for each instance that is not where it should be; without `every` only the first ones."""
    lines = list(missing(run))
    shown = lines if every else lines[:SHOWN_MISSING]
    for line in shown:
        screen.print(line, markup=False, soft_wrap=True)
    if len(lines) > len(shown):
        screen.print(f"… and {len(lines) - len(shown)} more: `mini-pacs demo --all` prints each of them")


def document(run: DemoRun) -> dict[str, object]:
    """Return the report as data, for `--json`."""
    return {
        "complete": run.is_complete(),
        "instances": len(run.timelines),
        "seconds": round(run.seconds, 3),
        "totals": summary(run.timelines),
        "studies": [
            {
                "study_instance_uid": study,
                "what": run.names[study],
                "instances": len(timelines),
                "steps": summary(timelines),
                "result_series": run.result_series.get(study, []),
            }
            for study, timelines in _by_study(run).items()
        ],
        "missing": list(missing(run)),
    }


def missing(run: DemoRun) -> Iterator[str]:
    """Yield a line for each instance that is not where it should be: which step is missing, and why."""
    known = {one.sop_instance_uid for one in run.timelines}
    for sop_instance_uid in run.sent:
        if sop_instance_uid not in known:
            yield f"{sop_instance_uid}: accepted, but not in the database"
    for one in run.timelines:
        name = one.missing()
        if name is not None:
            last = next((step for step in reversed(one.steps) if step.name is name), None)
            why = "not begun" if last is None else f"{last.outcome}: {last.error or 'no error'}"
            yield f"{one.sop_instance_uid}: {name.value}: {why}"
        elif run.held and not {one.sop_instance_uid, *one.result_sop_instance_uids} <= run.held:
            yield f"{one.sop_instance_uid}: delivered, but the PACS does not hold it or its result"


def _by_study(run: DemoRun) -> dict[str, list[InstanceTimeline]]:
    """Return the instances of each study; studies and instances are in the order of reception."""
    studies: dict[str, list[InstanceTimeline]] = {}
    for one in run.timelines:
        studies.setdefault(one.study_instance_uid, []).append(one)
    return studies
