"""`docker compose --profile monitoring up`: Prometheus has the edge as target, rules and Alertmanager."""

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from support.compose_lab import BUILD_SECONDS, MONITORING, ComposeLab, wait_until

SECONDS = 120


@pytest.fixture
def monitored(lab: ComposeLab) -> Iterator[ComposeLab]:
    """Yield the lab with the profile `monitoring`; afterwards without it."""
    lab.compose("--profile", "monitoring", "up", "--build", "--detach", *MONITORING, timeout=BUILD_SECONDS)
    yield lab
    lab.compose("--profile", "monitoring", "rm", "--stop", "--force", *MONITORING)


def ask(port: int, path: str) -> Any:
    """Return the answer of an API on this machine; None if it does not answer yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
            return json.loads(answer.read())
    except OSError:
        return None


def values(lab: ComposeLab, query: str) -> list[float]:
    """Return the values of a query; nothing if Prometheus does not answer yet."""
    answer = ask(lab.prometheus_port, f"api/v1/query?query={urllib.parse.quote(query)}")
    return [] if answer is None else [float(one["value"][1]) for one in answer["data"]["result"]]


def is_healthy(lab: ComposeLab, service: str) -> bool:
    """Tell whether the container of a service is healthy."""
    return bool(lab.inspect(service)["State"]["Health"]["Status"] == "healthy")


def test_the_profile_shows_the_edge_in_prometheus(monitored: ComposeLab) -> None:
    """Target, PostgreSQL and destinations are up, all processes there; rules and Alertmanager known."""
    lab = monitored
    wait_until(lambda: values(lab, 'up{job="mini-pacs-edge"}') == [1], SECONDS, "the edge as target")
    wait_until(lambda: values(lab, "mini_pacs_postgres_up") == [1], SECONDS, "PostgreSQL to be reached")
    wait_until(lambda: values(lab, "min(mini_pacs_destination_up)") == [1], SECONDS, "all destinations")
    wait_until(
        lambda: values(lab, "count(count by (process) (mini_pacs_process_open_fds))") >= [6],
        SECONDS,
        "serve, receiver, three kinds of actors, scheduler and exporter",
    )
    rules = ask(lab.prometheus_port, "api/v1/rules")["data"]["groups"][0]["rules"]
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    assert len(ask(lab.prometheus_port, "api/v1/alertmanagers")["data"]["activeAlertmanagers"]) == 1
    wait_until(
        lambda: ask(lab.alertmanager_port, "api/v2/status") is not None, SECONDS, "Alertmanager to answer"
    )
    for name in MONITORING:
        wait_until(
            partial(is_healthy, lab, name),
            SECONDS,
            f"{name} to be healthy",
        )
