"""An application that gets whole series: when a unit is complete, how it is sent, what answers it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from conftest import MakeEdge
from support.peers import ABORT
from support.synthetic_instances import MR, Instance, new_uid
from support.units import Units, series_of, units_of, whole
from typer.testing import CliRunner, Result

from cli.main import build
from gateway.database.tables import shown_units
from gateway.domain.matching import Correlation
from gateway.domain.outcome import Outcome
from gateway.sweep import run, unit_repair
from gateway.sweep.purge import purge

NOT_NOW, REFUSED = 0xA700, 0xC000


@pytest.fixture
def units(make_edge: MakeEdge) -> Iterator[Units]:
    """Yield an edge whose application gets whole series, with two replicas."""
    with units_of(whole(make_edge)) as running:
        yield running


def test_a_series_is_sent_whole_to_one_worker_on_one_association(units: Units) -> None:
    """20 instances wait, neither pending nor sent; then one replica gets them in order of reception."""
    series = series_of(20)
    units.receive(*series)
    assert (units.states(), units.delivery_states()) == (["collecting"], {"collecting"})
    assert units.run() is None
    assert units.got() == {"APP01": [], "APP02": []}
    units.quiet()
    assert units.run() is Outcome.DELIVERED
    uids = [one.sop_instance_uid for one in series]
    assert sorted(units.got().values()) == [[], uids]
    assert units.peers[units.worker()].associations == 1
    assert (units.states(), units.delivery_states()) == (["sent"], {"delivered"})
    assert units.edge.one("SELECT completed_by FROM units") == "quiet"
    assert units.edge.one("SELECT count(*) FROM attempts WHERE outcome = 'delivered'") == 20


def test_each_arrival_and_each_repeat_prolongs_the_quiet_time(units: Units) -> None:
    """A sender that sends all again does not make the unit complete in the middle."""
    first, second = series_of(2)
    units.receive(first)
    units.quiet()
    units.receive(second)
    assert units.run() is None
    units.quiet()
    units.receive(first)
    assert units.run() is None
    assert units.states() == ["collecting"]


def test_a_unit_that_never_goes_quiet_is_sent_at_its_longest_wait(units: Units) -> None:
    """It goes as it is."""
    units.receive(*series_of(3))
    units.edge.run("UPDATE units SET first_at = now() - interval '1 hour'")
    assert units.run() is Outcome.DELIVERED
    assert units.edge.one("SELECT completed_by FROM units") == "max_wait"


def test_the_quiet_time_waits_for_unregistered_receptions(units: Units) -> None:
    """After an outage, older receptions may still be of the unit; younger ones came after its quiet time."""
    units.receive(*series_of(3))
    units.quiet()
    last = units.edge.one("SELECT last_at FROM units")
    assert units.run(unregistered=last + timedelta(seconds=10)) is None
    assert units.states() == ["collecting"]
    assert units.run(unregistered=datetime.now(UTC)) is Outcome.DELIVERED


def test_an_operator_completes_a_unit(units: Units) -> None:
    """By the UID of its study or of its series; the message is due at once."""
    series = series_of(3)
    units.receive(*series)
    with units.edge.database.transaction() as session:
        assert shown_units.complete(session, "1.2.3.999", application=None, by="op") == []
        assert shown_units.complete(session, series[0].study_instance_uid, application="other", by="op") == []
        (done,) = shown_units.complete(session, series[0].study_instance_uid, application="chest-ct", by="op")
    assert (done.instances, done.uid) == (3, series[0].series_instance_uid)
    assert units.edge.one(
        "SELECT count(*) FROM dramatiq.queue q JOIN units u USING (message_id) WHERE due <= now()"
    )
    assert units.run() is Outcome.DELIVERED
    assert units.edge.one("SELECT completed_by FROM units") == "op"


def test_the_command_line_completes_a_study_and_shows_its_units(units: Units) -> None:
    """`studies complete`; a study that no application waits for is refused with a reason."""
    series = series_of(3)
    study = series[0].study_instance_uid
    units.receive(*series)

    def typed(*words: str) -> Result:
        return CliRunner().invoke(build(words[0]), list(words))

    refused = typed("studies", "complete", "1.2.3")
    assert refused.exit_code == 1
    assert "no application waits" in refused.output
    assert "with the 3 instances" in typed("studies", "complete", study).output
    assert units.run() is Outcome.DELIVERED
    shown = json.loads(typed("status", "--study", study, "--json").output)
    assert [(one["application"], one["state"], one["instances"]) for one in shown["units"]] == [
        ("chest-ct", "sent", 3)
    ]


def test_interleaved_series_are_separate_units(units: Units) -> None:
    """Two studies that arrive alternately, and two series of one study."""
    first, second = series_of(4), series_of(4)
    third = series_of(2, study=first[0].study_instance_uid)
    for pair in zip(first, second, strict=True):
        units.receive(*pair)
    units.receive(*third)
    units.quiet()
    for unit_id in units.ids():
        assert units.run(unit_id) is Outcome.DELIVERED
    sent = [uid for got in units.got().values() for uid in got]
    for series in (first, second, third):
        uids = [one.sop_instance_uid for one in series]
        place = sent.index(uids[0])
        assert sent[place : place + len(uids)] == uids


def test_a_unit_of_a_study_holds_all_of_its_series(make_edge: MakeEdge) -> None:
    """`unit: study`, with two SOP Classes on one association."""
    with units_of(whole(make_edge, unit="study")) as units:
        first = series_of(2)
        second = series_of(2, study=first[0].study_instance_uid, sop_class_uid=MR)
        assert units.send(*first, *second) is Outcome.DELIVERED
        assert len(units.ids()) == 1
        assert units.peers[units.worker()].associations == 1
        assert len(units.got()[units.worker()]) == 4


def test_one_refused_instance_does_not_stop_the_rest(units: Units) -> None:
    """It is dead, with the status; the others are delivered, and their result is owed."""
    series = series_of(5)
    for one in units.peers.values():
        one.answer = lambda request: REFUSED if request.sop_instance_uid == series[2].sop_instance_uid else 0
    assert units.send(*series) is Outcome.DELIVERED
    assert len(units.got()[units.worker()]) == 4
    dead = units.edge.delivery(series[2], "workers")
    assert (dead["state"], dead["last_status"]) == ("dead", REFUSED)
    assert units.states() == ["sent"]


def test_a_unit_of_which_all_is_refused_is_dead(units: Units) -> None:
    """No result is owed; each delivery says why."""
    for one in units.peers.values():
        one.answer = lambda _: REFUSED
    units.send(*series_of(3))
    assert (units.states(), units.delivery_states()) == (["dead"], {"dead"})


def test_a_lost_file_costs_only_its_instance(units: Units) -> None:
    """A missing file, and one with other bytes, which ends the association: the rest is sent, whole."""
    series = [replace(one, payload=bytes([n]) * 1024) for n, one in enumerate(series_of(5))]
    units.receive(*series)
    files = units.edge.files()
    files[f"incoming/{series[1].sop_instance_uid}.dcm"].unlink()
    damaged = files[f"incoming/{series[4].sop_instance_uid}.dcm"]
    damaged.write_bytes(damaged.read_bytes()[:-4] + b"XXXX")
    units.quiet()
    assert units.run() is Outcome.DELIVERED
    assert [units.edge.delivery(one, "workers")["state"] for one in series] == [
        "delivered",
        "dead",
        "delivered",
        "delivered",
        "dead",
    ]
    last = units.got()[units.worker()][-3:]
    assert last == [one.sop_instance_uid for one in (series[0], series[2], series[3])]


def test_a_worker_that_dies_in_the_middle_is_replaced_whole(units: Units) -> None:
    """The other replica gets every instance, also those that the first had taken."""
    series = series_of(5)
    units.receive(*series)
    units.quiet()
    for one in units.peers.values():
        one.abort_in = {series[3].sop_instance_uid}
    assert units.run() is Outcome.BROKEN
    first = units.worker()
    assert (units.states(), units.delivery_states()) == (["complete"], {"collecting"})
    (second,) = set(units.peers) - {first}
    units.peers[second].abort_in = set()
    assert units.run() is Outcome.DELIVERED
    assert units.worker() == second
    assert units.got()[second] == [one.sop_instance_uid for one in series]
    outcomes = [row[0] for row in units.edge.rows("SELECT outcome FROM unit_dispatches ORDER BY id")]
    assert outcomes == ["broken", "sent"]


def test_a_worker_that_is_away_opens_its_breaker_and_the_other_gets_the_unit(units: Units) -> None:
    """Nothing is counted against the unit."""
    units.receive(*series_of(3))
    units.quiet()
    for one in units.peers.values():
        one.off()
    assert units.run() is Outcome.AWAY
    (second,) = set(units.peers) - {units.worker()}
    units.peers[second].on()
    assert units.run() is Outcome.DELIVERED
    assert units.worker() == second
    assert units.edge.one("SELECT failures FROM units") == 0


def test_not_now_waits_and_sends_the_unit_again(units: Units) -> None:
    """A busy worker refuses with 0xA700: nothing is dead."""
    for one in units.peers.values():
        one.answer = lambda _: NOT_NOW
    assert units.send(*series_of(3)) is Outcome.NOT_NOW
    assert (units.states(), units.delivery_states()) == (["complete"], {"collecting"})
    for one in units.peers.values():
        one.answer = lambda _: 0
    units.edge.run("UPDATE destinations SET breaker = 'closed'")
    units.due()
    assert units.run() is Outcome.DELIVERED


def test_a_unit_that_breaks_every_association_is_given_up(units: Units) -> None:
    """After max_retries; an operator's retry begins a new generation."""
    for one in units.peers.values():
        one.answer = lambda _: ABORT
    series = series_of(2)
    units.send(*series)
    for _ in range(3):
        units.edge.run(
            "UPDATE destinations SET breaker = 'closed', failures_in_row = 0, failed_instance_ids = '{}'"
        )
        units.due()
        units.run()
    assert (units.states(), units.delivery_states()) == (["dead"], {"dead"})


