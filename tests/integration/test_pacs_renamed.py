"""The PACS gets another AE title, by a reload or at a start, while the edge keeps many deliveries of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from conftest import MakeEdge, Reconfigure
from support.forwarding import Forwarding, forwarding
from support.synthetic_instances import Instance

from gateway.config import Configuration
from gateway.database.tables import destinations
from gateway.sweep import renamed_pacs

TITLES = "SELECT target FROM deliveries WHERE route = 'pacs' ORDER BY id"
ROWS = "SELECT ae_title FROM destinations WHERE route = 'pacs' ORDER BY ae_title"


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core of an edge that sends to the PACS only."""
    with forwarding(make_edge({"forwarder": {"mode": "pacs_only"}})) as running:
        yield running


Rename = Callable[..., Configuration]


@pytest.fixture
def rename(core: Forwarding, reconfigure: Reconfigure) -> Rename:
    """Return a function that configures the PACS with another AE title, PACS2 if none is given."""

    def run(ae_title: str = "PACS2", **more: Any) -> Configuration:
        pacs = core.edge.configuration.forwarder.orthanc.model_dump(mode="json", exclude_none=True)
        forwarder = {"mode": "pacs_only", "orthanc": {**pacs, "ae_title": ae_title}, **more}
        changed = reconfigure({"forwarder": forwarder})
        with core.edge.database.transaction() as session:
            destinations.configure(session, changed)
        return changed

    return run


def test_the_newest_get_it_at_once_and_the_sweep_renames_the_others(
    core: Forwarding, rename: Rename, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, no transaction takes long. Then the former AE title is forgotten."""
    monkeypatch.setattr(destinations, "RENAMED_AT_ONCE", 2)
    for _ in range(5):
        core.receive(Instance())
    rename()
    assert [row[0] for row in core.edge.rows(TITLES)] == [*["ORTHANC"] * 3, *["PACS2"] * 2]
    assert [row[0] for row in core.edge.rows(ROWS)] == ["ORTHANC", "PACS2"]
    renamed_pacs.rename(core.sweeping())
    assert [row[0] for row in core.edge.rows(TITLES)] == ["PACS2"] * 5
    assert [row[0] for row in core.edge.rows(ROWS)] == ["PACS2"]


def test_what_the_pacs_is_owed_under_both_titles_holds_nothing_up(core: Forwarding, rename: Rename) -> None:
    """A receiver registered a repeat under the new AE title, before the deliveries were renamed."""
    core.receive(Instance())
    core.receive(Instance())
    core.edge.run(
        "INSERT INTO deliveries (instance_id, route, target, priority)"
        " SELECT instance_id, 'pacs', 'PACS2', 4 FROM deliveries ORDER BY id LIMIT 1"
    )
    rename()
    renamed_pacs.rename(core.sweeping())
    assert [row[0] for row in core.edge.rows(TITLES)] == ["ORTHANC", "PACS2", "PACS2"]
    assert [row[0] for row in core.edge.rows(ROWS)] == ["PACS2"]


def test_a_pair_of_an_earlier_rename_does_not_hold_up_the_next_one(core: Forwarding, rename: Rename) -> None:
    """Only one delivery of an instance to the PACS gets the new AE title."""
    core.receive(Instance())
    core.edge.run(
        "INSERT INTO deliveries (instance_id, route, target, priority)"
        " SELECT instance_id, 'pacs', 'PACS2', 4 FROM deliveries"
    )
    rename("PACS2")
    rename("PACS3")
    renamed_pacs.rename(core.sweeping())
    assert [row[0] for row in core.edge.rows(TITLES)] == ["ORTHANC", "PACS3"]
    assert [row[0] for row in core.edge.rows(ROWS)] == ["PACS3"]


def test_versions_keep_their_order_across_a_rename(
    core: Forwarding, rename: Rename, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier version still has the former AE title; the later one waits for it."""
    monkeypatch.setattr(destinations, "RENAMED_AT_ONCE", 1)
    first = Instance()
    core.receive(first)
    core.receive(replace(first, payload=b"\x01\x02" * 64))
    rename()
    assert [row[0] for row in core.edge.rows(TITLES)] == ["ORTHANC", "PACS2"]
    earlier, later = (row[0] for row in core.edge.rows("SELECT id FROM deliveries ORDER BY id"))
    assert core.edge.one(f"SELECT version_before({later})") == earlier
    assert core.edge.one(f"SELECT version_before({earlier})") is None


def test_a_repeat_is_the_same_delivery_under_the_former_title(
    core: Forwarding, rename: Rename, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver registers a repeat after the rename, before the sweep has come to the delivery."""
    monkeypatch.setattr(destinations, "RENAMED_AT_ONCE", 1)
    repeated = Instance()
    core.receive(repeated)
    core.receive(Instance())
    monkeypatch.setattr(core.edge, "configuration", rename())
    core.receive(repeated)
    assert [row[0] for row in core.edge.rows(TITLES)] == ["ORTHANC", "PACS2"]


def test_the_former_pacs_becomes_an_archive_and_the_rename_goes_on(
    core: Forwarding, rename: Rename, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new PACS takes over, and the former one keeps what it has: the usual migration."""
    monkeypatch.setattr(destinations, "RENAMED_AT_ONCE", 2)
    for _ in range(5):
        core.receive(Instance())
    former = core.edge.configuration.forwarder.orthanc
    archive = {"host": former.host, "port": former.port, "ae_title": former.ae_title}
    rename("PACS2", archives=[archive])
    renamed_pacs.rename(core.sweeping())
    assert [row[0] for row in core.edge.rows(TITLES)] == ["PACS2"] * 5
