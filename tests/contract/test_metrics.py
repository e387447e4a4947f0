"""docs/operate/metrics.md, the runbook, the alerts and the dashboard agree with the exporter."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.documents import page
from support.launcher import REPOSITORY

from gateway.metrics import runbook
from gateway.metrics.families import FAMILIES, PREFIX, MetricType

MONITORING = REPOSITORY / "gateway" / "monitoring"
RULES: list[dict[str, Any]] = yaml.safe_load((MONITORING / "prometheus" / "alerts.yml").read_text("utf-8"))[
    "groups"
][0]["rules"]
DASHBOARD = MONITORING / "grafana" / "dashboards" / "mini-pacs-edge.json"
SUFFIXES = {
    MetricType.COUNTER: ("",),
    MetricType.GAUGE: ("",),
    MetricType.HISTOGRAM: ("_bucket", "_sum", "_count"),
}
SERIES = {PREFIX + family.name + suffix for family in FAMILIES for suffix in SUFFIXES[family.type]}
LABELS = {label for family in FAMILIES for label in family.labels}


def queries() -> list[str]:
    """Return every query of the dashboard."""
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def names_in(query: str) -> set[str]:
    """Return the metrics of ours in a query."""
    return set(re.findall(r"\bmini_pacs_\w+", query))


def test_the_page_has_every_metric_with_its_type_and_labels() -> None:
    """In the order of the exporter; none is missing, none is too many."""
    rows = re.findall(
        r"^\| `(mini_pacs_\w+)` \| (\w+) \| ([\w, ]*) ?\| ([\w ]+) \| (.+) \| (.*)\|$",
        page("docs/operate/metrics.md"),
        re.MULTILINE,
    )
    assert [(name, kind, labels.strip()) for name, kind, labels, *_ in rows] == [
        (PREFIX + family.name, family.type.value, ", ".join(family.labels)) for family in FAMILIES
    ]
    assert all(unit.strip() and meaning.strip() for *_, unit, meaning, _ in rows)


def test_names_follow_the_rules_of_prometheus() -> None:
    """Base units, `_total` for counters and for nothing else, no label that Prometheus reserves."""
    for family in FAMILIES:
        assert family.name.endswith("_total") == (family.type is MetricType.COUNTER), family.name
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb|percent)(_|$)", family.name), family.name
        assert not {"job", "instance", "le", "quantile"} & set(family.labels), family.name
    assert not {label for label in LABELS if "uid" in label or "patient" in label}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_it_means_and_where_to_read_on(rule: dict[str, Any]) -> None:
    """Severity, summary, description, and a section of the runbook that begins with what to type."""
    assert rule["labels"]["severity"] in {"critical", "warning"}
    words = rule["annotations"]
    assert set(words) == {"summary", "description", "runbook_url"}
    assert len(words["description"]) > len(words["summary"]) > 10
    assert words["runbook_url"] == "{{ $externalLabels.runbook }}#" + runbook.anchor(rule["alert"])
    sections = re.split(r"^## ", page("docs/operate/runbook.md"), flags=re.MULTILINE)
    [section] = [text for text in sections if text.splitlines()[0] == rule["alert"]]
    assert re.match(r"\w+\n\n```\n\S.*\n", section), "the section begins with a command"
    assert f'<b id="{runbook.anchor(rule["alert"])}">' in runbook.page()


def test_the_runbook_has_no_section_without_an_alert() -> None:
    """Each section belongs to an alert, in the order of the file."""
    sections = re.findall(r"^## (\w+)$", page("docs/operate/runbook.md"), re.MULTILINE)
    assert sections == [rule["alert"] for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_has_unit_tests_that_see_it_quiet_firing_and_over(rule: dict[str, Any]) -> None:
    """In alerts_test.yml. What it reads is served, under these labels."""
    tests = yaml.safe_load((MONITORING / "prometheus" / "alerts_test.yml").read_text("utf-8"))["tests"]
    of_rule = [test for test in tests if test["name"].startswith(f"{rule['alert']}:")]
    values = [[one["exp_samples"][0]["value"] for one in test["promql_expr_test"]] for test in of_rule]
    assert any(seen[0] == 0 and 1 in seen and seen[-1] == 0 for seen in values)
    assert names_in(rule["expr"]) <= SERIES
    for test in of_rule:
        for series in test["input_series"]:
            assert names_in(series["series"]) <= SERIES
            assert set(re.findall(r"(\w+)=", series["series"])) <= LABELS | {"job", "instance"}


def promtool(*words: str | Path) -> None:
    """Run promtool; fail with what it prints."""
    if shutil.which("promtool") is None and "CI" not in os.environ:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_files_and_their_tests_pass() -> None:
    """Syntax of rules and configuration; every unit test of the alerts."""
    folder = MONITORING / "prometheus"
    promtool("check", "config", folder / "prometheus.yml")
    promtool("check", "rules", folder / "alerts.yml")
    promtool("test", "rules", folder / "alerts_test.yml")


def test_amtool_accepts_the_configuration_of_alertmanager() -> None:
    """Also with the receivers that are shown as comments."""
    if shutil.which("amtool") is None and "CI" not in os.environ:
        pytest.skip("amtool is not installed: apt-get install prometheus-alertmanager")
    path = MONITORING / "alertmanager" / "alertmanager.yml"
    done = subprocess.run(["amtool", "check-config", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_what_make_dashboard_writes() -> None:
    """Nobody edits it by hand; it reads only what is served."""
    specification = importlib.util.spec_from_file_location("dashboard", REPOSITORY / ".ci" / "dashboard.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    assert DASHBOARD.read_text("utf-8") == module.text(), "type `make dashboard`"
    assert queries()
    for query in queries():
        assert names_in(query) <= SERIES, query


def test_the_dashboard_answers_its_questions_from_top_to_bottom() -> None:
    """Rows in this order, and in the data source that is provisioned."""
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    assert [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"] == [
        "Is it well?",
        "Is it flowing?",
        "Who is slow?",
        "What waits?",
        "What is refused?",
        "What does it cost?",
    ]
    source = yaml.safe_load(
        (MONITORING / "grafana" / "provisioning" / "datasources" / "mini-pacs-edge.yml").read_text("utf-8")
    )
    [uid] = {one["uid"] for one in source["datasources"]}
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {uid}


def test_the_names_that_alerts_and_dashboard_need_are_those_of_prometheus_yml() -> None:
    """The job, and the external label with the address of the runbook."""
    content = yaml.safe_load((MONITORING / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert [job["job_name"] for job in content["scrape_configs"]] == ["mini-pacs-edge"]
    assert content["global"]["external_labels"]["runbook"].endswith("/runbook")
