"""docs/json.md, `--help` and the commands agree about `--json`."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from support.launcher import REPOSITORY
from typer.testing import CliRunner

from cli.documents import Schema
from cli.exit_codes import ExitCode
from cli.main import COMMANDS, build

PAGE = (REPOSITORY / "docs/json.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `mini-pacs ([^`]+)` \| `([^`]+)` \|", PAGE, re.MULTILINE)
EXAMPLES = {
    "UID": "1.2.3",
    "ID": "1",
    "AE": "ORTHANC",
    "NAME": "pacs_down",
    "ROLE": "runtime",
    "PATH": "/nowhere/at/all",
    "FILE": "/nowhere/at/all",
}


def leaves() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the words of each command that does something, and the command."""
    for listed in COMMANDS:
        command: Any = typer.main.get_command(build(listed.name)).commands[listed.name]  # type: ignore[attr-defined]
        yield from leaves_below((listed.name,), command)


def leaves_below(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the command, if it does something, and those of its group and the groups in it."""
    inner = getattr(command, "commands", {})
    if not inner or command.invoke_without_command:
        yield words, command
    for name, one in inner.items():
        yield from leaves_below((*words, name), one)


LEAVES = dict(leaves())
WITH_JSON = [
    words for words, leaf in LEAVES.items() if any("--json" in parameter.opts for parameter in leaf.params)
]


def invoke(*words: str) -> Any:
    """Return the result of one command, in this process."""
    return CliRunner().invoke(build(words[0]), list(words))


def error_in(output: str) -> dict[str, Any]:
    """Return the error document that is the whole of `output`."""
    document: dict[str, Any] = json.loads(output)
    assert list(document) == ["schema", "error", "hint", "exit_code"]
    assert document["schema"] == Schema.ERROR
    return document


def named(row: str) -> tuple[str, ...]:
    """Return the words of a row of the page that name its command."""
    words = tuple(row.split())
    return next(words[:length] for length in (3, 2, 1) if words[:length] in LEAVES)


def test_the_page_has_every_schema_in_its_version_and_no_other() -> None:
    """The table of the page equals the enum."""
    assert {schema for _, schema in ROWS} | {Schema.ERROR.value} == {schema.value for schema in Schema}
    assert f"`{Schema.ERROR}`" in PAGE


def test_the_page_has_every_command_that_takes_json_and_no_other() -> None:
    """Each command is a row; a command without a schema is marked so."""
    assert {named(row) for row, _ in ROWS} == set(WITH_JSON)


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_takes_h_for_help(words: tuple[str, ...]) -> None:
    """`-h` is `--help`."""
    short, long = invoke(*words, "-h"), invoke(*words, "--help")
    assert short.exit_code == ExitCode.OK
    assert short.output == long.output
    assert "Usage:" in short.output


@pytest.mark.parametrize("words", [(), *{words[:1] for words in LEAVES}], ids=" ".join)
def test_every_group_of_commands_takes_h_for_help(words: tuple[str, ...]) -> None:
    """`mini-pacs -h`, `mini-pacs deliveries -h`."""
    result = CliRunner().invoke(build(*words), [*words, "-h"])
    assert result.exit_code == ExitCode.OK
    assert "Usage:" in result.output


@pytest.mark.parametrize("words", WITH_JSON, ids=" ".join)
def test_a_usage_error_with_json_is_an_error_document(words: tuple[str, ...]) -> None:
    """Standard output holds the document only; the message is on standard error as well."""
    result = invoke(*words, "--json", "--no-such-option")
    assert result.exit_code == ExitCode.USAGE
    document = error_in(result.stdout)
    assert document["exit_code"] == ExitCode.USAGE
    assert "--no-such-option" in document["error"]
    assert document["error"] in result.stderr


ANSWERS = {"diagnose"}
"""Commands whose answer says what cannot be reached: tests/integration/test_diagnosis.py."""


@pytest.mark.parametrize("row", [row for row, _ in ROWS if row not in ANSWERS])
def test_an_unreachable_database_is_an_error_document(
    row: str, edge_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command prints what the page shows; commands without a database lack a configuration instead."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://somebody:secret@127.0.0.1:1/none")
    words = [EXAMPLES.get(word, word) for word in row.split()]
    code = ExitCode.UNREACHABLE
    if named(row) in {
        ("config", "check"),
        ("destinations", "echo"),
        ("send",),
        ("notify", "test"),
        ("rules", "check"),
        ("rules", "test"),
    }:
        (edge_folder / "config.yaml").unlink()
        code = ExitCode.USAGE
    if named(row) == ("demo",):  # brings a database of its own
        monkeypatch.setattr(tempfile, "tempdir", str(edge_folder / "gone"))
        code = ExitCode.FAILED
    result = invoke(*words, "--json")
    assert result.exit_code == code, result.output
    document = error_in(result.stdout)
    assert document["exit_code"] == code
    assert "127.0.0.1:1" in document["error"] or code is not ExitCode.UNREACHABLE
    assert "secret" not in result.output
