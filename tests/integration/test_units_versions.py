"""Versions of one SOP Instance UID at an application that gets whole series: it ends with the newest."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from conftest import MakeEdge
from support.forwarding import at_once
from support.synthetic_instances import Instance
from support.units import APPLICATION, Units, series_of, units_of, whole
from support.versions import requeue

from gateway.domain.outcome import Outcome
from gateway.forward.deliver import forward_to_worker
from gateway.sweep.expire import expire

pytestmark = pytest.mark.guarantee("G4")

DELIVERIES = "SELECT id FROM deliveries WHERE route = 'workers' ORDER BY id"
SERIES = (
    "INSERT INTO application_units (application, unit, complete_after, max_wait, late)"
    " VALUES (%(application)s, 'series', '30 s', '900 s', 'new_only')"
)


@pytest.fixture
def units(make_edge: MakeEdge) -> Iterator[Units]:
    """Yield an edge whose application gets whole series, and of late instances only these."""
    with units_of(whole(make_edge, late="new_only")) as running:
        yield running


def two_versions() -> tuple[Instance, Instance]:
    """Return two versions of an instance."""
    [first] = series_of(1)
    return first, replace(first, payload=b"\x03\x04" * 512)


def deliveries(units: Units) -> list[int]:
    """Return the deliveries to the application, oldest first."""
    return [row[0] for row in units.edge.rows(DELIVERIES)]


def run_all(units: Units) -> None:
    """Send everything that is owed to the application."""
    for _ in range(3):
        units.quiet()
        units.due()
        for unit in units.ids():
            units.run(unit)
        for delivery in deliveries(units):
            forward_to_worker(units.core.context, delivery)
    assert units.delivery_states() == {"delivered"}


def taken(units: Units) -> list[str]:
    """Return the digests that the workers answered with Success, in that order."""
    found = [one for peer in units.peers.values() for one in peer.taken if one.status == 0]
    return [one.digest for one in sorted(found, key=lambda one: one.at)]


def test_an_older_version_that_is_resent_is_followed_by_the_newest(units: Units) -> None:
    """Both were sent with one series; the operator sends the older one again alone."""
    first, second = two_versions()
    units.send(first, second)
    requeue(units.core, deliveries(units)[0])
    run_all(units)
    assert taken(units) == [first.digest, second.digest] * 2


def test_a_refused_version_that_is_retried_is_followed_by_the_newest(units: Units) -> None:
    """The workers refused the older one, and took the newer one later."""
    first, second = two_versions()
    for peer in units.peers.values():
        peer.answer = lambda _: 0xC123
    units.send(first)
    for peer in units.peers.values():
        peer.answer = lambda _: 0
    units.send(second)
    requeue(units.core, deliveries(units)[0])
    run_all(units)
    assert taken(units) == [second.digest, first.digest, second.digest]


def test_an_older_version_for_another_worker_is_followed_by_the_newest(units: Units) -> None:
    """The worker of the older one returned no result in time, so another one gets it, after the newer one."""
    first, second = two_versions()
    units.send(first)
    units.send(second)
    units.edge.run("UPDATE units SET next_attempt_at = now() - interval '1 minute' WHERE generation = 1")
    expire(units.core.sweeping())
    run_all(units)
    assert taken(units) == [first.digest, second.digest] * 2


def test_a_version_in_a_series_is_waited_for_when_instances_are_sent_alone_now(units: Units) -> None:
    """The application got whole series when the older version came."""
    first, second = two_versions()
    units.receive(first)
    units.edge.run("DELETE FROM application_units")
    units.receive(second)
    assert forward_to_worker(units.core.context, deliveries(units)[1]) is None
    run_all(units)
    assert taken(units) == [first.digest, second.digest]


def test_a_version_that_is_sent_alone_is_waited_for_by_its_series(make_edge: MakeEdge) -> None:
    """The application got single instances when the older version came; it is on its way."""
    with units_of(whole(make_edge, unit="instance")) as units:
        first, second = two_versions()
        units.receive(first)

        def answer(_: object) -> int:
            for peer in units.peers.values():
                peer.answer = lambda _: 0
            units.edge.run(SERIES, application=APPLICATION)
            units.receive(second)
            units.quiet()
            assert units.run() is None
            return 0

        for peer in units.peers.values():
            peer.answer = answer
        assert forward_to_worker(units.core.context, deliveries(units)[0]) is Outcome.DELIVERED
        run_all(units)
        assert taken(units) == [first.digest, second.digest]


def test_a_series_waits_for_no_lock_of_an_instance(units: Units) -> None:
    """A registration holds the newest version, and may wait for the unit: the unit is tried again later."""
    first, second = two_versions()
    units.send(first, second)
    requeue(units.core, deliveries(units)[0])
    units.quiet()
    ended: list[Outcome | None] = []
    with units.edge.database.transaction() as session:
        session.script("UPDATE instances SET repeats = repeats + 1")
        at_once(lambda: ended.append(units.run()))
    assert ended == [None]
    assert units.edge.one("SELECT last_error FROM units ORDER BY id DESC LIMIT 1") == (
        "another version of one of its instances is under way"
    )
    run_all(units)
    assert taken(units)[-1] == second.digest
