"""Bring the schema of a database to the one that this version works with.

Migrations are files `NNNN_name.sql`, applied in order, each in a transaction of its own together with its row
in `schema_migrations`. If the process dies during a migration, PostgreSQL rolls it back. A session advisory
lock lets one process migrate while the others wait. A migration whose file was changed after it was applied
is refused, because the schema is then not what the files say. Only the comments of a released migration may
be reworded: see `_REWORDED`.

A migration only adds, so that processes of the previous version still run and start on the new schema. A
migration that must remove something begins with a line `-- breaking: `, which says what has to be stopped
first. Older versions then refuse to start on its schema.

To change a SQL function:

1. Write the new one as a file of gateway/database/functions under a new name, as `settle_delivery_2.sql`.
   Processes of the previous version go on calling the old one, so its file stays; say in its first line what
   replaced it. Only a function whose arguments, results and meaning stay may keep its name.
2. Copy the text of the file into a new migration.
3. Call the new name in gateway/database/sql, and write schema.sql again with `make schema`.

A contract test compares the functions and the schema of a migrated database with these files.
"""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from gateway.database.pool import Database
from gateway.database.queries import load
from gateway.database.roles import grant_again
from gateway.errors import DatabaseRefusedError, SchemaError

MIGRATION_SECONDS = 600.0
_NOT_ALLOWED = "42501"  # insufficient_privilege
_Q = load("migrate")

_REWORDED = {
    "b065a5b2e0c7cd9e9f7952a9d3c221d4bedc2102826e29f2f68756e9dd98a2a4": (  # 0002_gateway.sql
        "5b9f3c8147c3f13fdd2dc2807b9f887abafca84966225706606dfa7746e18342"
    ),
}
"""Released migrations whose comments were reworded: from the digest of the file to that of its released text.

Databases record the released digest, also new ones. So a released version accepts a database that a later
version made, if one goes back. A contract test compares the statements with the released ones.
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of gateway/database/migrations."""

    version: str
    statements: str

    @property
    def digest(self) -> str:
        """SHA-256 of the text in hex; of the released text, if only comments were reworded since."""
        of_file = sha256(self.statements.encode()).hexdigest()
        return _REWORDED.get(of_file, of_file)

    @property
    def additive(self) -> bool:
        """Whether the previous version works with the schema after this migration."""
        return not self.statements.startswith("-- breaking: ")


class _Applied(NamedTuple):
    version: str
    digest: str
    additive: bool


def migrations() -> tuple[Migration, ...]:
    """Return every migration of this version, in the order in which they are applied."""
    folder = files("gateway.database").joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return tuple(
        Migration(name.removesuffix(".sql"), folder.joinpath(name).read_text(encoding="utf-8"))
        for name in names
    )


def migrate(dsn: str) -> list[str]:
    """Apply the missing migrations, and return their versions.

    Roles that have the privileges of the processes (`gateway.database.roles`) get those of the new schema. If
    no migration is missing, the database is only read, so such a role may call this, too.

    Raises:
        SchemaError: the database has a breaking migration that is unknown to this version, or a known one
            with another text.
        DatabaseError: PostgreSQL cannot be reached or refuses.
    """
    database = Database(dsn, application_name="mini-pacs migrate", size=1, deadline_seconds=MIGRATION_SECONDS)
    try:
        if not _missing(database):
            return []
        return _apply(database)
    except DatabaseRefusedError as error:
        if error.sqlstate != _NOT_ALLOWED:
            raise
        raise DatabaseRefusedError(
            f"the schema lacks {', '.join(_missing(database))}, and this role may not change it: run "
            f"`mini-pacs db migrate` as its owner ({error})",
            error.sqlstate,
        ) from error
    finally:
        # the advisory lock ends with the connection
        database.close()


def _apply(database: Database) -> list[str]:
    with database.statement() as session:
        session.one(_Q["lock"])
        session.run(_Q["create_table"])
        session.run(_Q["say_what_breaks"])
    done = _applied(database)
    applied_now = []
    for migration in migrations():
        if migration.version in done:
            continue
        with database.transaction() as session:
            session.script(migration.statements)
            session.run(
                _Q["record"],
                version=migration.version,
                digest=migration.digest,
                additive=migration.additive,
            )
        applied_now.append(migration.version)
    with database.transaction() as session:
        grant_again(session)
    return applied_now


def require_current(database: Database) -> None:
    """Return if this version works with the schema: nothing is missing, and nothing was added that breaks it.

    Raises:
        SchemaError: migrations are missing (it names the command that applies them), or as `migrate`.
    """
    missing = _missing(database)
    if missing:
        raise SchemaError(f"the schema lacks {', '.join(missing)}: run `mini-pacs db migrate`")


def _missing(database: Database) -> list[str]:
    done = _applied(database)
    return [migration.version for migration in migrations() if migration.version not in done]


def _applied(database: Database) -> set[str]:
    with database.statement() as session:
        if not session.value(_Q["has_table"]):
            return set()
        done = session.rows(_Applied, _Q["applied"])
    known = {m.version: m.digest for m in migrations()}
    for version, digest, additive in done:
        if version not in known:
            if version < max(known) or not additive:
                raise SchemaError(
                    f"the schema holds {version}, which this version does not know: use a newer one"
                )
        elif known[version] != digest:
            raise SchemaError(f"migration {version} was applied with another text than this version's")
    return {migration.version for migration in done}
