"""Each fault, injected and cleared by the commands of the lab's users, shows in log and status."""

import pytest
from support.compose_lab import ComposeLab, wait_until

SEEN_SECONDS = 10.0
"""The time until every process sees a fault: one second is guaranteed, the rest is for two busy cores."""
OUT_OF_RESOURCES = 0xA700  # PS3.4 §B.2.3, Table B.2-1


SEES = {"edge", "actors-pacs", "actors-workers"}
"""The processes in which faults can be injected."""


def wait_told(lab: ComposeLab, name: str, outcome: str, since: int) -> None:
    """Wait until each of these processes has logged the fault, after the first `since` such lines."""

    def look() -> bool:
        lines = [line for line in lab.log(f'"outcome":"{outcome}"') if line.get("fault") == name]
        return {line["process"] for line in lines[since:]} >= SEES

    wait_until(look, SEEN_SECONDS, f"every process to call {name} {outcome}")


def wait_order(lab: ComposeLab, name: str, outcome: str, since: int) -> None:
    """Wait until the operator's command is in the edge's log, which has lines of other processes later."""
    wait_until(lambda: told_before(lab, name, outcome) > since, SEEN_SECONDS, f"{name} to be {outcome}")


def told_before(lab: ComposeLab, name: str, outcome: str) -> int:
    """Return how many such lines there are already."""
    return sum(line.get("fault") == name for line in lab.log(f'"outcome":"{outcome}"'))


def inject(lab: ComposeLab, name: str, *words: str) -> None:
    """Inject a fault; wait until each process that it concerns has logged it and status shows it."""
    since, orders = told_before(lab, name, "active"), told_before(lab, name, "injected")
    assert lab.cli("inject-fault", name, *words).startswith(name)
    wait_told(lab, name, "active", since)
    wait_order(lab, name, "injected", orders)
    findings = [finding["text"] for finding in lab.status()["findings"]]
    assert any(text.startswith(f"Fault {name} is injected by ") for text in findings), findings


def clear(lab: ComposeLab, name: str) -> None:
    """Clear the fault; wait until the lab is healthy and an instance arrives."""
    since, orders = told_before(lab, name, "over"), told_before(lab, name, "cleared")
    assert name in lab.cli("clear-faults")
    wait_order(lab, name, "cleared", orders)
    wait_told(lab, name, "over", since)
    lab.wait_well()
    study, originals = lab.accepted(1)
    lab.wait_held(originals, 60, study)


@pytest.mark.parametrize("name", ["reject_all", "disk_full"])
def test_a_reception_that_fails_is_refused_and_leaves_nothing(lab: ComposeLab, name: str) -> None:
    """reject_all, disk_full: 0xA700 to the sender, a line in the log, no instance."""
    inject(lab, name)
    try:
        [sent] = lab.send(1)
        assert sent.status == OUT_OF_RESOURCES
        uid = sent.instance.sop_instance_uid
        line = lab.wait_for_line(sop_instance_uid=uid, status="0xA700")
        assert line["stage"] in {"receive", "store"}
        assert lab.rows(f"SELECT count(*) FROM instances WHERE sop_instance_uid = '{uid}'") == [["0"]]  # noqa: S608
    finally:
        clear(lab, name)


def test_slow_writes_and_sends_show_in_the_durations(lab: ComposeLab) -> None:
    """io_delay_ms: instances are accepted, but later; the line of the reception says how long it took."""
    inject(lab, "io_delay_ms")
    try:
        study, [uid] = lab.accepted(1)
        line = lab.wait_for_line(sop_instance_uid=uid, stage="receive", outcome="success")
        assert line["duration_ms"] >= 500
        lab.wait_held({uid}, 60, study)
        line = lab.wait_for_line(sop_instance_uid=uid, stage="forward_pacs", outcome="delivered")
        assert line["duration_ms"] >= 500
    finally:
        clear(lab, "io_delay_ms")


def test_a_share_of_receptions_fails_at_random(lab: ComposeLab) -> None:
    """random_fail_rate: with 0.5 some of 20 are refused and some not; what was accepted arrives."""
    inject(lab, "random_fail_rate", "--value", "0.5", "--stage", "receive")
    try:
        sent = lab.send(20)
        accepted = {one.instance.sop_instance_uid for one in sent if one.accepted}
        assert 0 < len(accepted) < 20
        lab.wait_held(accepted)
    finally:
        clear(lab, "random_fail_rate")


@pytest.mark.parametrize(("name", "route"), [("pacs_down", "pacs"), ("worker_down", "workers")])
def test_a_peer_that_is_down_only_delays_deliveries(lab: ComposeLab, name: str, route: str) -> None:
    """pacs_down, worker_down: accepted, pending without an attempt, shown as away; then delivered."""
    inject(lab, name)
    try:
        study, originals = lab.accepted(2)
        wait_until(lambda: away(lab, route), 30, f"the {route} to be away")
        waiting = (
            "SELECT count(*) FROM deliveries d JOIN instances i ON i.id = d.instance_id"  # noqa: S608
            f" WHERE i.study_instance_uid = '{study}' AND kind = 'original' AND route = '{route}'"
            " AND state = 'pending' AND attempts = 0"
        )
        wait_until(lambda: lab.rows(waiting) == [["2"]], 30, "two deliveries that wait")
        if route == "workers":
            lab.wait_held(originals, 20, study)
    finally:
        clear(lab, name)
    lab.wait_results(originals)


def away(lab: ComposeLab, route: str) -> bool:
    """Tell whether a breaker of that route is open."""
    found = [one for one in lab.status()["overview"]["destinations"] if one["route"] == route]
    return any(one["breaker"] == "open" for one in found)


def test_the_result_of_a_hanging_worker_is_expected_until_another_is_asked(lab: ComposeLab) -> None:
    """worker_hang: a worker is asked and returns nothing; after the end of the fault another worker does."""
    inject(lab, "worker_hang")
    try:
        study, originals = lab.accepted(1)
        lab.wait_held(originals, 20, study)
        wait_until(lambda: lab.status()["overview"]["results"]["owed"] >= 1, 20, "a result to be owed")
        assert not lab.results(originals)
    finally:
        clear(lab, "worker_hang")
    lab.wait_results(originals)


def test_associations_are_aborted_in_the_middle(lab: ComposeLab) -> None:
    """drop_association: the sender gets no answer, the log has an abort; nothing is kept."""
    inject(lab, "drop_association", "--stage", "receive")
    try:
        [sent] = lab.send(1)
        assert sent.status is None
        wait_until(lambda: lab.log("fault drop_association"), 20, "a line that names it")
        uid = sent.instance.sop_instance_uid
        assert lab.rows(f"SELECT count(*) FROM instances WHERE sop_instance_uid = '{uid}'") == [["0"]]  # noqa: S608
    finally:
        clear(lab, "drop_association")
