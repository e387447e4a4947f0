"""What operators see and select where there are several archives and applications."""

import json

from conftest import MakeEdge
from support.forwarding import forwarding
from support.synthetic_instances import Instance, result_of
from support.targets import hospital, owed, peers_of
from typer.testing import CliRunner

from cli.main import build
from gateway.database.tables import overview, timeline
from gateway.domain.routing import Route, Target
from gateway.domain.timeline import StepName, summary
from gateway.forward.deliver import forward_to_archive, forward_to_pacs


def run(*words: str) -> str:
    """Run a command; return what it prints."""
    return CliRunner().invoke(build(words[0]), list(words), env={"COLUMNS": "200"}).output


def test_status_has_a_line_for_each_target(make_edge: MakeEdge) -> None:
    """With its own counts; those of the seed's edge keep the names of their queues."""
    edge = hospital(make_edge)
    with forwarding(edge) as core:
        core.receive(Instance())
        shown = run("status")
        for queue in ("pacs", "archives.RES", "archives.VNA", "workers.any-mr", "workers.chest-ct"):
            assert f"{queue} " in shown
        document = json.loads(run("status", "--json"))["overview"]
        assert {(c["route"], c["target"]): c["count"] for c in document["counts"]} == {
            (one.route.value, one.name): 1 for one in edge.configuration.forwarder.targets.all
        }
        assert document["applications"] == ["any-mr", "chest-ct"]
        assert "No actor process serves the queue archives" in shown


def test_status_of_an_edge_without_archives_does_not_ask_for_their_processes(make_edge: MakeEdge) -> None:
    """The seed's edge."""
    edge = make_edge()
    with forwarding(edge) as core:
        core.receive(Instance())
        edge.run("UPDATE deliveries SET route = 'archives', target = 'OLD' WHERE route = 'pacs'")
        edge.run(
            "UPDATE deliveries SET state = 'in_flight', claim_id = gen_random_uuid(), lease_until = now()"
        )
        edge.run(
            "UPDATE deliveries SET state = 'delivered', claim_id = NULL, lease_until = NULL,"
            " settled_at = now()"
        )
        shown = run("status")
        assert "queue archives" not in shown
        assert "archives 0" not in shown, "also after archives were removed from config.yaml"


def test_the_counts_of_a_large_table_are_those_of_the_targets(make_edge: MakeEdge) -> None:
    """The index of unsettled deliveries gives them, one range for each target and state."""
    edge = hospital(make_edge)
    with forwarding(edge) as core:
        for _ in range(3):
            core.receive(Instance())
        edge.run("UPDATE deliveries SET state = 'dead' WHERE target = 'VNA'")
        with edge.database.statement() as session:
            unsettled = session.all(overview._Q["count_unsettled"], limit=2)
        assert sorted(tuple(row) for row in unsettled) == sorted(
            (one.route.value, one.name, "dead" if one.name == "VNA" else "pending", 2, False)
            for one in edge.configuration.forwarder.targets.all
        )


def test_a_target_is_selected_by_its_name(make_edge: MakeEdge) -> None:
    """`deliveries cancel --target` leaves the others alone."""
    edge = hospital(make_edge)
    with forwarding(edge) as core:
        instance = Instance()
        core.receive(instance)
        assert "1 deliveries cancelled" in run("deliveries", "cancel", "--target", "VNA", "--yes")
        assert "1 deliveries cancelled" in run("deliveries", "cancel", "--target", "chest-ct", "--yes")
        states = owed(edge, instance)
        assert [name for name in states if states[name] == "cancelled"] == [
            "archives VNA",
            "workers chest-ct",
        ]
        listed = run("deliveries", "list", "--target", "VNA")
        assert "archives.VNA" in listed
        assert "archives.RES" not in listed
        for words in (("list",), ("retry",), ("resend",), ("cancel", "--yes")):
            refused = run("deliveries", *words, "--target", "VMA")
            assert "nothing is sent to a target 'VMA'" in refused
            assert "--target VNA" in refused
        assert "no delivery matches" in run("deliveries", "cancel", "--target", "VNA", "--state", "dead")


def test_what_waits_for_a_target_that_is_not_configured_is_a_finding(make_edge: MakeEdge) -> None:
    """With the command that gives it up."""
    edge = hospital(make_edge)
    with forwarding(edge) as core:
        core.receive(Instance())
        edge.run("UPDATE deliveries SET target = 'OLD' WHERE target = 'VNA'")
        shown = " ".join(run("status").split())
        assert "1 instances wait for the archive OLD, which config.yaml does not name" in shown
        assert "`mini-pacs deliveries cancel --route archives --target 'OLD'`" in shown


def test_the_timeline_has_a_step_for_each_archive(make_edge: MakeEdge) -> None:
    """The step is done when every archive has the instance; a result has its own."""
    edge = hospital(make_edge)
    with forwarding(edge) as core, peers_of(edge):
        source = Instance()
        result = result_of(source)
        core.receive(source)
        core.receive(result, worker="APP01")
        ids = {
            target: row_id
            for row_id, target in edge.rows("SELECT id, target FROM deliveries ORDER BY id DESC")
        }
        forward_to_pacs(core.context, ids["ORTHANC"])
        forward_to_archive(core.context, ids["VNA"])
        with edge.database.statement() as session:
            [of_source] = timeline.of_study(session, source.study_instance_uid)
            view = overview.overview(session)
        by = {(step.name, step.by) for step in of_source.steps}
        assert {
            (StepName.ARCHIVE, "VNA"),
            (StepName.ARCHIVE, "RES"),
            (StepName.RESULT_AT_ARCHIVE, "VNA"),
        } <= by
        assert of_source.is_done(StepName.ARCHIVE) is False
        assert {one.name for one in summary([of_source])} == set(StepName)
        assert view.waiting(Route.ARCHIVES, "RES") == 1
        assert view.is_configured(Target(Route.ARCHIVES, "VNA"))
        core.context.associations.close()
