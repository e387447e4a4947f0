"""The spool: free space, what is not registered, files with other bytes than were received."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.config import Configuration
from gateway.diagnosis.counts import figure
from gateway.diagnosis.finding import Finding, Holds, note, problem
from gateway.domain.instance import Place
from gateway.errors import SpoolError
from gateway.register.unregistered import backlog, refused_count, refused_reason
from gateway.spool.marks import ID
from gateway.spool.partial import PARTIAL
from gateway.spool.places import DAMAGED, ORPHANED
from gateway.spool.spool import Spool
from gateway.times import since

FILE_LIMIT = 10_000
"""Count the files of a folder up to this number. It takes a tenth of a second if each study has one file."""
UNREGISTERED_LONG = timedelta(seconds=60)
"""Receptions are registered within milliseconds; after this time something is wrong."""
INODES_USED = 10
"""An instance needs its file, its second name needs none, and its study and the receiver a folder each."""
INODES_NEAR = 2000
_MEANS_OF_FOLDER = {
    PARTIAL: "senders get 0xA700 and keep their images; what was received has a second name in incoming/",
    ORPHANED: "no instance needs it; the sweep cannot set files aside",
}
_MEANS_OF_FILES = "the files that were in it are lost, unless it was renamed: their deliveries will be dead"
RESERVE_NEAR = 2
"""A note is given where less than this many times the reserve is free."""


@dataclass(frozen=True, slots=True)
class Space:
    """The spool in `root`: free bytes, its reserve, and how many files each folder holds, up to `limit`.

    `unregistered` receptions are acknowledged and have no rows yet, the oldest since `unregistered_since`;
    PostgreSQL refused the values of `refused` others.
    """

    free_bytes: int
    reserve_bytes: int
    files: dict[str, int]
    limit: int
    root: str = "the spool"
    unregistered: int = 0
    unregistered_since: datetime | None = None
    refused: int = 0
    missing: tuple[str, ...] = ()
    """Folders of the spool that are gone."""
    free_inodes: int | None = None
    """How many more files the disk can hold; None if it sets no limit."""
    refused_reason: str = ""
    """Why PostgreSQL refused the last reception that it refused."""


def measure(configuration: Configuration) -> Space | None:
    """Measure the spool; return None where it is not on this host, or not readable."""
    spool = Spool(configuration.edge.data_root)
    try:
        free, inodes = spool.free_bytes(), spool.free_inodes()
        files = {str(name): spool.count(name, FILE_LIMIT) for name in (*Place, ORPHANED, DAMAGED)}
        waiting = backlog(spool, FILE_LIMIT)
        refused = refused_count(spool)
        # Without `spool.id` its disk is not mounted, or no process has prepared it yet.
        missing = tuple(spool.missing_folders()) if (spool.root / ID).exists() else ()
    except (SpoolError, OSError):
        return None
    return Space(
        free,
        configuration.edge.disk_reserve_mb << 20,
        files,
        FILE_LIMIT,
        str(spool.root),
        waiting.count,
        waiting.oldest,
        refused,
        missing,
        inodes,
        refused_reason(spool) if refused else "",
    )


def folders(space: Space | None) -> Iterator[Finding]:
    """Yield a finding for each folder of the spool that is gone."""
    if space is None:
        return
    for name in space.missing:
        path = f"{space.root}/{name}"
        yield problem(
            f"spool.folder:{name}",
            f"The folder {path} of the spool is gone: somebody deleted or renamed it",
            _MEANS_OF_FOLDER.get(name, _MEANS_OF_FILES),
            f"`mini-pacs serve` makes it again within seconds while it runs; else `mkdir -m 750 {path}`, "
            f"`chown --reference={space.root} {path}`, then start `mini-pacs serve`",
            holds=Holds.ALL if name in {PARTIAL, Place.INCOMING} else Holds.SOME,
        )


def space(space: Space | None) -> Iterator[Finding]:
    """Yield what is wrong with the free space."""
    if space is None:
        return
    free, reserve = space.free_bytes >> 20, space.reserve_bytes >> 20
    remedy = "free space, or lower sweep.retention_hours and run `mini-pacs sweep purge`"
    if space.free_bytes <= space.reserve_bytes:
        yield problem(
            "spool.reserve",
            f"The spool's disk is at its reserve ({free} MiB free, edge.disk_reserve_mb is {reserve})",
            "senders are rejected until space is free; no image is lost",
            remedy,
            holds=Holds.ALL,
        )
    elif space.free_bytes <= RESERVE_NEAR * space.reserve_bytes:
        yield note(
            "spool.near_reserve",
            f"The spool's disk is close to its reserve ({free} MiB free, edge.disk_reserve_mb is {reserve})",
            "senders are rejected when it is reached",
            remedy,
            holds=Holds.LATER,
        )


def inodes(space: Space | None) -> Iterator[Finding]:
    """Yield what is wrong with the number of files that the disk can still hold."""
    left = None if space is None else space.free_inodes
    if space is None or left is None or left > INODES_NEAR:
        return
    remedy = (
        "delete files that are not of the edge (`df -i`, `du --inodes`), lower sweep.retention_hours and run "
        "`mini-pacs sweep purge`, or make the file system again with more inodes"
    )
    if left <= INODES_USED:
        what = f"The disk of the spool {space.root} has no inode left for a further file ({left} are free)"
        means = "senders get 0xA700, although space is free; no image is lost"
        yield problem("spool.inodes", what, means, remedy, holds=Holds.ALL)
    else:
        what = f"The disk of the spool {space.root} can hold only {left:,} more files: its inodes are used up"
        yield note("spool.inodes", what, "then senders get 0xA700", remedy, holds=Holds.LATER)


def unregistered(space: Space | None, now: datetime) -> Iterator[Finding]:
    """Yield what is wrong with the receptions that are not registered; this needs no database."""
    if space is None:
        return
    since_then = space.unregistered_since
    if since_then is not None and now - since_then > UNREGISTERED_LONG:
        count = figure(space.unregistered, exact=space.unregistered < space.limit)
        yield problem(
            "spool.unregistered",
            f"{count} receptions are acknowledged and not registered, the oldest for "
            f"{since(since_then, now)}",
            "they are safe in the spool, and are delivered once PostgreSQL has their rows",
            "the log has the reason (stage db); start PostgreSQL, or `mini-pacs serve`",
            since=since_then,
            holds=Holds.ALL,
        )
    if space.refused:
        reason = f", the last: {space.refused_reason}" if space.refused_reason else ""
        yield problem(
            "spool.not_registrable",
            f"{space.refused} receptions are acknowledged, and PostgreSQL refuses to register them{reason}",
            "they are not delivered; their files are in failed/ and are never purged",
            "remove the reason (the log has that of each: outcome not_registrable), then restart "
            "`mini-pacs serve`: it tries them again",
            holds=Holds.SOME,
        )


def damaged(space: Space | None) -> Iterator[Finding]:
    """Yield a finding for the files in damaged/."""
    count = 0 if space is None else space.files.get(DAMAGED, 0)
    if space is not None and count:
        folder = f"{space.root}/{DAMAGED}"
        yield problem(
            "spool.damaged",
            f"{figure(count, exact=count < space.limit)} files in {folder} do not hold the bytes that were "
            "received",
            "their instances are not delivered; purge never removes them",
            "let the modality send these instances again (the file names are their SOP Instance UIDs), or "
            f"send what a file holds: `mini-pacs send {folder}/STUDY/FILE`; then remove the files",
            holds=Holds.SOME,
        )
