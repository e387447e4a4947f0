"""What `mini-pacs send` prints: progress, summary, failures, and what to do about a rejection."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from cli.documents import Schema, print_document
from cli.exit_codes import ExitCode
from cli.screen import console
from gateway.dicom.association import PeerAddress
from gateway.errors import AssociationRejectedError
from gateway.sender.collect import Skipped
from gateway.sender.numbering import PREFIX
from gateway.sender.send import SendOptions, Sent

SHOWN_FAILURES = 50
SHOWN_STUDIES = 50

# (source, reason) → what to do; PS3.8 §9.3.4, Table 9-21.
_HINTS = {
    (
        1,
        3,
    ): "the SCP does not know --calling-aet {calling}: add it to edge.allowed_calling_aets in config.yaml",
    (1, 7): "the SCP has another AE title than --called-aet {called}: see edge.ae_title in config.yaml",
    (
        3,
        1,
    ): "the SCP is congested, perhaps its disk is at its reserve: see edge.disk_reserve_mb, and try later",
    (
        3,
        2,
    ): "the SCP has too many associations: lower --associations, or see edge.max_associations",
}


@dataclass(slots=True)
class Report:
    """The outcome of each instance; `numbers` maps the UID of a generated study to its number."""

    numbers: dict[str, str] = field(default_factory=dict)
    outcomes: list[Sent] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def accepted(self) -> list[Sent]:
        """Return what the peer has accepted."""
        return [sent for sent in self.outcomes if sent.accepted]

    @property
    def failures(self) -> list[Sent]:
        """Return what the peer has not accepted."""
        return [sent for sent in self.outcomes if not sent.accepted]

    @property
    def unsendable(self) -> list[Skipped]:
        """Return the unsendable files that were named as a PATH; others in a folder are no failure."""
        return [skipped for skipped in self.skipped if skipped.named]

    @property
    def exit_code(self) -> ExitCode:
        """Return OK when the peer accepted everything."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        return ExitCode.REFUSED if self.failures or self.unsendable else ExitCode.OK


def progress(*, quiet: bool) -> Progress:
    """Return a progress bar on standard error; it is hidden if that is no terminal."""
    screen = console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=screen,
        disable=quiet or not screen.is_terminal,
        transient=True,
    )


def rejection_hint(error: AssociationRejectedError, peer: PeerAddress, options: SendOptions) -> str:
    """Return what the user can do about an A-ASSOCIATE-RJ."""
    hint = _HINTS.get((error.source, error.reason), "the SCP gives no more reason than these numbers")
    return hint.format(calling=options.calling_ae_title, called=peer.ae_title)


def show(report: Report, *, as_json: bool) -> None:
    """Print the report on standard output."""
    if as_json:
        print_document(Schema.SEND, _as_json(report))
    else:
        _print(report)


def _print(report: Report) -> None:
    screen = console(markup=True, soft_wrap=True)
    failures, unsendable = report.failures, report.unsendable
    for skipped in unsendable:
        screen.print(f"[red]not sendable[/] {escape(str(skipped.path))}: {escape(skipped.reason)}")
    for sent in failures[:SHOWN_FAILURES]:
        reason = escape(sent.comment or "the peer gave no comment")
        screen.print(f"[red]failed {_status(sent)}[/] {escape(str(sent.instance.origin))}: {reason}")
    if len(failures) > SHOWN_FAILURES:
        screen.print(f"… and {len(failures) - SHOWN_FAILURES} more failed; --json lists them all")
    reasons = Counter(skipped.reason for skipped in report.skipped if not skipped.named)
    for reason, count in reasons.most_common():
        screen.print(f"[dim]skipped {count} in folders: {escape(reason)}[/]")
    studies = Counter(sent.instance.study_instance_uid for sent in report.accepted)
    for study, count in list(studies.items())[:SHOWN_STUDIES]:
        number = f", number {report.numbers[study]}" if study in report.numbers else ""
        screen.print(f"study {study}: {count} accepted{number}")
    if len(studies) > SHOWN_STUDIES:
        more = len(studies) - SHOWN_STUDIES
        screen.print(f"… and {more} more studies; --json lists them all")
    if report.interrupted:
        screen.print("[yellow]interrupted[/]: sending everything again does no harm")
    if report.numbers:
        screen.print(f"numbers: {_ranges(sorted(report.numbers.values(), key=_digits))}")
    rate, megabytes = _rates(report)
    screen.print(
        f"[bold]{len(report.outcomes)} sent, {len(report.accepted)} accepted, {len(failures)} failed[/] "
        f"in {report.seconds:.2f} s ({rate:.1f} instances/s, {megabytes:.1f} MB/s)"
    )


def _as_json(report: Report) -> dict[str, object]:
    rate, megabytes = _rates(report)
    return {
        "sent": len(report.outcomes),
        "accepted": len(report.accepted),
        "failed": len(report.failures),
        "seconds": round(report.seconds, 3),
        "instances_per_second": round(rate, 2),
        "bytes_per_second": round(megabytes * 1e6),
        "interrupted": report.interrupted,
        "exit_code": int(report.exit_code),
        "studies": list(dict.fromkeys(sent.instance.study_instance_uid for sent in report.accepted)),
        "numbers": report.numbers,
        "failures": [
            {
                "path": str(sent.instance.origin),
                "sop_instance_uid": sent.instance.sop_instance_uid,
                "status": None if sent.status is None else _status(sent),
                "comment": sent.comment,
            }
            for sent in report.failures
        ],
        "skipped": [{"path": str(s.path), "reason": s.reason, "named": s.named} for s in report.skipped],
    }


def _ranges(numbers: Sequence[str]) -> str:
    """Return `EDGE000001 to EDGE000003, EDGE000007`; other senders may have taken the numbers between."""
    parts: list[list[str]] = []
    for number in numbers:
        if parts and _digits(number) == _digits(parts[-1][-1]) + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(part[0] if len(part) == 1 else f"{part[0]} to {part[-1]}" for part in parts)


def _digits(number: str) -> int:
    return int(number.removeprefix(PREFIX))


def _status(sent: Sent) -> str:
    return "without a status" if sent.status is None else f"0x{sent.status:04X}"


def _rates(report: Report) -> tuple[float, float]:
    """Return accepted instances and MB (1,000,000 bytes of data set) per second."""
    seconds = max(report.seconds, 1e-6)
    count, size = len(report.accepted), sum(sent.instance.size for sent in report.accepted)
    return (count / seconds, size / seconds / 1e6) if count else (0.0, 0.0)
