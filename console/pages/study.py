"""The screen Study: the verdict, the timeline, problems, and the actions of an operator."""

import re
from contextlib import suppress
from functools import partial
from urllib.parse import quote

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.action import Action, ActionRefusedError, Form, Plan, Said, change
from console.database import query
from console.pages.studies import place_of, position_text
from console.parts import parts
from console.screen import account, is_part, page, read
from console.screen import link as link_to
from console.views import study as views
from console.views.instance_row import words_of
from console.views.reason import meaning, status_name
from console.views.study import Asked
from gateway.database.tables import shown_units
from gateway.database.tables.console_users import Role
from gateway.database.tables.shown_units import UnitRow
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, is_uid
from gateway.domain.unit import UnitState
from gateway.errors import SpoolError
from gateway.operate import units as use_cases
from gateway.search.evidence import unregistered
from gateway.spool.envelope import Envelope
from gateway.spool.spool import Spool

ENVELOPES = 200
"""Unregistered receptions that a page looks at."""
FIELDS = ("series", "after", "zoom", "instance")
_ID = re.compile(r"[0-9]{1,18}", re.ASCII)


async def show(request: Request) -> Response:
    """Show a study; 404 where nothing of it is known, with what to do."""
    uid = str(request.path_params["uid"])
    if not is_uid(uid, MAX_DATA_SET_UID_LENGTH):
        raise HTTPException(
            404,
            "This is no UID: a UID has digits and dots only. Search it in Studies by what you know of it.",
        )
    fields = {name: request.query_params.get(name, "") for name in FIELDS}
    series = fields["series"] if is_uid(fields["series"], MAX_DATA_SET_UID_LENGTH) else None
    configuration = parts(request).configuration
    envelopes = await anyio.to_thread.run_sync(partial(_envelopes, Spool(configuration.edge.data_root)))
    shown = await read(
        request,
        views.study,
        Asked(uid, series, place_of(fields["after"]), fields["zoom"]),
        history_days=configuration.sweep.history_days,
        envelopes=envelopes,
    )
    here = f"/studies/{uid}"
    viewer = configuration.console.viewer_url
    return page(
        request,
        "study.html" if shown.is_kept else "study_missing.html",
        part="_study.html" if shown.is_kept else "_study_missing.html",
        # a region that is renewed shows no answer with the status of an error
        status=200 if shown.is_kept or shown.was_known or is_part(request) else 404,
        shown=shown,
        here=here,
        fields=fields,
        selected=int(fields["instance"]) if _ID.fullmatch(fields["instance"]) else None,
        words_of=words_of,
        meaning=meaning,
        status_name=status_name,
        viewer=None if viewer is None else viewer.replace("{study}", quote(uid)),
        next_page=None
        if shown.following is None
        else link_to(here, fields, after=position_text(shown.following), instance=None),
    )


def _envelopes(spool: Spool) -> tuple[Envelope, ...]:
    with suppress(OSError, SpoolError):  # this host does not have the spool
        return unregistered(spool, most=ENVELOPES)
    return ()


# ---- complete ------------------------------------------------------------------------------------------


async def _collecting(request: Request, fields: Form) -> list[UnitRow]:
    uid, application = fields.get("study", ""), fields.get("application", "")
    if not is_uid(uid, MAX_DATA_SET_UID_LENGTH):
        raise ActionRefusedError("This is no UID. Nothing was done.")
    found = [
        unit
        for unit in await query(request, shown_units.of_studies, [uid])
        if unit.state is UnitState.COLLECTING
        and application in {"", unit.application}
        and fields.get("uid", "") in {"", unit.uid}
    ]
    if not found:
        raise ActionRefusedError(
            "No application waits for the rest of it any more: it was sent, or is being sent. Nothing was "
            "done."
        )
    return found


async def _plan_complete(request: Request, fields: Form) -> Plan:
    found = await _collecting(request, fields)
    names = ", ".join(sorted({unit.application for unit in found}))
    count = sum(unit.instances for unit in found)
    what = found[0].unit if len(found) == 1 else f"{len(found)} series and studies"
    return Plan(
        f"Send {what} to {names} now, with the {count:,} instances that are here?",
        "Send now",
        seen=",".join(f"{unit.unit_id}:{unit.instances}" for unit in found),
        sentences=(
            (
                "The application gets it as if it were complete. Instances that arrive afterwards are late; "
                "the key `late` of the application says what happens to them."
            ),
        ),
        count=count,
    )


async def _do_complete(request: Request, fields: Form, _: Plan) -> Said:
    found = await _collecting(request, fields)
    operator = account(request).operator
    done = 0
    for uid, application in sorted({(unit.uid, unit.application) for unit in found}):
        done += len(await change(request, use_cases.complete, uid, application, operator))
    if not done:
        return Said("Nothing was done: it was sent meanwhile.", "note")
    return Said(f"{done} sent now. The timeline shows what follows.")


COMPLETE = Action("/studies/complete", Role.OPERATOR, _plan_complete, _do_complete, back="/studies")

routes = [COMPLETE.route, Route("/studies/{uid}", show)]
