"""Brings the schema of a database to the one this version works with.

Migrations are files `NNNN_name.sql`, applied in order, each in a transaction of its own together with its
line in `schema_migrations`: if the process dies inside, the migration has not happened. A session
advisory lock lets one process migrate while the others wait. A file that changed after it was applied
is refused: the schema would no longer be what its migrations say.
"""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from gateway.errors import SchemaError
from gateway.store.database import Database
from gateway.store.queries import load

MIGRATION_SECONDS = 600.0
_Q = load("migrate")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of gateway/store/migrations."""

    version: str
    statements: str

    @property
    def digest(self) -> str:
        """SHA-256 of the statements, in hex."""
        return sha256(self.statements.encode()).hexdigest()


def migrations() -> tuple[Migration, ...]:
    """Every migration of this version, in the order in which they are applied."""
    folder = files("gateway.store").joinpath("migrations")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return tuple(
        Migration(name.removesuffix(".sql"), folder.joinpath(name).read_text(encoding="utf-8"))
        for name in names
    )


def migrate(dsn: str) -> list[str]:
    """Apply what is missing; the versions that were applied now, none when all were there.

    Raises:
        SchemaError: the database holds a migration that this version does not know, or another text of it.
        DatabaseError: PostgreSQL cannot be reached or refuses.
    """
    database = Database(dsn, application_name="mini-pacs migrate", size=1, deadline_seconds=MIGRATION_SECONDS)
    applied_now = []
    try:
        with database.statement() as session:
            session.one(_Q["lock"])
            session.run(_Q["create_table"])
        done = _applied(database)
        for migration in migrations():
            if migration.version in done:
                continue
            with database.transaction() as session:
                session.script(migration.statements)
                session.run(_Q["record"], version=migration.version, digest=migration.digest)
            applied_now.append(migration.version)
    finally:
        # the lock is the session's: it ends with the connection
        database.close()
    return applied_now


def require_current(database: Database) -> None:
    """Return if the schema is this version's.

    Raises:
        SchemaError: migrations are missing; says which command applies them.
    """
    missing = [m.version for m in migrations() if m.version not in _applied(database)]
    if missing:
        raise SchemaError(f"the schema lacks {', '.join(missing)}: run `mini-pacs db migrate`")


def _applied(database: Database) -> dict[str, str]:
    with database.statement() as session:
        if session.one(_Q["has_table"]) != (True,):
            return {}
        done = {str(version): str(digest) for version, digest in session.all(_Q["applied"])}
    known = {m.version: m.digest for m in migrations()}
    for version, digest in done.items():
        if version not in known:
            raise SchemaError(
                f"the schema holds {version}, which this version does not know: use a newer one"
            )
        if known[version] != digest:
            raise SchemaError(f"migration {version} was applied with another text than this version's")
    return done
