"""Whether the schema has all that the migrations made: a restore may lose constraints and triggers."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from gateway.database.describe import Object, expected_objects
from gateway.diagnosis.finding import Finding, Holds, note, problem

MOST = 3
"""How many missing objects are named."""


def schema(found: AbstractSet[Object]) -> Iterator[Finding]:
    """Yield what is missing in the schema, and triggers that are not of the edge."""
    expected = expected_objects()
    missing = [one for one in expected if one not in found]
    if missing:
        names = ", ".join(_named(one) for one in missing[:MOST])
        more = f" and {len(missing) - MOST} more" if len(missing) > MOST else ""
        statement = next((expected[one] for one in missing if expected[one]), "")
        remedy = (
            f"as the owner of the database: `{statement}`"
            if statement and len(missing) == 1
            else (
                "restore the database again with its indexes, triggers and functions; "
                "gateway/database/schema.sql and gateway/database/functions have each statement"
            )
        )
        yield problem(
            "postgres.incomplete",
            f"The schema of PostgreSQL is not complete: it has no {names}{more} (or not in force)",
            "instances may be registered twice, not at all, or not be forwarded; files are safe in the spool",
            remedy,
            holds=Holds.ALL,
        )
    tables = {one.tbl for one in expected}
    for one in sorted(found - expected.keys()):
        if one.kind == "trigger" and one.tbl in tables:
            yield note(
                f"postgres.trigger:{one.name}",
                f"The table {one.tbl} has a trigger that is not of the edge: {one.name}",
                "it runs in transactions of the edge, and can slow them down or make them fail",
                f"if nobody needs it: `DROP TRIGGER {one.name} ON {one.tbl}`, as the owner of the database",
                holds=Holds.LATER,
            )


def _named(one: Object) -> str:
    return f"{one.kind} {one.name}" + (f" of {one.tbl}" if one.tbl else "")
