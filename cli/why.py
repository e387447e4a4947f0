"""`mini-pacs why`: what became of a study, a series, an instance, or the instances of a sender.

The typed word is never written into the log. It is not part of a statement if it may be a patient ID or an
accession number.
"""

from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.console import Console

from cli.advice import RefusedError
from cli.documents import Json, Schema, print_document
from cli.exit_codes import ExitCode
from cli.moments import moment_of
from cli.operator import opened
from cli.question import ask
from cli.refused import sentence
from cli.screen import console, dimse, table
from gateway import config
from gateway.config import Configuration
from gateway.database.session import Session
from gateway.database.tables import search_hashes
from gateway.domain.delivery import State
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, is_uid
from gateway.errors import DatabaseUnavailableError, SpoolError
from gateway.search import evidence, verdict
from gateway.search.evidence import Evidence, OfSender
from gateway.search.files import search_files
from gateway.search.hashes import hashes_to_find
from gateway.search.key import search_key
from gateway.search.verdict import Verdict
from gateway.search.word import is_known_title
from gateway.spool.spool import Spool
from gateway.times import clock, dated, moment

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
                _answer_sender(of_sender, found, configuration, limit, as_json=as_json)
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
        _answer_uids([known], configuration, limit, as_json=as_json, remark=remark)
        return
    _answer_uids(found, configuration, limit, as_json=as_json, remark=remark)


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


# ---- the answer --------------------------------------------------------------------------------------


def _answer_uids(
    found: list[Evidence], configuration: Configuration, limit: int, *, as_json: bool, remark: str = ""
) -> None:
    days = configuration.sweep.history_days
    verdicts = [verdict.of_uid(one, history_days=days, clock=moment) for one in found]
    if as_json:
        items = [_document(one, said) for one, said in zip(found, verdicts, strict=True)]
        print_document(Schema.WHY, {"verdict": _overall(verdicts, days), "remark": remark, "items": items})
    else:
        screen = console()
        if not found:
            screen.print(_overall(verdicts, days), soft_wrap=True)
        for one, said in sorted(zip(found, verdicts, strict=True), key=lambda pair: pair[1].is_well):
            _print(screen, one, said, limit)
        if remark:
            screen.print(f"\n({remark})", soft_wrap=True)
    if not found or not all(said.is_well for said in verdicts):
        raise typer.Exit(ExitCode.REFUSED)


def _answer_sender(
    of_sender: OfSender, found: list[Evidence], configuration: Configuration, limit: int, *, as_json: bool
) -> None:
    said = verdict.of_sender(of_sender)
    days = configuration.sweep.history_days
    verdicts = [verdict.of_uid(one, history_days=days, clock=moment) for one in found]
    if as_json:
        print_document(
            Schema.WHY,
            {
                "verdict": said.text,
                "remark": "",
                "items": [_document(one, its) for one, its in zip(found, verdicts, strict=True)],
                "refusals": [asdict(row) for row in of_sender.refusals],
            },
        )
    else:
        screen = console()
        screen.print(f"{said.text}.", soft_wrap=True)
        screen.print(f"({moment(of_sender.begin)} to {moment(of_sender.until)})", soft_wrap=True)
        for row in of_sender.refusals:
            screen.print(f"  · {sentence(row)}", soft_wrap=True)
        for one, its in sorted(zip(found, verdicts, strict=True), key=lambda pair: pair[1].is_well):
            screen.print(f"\n{one.uid}", soft_wrap=True)
            screen.print(f"  {its.text}", soft_wrap=True)
            if not its.is_well:
                _print_troubled(screen, one, limit)
        for command in said.commands:
            screen.print(f"→ {command}", soft_wrap=True)
    if not said.is_well or not all(its.is_well for its in verdicts):
        raise typer.Exit(ExitCode.REFUSED)


def _overall(verdicts: list[Verdict], days: float) -> str:
    if not verdicts:
        return f"not found: no study that is kept, and none of the last {days:g} days, has that number"
    return next((said.text for said in verdicts if not said.is_well), verdicts[0].text)


