"""`python sender_simulator.py …`, the former name of `mini-pacs send …`."""

import typer

from cli.boundary import HELP, GuardedCommand
from cli.help_text import unwrapped
from cli.send import send

if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command(cls=GuardedCommand, context_settings=HELP, help=unwrapped(send))(send)
    app()
