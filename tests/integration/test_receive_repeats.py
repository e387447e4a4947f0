"""A repeat that is not forwarded is shown with the command that forwards it; loops end."""

from collections.abc import Iterator

import pytest
from conftest import MakeEdge
from support.forwarding import Forwarding, forwarding
from support.synthetic_instances import Instance, result_of
from support.targets import hospital
from typer.testing import CliRunner, Result

from cli.main import build
from gateway.database.tables.instances import ReceptionVerdict
from gateway.database.tables.overview import overview
from gateway.database.tables.timeline import of_study
from gateway.domain.routing import Origin


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core with the smallest window: every repeat of a delivered instance is forwarded again."""
    with forwarding(make_edge({"edge": {"duplicate_window_seconds": 0}})) as core:
        yield core


def deliver(core: Forwarding, *, ago: float = 0) -> None:
    """Set all deliveries to delivered that many seconds ago; only the rows change."""
    core.edge.run(
        "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), lease_until = now()"
        " WHERE state <> 'delivered'"
    )
    core.edge.run(
        "UPDATE deliveries SET state = 'delivered', claim_id = NULL, lease_until = NULL,"
        " settled_at = now() - make_interval(secs => %(ago)s)",
        ago=ago,
    )


def run(*words: str) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(build(words[0]), list(words))


def state(core: Forwarding, instance: Instance, route: str = "pacs") -> str:
    """Return the state of the delivery."""
    return str(core.edge.delivery(instance, route)["state"])


def test_a_repeat_from_the_pacs_is_never_forwarded_back_to_it(core: Forwarding) -> None:
    """This holds for any window; the workers' route has its own window."""
    instance = Instance()
    core.receive(instance)
    deliver(core, ago=3600)
    core.receive(instance, origin=Origin.ARCHIVE)
    assert (state(core, instance), state(core, instance, "workers")) == ("delivered", "pending")


def test_a_new_instance_from_the_pacs_is_forwarded_as_usual(core: Forwarding) -> None:
    """A study that its users push to the edge gets results."""
    instance = Instance()
    assert core.receive(instance, origin=Origin.ARCHIVE)[0].verdict is ReceptionVerdict.STORED
    assert (state(core, instance), state(core, instance, "workers")) == ("pending", "pending")


def test_a_possible_pacs_waits_longer_after_each_repeat(core: Forwarding) -> None:
    """The wait is half a minute, and grows after five repeats.

    An operator who emptied the PACS gets the images, and a loop ends.
    """
    instance = Instance()
    core.receive(instance)
    for wait in (30, 30, 30, 30, 30, 60, 120, 240):
        deliver(core, ago=wait - 1)
        core.receive(instance, origin=Origin.PERHAPS_ARCHIVE)
        assert state(core, instance) == "delivered"
        deliver(core, ago=wait + 1)
        core.receive(instance, origin=Origin.PERHAPS_ARCHIVE)
        assert state(core, instance) == "pending"


def test_no_wait_is_longer_than_a_day(core: Forwarding) -> None:
    """This holds after any number of forwards."""
    instance = Instance()
    core.receive(instance)
    core.edge.run("UPDATE instances SET returned = 1000000")
    deliver(core, ago=24 * 3600 + 1)
    core.receive(instance, origin=Origin.PERHAPS_ARCHIVE)
    assert state(core, instance) == "pending"


def test_the_window_of_a_sender_does_not_grow(core: Forwarding) -> None:
    """This holds after any number of repeats."""
    instance = Instance()
    core.receive(instance)
    for _ in range(3):
        deliver(core, ago=1)
        assert core.receive(instance)[0].verdict is ReceptionVerdict.OWED_AGAIN


def test_a_result_that_comes_back_from_the_pacs_is_not_forwarded(core: Forwarding) -> None:
    """It is not sent to a worker, either, though its calling AE title is not a worker's."""
    source = Instance()
    result = result_of(source)
    core.receive(result, worker="APP01")
    deliver(core, ago=3600)
    assert core.receive(result, origin=Origin.ARCHIVE)[0].verdict is ReceptionVerdict.NOT_FORWARDED
    assert core.edge.one("SELECT count(*) FROM deliveries") == 1


