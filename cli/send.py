"""`mini-pacs send`: the sender simulator; also `python sender_simulator.py`."""

import secrets
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from cli.exit_codes import ExitCode
from cli.send_report import Report, fail, progress, rejection_hint, show
from gateway.dicom.association import PeerAddress
from gateway.domain.identifiers import is_ae_title, is_uid
from gateway.errors import AssociationRejectedError, GatewayError, PeerAwayError
from gateway.sender.collect import Skipped
from gateway.sender.generate import (
    DEFAULT_MODALITY,
    MODALITIES,
    Study,
)
from gateway.sender.numbering import MAX_WIDTH, numbered, with_patients
from gateway.sender.prepare import SendRequest, prepare
from gateway.sender.rewrite import Edits
from gateway.sender.send import Priority, SendOptions
from gateway.sender.send import send as send_all

MAX_TIMES = 100_000
CONNECT_TIMEOUT_SECONDS = 10.0
"""Must exceed a connection and association to a gateway that is busy with a thousand others."""


class PriorityName(StrEnum):
    """`--priority`."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class UsageError(Exception):
    """An option or its combination with another makes no sense; says which and what to do."""


def send(  # noqa: PLR0917  one parameter per option; typer reads them by name
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH…", help="Files and folders to send.", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option(help="Host of the Storage SCP.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its port.")] = 11112,
    calling_aet: Annotated[
        str, typer.Option(help="AE title to send as; must be on the SCP's allowlist.")
    ] = "ORTHANC",
    called_aet: Annotated[str, typer.Option(help="AE title of the SCP.")] = "MINI_EDGE",
    burst: Annotated[
        int,
        typer.Option(
            min=1, max=MAX_TIMES, help="Send everything N times; with --rewrite-uids PATHs are new each time."
        ),
    ] = 1,
    associations: Annotated[
        int, typer.Option(min=1, max=256, help="Associations that share the work at the same time.")
    ] = 1,
    delay_ms: Annotated[float, typer.Option(min=0, help="Pause after each instance of an association.")] = 0,
    generate: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Generate N studies, each of another patient.",
            show_default=False,
        ),
    ] = 0,
    instances: Annotated[
        int | None,
        typer.Option(min=1, help="Instances of each generated study; 1 without it.", show_default=False),
    ] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Keep what is generated or rewritten there.", show_default=False),
    ] = None,
    rewrite_uids: Annotated[
        bool,
        typer.Option("--rewrite-uids", help="Send PATHs as new instances; what belongs together still does."),
    ] = False,
    study_uid: Annotated[
        str | None, typer.Option(help="StudyInstanceUID for all.", show_default=False)
    ] = None,
    series_uid: Annotated[
        str | None, typer.Option(help="SeriesInstanceUID for all.", show_default=False)
    ] = None,
    sop_uid: Annotated[
        str | None, typer.Option(help="SOPInstanceUID of the only instance.", show_default=False)
    ] = None,
    seq_from_db: Annotated[
        bool,
        typer.Option(
            "--seq-from-db", help="Number generated studies from a PostgreSQL sequence: EDGE000001."
        ),
    ] = False,
    seq_width: Annotated[int, typer.Option(min=1, max=MAX_WIDTH, help="Digits of that number.")] = 6,
    patient_id: Annotated[
        str | None,
        typer.Option(help="PatientID; with --seq-from-db what stands before the number.", show_default=False),
    ] = None,
    patient_name: Annotated[
        str | None, typer.Option(help="PatientName, Family^Given.", show_default=False)
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(
            help=f"To generate: {', '.join(MODALITIES)}; default {DEFAULT_MODALITY}.", show_default=False
        ),
    ] = None,
    series_description: Annotated[
        str | None, typer.Option(help="SeriesDescription.", show_default=False)
    ] = None,
    priority: Annotated[
        PriorityName, typer.Option(help="Priority of the C-STORE requests.")
    ] = PriorityName.MEDIUM,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, no progress bar.")] = False,
    timeout: Annotated[
        float,
        typer.Option(min=0.1, help="Seconds that one answer may take; more than the SCP's slowest commit."),
    ] = 30,
) -> None:
    """Send DICOM instances, from files or generated, to a Storage SCP.

    A PATH is sent byte for byte, in its own transfer syntax, unless --rewrite-uids, --study-uid,
    --series-uid, --sop-uid, --patient-id, --patient-name, --modality or --series-description ask for
    changes. What a folder holds besides sendable instances is skipped, and counted.

    Exit codes: 0 all accepted, 1 something was refused or is not sendable, 2 usage, 3 unreachable or
    rejected.
    """
    edits = Edits(
        new_uids=rewrite_uids,
        study_instance_uid=study_uid,
        series_instance_uid=series_uid,
        sop_instance_uid=sop_uid,
        attributes={
            keyword: text
            for keyword, text in (
                ("PatientID", patient_id),
                ("PatientName", patient_name),
                ("Modality", modality),
                ("SeriesDescription", series_description),
            )
            if text is not None
        },
    )
    peer = PeerAddress(host, port, called_aet, timeout, min(timeout, CONNECT_TIMEOUT_SECONDS))
    manner = SendOptions(calling_aet, associations, delay_ms / 1000, Priority[priority.name])
    with tempfile.TemporaryDirectory(prefix="mini-pacs-send-") as scratch:
        try:
            _check(paths or [], generate, peer, manner, edits)
            studies = _studies(edits, generate, instances, is_numbered=seq_from_db)
            given = {"patient_name": patient_name}
            if seq_from_db:
                studies = numbered(studies, _numbers(), seq_width, patient_prefix=patient_id, **given)
            else:
                run = secrets.token_hex(3).upper()
                studies = with_patients(studies, run, patient_id=patient_id, **given)
            order = SendRequest(paths or [], edits, studies, burst)
            report = _run(order, out_dir or Path(scratch), peer, manner, quiet=json)
        except (UsageError, ValueError) as error:
            fail(str(error), ExitCode.USAGE, as_json=json)
        except AssociationRejectedError as error:
            fail(f"{error}; {rejection_hint(error, peer, manner)}", ExitCode.UNREACHABLE, as_json=json)
        except PeerAwayError as error:
            fail(f"{error}; is it running? see --host and --port", ExitCode.UNREACHABLE, as_json=json)
        except GatewayError as error:
            fail(str(error), ExitCode.UNREACHABLE, as_json=json)
        except OSError as error:
            if error.filename is None:  # none of the files: see cli/boundary.py
                raise
            fail(f"{error.filename}: {error.strerror}", ExitCode.USAGE, as_json=json)
    show(report, as_json=json)
    raise typer.Exit(report.exit_code)


def _run(order: SendRequest, folder: Path, peer: PeerAddress, manner: SendOptions, *, quiet: bool) -> Report:
    """Prepare, send, and tell what came of it; an interruption ends it early with what is known."""
    numbers = {study.study_instance_uid: study.number for study in order.studies}
    report = Report({study: number for study, number in numbers.items() if study and number})
    try:
        with progress(quiet=quiet) as bar:
            instances = []
            preparing = bar.add_task("Preparing", total=order.total)
            for piece in prepare(order, folder):
                if isinstance(piece, Skipped):
                    report.skipped.append(piece)
                else:
                    instances.append(piece)
                    bar.update(preparing, completed=len(instances))
            bar.remove_task(preparing)
            if not instances:
                reasons = "; ".join(f"{s.path}: {s.reason}" for s in report.skipped[:3])
                raise UsageError(
                    f"there is nothing sendable at the given paths{f' ({reasons})' if reasons else ''}"
                )
            sending = bar.add_task("Sending", total=len(instances))
            begun = monotonic()
            for sent in send_all(instances, peer, manner):
                report.outcomes.append(sent)
                report.seconds = monotonic() - begun
                bar.advance(sending)
    except KeyboardInterrupt:
        report.interrupted = True
    return report


def _check(
    paths: Sequence[Path], generate: int, peer: PeerAddress, manner: SendOptions, edits: Edits
) -> None:
    if not paths and not generate:
        raise UsageError("nothing to send: name a PATH, or use --generate N")
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist")
    for option, title in (("--calling-aet", manner.calling_ae_title), ("--called-aet", peer.ae_title)):
        if not is_ae_title(title):
            raise UsageError(
                f"{option} {title!r}: an AE title has 1 to 16 printable characters, no backslash"
            )
    for option, uid in (
        ("--study-uid", edits.study_instance_uid),
        ("--series-uid", edits.series_instance_uid),
        ("--sop-uid", edits.sop_instance_uid),
    ):
        if uid is not None and not is_uid(uid):
            raise UsageError(f"{option} {uid!r}: a UID has at most 64 characters, digits and dots")


def _studies(edits: Edits, count: int, instances: int | None, *, is_numbered: bool) -> list[Study]:
    """`--generate N --instances M` is N studies of M instances; without `--instances` of one."""
    if not count:
        if is_numbered:
            raise UsageError("--seq-from-db numbers generated studies: add --generate N")
        if instances is not None:
            raise UsageError("--instances says how many a generated study has: add --generate N")
        return []
    size = instances or 1
    if edits.sop_instance_uid is not None and (count, size) != (1, 1):
        raise UsageError("--sop-uid names one instance: use --generate 1 without --instances")
    if edits.study_instance_uid is not None and count > 1:
        raise UsageError(
            "--study-uid names one study, but more are to be generated: use --generate 1 --instances M"
        )
    if edits.series_instance_uid is not None and count > 1:
        raise UsageError(
            "--series-uid names one series, but more are to be generated: use --generate 1 --instances M"
        )
    attributes = edits.attributes
    when = datetime.now().astimezone()
    return [
        Study(
            instances=size,
            when=when,
            modality=attributes.get("Modality", DEFAULT_MODALITY),
            study_instance_uid=edits.study_instance_uid,
            series_instance_uid=edits.series_instance_uid,
            sop_instance_uid=edits.sop_instance_uid,
            series_description=attributes.get("SeriesDescription"),
        )
        for _ in range(count)
    ]


def _numbers() -> Callable[[int], Sequence[int]]:
    """The sequence of the gateway's database; only `--seq-from-db` needs PostgreSQL."""
    # Imported here, because a sender on another machine has no database.
    from gateway.database.dsn import dsn_from_environment  # noqa: PLC0415  see above
    from gateway.database.pool import Database  # noqa: PLC0415  see above
    from gateway.database.tables.numbers import next_numbers  # noqa: PLC0415  see above

    database = Database(dsn_from_environment(), application_name="mini-pacs send", size=1)

    def numbers(count: int) -> Sequence[int]:
        try:
            return next_numbers(database, count)
        finally:
            database.close()

    return numbers
