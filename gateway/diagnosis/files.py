"""Files of the spool that cannot be sent: what that means for their instances, and where a copy may be."""

from collections.abc import Iterator, Sequence

from gateway.database.tables.overview import Overview
from gateway.database.tables.unread_files import Unread
from gateway.diagnosis.finding import Finding, Holds, problem
from gateway.domain.instance import instances_in_words
from gateway.domain.outcome import Outcome
from gateway.times import since

NAMES = 3
"""More senders or destinations are not named."""
_SWEEP_FINDS = "reconcile", "files_missing"


def unread(view: Overview) -> Iterator[Finding]:
    """Yield a finding for lost and changed files, and one for those that cannot be read now."""
    lost = False
    for one in view.unread:
        lost = lost or one.outcome is Outcome.LOST_FILE
        yield _lost(one) if one.outcome is Outcome.LOST_FILE else _not_read(one)
    if not lost:
        yield from _missing(view)


def _lost(one: Unread) -> Finding:
    uid = one.study_instance_uid
    study = f"study {uid}" + (" and others" if one.studies > 1 else "")
    show = f"`mini-pacs deliveries show {one.delivery_id}`"
    whose = f"{instances_in_words(one.instances)} for {_named(one.targets)}"
    return problem(
        "files.lost",
        f"The files of {whose} are gone, or do not hold the bytes that were received: "
        f"{one.error or 'no reason'} ({show})",
        f"the edge cannot deliver them, and never sends other bytes; {_copies(one)}",
        f"let {_named(one.senders)} send {study} again: the edge takes the new file and delivers it; or put "
        f"the file back from a backup, then `mini-pacs deliveries retry --study {uid}`; if no copy is left: "
        f"`mini-pacs deliveries cancel --study {uid}`; look at the disk: `dmesg`",
        since=one.since,
        holds=Holds.SOME,
    )


def _not_read(one: Unread) -> Finding:
    return problem(
        "files.not_read",
        f"The files of {instances_in_words(one.instances)} for {_named(one.targets)} cannot be read: "
        f"{one.error or 'no reason'}",
        "the edge tries again for forwarder.give_up_after_hours, then these deliveries are dead; "
        f"{_copies(one)}",
        "give the file to the user of the processes (`ls -l`, `chown`), or look at the disk (`dmesg`); then "
        f"`mini-pacs deliveries retry --study {one.study_instance_uid}`; if the disk lost it, let "
        f"{_named(one.senders)} send the study again",
        since=one.since,
        holds=Holds.SOME,
    )


def _missing(view: Overview) -> Iterator[Finding]:
    """Yield what the sweep saw before anybody tried to send."""
    verb, name = _SWEEP_FINDS
    for run in view.sweeps:
        count = run.counts.get(name, 0) if run.verb == verb else 0
        if count:
            yield problem(
                "files.missing",
                f"The sweep found no file of {instances_in_words(count)} that must still be delivered, "
                f"{since(run.ran_at, view.now)} ago",
                "these deliveries will be dead; a copy may be at the sender, or at another destination",
                "the log names their studies (stage sweep, outcome file_missing): let their senders send "
                "them again; look who deleted the files, and at the disk: `dmesg`",
                holds=Holds.SOME,
            )


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES]) + (" and others" if len(names) > NAMES else "")


def _copies(one: Unread) -> str:
    if not one.copied:
        return "no destination has a copy: the sender may still have it"
    some = "it" if one.instances == 1 else f"{one.copied:,} of them"
    return f"{_named(one.copies)} took {some} and may have a copy"
