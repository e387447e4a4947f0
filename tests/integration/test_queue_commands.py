"""The commands that show a queue in use."""

import json
import socket

import pytest
from support.queue_setup import QueueSetup
from support.waiting import wait_until
from typer.testing import CliRunner

from cli.queue import app


def test_the_screen_shows_depth_rates_and_consumers(
    queue: QueueSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mini-pacs queue --json`, `queue dead` and `queue requeue` on a queue in use."""
    monkeypatch.setenv("COLUMNS", "200")
    cli = CliRunner()
    queue.start(threads=2)
    queue.fill("note", 50)
    queue.send("hold", 1, 30)
    queue.send("no_such_actor")
    queue.send("noop", 1, delay_seconds=3600)
    wait_until(lambda: queue.count() == 3 and queue.count("state = 'rejected'") == 1, 15, "the rest to run")
    done = "SELECT coalesce(sum(total), 0) FROM counters WHERE name = 'messages_done'"
    wait_until(lambda: queue.one(done) == 50, 10, "the rates")

    shown = json.loads(cli.invoke(app, ["--json"]).stdout)
    assert {(depth["state"], depth["count"], depth["later"]) for depth in shown["depths"]} == {
        ("queued", 1, 1),
        ("consumed", 1, 0),
        ("rejected", 1, 0),
    }
    [flow] = shown["flows"]
    assert flow["done"] == 50
    assert flow["arrived"] >= 51
    [consumer] = shown["consumers"]
    assert (consumer["host"], consumer["queue_names"], consumer["holds"]) == (socket.gethostname(), ["q"], 1)
    assert "running" in cli.invoke(app, []).stdout

    [dead] = json.loads(cli.invoke(app, ["dead", "--json"]).stdout)["items"]
    assert dead["actor_name"] == "no_such_actor"
    assert dead["message_id"] in cli.invoke(app, ["dead"]).stdout
    assert cli.invoke(app, ["requeue"]).exit_code == 2
    assert "1 message(s) are queued again" in cli.invoke(app, ["requeue", "--all"]).stdout
    wait_until(lambda: queue.count("state = 'rejected'") == 1, 5, "it to die again")


def test_dead_messages_come_in_pages(queue: QueueSetup) -> None:
    """The youngest first, each once, also those that died at the same time; an invalid `next` is refused."""
    cli = CliRunner()
    for _ in range(5):
        queue.send("no_such_actor")
    queue.run("UPDATE dramatiq.queue SET state = 'rejected', mtime = timestamptz '2026-01-01'")
    queue.send("no_such_actor")
    queue.run("UPDATE dramatiq.queue SET state = 'rejected' WHERE state = 'queued'")
    found: list[str] = []
    words: list[str] = []
    while True:
        page = json.loads(cli.invoke(app, ["dead", "--limit", "2", "--json", *words]).stdout)
        found += [message["message_id"] for message in page["items"]]
        if page["next"] is None:
            break
        words = ["--after", page["next"]]
    assert len(found) == len(set(found)) == 6
    assert cli.invoke(app, ["dead", "--after", "2026-01-01T00:00:00+00:00/1"]).exit_code == 2
    assert "--after" in cli.invoke(app, ["dead", "--limit", "2"]).stdout
