"""Health check of a worker's container; exit with 1 if it does not answer C-ECHO under its AE title."""

import os
import sys

from c_echo import NotHealthyError, c_echo

try:
    c_echo(
        "127.0.0.1",
        int(os.environ.get("WORKER_PORT") or 11201),
        calling=os.environ.get("GATEWAY_AE_TITLE") or "MINI_EDGE",
        called=os.environ["WORKER_AE_TITLE"],
    )
except (NotHealthyError, OSError) as error:
    sys.exit(f"not healthy: {error}")
