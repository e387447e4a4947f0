"""The demo: what `make demo` runs."""

import json
import os
import signal
from pathlib import Path

import pytest
from support.launcher import Processes
from support.waiting import wait_until

from cli.documents import Schema
from cli.exit_codes import ExitCode
from gateway.domain.timeline import AT_ARCHIVES, StepName
from gateway.lab import stray_processes
from gateway.lab.specimens import CT_INSTANCES, MR_INSTANCES

DEMO_SECONDS = 150
"""Two minutes is what the demo may take on two cores; the suite's other tests may run beside it."""


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which the demo makes its own; where it can leave nothing unseen."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("MINI_PACS_CONFIG", raising=False)
    return folder


@pytest.mark.timeout(DEMO_SECONDS + 60)
def test_demo_carries_every_original_and_a_result_to_the_pacs(scratch: Path, processes: Processes) -> None:
    """G1, G2: exit code 0, every step of every study is done, and no process or file remains."""
    before = set(os.listdir("/var/tmp"))  # noqa: PTH208, S108  where PostgreSQL's files go when root runs it
    demo = processes.start("mini-pacs", "demo", "--json")
    assert demo.wait(DEMO_SECONDS) == 0
    told, _ = json.JSONDecoder().raw_decode(demo.text(), demo.text().index("{\n"))
    assert told["schema"] == Schema.DEMO
    assert told["missing"] == []
    assert told["complete"] is True
    assert {step["done"] for step in told["totals"]} == {told["instances"]}
    assert f"OK: {told['instances']} instances in" in demo.text()
    assert "Next:" in demo.text()
    sizes = {study["what"]: study["instances"] for study in told["studies"]}
    assert sizes["generated CT study"] == CT_INSTANCES
    assert sizes["generated MR study"] == MR_INSTANCES
    assert len(sizes) > 50  # the files of pydicom
    series = {study["what"]: study["result_series"] for study in told["studies"]}
    assert series["generated CT study"] == [CT_INSTANCES]
    assert series["generated MR study"] == [MR_INSTANCES]
    for study in told["studies"]:
        steps = {step["name"]: step["done"] for step in study["steps"]}
        assert list(steps) == [name for name in StepName if name not in AT_ARCHIVES]
        assert set(steps.values()) == {study["instances"]}, study
    assert not list(scratch.iterdir())
    left = {name for name in set(os.listdir("/var/tmp")) - before if name.startswith("mini-pacs-")}  # noqa: PTH208, S108
    assert not {name for name in left if not name.startswith("mini-pacs-postgres")}


@pytest.mark.parametrize(
    ("number", "begun"), [(signal.SIGTERM, "lab/config.yaml"), (signal.SIGHUP, "lab/postgres/base/1")]
)
def test_a_demo_that_is_ended_leaves_nothing(
    scratch: Path, processes: Processes, number: signal.Signals, begun: str
) -> None:
    """Neither its folder, with the images in it, nor a process; also while `initdb` writes."""
    demo = processes.start("mini-pacs", "demo")
    wait_until(lambda: list(scratch.glob(f"*/{begun}")), 30, "the lab to start")
    # where PostgreSQL's files are when root runs it
    elsewhere = [one.readlink() for one in scratch.glob("*/lab/postgres") if one.is_symlink()]
    demo.popen.send_signal(number)
    assert demo.wait(60) == ExitCode.INTERRUPTED
    assert not list(scratch.iterdir())
    assert not stray_processes.marked(f"{scratch}/")
    assert not [one for one in elsewhere if one.exists()]
