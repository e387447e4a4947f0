"""Wait until PostgreSQL can be reached, and log each attempt (stage db).

Actor processes wait like this at their start. `mini-pacs serve` does not: it receives meanwhile, and its
registrars try to connect (gateway/register/registrar.py).
"""

import time
from collections.abc import Callable

from gateway import log
from gateway.errors import DatabaseError, SchemaError
from gateway.log import Stage

FIRST_SECONDS = 0.25
LONGEST_SECONDS = 5.0


def wait_for_database(prepare: Callable[[], None]) -> None:
    """Call `prepare` until it succeeds.

    The pause between two calls begins short, so that a database that starts is used at once. It doubles up to
    LONGEST_SECONDS.

    Raises:
        SchemaError: waiting does not help.
    """
    wait = FIRST_SECONDS
    while True:
        try:
            prepare()
        except SchemaError:
            raise
        except DatabaseError as error:
            log.write(Stage.DB, "waiting", level="warning", error=str(error), next_in_seconds=wait)
            time.sleep(wait)
            wait = min(wait * 2, LONGEST_SECONDS)
        else:
            return