def test_the_first_result_answers_the_unit_and_further_ones_are_linked(units: Units) -> None:
    """Several results of one unit are allowed; each is linked to its source and owed to the PACS."""
    series = series_of(3)
    units.send(*series)
    worker = units.worker()
    first = units.result(series[0], worker=worker, number=1)
    assert (first.match.correlation, first.late, first.is_older) == (Correlation.REFERENCES, False, False)
    assert units.states() == ["answered"]
    assert not units.edge.queued("sweep")
    second = units.result(series[1], worker=worker, number=2)
    assert (second.match.correlation, second.late) == (Correlation.REFERENCES, False)
    assert units.edge.one("SELECT count(*) FROM result_sources") == 2


def test_a_result_without_references_answers_the_only_unit_of_its_study(units: Units) -> None:
    """With two units owed in the study it is ambiguous, and answers none."""
    series = series_of(2)
    study = series[0].study_instance_uid
    units.send(*series)
    worker = units.worker()
    other = series_of(2, study=study)
    units.edge.run("UPDATE destinations SET paused = ae_title <> %(worker)s", worker=worker)
    units.send(*other)
    assert units.result(worker=worker, study=study, number=1).match.correlation is Correlation.AMBIGUOUS
    assert units.states() == ["sent", "sent"]
    units.result(other[0], worker=worker, number=2)
    assert units.result(worker=worker, study=study, number=3).match.correlation is Correlation.STUDY
    assert units.states() == ["answered", "answered"]


