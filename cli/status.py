"""`mini-pacs status`: one screen with what waits, what is wrong, and what to do next.

cli/overview.py prints the screen, cli/study.py that of one study. Only the module that is needed is imported.
The overview needs all checks, and to import them takes longer than to read a study.
"""

from typing import Annotated

import typer

from cli.documents import Json
from gateway.importing import importing


def status(
    study_uid: Annotated[
        str | None,
        typer.Option("--study", metavar="UID", help="Show the steps of each instance of a study instead."),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="With --study: how many instances to show one by one.")
    ] = 20,
    check: Annotated[
        bool, typer.Option("--check", help="Print problems only; exit code 1 if there is one.")
    ] = False,
    nagios: Annotated[
        bool,
        typer.Option(
            "--nagios",
            help="Print one line, then the findings; exit code 0 OK, 1 WARNING (notes), 2 CRITICAL.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show on one screen what waits, what is wrong, and what to do next.

    It asks each peer with a C-ECHO, as `mini-pacs diagnose` does, and shows the same findings.

    Exit codes: 0 always, except: 1 with --check if there is a problem, with --study if no instance of it is
    kept; 3 if PostgreSQL cannot be reached. Then it prints how many receptions are unregistered. With
    --nagios: 0 OK, 1 WARNING, 2 CRITICAL (also if PostgreSQL cannot be reached, or config.yaml is wrong).
    """
    if study_uid is not None:
        with importing():
            from cli import study  # noqa: PLC0415  see above

        study.show(study_uid, limit, as_json=as_json)
    else:
        with importing():
            from cli import overview  # noqa: PLC0415  see above

        overview.show(check=check, nagios=nagios, as_json=as_json)
