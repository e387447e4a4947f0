"""What becomes of the file of a reception, behind the commit of its rows.

If the process dies
    while a file gets its name with the digest   it has both names; the next process removes the plain one
    before the link is removed                   the next process finds the reception registered, and finishes
                                                 its file and link again
"""

import os
from contextlib import suppress
from functools import partial

from gateway.database.pool import Database
from gateway.database.tables.instances import RegisteredInstance
from gateway.domain.instance import Place, file_names
from gateway.register import repeat
from gateway.register.unregistered import Unregistered
from gateway.spool.flush import failure, flush_directory
from gateway.spool.places import is_same_file
from gateway.spool.spool import Spool


def rename(spool: Spool, one: Unregistered) -> None:
    """Give the file its name with the digest: another version has the plain name in its row.

    Raises:
        SpoolError: the disk refuses.
    """
    plain = one.path
    study = one.envelope.study_instance_uid
    source = plain if one.link is None else one.link  # `plain` may be another version's by now
    names = file_names(one.envelope.sop_instance_uid, one.sha256)
    try:
        named = spool.path(Place.INCOMING, study, names[1])
        if not is_same_file(named, source):  # else a process died before it removed the plain name
            named = spool.link(source, study, names[1:])
        flush_directory(named.parent)  # survives a power cut: the new name, before the old one is removed
        if is_same_file(plain, named):
            plain.unlink(missing_ok=True)
    except OSError as error:
        raise failure("rename", plain, error) from error
    one.file = str(named)


def finish_file(spool: Spool, database: Database, one: Unregistered, registered: RegisteredInstance) -> None:
    """Finish the file of a repeat, and move that of an instance that nobody gets.

    Raises:
        SpoolError, DatabaseError: it is to be finished again.
    """
    try:
        repeat.remove_or_use_file(spool, database, one, registered, partial(rename, spool))
    except OSError as error:
        raise failure("finish", one.file, error) from error
    if registered.verdict in repeat.NEW and not one.envelope.targets:
        spool.move(Place.SENT, one.envelope.study_instance_uid, one.file_name, was=Place.INCOMING)


def remove_link(one: Unregistered) -> None:
    """Remove the link of a reception that is registered, or may not be: it is done."""
    if one.part is not None:
        with suppress(OSError):
            os.unlink(one.part)  # noqa: PTH108  no Path: of each reception
    one.is_done = True