@pytest.fixture
def usual(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core with the default window."""
    with forwarding(make_edge()) as core:
        yield core


def test_a_repeat_that_is_not_forwarded_is_shown_until_it_is_resent(usual: Forwarding) -> None:
    """`status` has a note, and the study's timeline an entry: sender, time, and the command."""
    instance = Instance()
    study = instance.study_instance_uid
    command = f"`mini-pacs deliveries resend --study {study}`"
    usual.receive(instance)
    deliver(usual)
    for _ in range(2):
        assert usual.receive(instance)[0].verdict is ReceptionVerdict.NOT_FORWARDED
    with usual.edge.database.transaction() as session:
        [timeline] = of_study(session, study)
        shown = overview(session).unforwarded
    assert (timeline.repeats, timeline.unforwarded) == (2, 2)
    [step] = [step for step in timeline.steps if step.outcome == "repeat, not forwarded"]
    assert (step.by, step.done) == ("ORTHANC", False)
    assert command in str(step.error)
    assert shown is not None
    assert (shown.count, shown.study_instance_uid, shown.calling_ae_title) == (1, study, "ORTHANC")
    said = run("status").stdout
    assert "· 1 instances were sent again and not forwarded" in said
    assert f"`mini-pacs deliveries resend --route pacs --study {study}`" in said
    assert "sent again" not in run("status", "--check").stdout, "a note is no alarm"
    assert run("deliveries", "resend", "--study", study, "--yes").exit_code == 0
    assert "sent again" not in run("status").stdout
    assert state(usual, instance) == "pending"


@pytest.mark.parametrize("origin", [Origin.SENDER, Origin.PERHAPS_ARCHIVE])
def test_a_repeat_that_only_a_worker_gets_is_shown_until_it_is_resent(
    usual: Forwarding, origin: Origin
) -> None:
    """The PACS was away, and got it a moment ago; the worker got it long ago, and gets it again."""
    instance = Instance()
    usual.receive(instance)
    deliver(usual)
    usual.edge.run("UPDATE deliveries SET settled_at = now() - interval '1 hour' WHERE route = 'workers'")
    assert usual.receive(instance, origin=origin)[0].verdict is ReceptionVerdict.OWED_IN_PART
    assert (state(usual, instance), state(usual, instance, "workers")) == ("delivered", "pending")
    command = f"deliveries resend --route pacs --study {instance.study_instance_uid}"
    assert f"where the PACS lacks them: `mini-pacs {command}`" in run("status").stdout
    assert run(*command.split(), "--yes").exit_code == 0
    assert "sent again" not in run("status").stdout
    assert state(usual, instance) == "pending"


def test_a_repeat_that_another_archive_does_not_get_names_its_route(make_edge: MakeEdge) -> None:
    """The PACS gets it again; VNA got it a moment ago."""
    with forwarding(hospital(make_edge, mode="pacs_only", window=30)) as core:
        instance = Instance()
        core.receive(instance)
        deliver(core)
        core.edge.run("UPDATE deliveries SET settled_at = now() - interval '1 hour' WHERE route = 'pacs'")
        assert core.receive(instance)[0].verdict is ReceptionVerdict.OWED_IN_PART
        command = f"deliveries resend --route archives --study {instance.study_instance_uid}"
        assert f"where an archive lacks them: `mini-pacs {command}`" in run("status").stdout
        assert run(*command.split(), "--yes").exit_code == 0
        assert "sent again" not in run("status").stdout


@pytest.mark.parametrize("worker", [True, False])
def test_repeats_that_need_no_operator_are_no_note(usual: Forwarding, worker: bool) -> None:  # noqa: FBT001
    """A delivery in progress, and a worker that was asked twice and answers twice."""
    instance = Instance()
    if worker:
        usual.receive(instance, worker="APP01")
        deliver(usual)
        kept, _ = usual.receive(instance, worker="APP01")
    else:
        usual.receive(instance)
        kept, _ = usual.receive(instance)
    assert kept.verdict is ReceptionVerdict.DUPLICATE
    with usual.edge.database.transaction() as session:
        assert overview(session).unforwarded is None


def test_the_log_names_the_command_that_forwards_a_repeat(make_edge: MakeEdge) -> None:
    """The real SCP logs it with an outcome of its own."""
    edge = make_edge()
    edge.serve()
    instance = Instance()
    with forwarding(edge) as core:
        assert edge.send(instance) == [0]
        deliver(core)
        assert edge.send(instance) == [0]
    line = edge.wait_log(outcome="not_forwarded", sop_instance_uid=instance.sop_instance_uid)
    assert f"mini-pacs deliveries resend --route pacs --study {instance.study_instance_uid}" in line["detail"]
