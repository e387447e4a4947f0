"""The answer of `mini-pacs why`, on the screen or as JSON: the verdict, then the evidence.

cli/why.py finds the evidence. Exit code 1 if an instance is not in the PACS, or if nothing was found.
"""

from dataclasses import asdict
from datetime import datetime

import typer
from rich.console import Console

from cli.documents import Schema, print_document
from cli.exit_codes import ExitCode
from cli.refused import sentence
from cli.screen import console, dimse, table
from gateway.config import Configuration
from gateway.domain.delivery import State
from gateway.search import verdict
from gateway.search.evidence import Evidence, OfSender
from gateway.search.verdict import Verdict
from gateway.times import clock, dated, moment


def answer_uids(
    found: list[Evidence], configuration: Configuration, limit: int, *, as_json: bool, remark: str = ""
) -> None:
    """Print what became of each UID that was found; `remark` says how they were searched.

    Raises:
        Exit: nothing was found, or an instance is not in the PACS.
    """
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


def answer_sender(
    of_sender: OfSender, found: list[Evidence], configuration: Configuration, limit: int, *, as_json: bool
) -> None:
    """Print what became of what a sender sent, then each study.

    Raises:
        Exit: it is not all in the PACS.
    """
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
