"""Put a wrong spool or a wrong database in place of the right one, and the right one back at the end."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.lab.postgres import EmbeddedPostgres
from gateway.spool.marks import Identity, write_identity
from support.edge_setup import EdgeSetup

Swap = Callable[[EdgeSetup, EmbeddedPostgres], AbstractContextManager[None]]


def files(root: Path) -> dict[str, bytes]:
    """Return the content of every file of a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@contextmanager
def empty_folder(edge: EdgeSetup, _: EmbeddedPostgres) -> Iterator[None]:
    """The disk is not mounted: an empty folder is there. Afterwards no file is below the mount."""
    root = edge.spool.root
    away = root.with_name("away")
    root.rename(away)
    root.mkdir()
    try:
        yield
        left = [name for name in files(root) if not name.endswith("/lock")]
        assert not left, f"files below the mount: {left}"
    finally:
        shutil.rmtree(root)
        away.rename(root)


@contextmanager
def foreign_folder(edge: EdgeSetup, _: EmbeddedPostgres) -> Iterator[None]:
    """The disk of another edge is there; no file of it changes."""
    root = edge.spool.root
    away = root.with_name("away")
    root.rename(away)
    write_identity(root, Identity(uuid4(), 1), replace=False)
    for place in ("incoming", "sent"):
        folder = root / place / "1.2.3"
        folder.mkdir(parents=True)
        (folder / "1.2.3.4.dcm").write_bytes(b"theirs")
    before = files(root)
    try:
        yield
        after = {name: content for name, content in files(root).items() if not name.endswith("/lock")}
        assert after == before
    finally:
        shutil.rmtree(root)
        away.rename(root)


@contextmanager
def _other_database(edge: EdgeSetup, postgres: EmbeddedPostgres, template: str | None) -> Iterator[Database]:
    name = urlsplit(edge.dsn).path[1:]
    away = f"{name}_away"
    _rename(postgres, name, away)
    postgres.create_database(name, template=template)
    other = Database(edge.dsn, application_name="test")
    try:
        yield other
    finally:
        other.close()
        postgres.drop_database(name)
        _rename(postgres, away, name)


def _rename(postgres: EmbeddedPostgres, name: str, to: str) -> None:
    with postgres._administration() as cursor:
        cursor.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        cursor.execute(f'ALTER DATABASE "{name}" RENAME TO "{to}"')
        cursor.execute(f'ALTER DATABASE "{to}" WITH ALLOW_CONNECTIONS true')


@contextmanager
def empty_database(edge: EdgeSetup, postgres: EmbeddedPostgres) -> Iterator[None]:
    """The database was lost, and created again: it has no table, and gets none."""
    with _other_database(edge, postgres, None) as other:
        yield
        with other.statement() as session:
            tables = "SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'dramatiq')"
            assert session.value(Query("test", tables)) == 0


@contextmanager
def foreign_database(edge: EdgeSetup, postgres: EmbeddedPostgres) -> Iterator[None]:
    """The database of another edge, with an instance that is owed; no row of it changes."""
    with _other_database(edge, postgres, "mini_pacs_template") as other:
        with other.statement() as session:
            session.script(
                "INSERT INTO spool (name, epoch) VALUES (gen_random_uuid(), 1);"
                "INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid,"
                " sop_class_uid, transfer_syntax_uid, sha256, data_set_size, calling_ae_title,"
                " called_ae_title, remote_address, kind, file_name) VALUES ('1.2.3.4', '1.2.3', '1.2', '1.2',"
                " '1.2', decode(repeat('00', 32), 'hex'), 6, 'CT1', 'EDGE', '', 'original', '1.2.3.4.dcm');"
                "INSERT INTO deliveries (instance_id, route, priority, message_id) SELECT id, 'pacs', 4,"
                " dramatiq.send('pacs', 'forward_to_pacs', '[1]') FROM instances"
            )
        before = _rows(other)
        yield
        assert _rows(other) == before


def _rows(database: Database) -> list[object]:
    with database.statement() as session:
        return [
            session.all(Query("test", f"SELECT t::text FROM {table} t ORDER BY 1"))  # noqa: S608  names of our tables
            for table in (
                "spool",
                "instances",
                "deliveries",
                "dramatiq.queue",
                "dramatiq.consumers",
                "destinations",
            )
        ]


@contextmanager
def old_database(edge: EdgeSetup, _: EmbeddedPostgres) -> Iterator[None]:
    """The database is restored from a backup of an hour before."""
    edge.run("UPDATE spool SET seen_at = seen_at - interval '1 hour'")
    try:
        yield
    finally:
        edge.run("UPDATE spool SET seen_at = now()")


SWAPS: dict[str, Swap] = {
    "empty_folder": empty_folder,
    "foreign_folder": foreign_folder,
    "empty_database": empty_database,
    "foreign_database": foreign_database,
    "old_database": old_database,
}
