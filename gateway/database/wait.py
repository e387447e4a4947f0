"""Waits for a PostgreSQL that is not there yet, telling the log each time (stage db)."""

import time
from collections.abc import Callable

from gateway import log
from gateway.errors import DatabaseError, SchemaError
from gateway.log import Stage

FIRST_SECONDS = 0.25
LONGEST_SECONDS = 5.0


def wait_for_database(prepare: Callable[[], None]) -> None:
    """Return once `prepare` has succeeded.

    The wait doubles, so that a database that comes up is used at once and one that stays away is not
    stormed.

    Raises:
        SchemaError: waiting does not mend that.
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
