"""`mini-pacs destinations flow`: rates, unanswered sends and backlog, read from the rows."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from support.prepared_instances import PreparedInstances
from typer.testing import CliRunner

from cli.main import build
from gateway.database.tables import flow
from gateway.domain.routing import Route


def flows() -> dict[str, dict[str, Any]]:
    """Return the flow of each target."""
    result = CliRunner().invoke(build("destinations"), ["destinations", "flow", "--json"])
    assert result.exit_code == 0, result.output
    return {one["target"]: one for one in json.loads(result.stdout)["items"]}


def test_rates_and_backlog_of_each_target(kept: PreparedInstances) -> None:
    """Five arrive, two are delivered, one is being sent; a minute outside of the window does not count."""
    ids = [kept.receive(number) for number in range(1, 6)]
    for instance_id in ids[:2]:
        kept.forward(instance_id)
    kept.claim(kept.delivery(ids[2], Route.PACS))
    pacs = flows()["ORTHANC"]
    assert (pacs["arrived_per_minute"], pacs["delivered_per_minute"]) == (5.0, 2.0)
    assert (pacs["waiting"], pacs["in_flight"]) == (2, 1)
    assert abs(pacs["mean_seconds"] - 0.012) < 1e-6
    assert pacs["destinations"][0]["destination"] == "ORTHANC"
    assert (pacs["bottleneck"], pacs["drain_seconds"], pacs["threads"]) == ("none", None, 0)
    oldest = datetime.fromisoformat(pacs["oldest_send_at"])
    assert oldest < datetime.now(UTC) + timedelta(minutes=10)
    workers = flows()["default"]
    assert (workers["arrived_per_minute"], workers["waiting"], workers["oldest_send_at"]) == (5.0, 5, None)

    kept.run("UPDATE deliveries SET owed_since = now() - interval '10 minutes'")
    kept.run("UPDATE attempts SET ended_at = now() - interval '10 minutes'")
    assert flows()["ORTHANC"]["arrived_per_minute"] == 0
    assert flows()["ORTHANC"]["mean_seconds"] is None
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(build("destinations"), ["destinations", "flow"]).stdout
    assert "workers default" in shown


def test_at_a_high_rate_the_last_rows_give_the_rate(kept: PreparedInstances) -> None:
    """What is read is bounded: the rate is that of the time that the rows cover."""
    for number in range(1, 5):
        kept.receive(number)
    kept.run(
        "UPDATE deliveries SET owed_since = now() - interval '30 seconds'"
        " WHERE id = (SELECT min(id) FROM deliveries)"
    )
    with kept.database.statement() as session:
        before = {one.target: one for one in flow.flows(session, lease=timedelta(seconds=120))}
    assert before["ORTHANC"].arrived_per_minute == 4.0
    usual = flow.FEW, flow.RECENT
    flow.FEW, flow.RECENT = 2, 4
    try:
        with kept.database.statement() as session:
            after = {one.target: one for one in flow.flows(session, lease=timedelta(seconds=120))}
    finally:
        flow.FEW, flow.RECENT = usual
    assert after["ORTHANC"].arrived_per_minute > 10
