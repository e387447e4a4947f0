"""The PACS gets another AE title, by a reload or at a start, while the edge keeps many deliveries of it."""

from collections.abc import Callable, Iterator

import pytest
from conftest import MakeEdge, Reconfigure
from support.forwarding import Forwarding, forwarding
from support.synthetic_instances import Instance

from gateway.database.tables import destinations
from gateway.sweep import renamed_pacs

TITLES = "SELECT target FROM deliveries WHERE route = 'pacs' ORDER BY id"
ROWS = "SELECT ae_title FROM destinations WHERE route = 'pacs' ORDER BY ae_title"


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core of an edge that sends to the PACS only."""
    with forwarding(make_edge({"forwarder": {"mode": "pacs_only"}})) as running:
        yield running


@pytest.fixture
def rename(core: Forwarding, reconfigure: Reconfigure) -> Callable[[], None]:
    """Return a function that configures the PACS with the AE title PACS2."""

    def run() -> None:
        pacs = core.edge.configuration.forwarder.orthanc.model_dump(mode="json", exclude_none=True)
        changed = reconfigure({"forwarder": {"mode": "pacs_only", "orthanc": {**pacs, "ae_title": "PACS2"}}})
        with core.edge.database.transaction() as session:
            destinations.configure(session, changed)

    return run


def test_the_newest_get_it_at_once_and_the_sweep_renames_the_others(
    core: Forwarding, rename: Callable[[], None], monkeypatch: pytest.MonkeyPatch
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


def test_what_the_pacs_is_owed_under_both_titles_holds_nothing_up(
    core: Forwarding, rename: Callable[[], None]
) -> None:
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
