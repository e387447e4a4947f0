"""Remove the file of a repeat, or use it in place of a file that was lost.

A repeat brings bytes that the edge already has, so its file is superfluous. But if the stored file is
missing, cannot be read or holds other bytes, the repeat's file replaces it and the row is changed to name it.

If the process dies
    before the row is changed   reconcile puts the repeat's file in the place of the lost one if both have
                                the same name, else it moves it to orphaned/
    after the row is changed    the repeat's file is the stored file
In both cases the sender has no answer and sends again.
"""

from contextlib import suppress
from pathlib import Path

from gateway.database.pool import Database
from gateway.database.tables import instances
from gateway.database.tables.instances import ReceptionVerdict, RegisteredInstance
from gateway.domain.instance import file_names
from gateway.errors import SpoolError
from gateway.spool.flush import remove_uncommitted
from gateway.spool.part10_file import holds
from gateway.spool.partial import Partial
from gateway.spool.places import ORPHANED
from gateway.spool.spool import Spool

NEW = frozenset({ReceptionVerdict.STORED, ReceptionVerdict.CONFLICT})
"""Verdicts of an instance that is not a repeat: its row names the received file."""


def remove_or_use_file(
    spool: Spool,
    database: Database,
    partial: Partial,
    path: Path,
    registered: RegisteredInstance,
    *,
    sop_instance_uid: str,
    data_set_size: int,
    sha256: str,
) -> None:
    """Remove `path`, the file of a repeat, unless it must replace the stored file of `registered`.

    Do nothing for an instance that is not a repeat. A file in orphaned/ does not count as the stored
    one, because purge may delete it at any moment.
    """
    if registered.verdict in NEW:
        return
    others = spool.find_all(registered.place, path.parent.name, registered.file_name)
    if any(_is_intact(other, data_set_size, sha256) for other in others if other != path):
        remove_uncommitted(path)
        return
    names = file_names(sop_instance_uid, sha256)
    if path.name == names[0] != registered.file_name:
        # The plain name belongs to another version of the instance, whose file is in another folder. Only
        # this version has the name with the digest.
        plain, path = path, partial.keep(path.parent.name, names[1:])
        remove_uncommitted(plain)
    with database.statement() as session:
        instances.restore_file(session, registered.instance_id, path.name)


def _is_intact(path: Path, data_set_size: int, sha256: str) -> bool:
    with suppress(SpoolError):  # a file that cannot be read does not count
        return path.parent.parent.name != ORPHANED and holds(path, data_set_size, sha256)
    return False
