"""Deliveries by state, target, worker, reason and study: each on one page, counted, grouped, in slices."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest
from support.prepared_instances import STUDY, PreparedInstances

from gateway.database.session import Session
from gateway.database.tables import delivery_search
from gateway.database.tables.delivery_search import WantedDeliveries
from gateway.domain.delivery import State
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route, Target

T = TypeVar("T")
PACS = Target(Route.PACS, "ORTHANC")
DEAD, CANCELLED, PENDING, DELIVERED = State.DEAD, State.CANCELLED, State.PENDING, State.DELIVERED
FULL, BROKEN = "0xA700 out of resources", "association aborted"


class Look:
    """Reads in a transaction of its own."""

    def __init__(self, kept: PreparedInstances) -> None:
        self._database = kept.database

    def __call__(self, function: Callable[[Session], T]) -> T:
        """Return what `function` reads."""
        with self._database.transaction() as session:
            return function(session)


@pytest.fixture
def look(kept: PreparedInstances) -> Look:
    """Return what reads, with 24 deliveries of three studies: in each state, for several reasons."""
    for number in range(1, 13):
        instance = kept.receive(number, study=f"1.2.{number % 3}")
        if number % 4 == 1:
            kept.forward(instance)
        elif number % 4 == 2:
            error = FULL if number % 8 == 2 else BROKEN
            kept.forward(instance, DEAD, outcome=Outcome.REFUSED, status=0xA700, error=error)
        elif number % 4 == 3:
            kept.forward(instance, PENDING, outcome=Outcome.AWAY, status=None, error="connection refused")
    kept.run(
        "UPDATE deliveries SET state = 'cancelled', settled_by = 'ops' WHERE route = 'workers' AND id % 3 = 0"
    )
    kept.run("UPDATE deliveries SET destination = 'APP0' || 1 + id % 4 / 2 WHERE route = 'workers'")
    return Look(kept)


SELECTIONS = [
    WantedDeliveries(),
    WantedDeliveries(states=(DEAD,)),
    WantedDeliveries(states=(CANCELLED,)),
    WantedDeliveries(states=(DEAD, CANCELLED)),
    WantedDeliveries(states=(PENDING, State.IN_FLIGHT)),
    WantedDeliveries(states=(DELIVERED,)),
    WantedDeliveries(states=(PENDING, DELIVERED), target=PACS),
    WantedDeliveries(target=Target(Route.WORKERS, "default")),
    WantedDeliveries(worker="APP02"),
    WantedDeliveries(worker="APP02", states=(CANCELLED,)),
    WantedDeliveries(worker="APP02", study="1.2.2"),
    WantedDeliveries(study="1.2.1"),
    WantedDeliveries(study="1.2.1", states=(PENDING,)),
]


def expected(kept: PreparedInstances, wanted: WantedDeliveries) -> list[int]:
    """Return the ids of a selection by a statement without any index in mind, newest first."""
    rows = kept.rows(
        "SELECT d.id, d.state::text, d.route::text, d.target, i.study_instance_uid, d.destination"
        " FROM deliveries d JOIN instances i ON i.id = d.instance_id ORDER BY d.id DESC"
    )
    return [
        delivery_id
        for delivery_id, state, route, target, study, destination in rows
        if (wanted.states is None or State(state) in wanted.states)
        and (wanted.target is None or wanted.target == Target(Route(route), target))
        and wanted.study in {None, study}
        and wanted.worker in {None, destination if route == "workers" else ""}
    ]


def pages(look: Look, wanted: WantedDeliveries, limit: int) -> tuple[list[int], int]:
    """Return the ids of all pages, and how many pages ended because the time was over."""
    found: list[int] = []
    after, partial = None, 0
    while True:
        page = look(lambda session: delivery_search.page(session, wanted, limit=limit, after=after))  # noqa: B023
        found += [row.delivery_id for row in page.rows]
        partial += page.is_partial
        after = page.following
        if after is None:
            return found, partial


@pytest.mark.parametrize("few", [0, 20_000])
def test_every_selected_delivery_is_on_one_page_newest_first(
    kept: PreparedInstances, look: Look, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Whether an index finds them, or windows of ids."""
    monkeypatch.setattr(delivery_search, "FEW", few)
    for window in (2, 20_000):
        monkeypatch.setattr(delivery_search, "WINDOW", window)
        for wanted in SELECTIONS:
            for limit in (1, 3, 50):
                assert pages(look, wanted, limit)[0] == expected(kept, wanted), (wanted, limit, window)


def test_a_search_that_takes_long_goes_on_with_the_next_page(
    kept: PreparedInstances, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page says how far it has looked; nothing is left out, nothing comes twice."""
    monkeypatch.setattr(delivery_search, "LOOK_SECONDS", -1)
    monkeypatch.setattr(delivery_search, "WINDOW", 2)
    wanted = WantedDeliveries(states=(DELIVERED,))
    found, partial = pages(look, wanted, 5)
    assert found == expected(kept, wanted)
    assert partial > 1


def test_groups_count_what_is_not_delivered_by_target_state_and_reason(
    kept: PreparedInstances, look: Look
) -> None:
    """A group's key selects exactly its deliveries."""
    groups = look(lambda session: delivery_search.groups(session, WantedDeliveries()))
    total = kept.value("SELECT count(*) FROM deliveries WHERE state <> 'delivered'")
    assert sum(group.count for group in groups) == total == groups[0].seen
    assert {group.reason for group in groups if group.state is DEAD} == {FULL, BROKEN}
    for group in groups:
        wanted = WantedDeliveries(
            states=(group.state,), target=Target(group.route, group.target), reason_key=group.reason_key
        )
        page = look(lambda session: delivery_search.page(session, wanted, limit=50))  # noqa: B023
        assert len(page.rows) == group.count
        assert {row.last_error for row in page.rows} == {group.reason}
    of_study = look(lambda session: delivery_search.groups(session, WantedDeliveries(study="1.2.1")))
    assert 0 < sum(group.count for group in of_study) < total


def test_count_and_slices_agree_with_the_pages(kept: PreparedInstances, look: Look) -> None:
    """Up to an id; a slice takes the oldest first, and each id once."""
    for wanted in SELECTIONS:
        every = expected(kept, wanted)
        until = every[len(every) // 2]
        in_all = wanted.only(tuple(State))
        counts = look(partial(delivery_search.count, wanted=in_all, until=until))
        assert sum(counts.values()) == len([one for one in every if one <= until])
        found = [0]
        read = partial(delivery_search.following, wanted=in_all, until=until, limit=3)
        while ids := look(partial(read, after=found[-1])):
            found += ids
        assert found[1:] == sorted(one for one in every if one <= until)


def test_an_empty_database_has_no_page_no_group_and_no_target(kept: PreparedInstances) -> None:
    """Nothing is found, and nothing fails."""
    with kept.database.transaction() as session:
        assert delivery_search.page(session, WantedDeliveries(), limit=5).rows == ()
        assert delivery_search.groups(session, WantedDeliveries(study=STUDY)) == []
        assert list(delivery_search.targets(session)) == []
        assert delivery_search.newest_id(session) == 0
