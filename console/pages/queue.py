"""The screen Queue and processes, and what operators do there: run dead messages again, or delete them."""

from datetime import datetime
from functools import partial
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.action import Action, ActionRefusedError, Form, Plan, Said, change
from console.database import query
from console.pages.positions import position, position_of
from console.parts import parts
from console.screen import account, page, read
from console.views import queue as views
from gateway.database.pool import Database
from gateway.database.tables import console_actions, dead_messages, processes
from gateway.database.tables.activity import Operator
from gateway.database.tables.console_users import Role
from gateway.database.tables.dead_messages import Doomed
from gateway.domain.identifiers import printable
from gateway.domain.routing import route_of_queue
from gateway.operate import messages as use_cases
from gateway.operate.record import Record

LISTED = 50
BACK = "/queue"
REQUEUE, DISCARD = "requeue", "discard"


async def screen(request: Request) -> Response:
    """Show the queues and the processes, and the first dead messages."""
    configuration = parts(request).configuration
    rows = await read(request, views.read, configuration.forwarder.targets)
    view = views.shown(rows, configuration)
    dead = await read(request, views.look_at_dead, limit=LISTED, after=None, queue=None)
    actions = await read(request, console_actions.latest, limit=5)
    return page(request, "queue.html", part="_queue.html", view=view, dead=dead, actions=actions)


async def dead(request: Request) -> Response:
    """Show a page of dead messages, of one queue or of all."""
    queue = request.query_params.get("queue") or None
    after = position_of(request.query_params.get("after", ""), lambda text: str(UUID(text)))
    shown = await query(
        request, views.look_at_dead, limit=LISTED, after=after, queue=queue[:300] if queue else None
    )
    return page(
        request,
        "dead_messages.html",
        dead=shown,
        queue=queue,
        is_first=after is None,
        following=position(shown.after),
    )


# ---- dead messages ------------------------------------------------------------------------------------


def _chosen(form: Form) -> tuple[str, ...] | None:
    """Return the ids that were ticked; None where all are meant."""
    if form.get("all") == "yes":
        return None
    try:
        ids = tuple(dict.fromkeys(str(UUID(one)) for one in form.get("message", "").split()))
    except ValueError as error:
        raise ActionRefusedError("This is no id of a message. Nothing was done.") from error
    if not ids:
        raise ActionRefusedError("No message is ticked. Nothing was done.")
    return ids


async def _plan(request: Request, form: Form, *, verb: str) -> Plan:
    ids = _chosen(form)
    count = await query(request, dead_messages.count_doomed, Doomed(ids))
    if not count:
        what = "No message is dead" if ids is None else "None of these messages is dead any more"
        raise ActionRefusedError(f"{what}. Nothing was done.")
    sentences = []
    if ids is not None and count < len(ids):
        sentences.append(f"{len(ids) - count:,} of {len(ids):,} are not dead any more, and are left alone.")
    messages = "1 dead message" if count == 1 else f"{count:,} dead messages"
    if verb == REQUEUE:
        sentences.append("Their deaths and failures are counted from 0. Remove the cause first.")
        return Plan(f"Run {messages} again?", "Run again", f"{count}", tuple(sentences), count)
    sentences.append(
        "No image is lost: a delivery whose message is deleted stays dead until it is retried or cancelled."
    )
    return Plan(
        f"Delete {messages} for good?", "Delete", f"{count}", tuple(sentences), count, is_harmful=True
    )


async def _do(request: Request, form: Form, plan: Plan, *, verb: str) -> Said:
    ids = _chosen(form)
    operator = account(request).operator
    if ids is None:
        return await _do_all(request, verb, plan.count or 0)
    if verb == REQUEUE:
        done = await change(request, use_cases.requeue, ids, operator)
        said = "queued again"
    else:
        done = len(await change(request, use_cases.discard, Doomed(ids), operator))
        said = "deleted"
    if not done:
        raise ActionRefusedError("None of these messages is dead any more. Nothing was done.")
    return Said(_sentence(done, said))


def _sentence(count: int, done: str) -> str:
    return f"1 message is {done}." if count == 1 else f"{count:,} messages are {done}."


async def _do_all(request: Request, verb: str, total: int) -> Said:
    """Begin in the background; messages that become dead from now on are not changed."""
    until = await query(request, processes.now)
    operator = account(request).operator
    step = partial(_step, until=until, operator=operator, verb=verb)
    await parts(request).background.start(operator, verb, use_cases.ALL, total, step)
    return Said(f"{total:,} dead messages: it runs in the background. This page shows how far it is.")


def _step(database: Database, record: Record, *, until: datetime, operator: Operator, verb: str) -> int:
    slice_ = use_cases.requeue_slice if verb == REQUEUE else use_cases.discard_slice
    return slice_(database, until, operator, record)


# ---- a queue without a consumer -----------------------------------------------------------------------


async def _plan_unserved(request: Request, form: Form) -> Plan:
    queue = form.get("queue", "")
    if not queue or queue in views.OURS or route_of_queue(queue) is not None:
        raise ActionRefusedError("The edge itself uses this queue: its messages are not deleted.")
    count = await query(request, dead_messages.count_doomed, Doomed(queue_name=queue))
    if not count:
        raise ActionRefusedError("Nothing waits in this queue, or a process consumes it. Nothing was done.")
    return Plan(
        f"Delete {count:,} messages of the queue {printable(queue, 100)} for good?",
        "Delete",
        f"{count}",
        ("No process consumes this queue, so the work of its messages is not done.",),
        count,
        is_harmful=True,
    )


async def _do_unserved(request: Request, form: Form, plan: Plan) -> Said:
    del plan
    gone = await change(
        request, use_cases.discard, Doomed(queue_name=form["queue"]), account(request).operator
    )
    return Said(_sentence(len(gone), "deleted"))


def _messages(verb: str) -> Action:
    return Action(
        f"{BACK}/{verb}", Role.OPERATOR, partial(_plan, verb=verb), partial(_do, verb=verb), back=BACK
    )


routes = [
    Route(BACK, screen),
    Route(f"{BACK}/dead", dead),
    _messages(REQUEUE).route,
    _messages(DISCARD).route,
    Action(f"{BACK}/discard-unserved", Role.OPERATOR, _plan_unserved, _do_unserved, back=BACK).route,
]
