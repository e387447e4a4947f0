"""Retry, resend and cancel deliveries on the screen Deliveries: one of them, or all that a filter selects.

More than SLICE deliveries are changed in the background, in slices: all that existed when the count was
shown. Later ones are not changed, and none is changed twice. deliveries.py shows the screen.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from starlette.requests import Request

from console.action import Action, ActionRefusedError, Form, Plan, Said, change
from console.background import SLICE, Step
from console.database import query
from console.parts import parts
from console.screen import account
from console.screen import link as link_to
from console.views.deliveries import Filter
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import delivery_search, selected_deliveries
from gateway.database.tables.activity import Operator
from gateway.database.tables.console_users import Role
from gateway.database.tables.delivery_search import WantedDeliveries
from gateway.database.tables.selected_deliveries import Selection
from gateway.domain.delivery import State
from gateway.operate import deliveries as use_cases
from gateway.operate.record import Record, recorder

LARGEST_ID = (1 << 63) - 1
UseCase = Callable[[Database, Path, Selection, Operator, Record | None], list[int]]
ALLOWED: dict[str, tuple[State, ...]] = {
    "retry": (State.DEAD, State.CANCELLED, State.PENDING),
    "resend": (State.DEAD, State.CANCELLED, State.DELIVERED),
    "cancel": (State.COLLECTING, State.PENDING, State.DEAD),
}
"""The states that each use case changes."""
USE_CASES: dict[str, UseCase] = {
    "retry": use_cases.retry,
    "resend": use_cases.resend,
    "cancel": use_cases.cancel,
}
MEANS = {
    "retry": (
        "Dead and cancelled ones become pending, and their attempts are counted from 0. Pending ones wait no "
        "longer."
    ),
    "resend": (
        "They are sent again, also delivered ones: for a peer that has lost them. A peer that has "
        "them gets the same bytes once more."
    ),
    "cancel": (
        "They are not sent to that target any more. Their files stay in the spool until "
        "sweep.retention_hours are over; `retry` undoes it until then."
    ),
}
DONE = {"retry": "retried", "resend": "sent again", "cancel": "cancelled"}


def id_of(text: str) -> int | None:
    """Return the id of a delivery in a link or a form; None if the text is no number."""
    return min(int(text), LARGEST_ID) if text.isascii() and text.isdigit() and len(text) <= 19 else None  # noqa: PLR2004


def verbs(chosen: Filter) -> list[str]:
    """Return what may be done with deliveries in the states of a filter."""
    states = chosen.wanted.states or tuple(State)
    return [verb for verb, allowed in ALLOWED.items() if set(states) & set(allowed)]


class _Choice:
    """What the form of an action selects: one delivery, or those of a filter up to an id."""

    def __init__(self, fields: Form, verb: str) -> None:
        self.delivery = id_of(fields.get("delivery", ""))
        self.filter = Filter.of(fields)
        if self.delivery is None and not self.filter.fields and fields.get("all") != "yes":
            raise ActionRefusedError("No delivery was selected. Nothing was done.")
        self.wanted = (WantedDeliveries() if self.delivery is not None else self.filter.wanted).only(
            ALLOWED[verb]
        )

    @property
    def words(self) -> str:
        """The selection in words, for the record of activity."""
        return self.filter.words if self.delivery is None else f"delivery {self.delivery}"

    def count(self, session: Session, until: int | None) -> tuple[dict[State, int], int]:
        """Return how many there are in each state, and the largest id that counts."""
        if self.delivery is not None:
            found = selected_deliveries.find(session, Selection(delivery_id=self.delivery))
            return {one.state: 1 for one in found}, self.delivery
        until = delivery_search.newest_id(session) if until is None else until
        return delivery_search.count(session, self.wanted, until=until), until


async def _plan(request: Request, fields: Form, *, verb: str) -> Plan:
    choice = _Choice(fields, verb)
    counts, until = await query(request, choice.count, id_of(fields.get("until", "")))
    # carried by the form: later deliveries are not part of the count that was shown
    fields["until"] = str(until)
    allowed = {state: count for state, count in counts.items() if state in ALLOWED[verb] and count}
    total = sum(allowed.values())
    if not total:
        raise ActionRefusedError(_nothing(verb, choice, counts))
    by_state = ", ".join(
        f"{count:,} {state.value.replace('_', ' ')}" for state, count in sorted(allowed.items())
    )
    noun = "delivery" if total == 1 else "deliveries"
    sentences = [f"Selected: {choice.words}. {by_state}.", MEANS[verb]]
    if total > SLICE:
        sentences.append("It runs in the background, in slices; the page Deliveries shows how far it is.")
    return Plan(
        f"{verb.capitalize()} {total:,} {noun}?",
        f"{verb.capitalize()} {total:,} {noun}",
        seen=seen_of(allowed),
        sentences=tuple(sentences),
        count=total,
        is_harmful=verb == "cancel",
    )


def seen_of(counts: dict[State, int]) -> str:
    """Return the counts that change by operators and failures only; pending ones change all the time."""
    still = {
        state: count for state, count in counts.items() if state not in {State.PENDING, State.COLLECTING}
    }
    return ",".join(f"{state.value}:{count}" for state, count in sorted(still.items())) or "moving"


def _state_in(seen: str) -> State | None:
    """Return the state in which a page saw one delivery; None if that changes all the time.

    A use case that changes several states must not change what another operator has just put into one.
    """
    state, colon, _ = seen.partition(":")
    return State(state) if colon else None


def _nothing(verb: str, choice: _Choice, counts: dict[State, int]) -> str:
    states = ", ".join(state.value.replace("_", " ") for state in ALLOWED[verb])
    if choice.delivery is not None:
        now = next((state.value.replace("_", " ") for state in counts), "")
        what = f"is {now} now" if now else "does not exist any more"
        return f"Delivery {choice.delivery} {what}. Only {states} ones can be changed so. Nothing was done."
    return f"None of these deliveries is {states} now. Nothing was done."


async def _do(request: Request, fields: Form, plan: Plan, *, verb: str) -> Said:
    choice = _Choice(fields, verb)
    until = id_of(fields.get("until", ""))
    assert until is not None, "the plan has set it"
    found = parts(request)
    root, operator = found.configuration.edge.data_root, account(request).operator
    if choice.delivery is not None:
        one = Selection(delivery_id=choice.delivery, state=_state_in(plan.seen))
        return _said(verb, len(await change(request, USE_CASES[verb], root, one, operator, None)))
    total = plan.count or 0
    if total <= SLICE:
        ids = await query(
            request, delivery_search.following, choice.wanted, after=0, until=until, limit=2 * SLICE
        )
        record = recorder(operator, verb, choice.words, DONE[verb])
        states = choice.wanted.states or ()
        selected = Selection(delivery_ids=tuple(ids), state=states[0] if len(states) == 1 else None)
        return _said(verb, len(await change(request, USE_CASES[verb], root, selected, operator, record)))
    step = _step(USE_CASES[verb], choice.wanted, until, root, operator)
    await found.background.start(operator, verb, choice.words, total, step)
    back = link_to("/deliveries", choice.filter.fields)
    return Said(f"{total:,} deliveries are being {DONE[verb]}. This page shows how far it is.", to=back)


def _said(verb: str, count: int) -> Said:
    if not count:
        return Said(f"Nothing was {DONE[verb]}: the state has changed meanwhile.", "note")
    return Said(f"{count:,} {'delivery' if count == 1 else 'deliveries'} {DONE[verb]}.")


def _step(use_case: UseCase, wanted: WantedDeliveries, until: int, root: Path, operator: Operator) -> Step:
    """Return a function that does the next slice. It looks at each delivery once."""
    after = 0

    def step(database: Database, record: Record) -> int:
        nonlocal after
        while True:
            with database.statement() as session:
                ids = delivery_search.following(session, wanted, after=after, until=until, limit=SLICE)
            if not ids:
                return 0
            after = ids[-1]
            changed = use_case(database, root, Selection(delivery_ids=tuple(ids)), operator, record)
            if changed:  # else others have changed all of them since they were read
                return len(changed)

    return step


def action(verb: str) -> Action:
    """Return the action of a verb: its plan, and how it is done."""
    return Action(
        f"/deliveries/{verb}",
        Role.OPERATOR,
        partial(_plan, verb=verb),
        partial(_do, verb=verb),
        back="/deliveries",
    )
