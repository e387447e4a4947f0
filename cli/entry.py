"""The first lines of `mini-pacs`: until the commands are imported, Ctrl-C is answered here.

Imports nothing else at its top, so that there is next to no time in which an interruption is a traceback.
"""

import sys


def run() -> None:
    """Run the command that was typed."""
    try:
        from cli.main import run as run_command  # noqa: PLC0415  see above

        run_command()
    except KeyboardInterrupt:
        sys.stderr.write("mini-pacs: interrupted\n")
        sys.exit(130)
