"""What the picture of the flow shows: senders, archives and applications with their rates and states.

flow_picture.py places them.
"""

from dataclasses import dataclass

from console.snapshot import Snapshot
from console.text import plain
from gateway.database.tables.destinations import DestinationState
from gateway.domain.delivery import State
from gateway.domain.flow import TargetFlow
from gateway.domain.instance import Kind
from gateway.domain.routing import Route

SENDERS = 6
"""Senders that have a box; the others share one."""
TARGETS = 12
TITLE_MOST = 24
FAST = 60.0
"""Instances a minute from which a rate is shown per second."""


@dataclass(frozen=True, slots=True)
class FlowNode:
    """A sender, the edge, an archive or an application; rates are in instances a minute."""

    icon: str
    title: str
    rate: float
    badge: str = ""
    kind: str = "off"
    lines: tuple[str, ...] = ()
    result_rate: float = 0.0
    has_results: bool = False
    link: str = ""

    @property
    def stops(self) -> str:
        """Why nothing flows to it; empty if something may. The rate is an average, so it lags behind."""
        if self.icon == "archive" and self.kind in {"bad", "wait"}:
            return "stopped" if self.kind == "bad" else "paused"
        return "stopped" if self.icon == "application" and self.kind == "bad" else ""


def rate(per_minute: float) -> str:
    """Return a rate: 4.2/s, 12/min, 0."""
    if per_minute >= FAST:
        per_second = per_minute / 60
        return f"{per_second:.1f}/s" if per_second < 10 else f"{per_second:,.0f}/s"  # noqa: PLR2004  one digit
    return f"{per_minute:.0f}/min" if per_minute >= 1 or not per_minute else "<1/min"


def senders_of(seen: Snapshot) -> list[FlowNode]:
    """Return the senders of originals, the busiest first; workers are no senders here."""
    rates: dict[str, float] = {}
    for one in seen.senders:
        if one.kind is Kind.ORIGINAL:
            rates[one.calling_ae_title] = rates.get(one.calling_ae_title, 0.0) + one.per_minute
    busiest = sorted(rates.items(), key=lambda item: (-item[1], item[0]))
    nodes = [FlowNode("modality", short_title(name), value) for name, value in busiest[:SENDERS]]
    if len(busiest) > SENDERS:
        rest = sum(value for _, value in busiest[SENDERS:])
        nodes.append(FlowNode("modality", f"{len(busiest) - SENDERS} others", rest))
    return nodes or [FlowNode("modality", "Modalities", 0.0, lines=("silent for a minute",))]


def targets_of(seen: Snapshot) -> list[FlowNode]:
    """Return the archives, then the applications."""
    by_name = {one.ae_title: one for one in seen.view.destinations}
    flows = {(one.route, one.target): one for one in seen.flows}
    results = sum(one.per_minute for one in seen.senders if one.kind is Kind.RESULT)
    nodes = []
    for target in seen.view.targets[:TARGETS]:
        flow = flows.get((target.route, target.name))
        counts = {
            state: sum(
                one.count
                for one in seen.view.counts
                if (one.route, one.target) == (target.route, target.name) and one.state is state
            )
            for state in State
        }
        waits = counts[State.PENDING] + counts[State.IN_FLIGHT] + counts[State.COLLECTING]
        lines = [f"{waits:,} waiting" + (f" · {counts[State.DEAD]:,} dead" if counts[State.DEAD] else "")]
        if target.route.is_archive:
            badge, kind = _state_of_archive(by_name.get(target.name))
            nodes.append(
                FlowNode(
                    "archive",
                    short_title(target.name),
                    _sent(flow),
                    badge,
                    kind,
                    tuple(lines),
                    link="/destinations",
                )
            )
        else:
            workers = [one for one in seen.view.destinations if one.route is Route.WORKERS]
            badge, kind = _state_of_workers(workers)
            name = "AI workers" if target.name == "default" else target.name
            if seen.view.results.owed:
                lines.append(f"{seen.view.results.owed:,} results expected")
            nodes.append(
                FlowNode(
                    "application",
                    short_title(name),
                    _sent(flow),
                    badge,
                    kind,
                    tuple(lines),
                    result_rate=results if not any(one.has_results for one in nodes) else 0.0,
                    has_results=True,
                    link="/destinations",
                )
            )
    return nodes


def _sent(flow: TargetFlow | None) -> float:
    return 0.0 if flow is None else flow.delivered_per_minute


def _state_of_archive(one: DestinationState | None) -> tuple[str, str]:
    if one is None:
        return "not configured", "bad"
    if one.paused:
        return "paused", "wait"
    return ("takes instances", "ok") if one.breaker == "closed" else ("away", "bad")


def _state_of_workers(workers: list[DestinationState]) -> tuple[str, str]:
    ready = sum(one.is_open_for_work for one in workers)
    if ready == len(workers) and workers:
        return f"{ready} of {len(workers)} ready", "ok"
    return f"{ready} of {len(workers)} ready", "wait" if ready else "bad"


def short_title(name: str) -> str:
    """Return a name that fits into a box, without control characters."""
    return plain(name, TITLE_MOST)


def words_of(edge: str, sources: list[FlowNode], targets: list[FlowNode], received: float) -> str:
    """Return the picture in words, for people who cannot see it."""
    parts = [f"{edge} receives {rate(received)} from {', '.join(node.title for node in sources)}."]
    for node in targets:
        results = f", results {rate(node.result_rate)}" if node.has_results else ""
        parts.append(f"{node.title}: {node.badge}, gets {rate(node.rate)}{results}, {', '.join(node.lines)}.")
    return " ".join(parts)