def test_an_overdue_unit_goes_whole_to_the_other_worker_and_then_times_out(make_edge: MakeEdge) -> None:
    """At most max_redispatch times; a late result of the first worker still answers it."""
    with units_of(whole(make_edge, max_redispatch=1)) as units:
        series = series_of(3)
        units.send(*series)
        first = units.worker()
        units.overdue()
        configuration, database, wakeup = (
            units.edge.configuration,
            units.edge.database,
            units.core.context.wakeup,
        )
        assert (
            unit_repair.expire_one(configuration, database, wakeup, units.ids()[0]).verdict == "redispatched"
        )
        assert units.run() is Outcome.DELIVERED
        assert units.worker() != first
        assert {len(got) for got in units.got().values()} == {3}
        units.overdue()
        assert unit_repair.expire_one(configuration, database, wakeup, units.ids()[0]).verdict == "timed_out"
        assert units.states() == ["timed_out"]
        assert units.result(series[0], worker=first).late
        assert units.states() == ["answered"]


def test_a_late_result_saves_the_redispatch(units: Units) -> None:
    """It came before the unit was sent again: no other worker is asked."""
    series = series_of(2)
    units.send(*series)
    first = units.worker()
    units.overdue()
    unit_repair.expire_one(
        units.edge.configuration, units.edge.database, units.core.context.wakeup, units.ids()[0]
    )
    assert units.states() == ["complete"]
    assert units.result(series[0], worker=first).late
    assert units.run() is None
    assert units.states() == ["answered"]


