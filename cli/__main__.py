"""`python -m cli` is `mini-pacs`."""

from cli.main import run

run()
