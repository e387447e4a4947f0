"""The screen Faults: inject one, see what it does, clear it. Only where console.allow_faults is on."""

from datetime import timedelta

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.action import Action, ActionRefusedError, Form, Plan, Said, change, forbidden
from console.database import query
from console.parts import parts
from console.screen import account, page, read
from console.views.faults import look
from gateway.database.tables import faults as store
from gateway.database.tables.console_users import Role
from gateway.database.tables.faults import Injected
from gateway.faults import EFFECTS, Active, Name
from gateway.log import Stage
from gateway.operate import faults as use_cases
from gateway.operate.faults import LONGEST_FAULT
from gateway.times import duration_of, span

BACK = "/faults"
DURATIONS = (
    ("1m", "1 minute"),
    ("5m", "5 minutes"),
    ("15m", "15 minutes"),
    ("1h", "1 hour"),
    ("", "until it is cleared"),
)
OFF = "Faults are off in this console: see console.allow_faults in config.yaml. Nothing was done."


async def screen(request: Request) -> Response:
    """Show the active faults and all that can be injected."""
    if not parts(request).configuration.console.allow_faults:
        raise HTTPException(404, "console.allow_faults in config.yaml is off.")
    if not account(request).may(Role.ADMIN):
        return forbidden(request, Role.ADMIN)
    return page(
        request,
        "faults.html",
        part="_faults.html",
        view=await read(request, look),
        known=EFFECTS,
        durations=DURATIONS,
    )


async def _active(request: Request) -> dict[str, Injected]:
    if not parts(request).configuration.console.allow_faults:
        raise ActionRefusedError(OFF)
    return {one.name: one for one in await query(request, store.injected)}


def _fault(form: Form) -> tuple[Active, timedelta | None]:
    try:
        stage, value = form.get("stage", ""), form.get("value", "").strip()
        fault = use_cases.fault_of(
            Name(form.get("name", "")), float(value) if value else None, Stage(stage) if stage else None
        )
        lasting = form.get("lasting", "").strip()
        return fault, duration_of(lasting, LONGEST_FAULT) if lasting else None
    except ValueError as error:
        raise ActionRefusedError(f"{error}. Nothing was done.") from error


async def _plan_inject(request: Request, form: Form) -> Plan:
    active = (await _active(request)).get(form.get("name", ""))
    fault, lasting = _fault(form)
    value = "" if fault.value is None else f" {fault.value:g}"
    until = "until it is cleared" if lasting is None else f"for {span(lasting.total_seconds())}"
    sentences = [f"{EFFECTS[fault.name].text}.".capitalize()]
    if active is not None:
        sentences.append(f"It is active already, injected by {active.injected_by}. This replaces it.")
    sentences.append("Every process applies it within a second. It affects real images.")
    return Plan(
        f"Inject {fault.name}{value} {until}?",
        "Inject",
        _seen(active),
        tuple(sentences),
        is_harmful=True,
    )


async def _inject(request: Request, form: Form, plan: Plan) -> Said:
    del plan
    fault, lasting = _fault(form)
    await change(request, use_cases.inject, fault, lasting=lasting, operator=account(request).operator)
    return Said(f"{fault.name} is injected. The Overview shows what it does.")


async def _plan_clear(request: Request, form: Form) -> Plan:
    active = await _active(request)
    name = form.get("name", "")
    meant = [one for one in active.values() if name in {"", one.name}]
    if not meant:
        raise ActionRefusedError("No such fault is active any more. Nothing was done.")
    names = ", ".join(one.name for one in meant)
    return Plan(f"Clear {names}?", "Clear", ";".join(_seen(one) for one in meant), count=len(meant))


async def _clear(request: Request, form: Form, plan: Plan) -> Said:
    del plan
    name = form.get("name", "")
    cleared = await change(request, use_cases.clear, Name(name) if name else None, account(request).operator)
    if not cleared:
        raise ActionRefusedError("No such fault is active any more. Nothing was done.")
    return Said(f"Cleared: {', '.join(cleared)}. Processes stop applying it within a second.")


def _seen(active: Injected | None) -> str:
    return "none" if active is None else f"{active.name} {active.injected_at.isoformat()}"


routes = [
    Route(BACK, screen),
    Action(f"{BACK}/inject", Role.ADMIN, _plan_inject, _inject, back=BACK).route,
    Action(f"{BACK}/clear", Role.ADMIN, _plan_clear, _clear, asks=False, back=BACK).route,
]
