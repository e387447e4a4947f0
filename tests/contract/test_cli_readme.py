"""README, `--help`, config.yaml and the code say the same."""

import importlib
import inspect
import re
from typing import Any

import pytest
import typer
import yaml
from support.documents import configuration_keys, is_key
from support.launcher import REPOSITORY
from typer.testing import CliRunner

from cli.configuration import flat
from cli.main import COMMANDS, CliCommand, build
from gateway.config import Configuration
from gateway.config.destination import Destination, Worker

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SHOWN = sorted(set(re.findall(r"mini-pacs ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?((?: [^\n`#]*)?)", README)))


def attribute(command: CliCommand) -> Any:
    """Return the application or function behind a command."""
    return getattr(importlib.import_module(f"cli.{command.module}"), command.attribute)


def help_of(*words: str) -> str:
    """Return the help of a command, whole: wide enough that no option is cut."""
    result = CliRunner(env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"}).invoke(
        build(words[0]), [*words, "--help"]
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_readme_lists_every_command_and_no_other() -> None:
    """The table of commands is that of `mini-pacs --help`."""
    listed = re.findall(r"^\| `mini-pacs ([a-z-]+)` \|", README, re.MULTILINE)
    assert sorted(listed) == sorted(command.name for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_line_of_help_is_that_of_the_command(command: CliCommand) -> None:
    """`mini-pacs --help` imports nothing and says what `mini-pacs COMMAND --help` says."""
    found = attribute(command)
    text = found.info.help if isinstance(found, typer.Typer) else inspect.getdoc(found)
    assert text is not None
    assert text.splitlines()[0] == command.text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_readme_names_every_word_of_a_noun(command: CliCommand) -> None:
    """The words behind a noun (`deliveries retry`) stand in its line of the table."""
    found = attribute(command)
    if not isinstance(found, typer.Typer):
        return
    [line] = [line for line in README.splitlines() if line.startswith(f"| `mini-pacs {command.name}`")]
    for one in found.registered_commands:
        name = one.name or str(getattr(one.callback, "__name__", "")).replace("_", "-")
        assert f"`{name}`" in line


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: " ".join(shown).strip())
def test_every_command_and_option_in_readme_exists(shown: tuple[str, str, str]) -> None:
    """What README tells to type is accepted."""
    noun, word, rest = shown
    [command] = [command for command in COMMANDS if command.name == noun]
    is_group = isinstance(attribute(command), typer.Typer)
    text = help_of(noun, word) if is_group and word else help_of(noun)
    for option in re.findall(r"(?<!\S)\[?(--[a-z-]+)", rest):
        assert option in text, f"mini-pacs {noun} {word} has no {option}"


def test_readme_is_short() -> None:
    """150 lines at most: details are pages of docs/."""
    assert len(README.splitlines()) <= 150


def test_config_yaml_holds_every_key_with_its_default() -> None:
    """What stands in the file is what stands where it does not, except what is required."""
    path = REPOSITORY / "config.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    edge, forwarder = content["edge"], content["forwarder"]
    required = {
        "edge": {key: edge[key] for key in ("ae_title", "allowed_calling_aets")},
        "forwarder": {key: forwarder[key] for key in ("orthanc", "workers")},
    }
    defaults = Configuration.model_validate({**required, "source": path})
    written = Configuration.model_validate({**content, "source": path})
    assert written == defaults
    values = dict(flat(defaults.model_dump(mode="json", exclude={"source"})))
    optional = {key for key, value in values.items() if value is None}
    assert set(dict(flat(content))) == set(values) - optional
    text = path.read_text(encoding="utf-8")
    for name in {key.rpartition(".")[2] for key in optional}:
        assert f"# {name}:" in text, f"{name} has no default, and no example either"


def test_config_yaml_holds_every_key_of_a_destination() -> None:
    """Each entry has every key of its section; a key whose default is None may be an example instead.

    What stands in an entry is an example, so only the keys are compared. The default of `timeout_s` is named.
    """
    path = REPOSITORY / "config.yaml"
    text = path.read_text(encoding="utf-8")
    forwarder = yaml.safe_load(text)["forwarder"]
    pairs = [
        (Destination, forwarder["orthanc"]),
        *((Worker, one) for one in forwarder["workers"]),
    ]
    for section, entry in pairs:
        fields = section.model_fields
        optional = {
            name for name, field in fields.items() if not field.is_required() and field.default is None
        }
        assert set(fields) - optional <= set(entry) <= set(fields), entry
        for name in optional - set(entry):
            assert f"# {name}:" in text, f"{section.__name__}.{name} has no example"
    required = {name for name, field in Destination.model_fields.items() if field.is_required()}
    [orthanc] = re.findall(r"^  orthanc:.*\n((?:    .*\n)*)", text, re.MULTILINE)
    assert set(re.findall(r"^ {4}(\w+):.*# required", orthanc, re.MULTILINE)) == required
    assert f"default {Destination.model_fields['timeout_s'].default}" in orthanc


def test_every_test_that_security_names_exists() -> None:
    """What is said to be proved is proved somewhere."""
    text = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
    named = re.findall(r"(?:tests|\.ci)/[\w/.]+", text)
    assert named
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_every_key_that_documents_name_exists() -> None:
    """`edge.…`, `forwarder.…` and `sweep.…` in README, SECURITY and the conformance statement are keys."""
    for name in ("README.md", "SECURITY.md", "docs/conformance.md"):
        text = (REPOSITORY / name).read_text(encoding="utf-8")
        for key in configuration_keys(text):
            assert is_key(key), f"{name} names {key}"