@pytest.mark.parametrize(
    ("late", "again", "state"),
    [("new_only", 1, "collecting"), ("resend_all", 4, "collecting"), ("ignore", 0, "cancelled")],
)
def test_an_instance_that_arrives_late(make_edge: MakeEdge, late: str, again: int, state: str) -> None:
    """It is sent alone, with all of its series, or not at all; each is recorded."""
    with units_of(whole(make_edge, late=late)) as units:
        series = series_of(4)
        units.send(*series[:3])
        units.receive(series[3])
        row = units.edge.delivery(series[3], "workers")
        assert row["state"] == state
        if late == "ignore":
            assert row["last_error"] == "late: its series was sent before"
            assert len(units.ids()) == 1
            return
        units.quiet()
        units.run()
        generations = units.edge.rows("SELECT generation, state::text FROM units ORDER BY id")
        superseded = "superseded" if late == "resend_all" else "sent"
        assert generations == [(1, superseded), (2, "sent")]
        assert sum(len(got) for got in units.got().values()) == 3 + again


def test_a_result_of_an_older_generation_satisfies_nothing(make_edge: MakeEdge) -> None:
    """One worker owes both: a result that names old instances only is of the older one."""
    with units_of(whole(make_edge, workers=["APP01"], late="resend_all", max_outstanding=5)) as units:
        series = series_of(4)
        units.send(*series[:3])
        units.send(series[3])
        assert units.states() == ["superseded", "sent"]
        older = units.result(series[0], series[1], worker="APP01", number=1)
        assert (older.is_older, older.outcome) == (True, "older_generation")
        assert units.states() == ["superseded", "sent"]
        assert units.edge.one("SELECT count(*) FROM result_sources") == 2
        assert not units.result(series[0], series[3], worker="APP01", number=2).is_older
        assert units.states() == ["superseded", "answered"]


def test_an_answered_generation_leaves_no_doubt(make_edge: MakeEdge) -> None:
    """What comes after the second generation was sent answers it, also if it names old instances only."""
    with units_of(whole(make_edge, workers=["APP01"], late="resend_all")) as units:
        series = series_of(3)
        units.send(*series[:2])
        units.result(series[0], worker="APP01", number=1)
        units.send(series[2])
        assert not units.result(series[0], worker="APP01", number=2).is_older
        assert units.states() == ["answered", "answered"]


def test_a_conflict_within_a_unit_is_sent_with_it_last(units: Units) -> None:
    """Both versions of a UID, the newer one after the older; a repeat is sent once."""
    first, second = series_of(2)
    other = replace(first, payload=b"\x03\x04" * 512)
    units.receive(first, second, other, second)
    units.quiet()
    assert units.run() is Outcome.DELIVERED
    uid = first.sop_instance_uid
    assert units.got()[units.worker()] == [uid, second.sop_instance_uid, uid]


def test_purge_keeps_the_instances_of_a_unit_that_is_not_done(make_edge: MakeEdge) -> None:
    """Also those of an earlier generation, which may be sent again; then the unit goes with them."""
    with units_of(whole(make_edge, late="resend_all")) as units:
        series = series_of(3)
        units.send(*series[:2])
        worker = units.worker()
        units.result(series[0], worker=worker)
        units.receive(series[2])
        units.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'pacs'")
        old = "now() - interval '3 days'"
        units.edge.run(f"UPDATE instances SET received_at = {old}")  # noqa: S608  a constant
        units.edge.run(f"UPDATE deliveries SET settled_at = {old} WHERE settled_at IS NOT NULL")  # noqa: S608
        purge(units.core.sweeping())
        kept = "SELECT count(*) FROM instances WHERE kind = 'original'"
        assert units.edge.one(kept) == 3
        units.quiet()
        units.run()
        units.result(series[2], worker=units.worker(), number=2)
        units.edge.run("UPDATE deliveries SET state = 'cancelled' WHERE route = 'pacs' AND state = 'pending'")
        units.edge.run(f"UPDATE instances SET received_at = {old}")  # noqa: S608
        units.edge.run(f"UPDATE deliveries SET settled_at = {old}")  # noqa: S608
        units.edge.run(f"UPDATE units SET settled_at = {old}")  # noqa: S608
        purge(units.core.sweeping())
        assert units.edge.one(kept) == 0
        purge(units.core.sweeping())
        assert units.ids() == []


def test_a_busy_worker_gets_no_further_unit_and_a_result_wakes_the_next(make_edge: MakeEdge) -> None:
    """max_outstanding counts units."""
    with units_of(whole(make_edge, workers=["APP01"], max_outstanding=1)) as units:
        first, second = series_of(2), series_of(2)
        units.send(*first)
        assert units.send(*second) is None
        assert units.states() == ["sent", "complete"]
        units.result(first[0], worker="APP01")
        assert units.edge.one("SELECT next_attempt_at <= now() FROM units WHERE state = 'complete'")
        assert units.run() is Outcome.DELIVERED


