"""Run `mini-pacs …` as `python /app/cli.py …`, as the lab documents it."""

import os
import sys

os.execvp("mini-pacs", ["mini-pacs", *sys.argv[1:]])  # noqa: S606, S607  the command of this image
