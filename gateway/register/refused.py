"""What becomes of a reception that PostgreSQL or the disk refuses.

It is tried again, and after MAX_REFUSALS it is given up: its file goes to failed/, and its link to
partial/refused/. It is tried again at each start.

If the process dies
    between the two moves   the next process finds the link in partial/refused/, and refuses it again
"""

from contextlib import suppress

from gateway.domain.instance import Place
from gateway.errors import DatabaseRefusedError, GatewayError, SpoolError
from gateway.register.registration_log import log_not_finished, log_unforeseen
from gateway.register.unregistered import REASON, REFUSED, Unregistered
from gateway.spool.flush import flush_directory
from gateway.spool.partial import PARTIAL, SUFFIX
from gateway.spool.spool import Spool

MAX_REFUSALS = 3


def refuse(spool: Spool, one: Unregistered, error: GatewayError) -> list[Unregistered]:
    """Note that a reception was refused; return it in a list if it is to be tried again."""
    if isinstance(error, DatabaseRefusedError) and error.is_collision:
        return [one]
    one.refusals += 1
    if not isinstance(error, DatabaseRefusedError):
        # The disk refuses. The rows may be committed. Its link stays, and the sweep finishes it later.
        if one.refusals < MAX_REFUSALS:
            return [one]
        log_not_finished(one, error)
        return []
    if one.refusals < MAX_REFUSALS:
        return [one]
    _give_up(spool, one, error)
    return []


def _give_up(spool: Spool, one: Unregistered, error: GatewayError) -> None:
    """Move the file to failed/, and its link to partial/refused/.

    `status` shows what is in partial/refused/. No verb of the sweep removes it.
    """
    log_unforeseen(one, error)
    study = one.envelope.study_instance_uid
    folder = spool.root / PARTIAL / REFUSED
    with suppress(OSError, SpoolError):
        folder.mkdir(mode=0o750, exist_ok=True)
        target = folder / f"{one.envelope.reception_id.hex}{SUFFIX}"
        if one.link is None:
            target.hardlink_to(one.path)
        elif one.link != target:
            one.link.rename(target)
        one.part = str(target)
        flush_directory(folder)  # survives a power cut: the link, before the file leaves incoming/
        failed = spool.path(Place.FAILED, study, one.path.name)
        if one.path != failed and spool.put(one.path, failed):
            one.file = str(failed)
    with suppress(OSError):
        (folder / REASON).write_text(str(error), encoding="utf-8")  # for diagnose; without a flush
    one.is_done = True
