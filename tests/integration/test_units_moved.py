"""An application that gets whole series is removed: what it is owed goes to another application, or ends."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import MakeEdge, Reconfigure
from support.synthetic_instances import Instance
from support.units import APPLICATION, Units, series_of, units_of, whole

from gateway.config import Configuration
from gateway.database.tables import configurations, destinations
from gateway.database.tables.debts import Debt
from gateway.domain.outcome import Outcome
from gateway.domain.routing import Route, Target
from gateway.errors import ReloadRefusedError
from gateway.lab import layout
from gateway.processes import reload, removed
from gateway.processes.removed import owed_to_removed, settle
from gateway.sweep.reconcile import reconcile

OTHER = Target(Route.WORKERS, "lung")
Replace = Callable[..., Configuration]

OF_TARGET = """
SELECT d.target, d.state::text, u.application, u.unit, u.state::text
FROM deliveries d LEFT JOIN units u ON u.id = d.unit_id WHERE d.route = 'workers' ORDER BY d.id
"""


@pytest.fixture
def units(make_edge: MakeEdge) -> Iterator[Units]:
    """Yield an edge whose application gets whole series, with two replicas."""
    with units_of(whole(make_edge)) as running:
        yield running


@pytest.fixture
def replace(reconfigure: Reconfigure) -> Replace:
    """Return a function that makes a configuration with the application OTHER instead, with these keys."""

    def make(**keys: Any) -> Configuration:
        [port] = layout.free_ports(1)
        worker = {"host": layout.LOOPBACK, "port": port, "ae_title": "LUNG1", "timeout_s": 10}
        return reconfigure(
            {
                "edge": {"allowed_calling_aets": ["ORTHANC", "LUNG1"]},
                "forwarder": {"workers": [], "applications": {OTHER.name: {"workers": [worker], **keys}}},
            }
        )

    return make


def owed(units: Units, configuration: Configuration) -> list[Debt]:
    """Return what is owed to applications that the configuration does not have."""
    with units.edge.database.statement() as session:
        return owed_to_removed(session, configuration)


def messages(units: Units) -> int:
    """Return how many messages are in the queue of the removed application."""
    return int(units.edge.queued(Target(Route.WORKERS, APPLICATION).queue))


@pytest.mark.parametrize(
    ("unit", "state", "joined"),
    [("series", "collecting", 2), ("study", "collecting", 1), ("instance", "pending", 0)],
)
def test_what_waits_for_its_series_goes_to_the_other_application(
    units: Units, replace: Replace, unit: str, state: str, joined: int
) -> None:
    """It joins what that one collects, or is sent at once; the units of the removed one end."""
    first = series_of(2)
    units.receive(*first, *series_of(1, study=first[0].study_instance_uid))
    new = replace(unit=unit)
    assert owed(units, new) == [Debt(Route.WORKERS, APPLICATION, 3, 0)]
    assert settle(units.edge.database, new, to=OTHER, by="an operator").count == 3
    assert owed(units, new) == []
    rows = units.edge.rows(OF_TARGET)
    assert {row[:2] for row in rows} == {(OTHER.name, state)}
    assert {row[2:] for row in rows} == (
        {(OTHER.name, unit, "collecting")} if joined else {(None, None, None)}
    )
    counts: dict[str, int] = dict(units.edge.rows("SELECT application, count(*) FROM units GROUP BY 1"))
    assert counts == {APPLICATION: 2} | ({OTHER.name: joined} if joined else {})
    assert units.edge.one("SELECT bool_and(state = 'cancelled') FROM units WHERE application <> 'lung'")
    assert messages(units) == 0
    assert units.edge.queued(OTHER.queue) == (joined or 3)


def test_what_is_being_sent_is_waited_for(
    units: Units, replace: Replace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays with the removed application until its sender has settled it; then it is moved."""
    monkeypatch.setattr(removed, "SETTLE_SECONDS", 0)
    units.receive(*series_of(2))
    units.edge.run("UPDATE units SET state = 'complete', completed_at = now()")
    units.edge.run(
        "UPDATE units SET state = 'sending', claim_id = gen_random_uuid(), claimed_by = %(consumer)s,"
        " lease_until = now() + interval '1 hour', worker = 'APP01'",
        consumer=units.core.context.consumer(),
    )
    new = replace(unit="series")
    left = settle(units.edge.database, new, to=OTHER, by="an operator")
    assert (left.count, left.left) == (0, (Debt(Route.WORKERS, APPLICATION, 0, 2),))
    units.edge.run("UPDATE units SET state = 'complete', claim_id = NULL, next_attempt_at = now()")
    assert settle(units.edge.database, new, to=OTHER, by="an operator").count == 2
    assert {row[:2] for row in units.edge.rows(OF_TARGET)} == {(OTHER.name, "collecting")}