def test_a_cancelled_unit_is_not_sent(units: Units) -> None:
    """An operator cancels its deliveries while it is collecting."""
    units.receive(*series_of(2))
    units.edge.run("UPDATE deliveries SET state = 'cancelled', settled_at = now() WHERE route = 'workers'")
    units.quiet()
    assert units.run() is None
    assert units.states() == ["cancelled"]


def test_a_unit_without_a_message_gets_one(units: Units) -> None:
    """The sweep finds it; a unit whose message is dead waits for an operator."""
    units.receive(*series_of(2))
    units.edge.run("DELETE FROM dramatiq.queue WHERE queue_name = 'workers.chest-ct'")
    units.edge.run("UPDATE units SET next_attempt_at = now() - interval '1 hour'")
    assert unit_repair.send_missing_messages(units.core.sweeping()) == 1
    assert unit_repair.send_missing_messages(units.core.sweeping()) == 0
    units.quiet()
    assert units.run() is Outcome.DELIVERED
    units.overdue()
    units.edge.run("DELETE FROM dramatiq.queue WHERE queue_name = 'sweep'")
    assert unit_repair.expire(units.core.sweeping(), grace=timedelta(seconds=5))["redispatched"] == 1


def test_a_dead_message_of_a_unit_ends_when_all_of_it_is_cancelled(units: Units) -> None:
    """Before, it waits for an operator, and is shown."""
    dead = "SELECT count(*) FROM dramatiq.queue WHERE state = 'rejected'"
    units.receive(*series_of(2))
    units.edge.run(
        "UPDATE dramatiq.queue SET state = 'rejected' WHERE message ->> 'actor_name' = 'forward_unit'"
    )
    units.edge.run("UPDATE units SET next_attempt_at = now() - interval '1 hour'")
    run.sweep(units.core.sweeping())
    assert units.edge.one(dead) == 1
    units.edge.run("UPDATE deliveries SET state = 'cancelled', settled_at = now() WHERE route = 'workers'")
    run.sweep(units.core.sweeping())
    assert units.edge.one(dead) == 0
    units.quiet()
    assert unit_repair.send_missing_messages(units.core.sweeping()) == 1
    assert units.run() is None
    assert units.states() == ["cancelled"]


def test_the_sweep_corrects_the_folders_of_a_unit(units: Units) -> None:
    """The process died after it settled the unit, before it corrected the rows."""
    units.send(*series_of(2))
    units.edge.run("DELETE FROM deliveries WHERE route = 'pacs'")
    units.edge.run("UPDATE units SET sent_at = now() - interval '1 hour'")
    assert units.edge.one("SELECT count(*) FROM instances WHERE place = 'incoming'") == 2
    unit_repair.mend_places(units.core.sweeping())
    assert units.edge.one("SELECT count(*) FROM instances WHERE place = 'sent'") == 2


def test_a_unit_that_needs_many_contexts_uses_several_associations(units: Units) -> None:
    """128 contexts fit into one association."""
    classes = sorted(units.peers["APP01"].accepted_sop_classes)[:140]
    if len(classes) < 130:
        pytest.skip("too few Storage SOP Classes")
    series = new_uid()
    study = new_uid()
    units.send(
        *(
            Instance(study_instance_uid=study, series_instance_uid=series, sop_class_uid=one)
            for one in classes
        )
    )
    assert len(units.got()[units.worker()]) == len(classes)
    assert units.peers[units.worker()].associations == 2


def test_a_unit_under_way_takes_the_room_of_one_result(make_edge: MakeEdge) -> None:
    """It counts as one, however many instances it has; a message is claimed while a worker has room."""
    with units_of(whole(make_edge, max_outstanding=2)) as units:

        def room() -> int:
            return int(units.edge.one("SELECT dramatiq.room('workers.chest-ct', 8)"))

        def claimed(wanted: int) -> int:
            return int(units.edge.one("SELECT dramatiq.room('workers.chest-ct', %(n)s)", n=wanted))

        assert room() == 4  # two replicas, two results each
        sent = [series_of(3) for _ in range(4)]
        for number, series in enumerate(sent, 1):
            assert units.send(*series) is Outcome.DELIVERED
            assert room() == 4 - number
        assert claimed(1) == 0
        assert units.send(*series_of(2)) is not Outcome.DELIVERED
        assert units.states() == ["sent"] * 4 + ["complete"]

        worker = units.worker(units.ids()[0])
        units.result(*sent[0], worker=worker)
        assert (room(), claimed(1)) == (1, 1)
        units.edge.run("UPDATE destinations SET breaker = 'open' WHERE ae_title = %(title)s", title=worker)
        assert room() == 0
