"""Generations of a series that meet: a sending that failed, two versions of a UID, and other times."""

from dataclasses import replace
from datetime import timedelta

import pytest
from conftest import MakeEdge, Reconfigure
from support.synthetic_instances import Instance
from support.units import APPLICATION, Units, series_of, units_of, whole

from gateway.database.tables import destinations
from gateway.dicom.policy import StoreRequest
from gateway.domain.outcome import Outcome

QUIET_SECONDS = 3600.0
UNTIL_LOOK = "SELECT q.due - now() FROM dramatiq.queue q JOIN units u USING (message_id)"


def fail_while_one_arrives(units: Units, series: list[Instance], late: Instance) -> None:
    """Send a series to a worker that aborts at its last instance, and receive `late` meanwhile."""
    units.receive(*series)
    units.quiet()

    def answer(request: StoreRequest) -> int:
        if request.sop_instance_uid == series[0].sop_instance_uid:
            units.receive(late)
        return 0

    for one in units.peers.values():
        one.answer, one.abort_in = answer, {series[-1].sop_instance_uid}
    assert units.run() is Outcome.BROKEN
    assert units.states() == ["complete", "collecting"]
    for one in units.peers.values():
        one.answer, one.abort_in = (lambda _: 0), set()


@pytest.mark.parametrize(
    ("late", "again", "states"),
    [("new_only", 1, ["sent", "sent"]), ("resend_all", 4, ["superseded", "sent"])],
)
def test_a_generation_waits_for_an_earlier_one_that_is_to_be_sent(
    make_edge: MakeEdge, late: str, again: int, states: list[str]
) -> None:
    """Else `resend_all` would end the earlier generation, whose instances no worker has."""
    with units_of(whole(make_edge, late=late)) as units:
        *series, last = series_of(4)
        fail_while_one_arrives(units, series, last)
        units.quiet()
        earlier, later = units.ids()
        assert units.run(later) is None
        assert units.edge.one("SELECT last_error FROM units WHERE id = %(id)s", id=later) == (
            "an earlier generation is sent first"
        )
        for one in units.peers.values():
            one.taken.clear()
        for unit in (earlier, later):
            units.due()
            assert units.run(unit) is Outcome.DELIVERED
        assert (units.states(), units.delivery_states()) == (states, {"delivered"})
        assert sum(len(got) for got in units.got().values()) == len(series) + again


def test_a_version_that_is_repeated_is_sent_after_the_other_one(make_edge: MakeEdge) -> None:
    """The worker ends with what the sender sent last, as an archive does."""
    with units_of(whole(make_edge)) as units:
        [first] = series_of(1)
        other = replace(first, payload=b"\x03\x04" * 512)
        assert units.send(first, other, first) is Outcome.DELIVERED
        taken = units.peers[units.worker()].taken
        assert [one.digest for one in taken] == [other.digest, first.digest]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("cancelled", "late: its series was cancelled before"),
        ("dead", "late: its series was given up before"),
    ],
)
def test_an_instance_that_is_ignored_says_what_became_of_its_series(
    make_edge: MakeEdge, state: str, reason: str
) -> None:
    """It is not said to have been sent if it was not."""
    with units_of(whole(make_edge, late="ignore")) as units:
        first, second = series_of(2)
        for one in units.peers.values():
            one.answer = lambda _: 0xA900
        units.receive(first)
        if state == "cancelled":
            units.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE state = 'collecting'")
        units.quiet()
        units.run()
        assert units.states() == [state]
        units.receive(second)
        delivery = units.edge.delivery(second, "workers")
        assert (delivery["state"], delivery["last_error"]) == ("cancelled", reason)


@pytest.mark.parametrize(
    ("keys", "most"),
    [
        ({"unit": "series", "complete_after_seconds": 60, "max_wait_seconds": 7200}, 60),
        (
            {"unit": "series", "complete_after_seconds": QUIET_SECONDS, "max_wait_seconds": QUIET_SECONDS},
            3600,
        ),
        ({"unit": "study", "complete_after_seconds": 60, "max_wait_seconds": 7200}, 60),
        ({"unit": "instance"}, 0),
    ],
)
def test_a_unit_that_collects_takes_the_new_times(
    make_edge: MakeEdge, reconfigure: Reconfigure, keys: dict[str, object], most: float
) -> None:
    """Its message was due after the old quiet time, and is due after the new one."""
    edge = whole(make_edge, complete_after_seconds=QUIET_SECONDS, max_wait_seconds=7200)
    with units_of(edge) as units:
        units.receive(*series_of(2))
        application = units.edge.configuration.forwarder.applications[APPLICATION]
        workers = [one.model_dump(mode="json", exclude_none=True) for one in application.workers]
        changed = reconfigure(
            {
                "edge": {"allowed_calling_aets": ["ORTHANC", *units.peers]},
                "forwarder": {"workers": [], "applications": {APPLICATION: {"workers": workers, **keys}}},
            }
        )
        with units.edge.database.transaction() as session:
            destinations.configure(session, changed)
        assert units.edge.one(UNTIL_LOOK) <= timedelta(seconds=most)
        if most == 0:
            assert units.run() is Outcome.DELIVERED


def test_a_resent_instance_of_a_series_joins_its_study(make_edge: MakeEdge) -> None:
    """Its application got whole series when it was sent, and gets whole studies now."""
    with units_of(whole(make_edge)) as units:
        one, other = series_of(1), series_of(1)
        study = one[0].study_instance_uid
        units.send(*one)
        units.edge.run("UPDATE application_units SET unit = 'study'")
        units.edge.run(
            "UPDATE deliveries SET state = 'pending', next_attempt_at = now(), settled_at = NULL"
            " WHERE route = 'workers'"
        )
        units.receive(replace(other[0], study_instance_uid=study))
        rows = units.edge.rows("SELECT unit, uid = study_instance_uid, state::text FROM units ORDER BY id")
        assert rows == [("series", False, "sent"), ("study", True, "collecting")]
