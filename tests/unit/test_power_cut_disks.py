"""The two disks of `make power-cuts`: what a cut may take, and what it must leave."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from proof.power_cuts.file_system import ROOT
from proof.power_cuts.forgetful import ForgetfulFiles
from proof.power_cuts.forgetful_nodes import Names
from proof.power_cuts.recording import BLOCK, NAME, Record, RecordingFiles

OWNER = (0, 0)
CUTS = 400


def names_of(files: ForgetfulFiles, folder: int = ROOT) -> set[str]:
    """Return the names in a folder."""
    return {name for _, name, _, _ in files.names(folder)}


def cuts() -> Iterator[random.Random]:
    """Yield the generators of many cuts."""
    return (random.Random(f"cut {number}") for number in range(CUTS))  # noqa: S311  repeatable, no secret


def written(files: ForgetfulFiles, name: str, data: bytes, folder: int = ROOT) -> int:
    """Make a file with that content; flush nothing."""
    number = files.create(folder, name, 0o600, OWNER, exclusive=True)
    files.write(number, 0, memoryview(data))
    return number


@pytest.mark.parametrize("names", list(Names))
def test_what_was_flushed_survives_every_cut(names: Names) -> None:
    """Bytes by the flush of the file, its two names by the flush of their folders."""
    data = bytes(range(256)) * 64
    for generator in cuts():
        files = ForgetfulFiles()
        study = files.make_folder(ROOT, "study", 0o700, OWNER)
        number = written(files, "part", data)
        files.link(number, study, "final")
        files.flush(number, is_folder=False)
        files.flush(study, is_folder=True)
        files.flush(ROOT, is_folder=True)
        files.write(number, len(data), memoryview(b"later"))
        files.unlink(ROOT, "part", is_folder=False)
        files.cut(generator, names)
        assert names_of(files, study) == {"final"}
        assert files.read(number, 0, len(data)) == data
        assert files.attributes(number).links == len(names_of(files) - {"study"}) + 1


@pytest.mark.parametrize("names", list(Names))
def test_a_cut_leaves_each_part_of_what_was_not_flushed(names: Names) -> None:
    """A name without bytes, torn bytes, neither, both; and bytes that were flushed without a name."""
    data = b"\x01" * (3 * BLOCK)
    sizes: set[int | None] = set()
    for generator in cuts():
        files = ForgetfulFiles()
        number = written(files, "file", data)
        files.cut(generator, names)
        sizes.add(len(files.read(number, 0, 99999)) if names_of(files) else None)
    assert sizes == {None, 0, BLOCK, 2 * BLOCK, 3 * BLOCK}
    nameless = 0
    for generator in cuts():
        files = ForgetfulFiles()
        files.flush(written(files, "file", data), is_folder=False)
        files.cut(generator, names)
        nameless += not names_of(files)
    assert 0 < nameless < CUTS


@pytest.mark.parametrize(
    ("names", "lost"), [(Names.JOURNAL, False), (Names.PER_FILE, False), (Names.ANY, True)]
)
def test_only_the_strictest_disk_loses_a_file_that_moves(names: Names, *, lost: bool) -> None:
    """A move is a link and an unlink, neither of them flushed."""
    left = []
    for generator in cuts():
        files = ForgetfulFiles()
        sent = files.make_folder(ROOT, "sent", 0o700, OWNER)
        number = written(files, "file", b"12")
        for flushed, is_folder in ((number, False), (ROOT, True)):
            files.flush(flushed, is_folder=is_folder)
        files.link(number, sent, "file")
        files.unlink(ROOT, "file", is_folder=False)
        files.cut(generator, names)
        left.append((names_of(files) - {"sent"}) | names_of(files, sent))
    assert (set() in left) is lost


def test_a_flush_keeps_what_the_journal_has_before_it() -> None:
    """With a journal, the flush of one folder also keeps the earlier steps of another."""
    for names, both in ((Names.JOURNAL, True), (Names.PER_FILE, False)):
        kept = []
        for generator in cuts():
            files = ForgetfulFiles()
            one = files.make_folder(ROOT, "one", 0o700, OWNER)
            other = files.make_folder(ROOT, "other", 0o700, OWNER)
            files.flush(ROOT, is_folder=True)
            written(files, "first", b"", one)
            written(files, "second", b"", other)
            files.flush(other, is_folder=True)
            files.cut(generator, names)
            assert names_of(files, other) == {"second"}
            kept.append(names_of(files, one) == {"first"})
        assert all(kept) is both


def test_a_lying_disk_loses_what_was_flushed() -> None:
    """At least in one cut."""
    seen = []
    for generator in cuts():
        files = ForgetfulFiles(lies=True)
        number = written(files, "file", b"12")
        files.flush(number, is_folder=False)
        files.flush(ROOT, is_folder=True)
        files.cut(generator, Names.JOURNAL)
        seen.append(names_of(files) == {"file"} and files.read(number, 0, 9) == b"12")
    assert set(seen) == {True, False}


def test_the_record_builds_each_moment(tmp_path: Path) -> None:
    """What was flushed is there; of the rest each block is old or new; what came later is not there."""
    before, live, rolling, built = (tmp_path / name for name in ("before", "live", "rolling", "built"))
    for image in (before, live):
        image.write_bytes(bytes(4 * BLOCK))
    files = RecordingFiles(live)
    number = files.lookup(ROOT, NAME)
    files.write(number, 0, memoryview(b"a" * BLOCK))
    files.flush(number, is_folder=False)
    files.write(number, BLOCK, memoryview(b"b" * (2 * BLOCK)))
    files.write(number, 3 * BLOCK, memoryview(b"c" * BLOCK))
    files.flush(number, is_folder=False)
    seen = set()
    for generator in cuts():
        record = Record(before, live, rolling)
        assert len(record) == 5
        assert record.flushes() == [2, 5]
        assert record.before_flushes() == [1, 4]
        record.build(3, built, generator)
        content = built.read_bytes()
        blocks = [content[at : at + 1] for at in range(0, 4 * BLOCK, BLOCK)]
        assert blocks[0] == b"a"
        assert blocks[3] == b"\0"
        seen.add((blocks[1], blocks[2]))
        assert record.build(5, built, generator) == 0
        assert built.read_bytes() == live.read_bytes()
        record.close()
    assert seen == {(one, other) for one in (b"b", b"\0") for other in (b"b", b"\0")}


def test_a_lying_disk_loses_flushed_writes_of_the_record(tmp_path: Path) -> None:
    """At least in one cut; on an honest disk in none."""
    before, live, rolling, built = (tmp_path / name for name in ("before", "live", "rolling", "built"))
    for image in (before, live):
        image.write_bytes(bytes(BLOCK))
    files = RecordingFiles(live)
    number = files.lookup(ROOT, NAME)
    files.write(number, 0, memoryview(b"a" * BLOCK))
    files.flush(number, is_folder=False)
    for lies in (False, True):
        lost = []
        for generator in cuts():
            record = Record(before, live, rolling, lies=lies)
            lost.append(record.build(2, built, generator) > 0)
            record.close()
        assert any(lost) is lies


@pytest.mark.parametrize("names", [Names.JOURNAL, Names.PER_FILE])
def test_a_name_is_taken_again_only_where_it_was_free(names: Names) -> None:
    """A file moves away and another takes its name: neither cut leaves the first without a name."""
    for generator in cuts():
        files = ForgetfulFiles()
        sent = files.make_folder(ROOT, "sent", 0o700, OWNER)
        first, second = written(files, "file", b"1"), written(files, "other", b"2")
        files.flush(ROOT, is_folder=True)
        files.link(first, sent, "file")
        files.unlink(ROOT, "file", is_folder=False)
        files.link(second, ROOT, "file")
        files.cut(generator, names)
        assert files.attributes(first).links >= 1
