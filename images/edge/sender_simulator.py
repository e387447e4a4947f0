"""Run `mini-pacs send …` as `python /app/sender_simulator.py …`, as the lab documents it."""

import os
import sys

os.execvp("mini-pacs", ["mini-pacs", "send", *sys.argv[1:]])  # noqa: S606, S607  the command of this image
