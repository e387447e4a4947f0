"""Rules of `accepts` that could not be decided for an instance."""

from collections.abc import Iterator

from gateway.database.tables.overview import Overview
from gateway.diagnosis.finding import Finding, Holds, note
from gateway.times import since


def undecided(view: Overview) -> Iterator[Finding]:
    """Yield each target whose rule could not be decided lately."""
    for one in view.undecided:
        yield note(
            f"rules.undecided:{one.target}",
            f"The rule of {one.target} could not be decided for {one.instances:,} instances, the last "
            f"{since(one.newest_at, view.now)} ago",
            "archives got these instances, applications did not",
            f"`mini-pacs rules explain {one.newest}` says which attribute could not be read",
            since=one.newest_at,
            holds=Holds.SOME,
        )
