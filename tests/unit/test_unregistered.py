"""What is unregistered is seen in the links; a version waits for an older one; hosts have addresses."""

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from time import monotonic
from types import SimpleNamespace

import pytest
from support.receptions import envelope_of, received, written

from gateway.errors import SpoolFullError
from gateway.register.host_lookup import lookup
from gateway.register.siblings import LONGEST_WAIT_SECONDS, waits_for_other_version
from gateway.register.unregistered import REFUSED, Unregistered, backlog, final_name, refused_count
from gateway.spool.partial import PARTIAL
from gateway.spool.spool import Spool

UID = "1.2.3.9"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """Return a spool with a living receiver."""
    spool = Spool(tmp_path / "data")
    spool.prepare()
    spool.open_receiver()
    return spool


def link_of(one: Unregistered) -> Path:
    """Return its link."""
    assert one.link is not None
    return one.link


# ---- backlog -------------------------------------------------------------------------------------


def test_the_backlog_counts_finished_links_of_all_receivers(spool: Spool) -> None:
    """Neither what is being written, nor what PostgreSQL refused, nor what is registered."""
    assert backlog(spool, 10).count == 0
    assert backlog(spool, 10).oldest is None
    first, _, registered, refused = (received(spool) for _ in range(4))
    written(spool, envelope_of(b"x"), b"x")
    other = Spool(spool.root)
    other.open_receiver()
    received(other)
    link_of(registered).unlink()
    (spool.root / PARTIAL / REFUSED).mkdir()
    link_of(refused).rename(spool.root / PARTIAL / REFUSED / "1.part")
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    os.utime(first.path, (hour_ago.timestamp(), hour_ago.timestamp()))
    assert backlog(spool, 10).count == 3
    assert backlog(spool, 2).count == 2
    oldest = backlog(spool, 10).oldest
    assert oldest is not None
    assert abs(oldest - hour_ago) < timedelta(milliseconds=1)
    assert refused_count(spool) == 1


def test_the_backlog_of_a_missing_spool_is_empty(tmp_path: Path) -> None:
    """`status` may be asked before anything was received."""
    assert backlog(Spool(tmp_path / "missing"), 10).count == 0
    assert refused_count(Spool(tmp_path / "missing")) == 0


def test_the_final_name_is_that_of_the_same_file(spool: Spool) -> None:
    """Another version has the plain name; a file may have moved; a part may have no name yet."""
    first = received(spool, b"first", sop_instance_uid=UID)
    second = received(spool, b"second", sop_instance_uid=UID)
    assert first.path != second.path
    for one in (first, second):
        assert final_name(spool, link_of(one), one.envelope) == one.path
    moved = spool.root / "failed" / "1.2.3" / first.path.name
    moved.parent.mkdir(parents=True, exist_ok=True)
    first.path.rename(moved)
    assert final_name(spool, link_of(first), first.envelope) == moved
    envelope = envelope_of(b"x")
    assert final_name(spool, written(spool, envelope, b"x"), envelope) is None


# ---- siblings ------------------------------------------------------------------------------------


def test_a_version_waits_for_an_older_unregistered_one(spool: Spool) -> None:
    """Until that one is registered; the older one never waits."""
    older = received(spool, b"older", sop_instance_uid=UID)
    newer = received(spool, b"newer", sop_instance_uid=UID)
    assert waits_for_other_version(spool, newer)
    assert not waits_for_other_version(spool, older)
    link_of(older).unlink()
    assert not waits_for_other_version(spool, newer)


def test_of_two_versions_only_the_later_one_waits(spool: Spool) -> None:
    """By the time of reception, whichever name they have: no two wait for each other."""
    received(spool, b"plain", sop_instance_uid=UID)
    now = datetime.now(UTC)
    versions = [
        received(
            spool, bytes([n]), sop_instance_uid=UID, received_at=now + timedelta(seconds=second, minutes=1)
        )
        for n, second in enumerate((2, 1))
    ]
    plain = spool.root / "incoming" / "1.2.3" / f"{UID}.dcm"
    plain.unlink()
    assert [waits_for_other_version(spool, one) for one in versions] == [True, False]


def test_another_uid_that_begins_with_it_is_no_version(spool: Spool) -> None:
    """1.2.3.9.4 is no version of 1.2.3.9."""
    longer = received(spool, b"longer", sop_instance_uid=f"{UID}.4")
    registered = received(spool, b"first", sop_instance_uid=UID)
    newer = received(spool, b"newer", sop_instance_uid=UID)
    link_of(registered).unlink()
    assert link_of(longer).exists()
    assert not waits_for_other_version(spool, newer)


def test_no_version_waits_for_ever(spool: Spool) -> None:
    """A cut-off move or a backup may leave a second link on a registered file."""
    older = received(spool, b"older", sop_instance_uid=UID)
    newer = received(spool, b"newer", sop_instance_uid=UID)
    link_of(older).rename(spool.root / "backup")
    assert waits_for_other_version(spool, newer)
    newer.arrived = monotonic() - LONGEST_WAIT_SECONDS - 1
    assert not waits_for_other_version(spool, newer)


def test_a_file_that_is_none_of_ours_is_passed_over(spool: Spool) -> None:
    """Without an envelope, unreadable, or a folder."""
    older = received(spool, b"older", sop_instance_uid=UID)
    newer = received(spool, b"newer", sop_instance_uid=UID)
    link_of(older).unlink()
    folder = older.path.parent
    (folder / f"{UID}.0.dcm").write_bytes(b"no DICOM")
    (folder / "copy").hardlink_to(folder / f"{UID}.0.dcm")
    (folder / f"{UID}.1.dcm").mkdir()
    assert not waits_for_other_version(spool, newer)


def test_a_reception_knows_whether_a_file_is_its_own(spool: Spool) -> None:
    """A later version may have its name, once it was registered and moved."""
    one = received(spool, b"first", sop_instance_uid=UID)
    assert one.has_its_file()
    one.path.unlink()
    assert not one.has_its_file()
    other = received(spool, b"second", sop_instance_uid=UID)
    assert other.path == one.path
    assert not one.has_its_file()
    assert not replace_reception(other).has_its_file()


def replace_reception(one: Unregistered) -> Unregistered:
    """Return the same reception with another id."""
    return Unregistered(one.envelope._replace(reception_id=envelope_of().reception_id), one.file, one.part)


# ---- the reserve ---------------------------------------------------------------------------------


def test_the_refusal_says_what_the_reserve_is_for(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configured reserve, and beside it what PostgreSQL needs for what is unregistered."""
    reserved = Spool(spool.root, reserve_bytes=100 << 20)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_bavail=103 << 10, f_frsize=1 << 10))
    reserved.check_reserve()
    reserved.check_reserve(2 << 20)
    with pytest.raises(SpoolFullError, match=r"edge\.disk_reserve_mb \(100\) and 4 MiB for what PostgreSQL"):
        reserved.check_reserve(4 << 20)
    with pytest.raises(SpoolFullError) as raised:
        Spool(spool.root, reserve_bytes=200 << 20).check_reserve()
    assert "PostgreSQL" not in str(raised.value)


# ---- hosts ---------------------------------------------------------------------------------------


def test_a_host_is_looked_up() -> None:
    """An address stands for itself, also one of IPv6; what is no host raises OSError."""
    assert lookup("127.0.0.1") == {ip_address("127.0.0.1")}
    assert lookup("::1") == {ip_address("::1")}
    with pytest.raises(OSError, match=r"."):
        lookup("no-such-host.invalid")
