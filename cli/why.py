"""`mini-pacs why`: what became of a study, a series, an instance, or the instances of a sender.

The typed word is never written into the log. It is not part of a statement if it may be a patient ID or an
accession number. cli/why_report.py prints the answer.
"""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Self

import typer

from cli.advice import RefusedError
from cli.documents import Json
from cli.moments import moment_of
from cli.operator import opened
from cli.question import ask
from cli.screen import console
from cli.why_report import answer_sender, answer_uids
from gateway import config
from gateway.config import Configuration
from gateway.database.session import Session
from gateway.database.tables import search_hashes
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, is_uid
from gateway.errors import DatabaseUnavailableError, SpoolError
from gateway.search import evidence
from gateway.search.files import search_files
from gateway.search.hashes import hashes_to_find
from gateway.search.key import search_key
from gateway.search.word import is_known_title
from gateway.spool.spool import Spool

if TYPE_CHECKING:
    from gateway.spool.envelope import Envelope

DAY = timedelta(days=1)
AROUND = timedelta(minutes=30)
"""How far before and after `--at` an AE title is looked for."""

Word = Annotated[
    str | None,
    typer.Argument(
        metavar="[WORD]",
        help="A study, series or SOP Instance UID, an AE title, an accession number or a patient ID. Without "
        "it, or with -, the command asks for it: so it is in no process list and no history of the shell.",
        show_default=False,
    ),
]


def why(
    *,
    word: Word = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With an AE title: from when on. Default 1d.", show_default=False),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="With an AE title: half an hour around this time.", show_default=False
        ),
    ] = None,
    read_files: Annotated[
        bool,
        typer.Option(
            "--read-files", help="Search accession number and patient ID in the files of the spool."
        ),
    ] = False,
    seconds: Annotated[float, typer.Option(min=1, max=86_400, help="How long --read-files may read.")] = 60,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="How many undelivered instances are shown.")
    ] = 10,
    as_json: Json = False,
) -> None:
    """Say what became of a study, an instance, or what a sender sent: the verdict, then the evidence.

    Times are written as `30min`, `2h`, `3d`, `04:19` or `2026-11-28 04:19`. Exit code 1 if an instance is not
    in the PACS.
    """
    begin, until = _window(since, at)
    typed = _typed(word)
    configuration = config.load()
    spool = Spool(configuration.edge.data_root)
    envelopes: tuple[Envelope, ...] = ()
    with suppress(OSError, SpoolError):  # this host does not have the spool
        envelopes = evidence.unregistered(spool)
    # The word of --read-files is a number, which must not get into a statement.
    may_be_title = not read_files and not _is_uid(typed)
    try:
        with opened("why") as database, database.statement() as session:
            if may_be_title and is_known_title(session, typed, configuration):
                of_sender = evidence.of_sender(session, typed, begin, until)
                found = [
                    evidence.of_uid(session, uid, limit=limit, envelopes=envelopes)
                    for uid in of_sender.study_instance_uids
                ]
                answer_sender(of_sender, found, configuration, limit, as_json=as_json)
                return
            uids, remark = _uids_of(
                session, typed, configuration, spool, read_files=read_files, seconds=seconds
            )
            found = [evidence.of_uid(session, uid, limit=limit, envelopes=envelopes) for uid in uids]
    except DatabaseUnavailableError as error:
        known = evidence.of_spool(typed, envelopes)
        if not known.is_known:
            raise
        remark = f"PostgreSQL cannot be reached, so this is only what the spool shows: {error}"
        answer_uids([known], configuration, limit, as_json=as_json, remark=remark)
        return
    answer_uids(found, configuration, limit, as_json=as_json, remark=remark)


# ---- what was typed ----------------------------------------------------------------------------------


def _typed(word: str | None) -> str:
    typed = ask("UID, AE title, accession number or patient ID: ") if word in {None, "-"} else word
    assert typed is not None
    if not typed.strip():
        raise typer.BadParameter("it is empty", param_hint="WORD")
    return typed.strip()


def _window(since: str | None, at: str | None) -> tuple[datetime, datetime]:
    if since is not None and at is not None:
        raise typer.BadParameter("give --since or --at, not both", param_hint="--at")
    now = datetime.now(UTC)
    if at is not None:
        around = moment_of(at, "--at")
        return around - AROUND, around + AROUND
    return (now - DAY if since is None else moment_of(since, "--since")), now


def _is_uid(word: str) -> bool:
    return "." in word and is_uid(word, MAX_DATA_SET_UID_LENGTH)


def _uids_of(
    session: Session,
    word: str,
    configuration: Configuration,
    spool: Spool,
    *,
    read_files: bool,
    seconds: float,
) -> tuple[list[str], str]:
    """Return the typed UID, or the studies with that number; and how they were searched."""
    if not read_files and _is_uid(word):
        return [word], ""
    key = search_key(configuration.edge)
    if read_files:
        with _Progress() as progress:
            searched = search_files(session, spool, word, seconds=seconds, progress=progress)
        remark = f"one file of each of {searched.series} series was read"
        if searched.unreadable:
            remark += f"; {searched.unreadable} could not be read"
        if not searched.is_complete:
            remark += f"; it stopped after {seconds:g} s: --seconds reads longer"
        return searched.study_instance_uids, remark
    if key is None:
        raise RefusedError(
            "that is no UID and no AE title that the edge knows. An accession number or a patient ID is "
            "found with --read-files, which reads the files that are kept, or with edge.search_key"
        )
    studies = search_hashes.find(session, hashes_to_find(key, word))
    if studies is None:
        raise RefusedError(
            f"more than {search_hashes.MOST_SEARCHES} searches by number within two minutes: wait two minutes"
        )
    return studies, "searched by keyed hash; a study is found a minute or two after it came"


class _Progress:
    """Shows how many series were read, on standard error."""

    def __enter__(self) -> Self:
        self._status = console(stderr=True).status("reading files")
        self._status.start()
        return self

    def __call__(self, count: int) -> None:
        self._status.update(f"reading files: {count} series")

    def __exit__(self, *_: object) -> None:
        self._status.stop()
