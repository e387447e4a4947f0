"""The spool and its database know each other by a name, whoever starts first and wherever one dies."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from forwarding import at_once
from kept_instances import KeptInstances

from gateway import disk
from gateway.config import Configuration
from gateway.disk import write_file
from gateway.errors import SpoolAbsentError, SpoolError
from gateway.recognize import adopt, recognize
from gateway.spool import ID, Spool
from gateway.store.database import Database


@pytest.fixture
def kept(database_url: str, configuration: Configuration) -> Iterator[KeptInstances]:
    """A database that knows no spool and no instance yet."""
    bed = KeptInstances(database_url, configuration)
    yield bed
    bed.database.close()


@pytest.fixture
def database(kept: KeptInstances) -> Database:
    """That database."""
    return kept.database


@pytest.fixture
def first(kept: KeptInstances) -> Spool:
    """The spool of the database, with an instance in it."""
    recognize(kept.spool, kept.database)
    kept.receive(1)
    return kept.spool


def name_of(spool: Spool) -> UUID:
    """The name in the folder."""
    name = spool.read_id()
    assert name is not None
    return name


def test_the_first_start_names_both_and_the_next_finds_it_so(database: Database, first: Spool) -> None:
    """The same name each time, in a file that only the gateway's group may read."""
    name = name_of(first)
    again = Spool(first.root)
    recognize(again, database)
    assert name_of(again) == name
    assert [path.name for path in first.root.iterdir() if path.is_file()] == [ID]
    assert (first.root / ID).stat().st_mode & 0o777 == disk.FILE_MODE


def test_processes_that_start_at_once_agree(database: Database, tmp_path: Path) -> None:
    """One name, whoever was first, in the folder as in the database."""
    spools = [Spool(tmp_path / "spool") for _ in range(8)]
    at_once(*(lambda spool=spool: recognize(spool, database) for spool in spools))
    assert len({name_of(spool) for spool in spools}) == 1
    for spool in spools:
        spool.check()


@pytest.mark.parametrize("other", ["missing", "empty", "another"])
def test_another_folder_is_refused_and_stays_as_it_is(
    database: Database, first: Spool, tmp_path: Path, other: str
) -> None:
    """The sentence names the folder, and both ways out."""
    spool = Spool(tmp_path / "other")
    if other != "missing":
        spool.root.mkdir()
    if other == "another":
        write_file(spool.root / ID, str(uuid4()))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SpoolAbsentError, match=rf"{spool.root} .*mounted.*adopt-spool"):
        recognize(spool, database)
    assert sorted(tmp_path.rglob("*")) == before
    first.check()


def test_a_death_between_the_two_names_is_healed_by_the_next_start(
    database: Database, tmp_path: Path
) -> None:
    """The folder has its name, the database does not know it: it learns it. So does a new database."""
    spool = Spool(tmp_path / "spool")
    spool.root.mkdir()
    name = uuid4()
    write_file(spool.root / ID, f"{name}\n")
    recognize(spool, database)
    assert name_of(spool) == name


def test_where_nothing_is_kept_any_folder_will_do(database: Database, tmp_path: Path) -> None:
    """A lab whose files were wiped goes on, under the name that the database knows."""
    first, second = Spool(tmp_path / "first"), Spool(tmp_path / "second")
    recognize(first, database)
    recognize(second, database)
    assert name_of(second) == name_of(first)


def test_a_folder_that_is_adopted_has_the_name_that_every_process_expects(
    database: Database, first: Spool, tmp_path: Path
) -> None:
    """Adopted once, whatever stood there; a second time there is nothing to do."""
    name = name_of(first)
    for text in (None, "no name at all", str(uuid4())):
        new = Spool(tmp_path / "new")
        new.root.mkdir(exist_ok=True)
        (new.root / ID).unlink(missing_ok=True)
        if text is not None:
            (new.root / ID).write_text(text, encoding="ascii")
        running = Spool(new.root)
        running.expect(name)
        with pytest.raises(SpoolAbsentError, match="adopt-spool"):
            running.check()
        assert adopt(new, database) is True
        running.check()
        assert adopt(new, database) is False


def test_a_name_that_is_written_is_whole_and_never_replaced_unasked(tmp_path: Path) -> None:
    """Who comes second is told; nothing is left beside it."""
    path = tmp_path / "name"
    write_file(path, "one")
    with pytest.raises(FileExistsError):
        write_file(path, "two")
    assert path.read_text(encoding="ascii") == "one"
    write_file(path, "two", replace=True)
    assert path.read_text(encoding="ascii") == "two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_refuses_is_told_as_such(database: Database, tmp_path: Path) -> None:
    """Operation, path and reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match=r"(read|name) .*file/spool.id: "):
        recognize(Spool(tmp_path / "file"), database)
