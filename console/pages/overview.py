"""The overview: the flow as a live picture, what is wrong, charts of the last hour and day, the disk."""

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Path

from console.charts import Window, charts
from console.database import shared
from console.flow_nodes import rate
from console.flow_picture import picture
from console.health import HealthReport
from console.parts import parts
from console.remedies import told
from console.screen import page
from console.snapshot import Snapshot
from gateway.domain.delivery import State
from gateway.domain.instance import Kind
from gateway.errors import DatabaseUnavailableError
from gateway.times import span

FINDINGS = 8
"""Findings that are shown at once; the others are below a line."""


async def overview(request: Request) -> Response:
    """Show the overview, or the part of it that a snapshot renews."""
    found = parts(request)
    seen = await found.live.now()
    if seen.snapshot is None:
        raise DatabaseUnavailableError(seen.error or "there is no snapshot yet")
    if seen.error:
        raise DatabaseUnavailableError(seen.error)
    health = await found.health.now()
    edge = found.configuration.edge.ae_title
    unregistered = health.space.unregistered if health.space else None
    known = _actions(request)
    return page(
        request,
        "overview.html",
        part="_overview.html",
        seen=seen.snapshot,
        at=seen.at,
        pictures=[picture(seen.snapshot, edge, unregistered, form=form) for form in ("wide", "tall")],
        figures=_figures(seen.snapshot),
        health=health,
        told=[told(one, known) for one in health.findings],
        first=FINDINGS,
        disk=_disk(health),
    )


@dataclass(frozen=True, slots=True)
class _Figure:
    label: str
    value: str
    note: str = ""
    kind: str = ""


def _figures(seen: Snapshot) -> list[_Figure]:
    view = seen.view
    counts = {state: sum(one.count for one in view.counts if one.state is state) for state in State}
    exact = all(one.exact for one in view.counts if one.state is not None)
    waiting = counts[State.PENDING] + counts[State.COLLECTING]
    received = sum(one.per_minute for one in seen.senders if one.kind is Kind.ORIGINAL)
    delivered = sum(one.delivered_per_minute for one in seen.flows if one.route.is_archive)
    oldest = min((one.owed_since for one in view.oldest), default=None)
    age = (view.now - oldest).total_seconds() if oldest else None
    more = "" if exact else "or more"
    return [
        _Figure("Received", rate(received), "originals, last minute"),
        _Figure("Delivered", rate(delivered), "to archives, last 5 min"),
        _Figure("Waiting", f"{waiting:,}", more or _oldest(age), "wait" if age and age > 60 else ""),  # noqa: PLR2004
        _Figure("Being sent", f"{counts[State.IN_FLIGHT]:,}"),
        _Figure("Dead", f"{counts[State.DEAD]:,}", "need an operator" if counts[State.DEAD] else "",
                "bad" if counts[State.DEAD] else ""),
        _Figure("Results expected", f"{view.results.owed:,}",
                f"{view.results.given_up:,} given up" if view.results.given_up else ""),
    ]  # fmt: skip


def _oldest(seconds: float | None) -> str:
    return "" if seconds is None else f"the oldest for {span(seconds)}"


@dataclass(frozen=True, slots=True)
class _Disk:
    total: int
    free: int
    reserve: int
    used: int


def _disk(health: HealthReport) -> _Disk | None:
    if health.disk is None or health.space is None:
        return None
    total, free = health.disk
    return _Disk(total, health.space.free_bytes, health.space.reserve_bytes, total - free)


def _actions(request: Request) -> frozenset[str]:
    """Return the paths that something can be posted to."""
    routes: list[Any] = request.app.routes
    return frozenset(str(route.path) for route in routes if "POST" in (getattr(route, "methods", None) or ()))


async def history(request: Request) -> Response:
    """Return the figures of the charts, as JSON."""
    window = Window.DAY if request.query_params.get("window") == "day" else Window.HOUR
    return JSONResponse(await shared(request, charts, window))


routes = [Path("/", overview), Path("/overview/history", history)]
