"""`mini-pacs`: parse, run one use case, render. One file per noun beside this one."""

import sys

import typer

from cli import database, demo, lab, serve
from cli.exit_codes import ExitCode
from gateway.errors import ConfigurationError, DatabaseUnavailableError, GatewayError

app = typer.Typer(
    name="mini-pacs",
    help="Operate mini_pacs_edge, the durable DICOM edge gateway.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("serve")(serve.serve)
app.command("lab")(lab.lab)
app.command("demo")(demo.demo)
app.add_typer(database.app, name="db")


def run() -> None:
    """The entry point: errors of ours become one sentence and a named exit code."""
    try:
        app()
    except ConfigurationError as error:
        _fail(error, ExitCode.USAGE)
    except DatabaseUnavailableError as error:
        _fail(error, ExitCode.UNREACHABLE)
    except GatewayError as error:
        _fail(error, ExitCode.FAILED)


def _fail(error: GatewayError, code: ExitCode) -> None:
    sys.stderr.write(f"mini-pacs: {error}\n")
    sys.exit(code)


if __name__ == "__main__":
    run()
