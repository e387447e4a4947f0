"""Malformed data sets of every known kind: what the edge acknowledges is delivered byte for byte.

Short and seeded; `make mutants` is the long version, with the table of which peer accepts what.
"""

from pathlib import Path

import pytest
from conftest import MakeEdge
from proof.mutants import report
from proof.mutants.kinds import KINDS
from proof.mutants.run import run
from proof.mutants.targets import TAKEN

pytestmark = [pytest.mark.guarantee("G1"), pytest.mark.guarantee("G3"), pytest.mark.guarantee("G7")]

ROUNDS = 6
"""Each kind in each transfer syntax."""


@pytest.mark.timeout(300)
def test_acknowledged_malformed_data_sets_are_delivered(make_edge: MakeEdge, tmp_path: Path) -> None:
    """No loss, no unforeseen error, no file without a row; every valid data set is accepted."""
    edge = make_edge({"forwarder": {"mode": "pacs_only"}})
    edge.serve()
    edge.actors("pacs")
    outcome = run(edge, tmp_path, count=ROUNDS * len(KINDS), seed=1)
    text = report.as_markdown(outcome)
    assert not outcome.violations, text
    assert all(outcome.answers["edge"][m.number] == TAKEN for m in outcome.mutants if m.kind == "valid"), text
    assert report.as_json(outcome)["kinds"]["valid"]["sent"] == ROUNDS
