"""Is this folder the spool that the database speaks of? A name in both tells.

A folder without its disk, or on another one's, is as good a folder as any: what was owed would be told
lost, and what arrives would be kept where nobody finds it again once the right one is mounted. So every
process that works with files asks first and refuses to start; and whoever misses a file later asks again
before it believes that (`Spool.check`).

The folder is named first, then the database. If the process dies between, the next one to start tells the
database the name that it finds.
"""

from contextlib import suppress
from uuid import UUID, uuid4

from gateway.disk import failure, make_folder, write_file
from gateway.errors import SpoolAbsentError
from gateway.spool import ID, Spool
from gateway.store import spools
from gateway.store.database import Database


def recognize(spool: Spool, database: Database) -> None:
    """`spool` is the one of this database, and expects to stay it.

    At the first start both get their name; and where no instance is kept any folder will do.

    Raises:
        SpoolAbsentError: it is another one, or none.
        SpoolError: the file system refuses.
        DatabaseError: PostgreSQL cannot be reached or refuses.
    """
    with database.statement() as session:
        known, keeps = spools.known(session)
    found = spool.read_id()
    if found is None and not (known and keeps):
        found = _name(spool, known or uuid4())
    if known is None and found is not None:
        with database.statement() as session:
            spools.know(session, found)
            known, _ = spools.known(session)  # somebody else's, who was first
    assert known is not None
    spool.expect(known)
    spool.check()


def adopt(spool: Spool, database: Database) -> bool:
    """The folder is the spool of this database from here on, whatever it was; False where it was before.

    What running processes expect stays as it is, so that none needs to be started anew.

    Raises:
        SpoolError: the file system refuses.
        DatabaseError: PostgreSQL cannot be reached or refuses.
    """
    with database.statement() as session:
        known, _ = spools.known(session)
    with suppress(SpoolAbsentError):
        if known is None or spool.read_id() == known:
            recognize(spool, database)
            return False
    _name(spool, known or uuid4(), replace=True)
    recognize(spool, database)
    return True


def _name(spool: Spool, spool_id: UUID, *, replace: bool = False) -> UUID:
    """The name that stands in the folder afterwards: ours, or that of whoever was first."""
    path = spool.root / ID
    try:
        make_folder(spool.root)
        write_file(path, f"{spool_id}\n", replace=replace)
    except FileExistsError:
        return spool.read_id() or spool_id
    except OSError as error:
        raise failure("name", path, error) from error
    return spool_id
