"""`python sender_simulator.py …` is `mini-pacs send …`, under the name its users know."""

import typer

from cli.send import send

if __name__ == "__main__":
    typer.run(send)
