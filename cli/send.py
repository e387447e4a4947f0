"""`mini-pacs send`, the sender simulator; also `python sender_simulator.py`."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import typer

from cli import advice
from cli import send_options as option
from cli.advice import CommandError, UsageError
from cli.documents import Json
from cli.exit_codes import ExitCode
from cli.send_report import Report, progress, rejection_hint, show
from cli.send_studies import Generation, studies_of
from gateway.dicom.association import PeerAddress
from gateway.domain.identifiers import is_ae_title, is_uid
from gateway.errors import AssociationRejectedError, PeerAwayError, PeerError
from gateway.sender.collect import Skipped
from gateway.sender.prepare import SendRequest, prepare
from gateway.sender.rewrite import Edits
from gateway.sender.send import Priority, SendOptions
from gateway.sender.send import send as send_all

_OPTIONS = {
    "PatientID": "--patient-id",
    "PatientName": "--patient-name",
    "Modality": "--modality",
    "SeriesDescription": "--series-description",
}
CONNECT_TIMEOUT_SECONDS = 10.0
"""Must exceed the time to connect and associate while the edge serves a thousand others."""


def send(
    paths: option.Paths = None,
    *,
    host: option.Host = "127.0.0.1",
    port: option.Port = 11112,
    calling_aet: option.CallingAeTitle = "ORTHANC",
    called_aet: option.CalledAeTitle = "MINI_EDGE",
    burst: option.Burst = 1,
    associations: option.Associations = 1,
    delay_ms: option.DelayMs = 0,
    generate: option.Generate = 0,
    instances: option.Instances = None,
    out_dir: option.OutDir = None,
    rewrite_uids: option.RewriteUids = False,
    study_uid: option.StudyUid = None,
    series_uid: option.SeriesUid = None,
    sop_uid: option.SopUid = None,
    seq_from_db: option.SeqFromDb = False,
    seq_width: option.SeqWidth = 6,
    patient_id: option.PatientId = None,
    patient_name: option.PatientName = None,
    modality: option.Modality = None,
    series_description: option.SeriesDescription = None,
    priority: option.PriorityOption = option.PriorityName.MEDIUM,
    as_json: Json = False,
    timeout: option.Timeout = 30,
) -> None:
    """Send DICOM instances, from files or generated, to a Storage SCP.

    Files are sent byte for byte, in their own transfer syntax, unless --rewrite-uids, --study-uid,
    --series-uid, --sop-uid, --patient-id, --patient-name, --modality or --series-description ask for
    changes. Files in a folder that are no sendable instances are skipped, and counted.

    Exit codes: 0 all accepted; 1 something was refused or is not sendable; 2 usage; 3 the SCP cannot be
    reached, or rejected the association.
    """
    edits = Edits(
        new_uids=rewrite_uids,
        study_instance_uid=study_uid,
        series_instance_uid=series_uid,
        sop_instance_uid=sop_uid,
        attributes=_given(
            PatientID=patient_id,
            PatientName=patient_name,
            Modality=modality,
            SeriesDescription=series_description,
        ),
    )
    peer = PeerAddress(host, port, called_aet, timeout, min(timeout, CONNECT_TIMEOUT_SECONDS))
    options = SendOptions(calling_aet, associations, delay_ms / 1000, Priority[priority.name])
    wanted = Generation(generate, instances, patient_id, patient_name, seq_from_db, seq_width)
    with tempfile.TemporaryDirectory(prefix="mini-pacs-send-") as scratch, _explained(peer, options):
        _check(paths or [], generate, peer, options, edits)
        request = SendRequest(paths or [], edits, studies_of(wanted, edits), burst)
        report = _run(request, out_dir or Path(scratch), peer, options, quiet=as_json)
    show(report, as_json=as_json)
    raise typer.Exit(report.exit_code)


def _given(**attributes: str | None) -> dict[str, str]:
    return {keyword: text for keyword, text in attributes.items() if text is not None}


@contextmanager
def _explained(peer: PeerAddress, options: SendOptions) -> Iterator[None]:
    """Turn errors into a CommandError that names the options to check; when this raises, nothing was sent."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error
    except AssociationRejectedError as error:
        hint = rejection_hint(error, peer, options)
        raise CommandError(str(error), ExitCode.UNREACHABLE, hint) from error
    except PeerError as error:
        hint = "is it running? see --host and --port" if isinstance(error, PeerAwayError) else ""
        raise CommandError(str(error), ExitCode.UNREACHABLE, hint) from error
    except OSError as error:
        if error.filename is None:  # not a file that an option names: see cli/boundary.py
            raise
        sentence = f"{error.filename}: {error.strerror}"
        raise CommandError(sentence, ExitCode.USAGE, advice.of_system(error)) from error


def _run(
    request: SendRequest, folder: Path, peer: PeerAddress, options: SendOptions, *, quiet: bool
) -> Report:
    """Prepare and send; on Ctrl-C stop, and report what was sent until then."""
    numbers = {study.study_instance_uid: study.number for study in request.studies}
    report = Report({study: number for study, number in numbers.items() if study and number})
    try:
        with progress(quiet=quiet) as bar:
            instances = []
            preparing = bar.add_task("Preparing", total=request.total)
            for piece in prepare(request, folder):
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
            for sent in send_all(instances, peer, options):
                report.outcomes.append(sent)
                report.seconds = monotonic() - begun
                bar.advance(sending)
    except KeyboardInterrupt:
        report.interrupted = True
    return report


def _check(
    paths: Sequence[Path], generate: int, peer: PeerAddress, options: SendOptions, edits: Edits
) -> None:
    if not paths and not generate:
        raise UsageError("nothing to send: name a PATH, or use --generate N")
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist")
    for name, title in (("--calling-aet", options.calling_ae_title), ("--called-aet", peer.ae_title)):
        if not is_ae_title(title):
            raise UsageError(f"{name} {title!r}: an AE title has 1 to 16 printable characters, no backslash")
    for name, uid in (
        ("--study-uid", edits.study_instance_uid),
        ("--series-uid", edits.series_instance_uid),
        ("--sop-uid", edits.sop_instance_uid),
    ):
        if uid is not None and not is_uid(uid):
            raise UsageError(f"{name} {uid!r}: a UID has at most 64 characters, digits and dots")
    for keyword, text in edits.attributes.items():
        if not text.isprintable():  # also what the terminal did not send as UTF-8
            raise UsageError(f"{_OPTIONS[keyword]} {text!r}: printable characters are expected")
