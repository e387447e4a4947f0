"""The screen Destinations, and what an operator does there: ask, pause, resume."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import anyio
import orjson
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.action import Action, ActionRefusedError, Form, Plan, Question, Said, change
from console.database import query
from console.parts import parts
from console.screen import account, page, read
from console.views import destinations as views
from console.views.destinations import BOTTLENECKS, pause_of, shown
from console.views.sentence import marked
from gateway.database.tables import destinations
from gateway.database.tables.console_users import Role
from gateway.database.tables.destinations import DestinationState
from gateway.database.tables.pauses import Pause
from gateway.domain.routing import Route as SendingRoute
from gateway.errors import StaleError
from gateway.operate import destinations as use_cases
from gateway.operate.destinations import LONGEST_PAUSE, LONGEST_REASON, Paused
from gateway.times import duration_of, moments_as, span

T = TypeVar("T")

ECHOES = 4
"""C-ECHOs at the same time; each holds a thread until the peer answers, or until its timeout."""
ENDS = (
    ("", "until somebody resumes it"),
    ("30m", "30 minutes"),
    ("1h", "1 hour"),
    ("2h", "2 hours"),
    ("4h", "4 hours"),
    ("8h", "8 hours"),
    ("1d", "1 day"),
    ("3d", "3 days"),
    ("7d", "7 days"),
)
_limiter = anyio.CapacityLimiter(ECHOES)


async def screen(request: Request) -> Response:
    """Show every destination."""
    rows = await read(request, views.read)
    seen = await parts(request).live.now()
    return page(
        request,
        "destinations.html",
        part="_destinations.html",
        view=shown(rows, seen.snapshot),
        seen_of=seen_of,
        bottlenecks=BOTTLENECKS,
    )


def seen_of(pause: Pause) -> str:
    """Return a pause as text, which a form carries back."""
    return orjson.dumps([pause.paused, pause.paused_by, pause.pause_reason, pause.paused_until]).decode()


def _pause_in(seen: str) -> Pause:
    paused, by, reason, until = orjson.loads(seen)
    return Pause(paused, by, reason, None if until is None else datetime.fromisoformat(until))


async def _state(request: Request, form: Form) -> DestinationState:
    ae_title = form.get("ae_title", "")
    found = next((one for one in await query(request, destinations.states) if one.ae_title == ae_title), None)
    known = [one.ae_title for one in parts(request).configuration.destinations]
    if found is None or ae_title not in known:
        raise ActionRefusedError("This destination is not in config.yaml any more. Nothing was done.")
    return found


# ---- pause and resume ---------------------------------------------------------------------------------


def _in_words(state: DestinationState) -> str:
    with moments_as(marked):
        return f"{use_cases.in_words(state.ae_title, pause_of(state))}."


async def _plan_pause(request: Request, form: Form) -> Plan:
    state = await _state(request, form)
    waits = await _waits(request, state)
    now = (_in_words(state),) if state.paused else ()
    title = f"Change the pause of {state.ae_title}?" if state.paused else f"Pause {state.ae_title}?"
    return Plan(
        title,
        "Change the pause" if state.paused else "Pause",
        seen=seen_of(pause_of(state)),
        sentences=(*now, waits, _effect(state)),
        is_harmful=True,
        ask=(
            Question("reason", "Reason", state.pause_reason or "", hint="for those who see the pause"),
            Question("lasting", "How long", choices=ENDS),
        ),
    )


async def _waits(request: Request, state: DestinationState) -> str:
    snapshot = (await parts(request).live.now()).snapshot
    if snapshot is None or not state.route.is_archive:
        return "Its deliveries keep waiting. Nothing is lost."
    waiting = snapshot.view.waiting(state.route, state.ae_title)
    return f"{waiting:,} deliveries wait for it. They keep waiting and use up no attempts."


def _effect(state: DestinationState) -> str:
    if state.route is SendingRoute.WORKERS:
        return "New instances go to the other workers of its applications; without one they wait."
    return "New instances for it wait, too. Instances that are being sent now are still sent."


async def _pause(request: Request, form: Form, plan: Plan) -> Said:
    ae_title = form["ae_title"]
    reason = form.get("reason", "")
    if len(reason) > LONGEST_REASON:
        raise ActionRefusedError(f"The reason has more than {LONGEST_REASON} characters. Nothing was done.")
    lasting = _lasting(form.get("lasting", ""))
    pause = partial(use_cases.pause, reason=reason, lasting=lasting)
    done = await _change(request, pause, ae_title, plan)
    until = "until somebody resumes it" if lasting is None else f"for {span(lasting.total_seconds())}"
    if done is Paused.NOT_CHANGED:
        return Said(f"{ae_title} was paused already. Nothing was changed.", "note")
    return Said(f"{ae_title} is paused {until}.")


async def _change(request: Request, use_case: Callable[..., T], ae_title: str, plan: Plan) -> T:
    """Pause or resume a destination, unless its pause is not the one that the page showed."""
    try:
        with moments_as(marked):
            return await change(
                request,
                use_case,
                parts(request).configuration,
                ae_title,
                account(request).operator,
                seen=_pause_in(plan.seen),
            )
    except StaleError as error:
        raise ActionRefusedError(f"{error}. Nothing was done.") from error


def _lasting(text: str) -> timedelta | None:
    if not text.strip():
        return None
    try:
        return duration_of(text, LONGEST_PAUSE)
    except ValueError as error:
        raise ActionRefusedError(f"{error}. Nothing was done.") from error


async def _plan_resume(request: Request, form: Form) -> Plan:
    state = await _state(request, form)
    if not state.paused and state.breaker == "closed" and not state.is_tried:
        raise ActionRefusedError(f"{state.ae_title} is neither paused nor away any more. Nothing was done.")
    sentences = [_in_words(state)] if state.paused else []
    if state.breaker == "open":
        sentences.append(
            "It is away. Its deliveries are tried at once, without waiting for the next probe; "
            "if it still does not answer, they wait again and use up no attempts."
        )
    else:
        sentences.append("Its deliveries are sent at once.")
    return Plan(
        f"Send to {state.ae_title} again?",
        "Resume",
        seen=seen_of(pause_of(state)),
        sentences=tuple(sentences),
    )


async def _resume(request: Request, form: Form, plan: Plan) -> Said:
    ae_title = form["ae_title"]
    if not await _change(request, use_cases.resume, ae_title, plan):
        return Said(f"{ae_title} is neither paused nor away. Nothing was changed.", "note")
    return Said(f"{ae_title} gets its deliveries again.")


# ---- C-ECHO -------------------------------------------------------------------------------------------


async def _plan_echo(request: Request, form: Form) -> Plan:
    known = [one.ae_title for one in parts(request).configuration.destinations]
    if form.get("ae_title") not in known:
        raise ActionRefusedError("This destination is not in config.yaml any more.")
    return Plan("", "C-ECHO")


async def _echo(request: Request, form: Form, plan: Plan) -> Said:
    del plan
    configuration, ae_title = parts(request).configuration, form["ae_title"]
    answer = await run_sync(lambda: use_cases.echo(configuration, ae_title), limiter=_limiter)
    where = f"{answer.ae_title} at {answer.address}"
    if answer.well:
        return Said(f"{where} answered C-ECHO within {span(answer.seconds)}.")
    return Said(f"{where} did not answer C-ECHO: {answer.error}", "bad")


PAUSE = Action("/destinations/pause", Role.OPERATOR, _plan_pause, _pause, back="/destinations")
RESUME = Action("/destinations/resume", Role.OPERATOR, _plan_resume, _resume, back="/destinations")
ECHO = Action("/destinations/echo", Role.OPERATOR, _plan_echo, _echo, asks=False, back="/destinations")

routes = [Route("/destinations", screen), PAUSE.route, RESUME.route, ECHO.route]