def test_what_the_other_application_gets_anyway_is_cancelled(units: Units, replace: Replace) -> None:
    """An instance is owed to each application once."""
    units.receive(one := Instance(series_instance_uid="1.2.3.4.5"))
    new = replace(unit="series")
    with units.edge.database.transaction() as session:
        destinations.configure(session, new)
    units.edge.run(
        "INSERT INTO deliveries (instance_id, route, target, priority, next_attempt_at)"
        " SELECT id, 'workers', 'lung', 4, now() FROM instances WHERE sop_instance_uid = %(uid)s",
        uid=one.sop_instance_uid,
    )
    settle(units.edge.database, new, to=OTHER, by="an operator")
    assert sorted(row[:2] for row in units.edge.rows(OF_TARGET)) == [
        (APPLICATION, "cancelled"),
        (OTHER.name, "collecting"),
    ]
    assert units.edge.one("SELECT count(*) FROM units WHERE application = 'lung'") == 1


def test_cancelling_ends_the_units_too(units: Units, replace: Replace) -> None:
    """`--cancel`: no unit of the removed application stays, so nothing is kept for it."""
    units.receive(*series_of(2))
    settle(units.edge.database, replace(), to=None, by="an operator")
    assert units.delivery_states() == {"cancelled"}
    assert (units.states(), messages(units)) == (["cancelled"], 0)


def test_the_sweep_ends_a_unit_that_was_to_be_sent_to_another_worker(
    make_edge: MakeEdge, replace: Replace
) -> None:
    """Its instances are delivered, so nothing is owed; without the end the purge would keep them for ever."""
    edge = whole(make_edge)
    with units_of(edge) as units:
        units.send(*series_of(2))
        units.edge.run("UPDATE units SET state = 'complete', next_attempt_at = now()")
        with units.edge.database.transaction() as session:
            destinations.configure(session, replace(unit="series"))
        reconcile(units.core.sweeping())
        assert units.states() == ["cancelled"]
        assert units.delivery_states() == {"delivered"}


def test_what_is_registered_while_the_configuration_changes_goes_too(units: Units, replace: Replace) -> None:
    """It was received before, and its receiver decided by the configuration of before."""
    new = replace()
    received = datetime.now(UTC)
    late = series_of(2)

    def register() -> datetime | None:
        if not late:
            return None
        units.receive(late.pop())
        return received

    settled = settle(units.edge.database, new, to=OTHER, by="an operator", unregistered_since=register)
    assert (settled.count, settled.left, settled.unregistered) == (2, (), False)
    assert {row[0] for row in units.edge.rows(OF_TARGET)} == {OTHER.name}


def test_an_archive_gets_nothing_of_an_application(units: Units, replace: Replace) -> None:
    """What an application is owed stays, and is shown as left."""
    units.receive(*series_of(2))
    settled = settle(units.edge.database, replace(), to=Target(Route.PACS, "ORTHANC"), by="an operator")
    assert (settled.count, settled.left) == (0, (Debt(Route.WORKERS, APPLICATION, 2, 0),))


def test_a_debt_that_arrives_before_the_decision_refuses_the_version(units: Units, replace: Replace) -> None:
    """The decision looks again; nothing has changed."""
    new = replace()
    units.receive(*series_of(2))
    with pytest.raises(ReloadRefusedError, match="chest-ct is owed 2 instances"):
        reload.load(units.edge.database, new, difference=[], by="an operator")
    with units.edge.database.statement() as session:
        assert configurations.history(session, limit=1)[0].state == "refused"
    assert reload.load(units.edge.database, new, difference=[], by="an operator", may_owe=True) == 2


def test_a_unit_goes_to_the_worker_that_was_removed_just_before_it_was_sent(
    units: Units, replace: Replace
) -> None:
    """The database chose it by the configuration of before; nothing raises."""
    series = series_of(2)
    units.receive(*series)
    units.quiet()
    units.core.context.take(replace())
    assert units.run() is Outcome.DELIVERED
    assert units.got()[units.worker()] == [one.sop_instance_uid for one in series]
