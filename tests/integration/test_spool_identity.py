"""Spool and database know each other by name and epoch, wherever a process died and whatever was swapped."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from support.prepared_instances import PreparedInstances

from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.tables import spools
from gateway.domain.pairing import DatabaseMarks
from gateway.errors import SpoolError, UnknownSpoolError
from gateway.lab.postgres import EmbeddedPostgres
from gateway.spool.identity import SpoolIdentity
from gateway.spool.marks import ID, SEEN, Identity, begin_epoch, read_marks, write_identity, write_seen

pytestmark = [pytest.mark.guarantee("G2"), pytest.mark.guarantee("G6")]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Yield a database that knows no spool and keeps no instance."""
    database = Database(database_url, application_name="test", size=8)
    yield database
    database.close()


@pytest.fixture
def other(postgres: EmbeddedPostgres) -> Iterator[Database]:
    """Yield another one of that kind."""
    name = f"other_{uuid4().hex}"
    postgres.create_database(name, template="mini_pacs_template")
    database = Database(postgres.dsn(name), application_name="test")
    yield database
    database.close()
    postgres.drop_database(name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder that does not exist yet."""
    return tmp_path / "data"


def check(identity: SpoolIdentity, database: Database) -> None:
    """Check as a process does."""
    with database.statement() as session:
        identity.check(session)


def marks(database: Database) -> DatabaseMarks:
    """Return the marks of the database."""
    with database.statement() as session:
        return spools.marks(session)


def mark(root: Path, database: Database) -> None:
    """Write a time mark, as a process that has just started."""
    identity = SpoolIdentity(root)
    check(identity, database)
    identity.mark(database)


def put_file(root: Path) -> None:
    """Write the file of an instance that no row names."""
    path = root / "sent" / "1.2" / "1.2.3.dcm"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")


@contextmanager
def unmounted(root: Path) -> Iterator[None]:
    """Put an empty folder in place of the spool; put the spool back at the end."""
    away = root.with_name("away")
    root.rename(away)
    root.mkdir()
    try:
        yield
    finally:
        assert not [path for path in root.rglob("*") if path.is_file()], "a file was written below the mount"
        root.rmdir()
        away.rename(root)


def test_a_new_pair_gets_one_name_whoever_starts_first(root: Path, database: Database) -> None:
    """Eight processes at once; the name is in both, and the next start finds it known."""
    threads = [threading.Thread(target=SpoolIdentity(root).recognize, args=(database,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert read_marks(root).name == marks(database).name is not None
    again = SpoolIdentity(root)
    check(again, database)
    assert again.epoch == 1
    assert [path.name for path in root.iterdir()] == [ID]
    assert (root / ID).stat().st_mode & 0o777 == 0o640


def test_a_death_between_spool_and_database_is_healed_by_the_next_start(
    root: Path, database: Database
) -> None:
    """`spool.id` is there and the row is not: the next start takes the name that it finds."""
    name = uuid4()
    write_identity(root, Identity(name, 1), replace=False)
    SpoolIdentity(root).recognize(database)
    assert marks(database).name == name


def test_a_check_pairs_nothing(root: Path, database: Database) -> None:
    """Only the start of a process pairs."""
    with pytest.raises(UnknownSpoolError, match="do not know each other yet"):
        check(SpoolIdentity(root), database)
    assert not root.exists()


def test_an_unmounted_disk_is_noticed_also_where_nothing_is_kept(root: Path, database: Database) -> None:
    """The database has the name, and the folder has none. Nothing is written into the folder."""
    SpoolIdentity(root).recognize(database)
    before = marks(database)
    with unmounted(root):
        with pytest.raises(UnknownSpoolError, match=r"not mounted.*`mini-pacs db rebuild`"):
            SpoolIdentity(root).recognize(database)
        assert marks(database) == before
    SpoolIdentity(root).recognize(database)


def test_a_process_notices_that_the_disk_was_unmounted_without_the_database(
    root: Path, database: Database
) -> None:
    """Before any file counts as lost, and before anything is received; and it goes on afterwards."""
    identity = SpoolIdentity(root)
    assert identity.why_refused()
    identity.recognize(database)
    assert identity.why_refused() is None
    with unmounted(root):
        assert "not mounted" in (identity.why_refused() or "")
        with pytest.raises(UnknownSpoolError):
            identity.require_folder()
    identity.require_folder()


def test_another_spool_is_refused(root: Path, database: Database, other: Database, tmp_path: Path) -> None:
    """Two known pairs, crosswise: neither database accepts the other's spool, and both stay as they are."""
    second = tmp_path / "second"
    SpoolIdentity(root).recognize(database)
    SpoolIdentity(second).recognize(other)
    before = marks(database), marks(other), read_marks(root), read_marks(second)
    for folder, foreign in ((root, other), (second, database)):
        with pytest.raises(UnknownSpoolError, match="is wrong"):
            SpoolIdentity(folder).recognize(foreign)
    assert (marks(database), marks(other), read_marks(root), read_marks(second)) == before


def test_a_folder_with_files_pairs_with_no_empty_database(root: Path, database: Database) -> None:
    """The files may be owed: nobody knows."""
    put_file(root)
    with pytest.raises(UnknownSpoolError, match=r"keeps no instance.*`mini-pacs db rebuild`"):
        SpoolIdentity(root).recognize(database)
    assert marks(database).name is None
    assert not (root / ID).exists()


def test_a_spool_that_was_in_use_pairs_with_no_empty_database(
    root: Path, database: Database, other: Database
) -> None:
    """Also if it holds no file at the moment: the right database may come back."""
    SpoolIdentity(root).recognize(database)
    mark(root, database)
    with pytest.raises(UnknownSpoolError, match="keeps no instance"):
        SpoolIdentity(root).recognize(other)
    assert marks(other).name is None


def test_a_database_without_a_schema_is_an_empty_one(
    root: Path, database: Database, postgres: EmbeddedPostgres
) -> None:
    """Whether it is asked at the start or by a process that runs."""
    identity = SpoolIdentity(root)
    identity.recognize(database)
    identity.mark(database)
    name = f"empty_{uuid4().hex}"
    postgres.create_database(name)
    empty = Database(postgres.dsn(name), application_name="test")
    try:
        for ask in (identity.check, identity.require_possible):
            with empty.statement() as session, pytest.raises(UnknownSpoolError, match="keeps no instance"):
                ask(session)
    finally:
        empty.close()
        postgres.drop_database(name)


def test_a_database_that_went_back_in_time_is_refused(root: Path, database: Database) -> None:
    """Its time mark is older than that of the spool."""
    SpoolIdentity(root).recognize(database)
    mark(root, database)
    with database.transaction() as session:
        session.script("UPDATE spool SET seen_at = seen_at - interval '11 seconds'")
    with pytest.raises(UnknownSpoolError, match=r"restored from a backup.*`mini-pacs db rebuild`"):
        check(SpoolIdentity(root), database)


def test_the_time_mark_never_goes_back(root: Path, database: Database) -> None:
    """Not in the database if its clock does, and not in the spool if a slow process writes last."""
    SpoolIdentity(root).recognize(database)
    with database.transaction() as session:
        session.script("UPDATE spool SET seen_at = now() + interval '1 hour'")
    mark(root, database)
    first = read_marks(root).seen_at
    mark(root, database)
    assert first == read_marks(root).seen_at == marks(database).seen_at
    assert first is not None
    write_seen(root, first.replace(year=2000))
    assert read_marks(root).seen_at == first
    check(SpoolIdentity(root), database)


def test_a_requirement_names_the_marks_that_are_on_the_disk_now(root: Path, database: Database) -> None:
    """The files are not read again for each batch, but after another process has replaced one."""
    identity = SpoolIdentity(root)
    identity.recognize(database)
    assert identity.requirement(1) == spools.requirement(read_marks(root))
    identity.mark(database)
    seen = read_marks(root)
    assert seen.seen_at is not None
    assert identity.requirement(1) == spools.requirement(seen)
    write_seen(root, seen.seen_at + timedelta(seconds=10))
    assert identity.requirement(1) == spools.requirement(read_marks(root)) != spools.requirement(seen)
    (root / SEEN).unlink()
    assert identity.requirement(1) == spools.requirement(read_marks(root))
    begin_epoch(root)
    with pytest.raises(UnknownSpoolError, match="began epoch 2"):
        identity.requirement(1)
    (root / ID).unlink()
    assert identity.requirement(1) is None


@pytest.mark.parametrize("name", [ID, SEEN])
def test_a_mark_that_cannot_be_read_stops_everything(root: Path, database: Database, name: str) -> None:
    """With the file in the sentence; the right content brings it back."""
    identity = SpoolIdentity(root)
    identity.recognize(database)
    identity.mark(database)
    text = (root / name).read_text()
    for broken in ("", "no mark\n", "[]"):
        (root / name).write_text(broken)
        with pytest.raises(UnknownSpoolError, match=name):
            check(SpoolIdentity(root), database)
    (root / name).write_text(text)
    check(identity, database)
    assert identity.why_refused() is None


def test_a_folder_that_refuses_is_named(root: Path, database: Database) -> None:
    """Operation, path and reason; the database gets no name."""
    root.write_text("a file")
    with pytest.raises((SpoolError, UnknownSpoolError), match=str(root)):
        SpoolIdentity(root).recognize(database)
    assert marks(database).name is None


def test_an_upgrade_pairs_where_the_files_are(configuration: Configuration, database_url: str) -> None:
    """Rows and files of a version without marks: it pairs with the files, and not with an empty folder."""
    kept = PreparedInstances(database_url, configuration)
    root = configuration.edge.data_root
    try:
        kept.receive(1)
        kept.forward(kept.receive(2))
        kept.run("DELETE FROM spool")
        (root / ID).unlink()
        with unmounted(root), pytest.raises(UnknownSpoolError, match="not mounted"):
            SpoolIdentity(root).recognize(kept.database)
        assert marks(kept.database).name is None
        SpoolIdentity(root).recognize(kept.database)
        check(SpoolIdentity(root), kept.database)
    finally:
        kept.database.close()


def test_a_connection_is_checked_when_it_is_new_and_every_few_seconds(
    root: Path, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that runs notices that its database was replaced."""
    identity = SpoolIdentity(root)
    identity.recognize(database)
    guarded = Database(database_url, application_name="test", size=1, guard=identity.check)
    try:
        with guarded.statement() as session:
            spools.marks(session)
        with database.transaction() as session:
            session.script("UPDATE spool SET name = gen_random_uuid()")
        monkeypatch.setattr("gateway.database.pool.GUARD_SECONDS", 0.0)
        guarded.close()
        with pytest.raises(UnknownSpoolError), guarded.statement():
            pass
        write_identity(root, Identity(marks(database).name or uuid4(), 1), replace=True)
        with guarded.statement() as session:
            spools.marks(session)
        with database.transaction() as session:
            session.script("UPDATE spool SET name = gen_random_uuid()")
        with pytest.raises(UnknownSpoolError), guarded.statement():
            pass
    finally:
        guarded.close()
