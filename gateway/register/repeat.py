"""Remove the file of a repeat, or use it in place of a file that was lost.

A repeat brings bytes that the edge already has, so its file is superfluous. But if the stored file is
missing, cannot be read or holds other bytes, the repeat's file replaces it and the row is changed to name it.
The file of a repeat is removed only in favour of another inode whose bytes were verified.

If the process dies
    at any line   the `.part` link of the repeat remains; recovery finds it registered, and comes here again
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from gateway.database.pool import Database
from gateway.database.tables import instances
from gateway.database.tables.instances import ReceptionVerdict, RegisteredInstance
from gateway.errors import SpoolError
from gateway.register.unregistered import Unregistered
from gateway.spool.flush import remove_uncommitted
from gateway.spool.part10_file import holds
from gateway.spool.places import ORPHANED, is_same_file
from gateway.spool.spool import Spool

NEW = frozenset({ReceptionVerdict.STORED, ReceptionVerdict.CONFLICT})
"""Verdicts of an instance that is not a repeat: its row names the received file."""

LOOKS = 3
"""How often the stored file is looked for. A file that is moved while its folders are looked at, one by one,
may be found in none of them."""


def remove_or_use_file(
    spool: Spool,
    database: Database,
    reception: Unregistered,
    registered: RegisteredInstance,
    rename: Callable[[Unregistered], None],
) -> None:
    """Remove the file of a repeat, unless it must replace the stored file of `registered`.

    Do nothing for an instance that is not a repeat. `rename` gives the file its name with the digest. A file
    in orphaned/ does not count as the stored one, because purge may delete it at any moment.
    """
    if registered.verdict in NEW:
        return
    path = reception.path
    others = _others(spool, reception, registered)
    if registered.verdict is ReceptionVerdict.REGISTERED and path.name == registered.file_name and not others:
        return  # a new instance that was registered before; this is its own file
    if not reception.has_its_file():
        return  # another process has registered it, and finished its file
    size, sha256 = reception.envelope.data_set_size, reception.sha256
    for look in range(LOOKS):
        if look:
            others = _others(spool, reception, registered)
        if any(_is_intact(other, path, size, sha256) for other in others):
            # A process that died while it gave the file its name with the digest left a second name.
            if path.name != registered.file_name or not any(is_same_file(other, path) for other in others):
                remove_uncommitted(path)
            return
    if reception.has_plain_name and registered.file_name != path.name:
        # The plain name belongs to another version of the instance, whose file is in another folder. Only
        # this version has the name with the digest.
        rename(reception)
    with database.statement() as session:
        instances.restore_file(session, registered.instance_id, reception.file_name)


def _others(spool: Spool, reception: Unregistered, registered: RegisteredInstance) -> list[Path]:
    """Return the files with the name that the row has, without that of the reception."""
    found = spool.find_all(registered.place, reception.envelope.study_instance_uid, registered.file_name)
    return [other for other in found if other != reception.path]


def _is_intact(other: Path, path: Path, data_set_size: int, sha256: str) -> bool:
    with suppress(SpoolError):  # a file that cannot be read does not count
        if other.parent.parent.name == ORPHANED:
            return False
        # The file of a registered instance may be in two places for a moment, while it is moved.
        return is_same_file(other, path) or holds(other, data_set_size, sha256)
    return False
