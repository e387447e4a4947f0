"""Counts and states of an overview, as words for people."""

from gateway.database.tables.destinations import DestinationState
from gateway.database.tables.overview import Count, DeadReason, Overview
from gateway.domain.routing import Route, Target


def figure(count: int, *, exact: bool = True) -> str:
    """Return a count for people, with `more than` where counting stopped early."""
    return f"{count:,}" if exact else f"more than {count:,}"


def state_of(destination: DestinationState) -> str:
    """Return the state of a destination in a few words."""
    if destination.paused:
        return "paused"
    if destination.breaker == "closed" and not destination.is_tried:
        return "up"
    return "takes no C-STORE" if destination.probe_by_store else "away"


def waiting(view: Overview, route: Route) -> str:
    """Return how many instances wait on a route, for people."""
    exact = all(c.exact for c in view.counts if c.route is route)
    return figure(view.waiting(route), exact=exact)


def waiting_for(view: Overview, target: Target) -> str:
    """Return how many instances wait for a target, for people."""
    exact = all(c.exact for c in view.counts if is_to(c, target))
    return figure(view.waiting(target.route, target.name), exact=exact)


def is_to(row: Count | DeadReason, target: Target) -> bool:
    """Tell whether a row is about that target."""
    return row.route is target.route and row.target == target.name


def option_of(target: Target) -> str:
    """Return the options that select the deliveries to a target."""
    only = target.queue == target.route.value
    return f"--route {target.route.value}" + ("" if only else f" --target '{target.name}'")
