"""`python sender_simulator.py …` is `mini-pacs send …`, under the name its users know."""

import typer

from cli.boundary import HELP, GuardedCommand
from cli.send import send

if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command(cls=GuardedCommand, context_settings=HELP)(send)
    app()
