"""Ask an edge what is wrong with it, and compare with what an operator must be told."""

import json
import re
import subprocess
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from proof.edges.edge import Edge
from proof.edges.lab import Lab

Finding = dict[str, Any]
ASK_AGAIN = 40.0  # s in which diagnose is asked again, to learn when it names the cause
SLOW = 12.0  # s; a diagnose that takes longer failed its promise of ten seconds and the start of a process


@dataclass
class Answer:
    """What one `mini-pacs diagnose --json` said."""

    seconds: float
    exit_code: int
    findings: list[Finding]
    failed: str = ""

    @property
    def problems(self) -> list[Finding]:
        """The findings that an operator has to act on."""
        return [finding for finding in self.findings if finding["severity"] == "problem"]

    @property
    def green(self) -> bool:
        """Whether it says that all is well."""
        return self.exit_code == 0


@dataclass
class Row:
    """One line of the table."""

    name: str
    about: str
    setup_seconds: float = 0.0
    said: str = ""
    seconds: float = 0.0  # of the diagnose that named it
    named_after: float | None = None  # s after the first question; None: never
    cause: bool = False
    remedy: bool = False
    note_only: bool = False
    green: list[str] = field(default_factory=list)
    mended: bool = False
    gone_after: float | None = None
    well_after: bool = False
    failed: str = ""
    answers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether cause and remedy were named, nothing was green, and the remedy mended it."""
        return self.cause and self.remedy and not self.green and self.mended and not self.failed


def diagnose(lab: Lab) -> Answer:
    """Run `mini-pacs diagnose --json`."""
    begun = time.monotonic()
    try:
        done = lab.command("diagnose", "--json", seconds=60)
    except subprocess.TimeoutExpired:
        return Answer(time.monotonic() - begun, -1, [], "diagnose did not end within 60 s")
    seconds = time.monotonic() - begun
    try:
        document = json.loads(done.stdout)
    except ValueError:
        return Answer(seconds, done.returncode, [], (done.stdout + done.stderr)[-600:])
    if "findings" not in document:
        return Answer(seconds, done.returncode, [], json.dumps(document)[:600])
    return Answer(seconds, done.returncode, document["findings"])


def status_is_green(lab: Lab) -> bool:
    """Return whether `mini-pacs status --check` ends with 0."""
    try:
        return lab.command("status", "--check", seconds=60).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _patterns(patterns: tuple[str, ...], lab: Lab) -> list[re.Pattern[str]]:
    facts = {"port": str(lab.port), **lab.facts}
    filled = patterns
    for key, value in facts.items():
        filled = tuple(text.replace("{" + key + "}", re.escape(value)) for text in filled)
    return [re.compile(text, re.IGNORECASE) for text in filled]


def names_cause(edge: Edge, lab: Lab, finding: Finding) -> bool:
    """Return whether a finding says what is wrong, in the words that an operator needs."""
    said = f"{finding['what']} {finding.get('means') or ''}"
    return all(pattern.search(said) for pattern in _patterns(edge.cause, lab))


def names_remedy(edge: Edge, lab: Lab, finding: Finding) -> bool:
    """Return whether a finding says what to do about it."""
    return all(pattern.search(finding.get("remedy") or "") for pattern in _patterns(edge.remedy, lab))


def _ask(edge: Edge, lab: Lab, row: Row) -> None:
    """Ask until cause and remedy are named, or patience ends; note whatever was green meanwhile."""
    begun = time.monotonic()
    patience = max(ASK_AGAIN, edge.within)
    while True:
        asked = time.monotonic() - begun
        answer = diagnose(lab)
        green_check = status_is_green(lab)
        row.answers.append({"asked": round(asked, 1), **asdict(answer), "status_green": green_check})
        named = [finding for finding in answer.findings if names_cause(edge, lab, finding)]
        helpful = [finding for finding in named if names_remedy(edge, lab, finding)]
        chosen = next(iter(helpful or named or answer.problems or answer.findings), None)
        if asked >= edge.within or named:
            row.green += [f"diagnose at {asked:.0f} s"] if answer.green else []
            row.green += [f"status at {asked:.0f} s"] if green_check else []
        row.said = _short(chosen) if chosen else answer.failed or "All is well"
        row.seconds = answer.seconds
        row.cause, row.remedy = bool(named), bool(helpful)
        row.note_only = bool(helpful) and chosen is not None and chosen["severity"] != "problem"
        if helpful:
            row.named_after = asked
            return
        if time.monotonic() - begun > patience:
            return
        time.sleep(3.0)


def _short(finding: Finding) -> str:
    text = f"{finding['what']} → {finding.get('remedy') or '(no remedy)'}"
    return text if len(text) < 420 else text[:417] + "…"


def _wait_until_gone(edge: Edge, lab: Lab, row: Row) -> None:
    begun = time.monotonic()
    while True:
        answer = diagnose(lab)
        after = time.monotonic() - begun
        left = [finding for finding in answer.findings if names_cause(edge, lab, finding)]
        if not left and not answer.failed:
            row.mended, row.gone_after = True, after
        if (row.mended and answer.green) or after > (edge.gone_within or 0):
            row.well_after = answer.green
            row.answers.append({"after_remedy": round(after, 1), **asdict(answer)})
            if edge.gone_within is None:
                row.mended = True
            return
        time.sleep(3.0)


def judge(edge: Edge, lab: Lab) -> Row:
    """Break an edge, ask, mend it, ask again."""
    row = Row(edge.name, edge.about)
    lab.facts.clear()
    begun = time.monotonic()
    steps = edge.steps(lab)
    try:
        next(steps)
        row.setup_seconds = time.monotonic() - begun
        _ask(edge, lab, row)
        next(steps, None)
        _wait_until_gone(edge, lab, row)
    except Exception as error:  # noqa: BLE001  the next edge gets a new lab
        row.failed = f"{type(error).__name__}: {error}"[:500]
        steps.close()
    return row
