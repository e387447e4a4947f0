"""The spool: no file replaces another, and a moved file is found."""

from pathlib import Path

import pytest

from gateway.domain.instance import Place, file_names
from gateway.errors import FileMissingError, SpoolError, SpoolFullError
from gateway.spool.partial import PARTIAL, Partial
from gateway.spool.spool import Spool

STUDY = "1.2.3"
NAMES = file_names("1.2.3.4", "ab" * 32)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Return a spool with a living receiver."""
    spool = Spool(tmp_path / "data")
    spool.prepare()
    spool.open_receiver()
    return spool


def _kept(part: Partial) -> Path:
    path = part.name(STUDY, NAMES)
    part.flush()
    return Path(path)


def keep(spool: Spool, data: bytes) -> Path:
    """Return a kept file; its receiver has discarded its own name."""
    part = spool.begin()
    part.write(data)
    path = _kept(part)
    part.discard()
    return path


def test_a_kept_file_is_in_the_folder_of_its_study(spool: Spool) -> None:
    """`incoming/<study>/<sop instance>.dcm`, complete, and no part remains."""
    path = keep(spool, b"one")
    assert path == spool.root / "incoming" / STUDY / "1.2.3.4.dcm"
    assert path.read_bytes() == b"one"
    assert not list((spool.root / PARTIAL).rglob("*.part"))


def test_an_existing_file_is_never_replaced(spool: Spool) -> None:
    """The second name has the digest, and there is always another one."""
    paths = [keep(spool, bytes([n])) for n in range(4)]
    assert [path.name for path in paths[:2]] == list(NAMES)
    assert len(set(paths)) == 4
    assert [path.read_bytes() for path in paths] == [bytes([n]) for n in range(4)]


def test_until_it_is_discarded_a_kept_file_has_two_names(spool: Spool) -> None:
    """Reconcile thereby tells a working receiver from a dead one."""
    part = spool.begin()
    part.write(b"x")
    path = _kept(part)
    assert path.stat().st_nlink == 2
    part.discard()
    assert path.stat().st_nlink == 1


def test_discard_deletes_an_unkept_file(spool: Spool) -> None:
    """A second discard is harmless."""
    part = spool.begin()
    part.write(b"x")
    part.discard()
    part.discard()
    assert not [path for path in spool.root.rglob("*") if path.suffix in {".dcm", ".part"}]


@pytest.mark.parametrize("place", Place)
def test_a_file_is_moved_and_found(spool: Spool, place: Place) -> None:
    """In the requested place; a second move is no error."""
    keep(spool, b"one")
    for _ in range(2):
        assert spool.move(place, STUDY, NAMES[0], was=Place.INCOMING)
    assert spool.find(place, STUDY, NAMES[0]) == spool.path(place, STUDY, NAMES[0])
    assert len(list(spool.root.rglob("*.dcm"))) == 1


def test_a_reader_looks_in_the_other_places(spool: Spool) -> None:
    """The move and the change of its row are separate steps."""
    path = keep(spool, b"one")
    assert spool.find(Place.SENT, STUDY, NAMES[0]) == path
    assert list(spool.find_all(Place.SENT, STUDY, NAMES[0])) == [path]
    with pytest.raises(FileMissingError):
        spool.find(Place.SENT, STUDY, "other.dcm")
    assert not spool.move(Place.SENT, STUDY, "other.dcm", was=Place.INCOMING)


def test_a_file_is_moved_from_where_it_is(spool: Spool) -> None:
    """Not from the place that the caller expects; and not while it has a second link there."""
    path = keep(spool, b"one")
    assert spool.move(Place.QUEUED, STUDY, NAMES[0])
    second = spool.root / "second"
    second.hardlink_to(spool.path(Place.QUEUED, STUDY, NAMES[0]))
    assert not spool.move(Place.SENT, STUDY, NAMES[0], was=Place.INCOMING)
    second.unlink()
    assert spool.move(Place.SENT, STUDY, NAMES[0], was=Place.INCOMING)
    assert not path.exists()
    assert spool.find(Place.INCOMING, STUDY, NAMES[0]) == spool.path(Place.SENT, STUDY, NAMES[0])


def test_a_deleted_folder_is_made_again(spool: Spool) -> None:
    """The sweep removes empty folders, also those that a receiver is about to use."""
    path = keep(spool, b"one")
    path.unlink()
    path.parent.rmdir()
    assert keep(spool, b"two").read_bytes() == b"two"


def test_the_reserve_is_refused_before_the_disk_is_full(tmp_path: Path) -> None:
    """SpoolFullError names the key."""
    spool = Spool(tmp_path, reserve_bytes=1 << 60)
    spool.prepare()
    spool.open_receiver()
    with pytest.raises(SpoolFullError, match="disk_reserve_mb"):
        spool.begin()
    assert spool.free_bytes() > 0


def test_a_refused_operation_names_itself_and_its_path(tmp_path: Path) -> None:
    """Operation, path and the system's reason."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SpoolError, match=r"prepare .*file.*"):
        Spool(blocked).prepare()


def test_a_receiver_that_ends_removes_its_folder(spool: Spool) -> None:
    """Unless it holds a part, which reconcile removes."""
    spool.close_receiver()
    assert not list((spool.root / PARTIAL).iterdir())
    spool.open_receiver()
    spool.begin()
    spool.close_receiver()
    assert len(list((spool.root / PARTIAL).rglob("*.part"))) == 1


def test_remove_is_for_one_place_and_harmless_twice(spool: Spool) -> None:
    """In another place the name may already belong to a newer file."""
    path = keep(spool, b"one")
    spool.remove(Place.SENT, STUDY, NAMES[0])
    assert path.exists()
    for _ in range(2):
        spool.remove(Place.INCOMING, STUDY, NAMES[0])
    assert not path.exists()
