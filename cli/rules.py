"""`mini-pacs rules`: what each destination accepts, and why a destination got an instance or not."""

from pathlib import Path
from typing import Annotated

import typer

from cli import rule_decisions, rule_files, rule_notes
from cli.advice import RefusedError
from cli.documents import Json, Schema, print_document
from cli.operator import opened
from cli.rule_tables import print_decision, print_file, print_rules
from cli.screen import console
from gateway import config
from gateway.database.tables import decisions
from gateway.domain.identifiers import is_ae_title, is_uid
from gateway.rules.tree import lines_of

app = typer.Typer(
    help="Say what each destination accepts; test files; explain a decision.", no_args_is_help=True
)


@app.callback()
def _noun() -> None:
    """Say what each destination accepts; test files; explain a decision."""


@app.command()
def check(as_json: Json = False) -> None:
    """Check the configuration, and print the rule of each destination in words.

    Exit code 2 if a rule is wrong, with a line that says where, and what to write instead.
    """
    configuration = config.load()
    rules = configuration.forwarder.rules
    notes = list(rule_notes.warnings(configuration))
    if as_json:
        content = {
            "source": str(configuration.source),
            "digest": rules.digest.hex(),
            "targets": [
                {
                    "target": str(target),
                    "accepts": None if rule is None else rule.canonical,
                    "words": None if rule is None else lines_of(rule),
                }
                for target, rule in rules.rules.items()
            ],
            "warnings": notes,
        }
        print_document(Schema.RULES, content)
        return
    screen = console(soft_wrap=True)
    screen.print(f"Rules in {configuration.source}, version {rules.digest.hex()}")
    print_rules(screen, rules)
    for sentence in notes:
        screen.print(f"· {sentence}")
    screen.print("The rules are valid.")


@app.command("test")
def try_files(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="DICOM Part 10 files.")],
    calling_ae: Annotated[
        str | None,
        typer.Option(
            "--calling-aet", help="The AE title that calls; by default the one in the file, (0002,0016)."
        ),
    ] = None,
    called_ae: Annotated[
        str | None,
        typer.Option("--called-aet", help="The AE title that is called; by default edge.ae_title."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Evaluate the rules on files: each condition, the values that it meets, and who would get the file.

    Nothing is sent or stored. The output shows values of the files, also those of patients.
    """
    for title in (calling_ae, called_ae):
        if title is not None and not is_ae_title(title):
            raise typer.BadParameter(f"{title!r} is no AE title: 1 to 16 printable characters, no backslash")
    configuration = config.load()
    rules = configuration.forwarder.rules
    called = called_ae or configuration.edge.ae_title
    tested = [rule_files.evaluate(path, rules, calling_ae=calling_ae, called_ae=called) for path in files]
    if as_json:
        print_document(Schema.RULE_TEST, {"digest": rules.digest.hex(), "files": tested})
        return
    screen = console(soft_wrap=True)
    for one in tested:
        print_file(screen, one)


@app.command()
def explain(
    sop_instance_uid: Annotated[str, typer.Argument(metavar="UID", help="A SOP Instance UID.")],
    as_json: Json = False,
) -> None:
    """Say who got an instance by the rules at its reception, and who would get it by today's rules.

    The output shows values of the stored file, also those of the patient.
    """
    if not is_uid(sop_instance_uid):
        raise typer.BadParameter("a UID has at most 64 characters, digits and dots", param_hint="UID")
    with opened("rules") as database, database.transaction() as session:
        kept = decisions.of_instances(session, sop_instance_uid)
    if not kept:
        raise RefusedError(
            f"no instance {sop_instance_uid} is kept: it was not accepted, is not registered yet, or was "
            "purged after sweep.retention_hours. Search the UID in the log (edge.log_path); "
            "`mini-pacs status` says how many are not registered"
        )
    configuration = config.load()
    found = [rule_decisions.explained(configuration, one) for one in kept]
    if as_json:
        content = {"sop_instance_uid": sop_instance_uid, "instances": found}
        print_document(Schema.RULE_EXPLANATION, content)
        return
    screen = console(soft_wrap=True)
    for one in found:
        print_decision(screen, sop_instance_uid, one)
