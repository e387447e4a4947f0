"""The real Prometheus and Alertmanager on a real edge: each query has data; an alert fires, arrives, ends."""

import json
import math
import os
import shutil
import tempfile
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.launcher import REPOSITORY
from support.synthetic_instances import Instance
from support.waiting import wait_until

from gateway.dicom.association import PeerAddress
from gateway.dicom.requestor import associate
from gateway.lab import monitoring
from gateway.lab.lab import Lab

DASHBOARD = REPOSITORY / "gateway" / "monitoring" / "grafana" / "dashboards" / "mini-pacs-edge.json"
ALERT = "EdgePacsDown"
SECONDS = 60.0

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        "CI" not in os.environ
        and any(shutil.which(name) is None for name in ("prometheus", "prometheus-alertmanager")),
        reason="Prometheus is not installed: apt-get install prometheus prometheus-alertmanager",
    ),
]


class Webhook:
    """Whoever is called: notes every alert that Alertmanager posts."""

    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        seen = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                seen.extend(json.loads(body)["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Write nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """The address for alertmanager.yml."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def close(self) -> None:
        """Stop to listen."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def statuses(self, alert: str) -> list[str]:
        """Return what was said of an alert: firing, resolved."""
        return [one["status"] for one in self.alerts if one["labels"]["alertname"] == alert]


def shorten(folder: Path, webhook: Webhook) -> None:
    """Change copies of the files so that everything goes fast, and Alertmanager calls the webhook."""
    path = folder / "prometheus.yml"
    content = yaml.safe_load(path.read_text("utf-8"))
    content["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    path = folder / "alerts.yml"
    content = yaml.safe_load(path.read_text("utf-8"))
    for rule in content["groups"][0]["rules"]:
        rule["for"] = "3s"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    path = folder / "alertmanager.yml"
    content = yaml.safe_load(path.read_text("utf-8"))
    content["route"] |= {"group_wait": "1s", "group_interval": "1s"}
    [receiver] = content["receivers"]
    receiver["webhook_configs"] = [{"url": webhook.url}]
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """Yield a webhook that listens."""
    webhook = Webhook()
    yield webhook
    webhook.close()


@pytest.fixture
def lab(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Yield a running lab with `--metrics`, whose rules are quick."""
    made = monitoring.programs

    def quick(folder: Path, *arguments: Any) -> Any:
        found = made(folder, *arguments)
        shorten(folder, webhook)
        return found

    monkeypatch.setattr(monitoring, "programs", quick)
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-tests-"))
    folder.chmod(0o711)  # as root: PostgreSQL's user must be able to enter the folder
    lab = Lab(folder / "lab", metrics=True)
    try:
        lab.start()
        yield lab
    finally:
        lab.remove()
        shutil.rmtree(folder)


def ask(lab: Lab, path: str, **parameters: str) -> Any:
    """Return the `data` of an answer of Prometheus."""
    assert lab.monitoring is not None
    url = f"http://127.0.0.1:{lab.monitoring.prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        return json.loads(answer.read())["data"]


def result(lab: Lab, query: str) -> list[dict[str, Any]]:
    """Return the series of a query, now."""
    found: list[dict[str, Any]] = ask(lab, "query", query=query)["result"]
    return found


def has_data(lab: Lab, query: str) -> bool:
    """Tell whether a query has a series with a number: a quantile of nothing is none."""
    return any(not math.isnan(float(one["value"][1])) for one in result(lab, query))


def has_data_or_sends(lab: Lab, query: str) -> bool:
    """Tell whether a query has data. If not, send: a rate needs an increase between two scrapes."""
    if has_data(lab, query):
        return True
    send(lab, [Instance()])
    return False


def state(lab: Lab, alert: str) -> set[str]:
    """Return the states of an alert: pending, firing, or nothing."""
    return {one["state"] for one in ask(lab, "alerts")["alerts"] if one["labels"]["alertname"] == alert}


def send(lab: Lab, instances: list[Instance], calling: str = "ORTHANC") -> None:
    """Send to the edge of the lab."""
    edge = lab.configuration.edge
    address = PeerAddress(
        "127.0.0.1", edge.port, edge.ae_title, timeout_seconds=30, connect_timeout_seconds=10
    )
    contexts = list({one.context: None for one in instances})
    with associate(address, calling_ae_title=calling, contexts=contexts) as association:
        for one in instances:
            status, _ = association.store(one.context, one.sop_instance_uid, [one.data_set()])
            assert status == 0


def test_every_query_has_data_and_the_alert_of_a_pacs_that_is_away_comes_and_goes(
    lab: Lab, webhook: Webhook
) -> None:
    """Pending, firing, at the webhook with its runbook, resolved; and no panel of the dashboard is empty."""
    assert lab.supervisor is not None
    send(lab, [Instance() for _ in range(10)])
    wait_until(lambda: bool(result(lab, 'up{job="mini-pacs-edge"} == 1')), SECONDS, "the first scrape")
    assert {rule["name"] for rule in ask(lab, "rules")["groups"][0]["rules"]} >= {ALERT}
    wait_until(
        lambda: bool(result(lab, 'mini_pacs_results_total{outcome="arrived"} > 0')), SECONDS, "a result"
    )
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    for panel in panels:
        for target in panel.get("targets", ()):
            query = target["expr"]
            what = f"data of {panel['title']}: {query}"
            wait_until(partial(has_data_or_sends, lab, query), SECONDS, what, every=0.5)
    assert state(lab, ALERT) == set()

    seen: list[set[str]] = []
    lab.supervisor.take_down("pacs")
    send(lab, [Instance()])
    watched(lambda: state(lab, ALERT), "pending", seen)
    watched(lambda: state(lab, ALERT), "firing", seen)
    wait_until(lambda: "firing" in webhook.statuses(ALERT), SECONDS, "the webhook to be called")
    called = next(one for one in webhook.alerts if one["labels"]["alertname"] == ALERT)
    assert called["labels"]["severity"] == "critical"
    assert called["labels"]["destination"] == lab.configuration.forwarder.orthanc.ae_title
    with urllib.request.urlopen(called["annotations"]["runbook_url"], timeout=SECONDS) as runbook:  # noqa: S310
        assert f'<b id="{ALERT.lower()}">' in runbook.read().decode()
    assert called["annotations"]["runbook_url"].endswith(f"#{ALERT.lower()}")

    lab.supervisor.bring_up("pacs")
    wait_until(lambda: "resolved" in webhook.statuses(ALERT), 2 * SECONDS, "the end of the alert")
    assert state(lab, ALERT) == set()


def watched(look: Callable[[], set[str]], state: str, seen: list[set[str]]) -> None:
    """Wait until an alert has that state."""

    def is_there() -> bool:
        seen.append(look())
        return state in seen[-1]

    wait_until(is_there, SECONDS, f"the alert to be {state}; it was {seen}", every=0.2)
