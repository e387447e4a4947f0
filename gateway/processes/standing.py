"""Compare config.yaml, the version that runs, and what each process uses."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.config import Configuration
from gateway.database.tables.configurations import Version
from gateway.database.tables.debts import Debt
from gateway.database.tables.processes import ProcessKind, ProcessRow
from gateway.processes.history import changes_since
from gateway.processes.keys import restarts

SHOWN = 3
"""How many changes are named in one sentence."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """What does not agree, what it means for images, and what to type; `problem`: an operator must act."""

    key: str
    problem: bool
    what: str
    means: str
    remedy: str

    @property
    def text(self) -> str:
        """The whole in one line."""
        return f"{self.what}; {self.means}; {self.remedy}"


def disagreements(
    file: Configuration, runs: Version | None, rows: Sequence[ProcessRow], debts: Sequence[Debt]
) -> Iterator[Disagreement]:
    """Yield what differs between the file on this host, the version that runs, and the processes.

    `debts` are owed to targets that the file does not have.
    """
    for debt in debts:
        yield Disagreement(
            f"configuration.removed:{debt.name}",
            True,
            f"{debt.name} is owed {debt.pending + debt.in_flight:,} instances, and is not in {file.source}",
            "nothing sends these instances after the file is loaded; they are kept",
            "say where they go: `mini-pacs config reload --move-to TARGET`, or `--cancel`",
        )
    if runs is None:
        return
    yield from _edited(file, runs)
    yield from _others(runs, rows)
    yield from _restarts(rows)


def _edited(file: Configuration, runs: Version) -> Iterator[Disagreement]:
    if file.digest == runs.digest:
        return
    changes = [change.text for change in changes_since(runs, file)]
    if not changes:
        return  # a default was written out, or an order of keys changed
    more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
    yield Disagreement(
        "configuration.not_loaded",
        True,
        f"{file.source} was edited and not loaded: {'; '.join(changes[:SHOWN])}{more}",
        f"the processes keep version {runs.version}",
        "`mini-pacs config reload` loads it",
    )


def _others(runs: Version, rows: Sequence[ProcessRow]) -> Iterator[Disagreement]:
    for row in rows:
        if row.kind is ProcessKind.SERVE or not row.beats or row.configuration_digest in {None, runs.digest}:
            continue
        yield Disagreement(
            f"configuration.other:{row.kind}:{row.serves}",
            True,
            f"The {row.name} uses another configuration than version {runs.version}, which runs",
            "it treats images differently from the other processes",
            "give every host the same config.yaml, then `mini-pacs config reload`",
        )


def _restarts(rows: Sequence[ProcessRow]) -> Iterator[Disagreement]:
    waiting: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.beats:
            for key in row.restart_for:
                waiting[restarts(key) or "the process"].add(key)
    for what, keys in waiting.items():
        yield Disagreement(
            f"configuration.restart:{what}",
            False,
            f"{', '.join(sorted(keys))} changed in config.yaml and counts after a restart only",
            "the old values are used until then",
            f"restart {what}",
        )
