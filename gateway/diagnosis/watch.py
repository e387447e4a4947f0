"""Examine the edge each minute: keep the rows of the findings, and notify about changes.

Peers are asked only where `notify` is configured: without it, no association is opened but those that
instances need.

If the process dies
    before the commit   the next minute records the same
    after it            the message that tells is in the queue, committed with the rows
"""

from datetime import timedelta

from gateway import log
from gateway.config import Configuration
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import backlog, dead_messages, findings, messages
from gateway.database.tables.backlog import Waiting
from gateway.database.tables.findings import Recorded, SeenFinding
from gateway.database.tables.overview import Overview
from gateway.database.wakeup import Wakeup
from gateway.diagnosis.examine import examine
from gateway.diagnosis.finding import Finding
from gateway.domain.contract import NOTIFY, WATCH
from gateway.domain.delivery import State
from gateway.log import Stage


def watch(configuration: Configuration, database: Database, wakeup: Wakeup) -> bool:
    """Examine, record, and send a message if somebody has to be told; tell whether it was recorded."""
    seen = examine(configuration, database.dsn, asks_peers=configuration.notify is not None)
    if seen.gathered.view is None:
        return False  # PostgreSQL cannot be read, so nothing can be recorded
    with database.transaction() as session:
        recorded = findings.record(session, [_row(one) for one in seen.findings])
        backlog.note(session, _waiting(seen.gathered.view))
        has_untold = _has_untold(configuration, session)
        tells = (
            has_untold
            and _is_due(configuration, session)
            and not findings.has_message(session, queue=NOTIFY.queue_name, actor=NOTIFY.actor_name)
        )
        if tells:
            messages.send(session, NOTIFY.queue_name, NOTIFY.actor_name, [])
        _clear(session, has_untold=has_untold)
    if tells:
        wakeup.wake(NOTIFY.queue_name)
    _log(recorded)
    return True


def _waiting(view: Overview) -> dict[str, Waiting]:
    counts = {target.name: Waiting(0, 0) for target in view.targets}
    for one in view.counts:
        if one.target is None or one.state in {State.DELIVERED, State.CANCELLED}:
            continue
        known = counts.get(one.target, Waiting(0, 0))
        is_dead = one.state is State.DEAD
        counts[one.target] = Waiting(
            known.waiting + (0 if is_dead else one.count), known.dead + (one.count if is_dead else 0)
        )
    return counts


def _row(one: Finding) -> SeenFinding:
    return SeenFinding(
        one.key, one.severity.value, one.what, one.means, one.remedy, one.holds.name.lower(), one.since
    )


def _clear(session: Session, *, has_untold: bool) -> None:
    """Delete dead messages of this actor; of the one that reports, too, if it has nothing to report."""
    done = [WATCH] if has_untold else [WATCH, NOTIFY]
    if cleared := dead_messages.clear(session, WATCH.queue_name, [one.actor_name for one in done]):
        log.write(Stage.SWEEP, "dead_messages_cleared", count=cleared)


def _has_untold(configuration: Configuration, session: Session) -> bool:
    notify = configuration.notify
    if notify is None:
        return False
    grace = timedelta(seconds=notify.after_seconds)
    return bool(findings.untold(session, grace=grace, notes=notify.severity == "note"))


def _is_due(configuration: Configuration, session: Session) -> bool:
    assert configuration.notify is not None, "nothing is untold without it"
    last = findings.seconds_since_told(session)
    return last is None or last >= configuration.notify.at_most_every_seconds


def _log(recorded: Recorded) -> None:
    if recorded.opened or recorded.closed:
        detail = f"opened {recorded.opened}, closed {recorded.closed}"
        log.write(Stage.SWEEP, "findings", count=recorded.opened, detail=detail)
