"""docs/operate/logs.md has every field and outcome word that the code writes into the log, and no other."""

import ast
import re
from collections.abc import Iterator

import pytest
from support.documents import page, tracked
from support.launcher import REPOSITORY

from gateway.database.tables.instances import ReceptionVerdict
from gateway.database.tables.results import Expiry
from gateway.dicom import accepted_association
from gateway.domain.delivery import State
from gateway.domain.matching import Correlation
from gateway.domain.outcome import Outcome
from gateway.log import Stage
from gateway.sweep.run import VERBS

PAGE = page("docs/operate/logs.md")

FROM_ENUMS = {
    *(verdict.value for verdict in ReceptionVerdict if verdict is not ReceptionVerdict.NAME_TAKEN),
    *(correlation.value for correlation in Correlation),
    *accepted_association._OUTCOMES.values(),
    *VERBS,
    Expiry.REDISPATCHED.value,
    Expiry.TIMED_OUT.value,
    State.DELIVERED.value,
    State.PENDING.value,
    State.DEAD.value,
}
"""Outcomes that are values, not literals. NAME_TAKEN is never logged: the instance is committed again."""

FROM_VARIABLES = {"tried_with_one", "late", "older_generation", "retried", "resent", "cancelled"}
"""Outcomes that reach the log in a variable (probe.py, correlate.py, cli/deliveries.py)."""


def strings(node: ast.AST) -> Iterator[str]:
    """Yield the string literals that an argument may be: one, or both of an `if`."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from strings(node.body)
        yield from strings(node.orelse)


def literals(source: str) -> Iterator[str]:
    """Yield the outcomes that are literals: of `log.write`, and of the functions that pass them on to it."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
            continue
        if ast.unparse(node.func) in {"log.write", "self._write", "_write", "self._log", "_log"}:
            for argument in node.args[1:]:
                yield from strings(argument)


def written() -> set[str]:
    """Return the literal outcomes of the whole program."""
    files = tracked(
        *(
            f"{folder}/{files}"
            for folder in ("gateway", "actors", "cli", "console")
            for files in ("*.py", "**/*.py")
        )
    )
    return {word for path in files for word in literals(path.read_text(encoding="utf-8"))}


def listed(column: str) -> list[str]:
    """Return the words of every table whose first column is `column`."""
    tables = re.findall(rf"^\| {column} \|.*\n\|[-|]+\n((?:\|.*\n)*)", PAGE, re.MULTILINE)
    return [
        word
        for table in tables
        for row in table.splitlines()
        for word in re.findall(r"`(\w+)`", row.split("|")[1])
    ]


def test_the_page_has_every_outcome_and_no_other() -> None:
    """Each word has its row, once."""
    rows = listed("word")
    assert sorted(rows) == sorted(written() | FROM_ENUMS | FROM_VARIABLES)


def test_the_page_has_every_outcome_of_an_attempt() -> None:
    """They are in `detail`."""
    assert sorted(listed("detail")) == sorted(outcome.value for outcome in Outcome)


def test_the_page_has_every_stage() -> None:
    """Each is a heading, with its tables below it."""
    headings = [
        title for title in re.findall(r"^## (.*)$", PAGE, re.MULTILINE) if title != "Send it to a log server"
    ]
    assert sorted(", ".join(headings).split(", ")) == sorted(stage.value for stage in Stage)


def test_the_page_has_every_field_and_no_other() -> None:
    """Those that gateway/log.py writes."""
    source = (REPOSITORY / "gateway" / "log.py").read_text(encoding="utf-8")
    written_fields: list[object] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "fields":
            assert isinstance(node.value, ast.Dict)
            written_fields += [key.value for key in node.value.keys if isinstance(key, ast.Constant)]
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "fields":
            assert isinstance(node.slice, ast.Constant)
            written_fields.append(node.slice.value)
    assert sorted(listed("field")) == sorted(map(str, written_fields))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('log.write(Stage.DB, "waiting", level="warning")', ["waiting"]),
        ('log.write(stage, "dead" if dead else "failed")', ["dead", "failed"]),
        ('self._log(requestor, "associated")', ["associated"]),
        ('file.write("text")', []),
    ],
)
def test_a_literal_is_found(source: str, words: list[str]) -> None:
    """The tests above can fail."""
    assert list(literals(source)) == words
