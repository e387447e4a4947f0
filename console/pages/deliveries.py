"""The screen Deliveries: filters, groups by reason, one delivery with its attempts.

delivery_actions.py changes one delivery, or all that match.
"""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.database import shared
from console.pages.delivery_actions import ALLOWED, action, id_of, seen_of, verbs
from console.parts import parts
from console.screen import link as link_to
from console.screen import page, read
from console.views import deliveries as views
from console.views.deliveries import Filter
from console.views.reason import meaning, status_name
from gateway.database.session import Session
from gateway.database.tables import console_actions, delivery_search, selected_deliveries
from gateway.database.tables.selected_deliveries import Delivery, PastAttempt, Selection
from gateway.domain.routing import Target

SHOWN_ACTIONS = 3


async def show(request: Request) -> Response:
    """List the deliveries that the filters select, and what is not delivered by reason."""
    chosen = Filter.of(request.query_params)
    after = id_of(request.query_params.get("after", ""))
    listed = await read(request, views.listed, chosen, after)
    targets = {*await shared(request, _targets), *_configured(request)}
    page_of = listed.page
    return page(
        request,
        "deliveries.html",
        part="_deliveries.html",
        chosen=chosen,
        listed=listed,
        states=views.STATES,
        targets=sorted(targets),
        workers=_workers(request, chosen),
        actions=await read(request, _actions),
        is_first=after is None,
        next_page=None
        if page_of.following is None
        else link_to("/deliveries", chosen.fields, after=page_of.following),
        allowed=verbs(chosen),
        meaning=meaning,
        status_name=status_name,
    )


def _configured(request: Request) -> list[Target]:
    return list(parts(request).configuration.forwarder.targets.all)


def _workers(request: Request, chosen: Filter) -> list[str]:
    """Return the workers of config.yaml, and the one of the filter, which may have been removed since."""
    configured = parts(request).configuration.forwarder.worker_ae_titles
    return sorted({*configured, chosen.worker} - {""})


def _targets(session: Session) -> tuple[Target, ...]:
    return tuple(delivery_search.targets(session))


def _actions(session: Session) -> tuple[console_actions.LongAction, ...]:
    latest = console_actions.latest(session, limit=SHOWN_ACTIONS)
    return tuple(one for one in latest if one.verb in ALLOWED)


async def show_one(request: Request) -> Response:
    """Show one delivery with its attempts."""
    delivery_id = id_of(str(request.path_params["id"]))
    found = None if delivery_id is None else await read(request, _one, delivery_id)
    if found is None:
        raise HTTPException(
            404,
            "There is no such delivery: it never existed, or was deleted with its instance after "
            "sweep.retention_hours. Search its study in Studies: the history keeps what became of it.",
        )
    one, attempts = found
    return page(
        request,
        "delivery.html",
        part="_delivery.html",
        one=one,
        attempts=attempts,
        allowed=[verb for verb, states in ALLOWED.items() if one.state in states],
        seen=seen_of({one.state: 1}),
        meaning=meaning,
        status_name=status_name,
    )


def _one(session: Session, delivery_id: int) -> tuple[Delivery, list[PastAttempt]] | None:
    found = selected_deliveries.find(session, Selection(delivery_id=delivery_id))
    return (found[0], selected_deliveries.attempts_of(session, delivery_id)) if found else None


routes = [
    Route("/deliveries", show),
    *(action(verb).route for verb in ALLOWED),
    Route("/deliveries/{id}", show_one),
]