def _document(one: Evidence, said: Verdict) -> dict[str, object]:
    return {
        "uid": one.uid,
        "verdict": said.text,
        "well": said.is_well,
        "commands": said.commands,
        "studies": one.studies,
        "deliveries": one.deliveries,
        "troubled": one.troubled,
        "ruled_out": one.ruled_out,
        "refused": one.refused,
        "past": one.past,
        "unregistered": one.unregistered,
    }


def _print(screen: Console, one: Evidence, said: Verdict, limit: int) -> None:
    screen.print(f"{said.text}.", soft_wrap=True)
    screen.print(f"  {one.uid}", soft_wrap=True)
    _print_troubled(screen, one, limit)
    for study in one.studies:
        flags = [
            f"{study.conflicts} with other bytes under a known UID" if study.conflicts else "",
            f"{study.repeats} sent again" if study.repeats else "",
            f"{study.unforwarded} of them not forwarded, because it was delivered"
            if study.unforwarded
            else "",
            f"{study.unmatched} that match no source" if study.unmatched else "",
        ]
        more = "".join(f", {flag}" for flag in flags if flag)
        screen.print(
            f"\n{study.instances} {study.kind.value}(s) of study {study.study_instance_uid} from "
            f"{', '.join(study.senders)}, {moment(study.first_at)} to {moment(study.last_at)}{more}",
            soft_wrap=True,
        )
    if one.deliveries:
        rows = table("to", "state", "count", "first", "last", title=dated("\nDeliveries"))
        for counted in one.deliveries:
            to = counted.destination if counted.destination != counted.route else counted.route.value
            rows.add_row(
                to, counted.state.value, str(counted.count), clock(counted.first_at), clock(counted.last_at)
            )
        screen.print(rows)
    _print_past(screen, one, limit)
    for command in said.commands:
        screen.print(f"→ {command}", soft_wrap=True)


def _print_troubled(screen: Console, one: Evidence, limit: int) -> None:
    if one.troubled:
        rows = table("instance", "to", "state", "attempts", "status", "why")
        for bad in one.troubled:
            rows.add_row(
                bad.sop_instance_uid,
                bad.destination or bad.route.value,
                bad.state.value,
                str(bad.attempts),
                dimse(bad.last_status),
                bad.last_error or (f"by {bad.settled_by}" if bad.settled_by else ""),
            )
        screen.print(rows)
        count = sum(counted.count for counted in one.deliveries if counted.state is not State.DELIVERED)
        if count > len(one.troubled):
            screen.print(f"… and {count - len(one.troubled)} more: --limit {count}", soft_wrap=True)
    if one.refused:
        rows = table("refused", "from", "times", "last", "status", "why")
        for refused in one.refused[:limit]:
            rows.add_row(
                refused.sop_instance_uid,
                f"{refused.calling_ae_title}@{refused.remote_address}",
                str(refused.count),
                clock(refused.last_at),
                dimse(refused.status),
                refused.detail or refused.reason.value,
            )
        screen.print(rows)


def _print_past(screen: Console, one: Evidence, limit: int) -> None:
    if not one.past:
        return
    rows = table(
        "instance", "from", "received", "outcome", title=dated(f"\nDeleted: {len(one.past)} instances")
    )
    for past in one.past[:limit]:
        outcome = ", ".join(
            f"{destination} {value['state']}"
            + ("" if value["at"] is None else f" {clock(datetime.fromisoformat(value['at']))}")
            for destination, value in past.outcomes.items()
        )
        sender = f"{past.calling_ae_title}@{past.remote_address}"
        rows.add_row(past.sop_instance_uid, sender, clock(past.received_at), outcome)
    screen.print(rows)
    if len(one.past) > limit:
        screen.print(f"… and {len(one.past) - limit} more: --limit {len(one.past)}", soft_wrap=True)
