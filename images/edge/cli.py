"""`python /app/cli.py …` is `mini-pacs …`, under the name that the lab's users know."""

import os
import sys

os.execvp("mini-pacs", ["mini-pacs", *sys.argv[1:]])  # noqa: S606, S607  the command of this image
