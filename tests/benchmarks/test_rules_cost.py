"""What a rule costs an instance: its evaluation, and the attributes that the header is read for.

The figure is the median of many evaluations in one process; no socket or disk is measured.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial

import pytest
from support.dicom_peers import EXPLICIT
from support.headers import encode, result
from support.wire_table import Rows

from gateway.dicom.dataset.header import facts_of, read_header
from gateway.domain.routing import Route, Target
from gateway.rules.language import parse
from gateway.rules.ruleset import RuleSet

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(300)]

TIMES = 20_000
TARGET_MICROSECONDS = 50

TYPICAL = {
    "all": [
        {"attribute": "Modality", "equals": "CT"},
        {"attribute": "BodyPartExamined", "in": ["CHEST", "THORAX"]},
        {"not": {"attribute": "ImageType", "equals": "LOCALIZER"}},
        {"attribute": "SliceThickness", "range": {"max": 3}},
        {"attribute": "SeriesDescription", "matches": "(?i).*(lung|chest).*"},
        {"calling_ae": ["CT1", "CT2"]},
    ]
}


def microseconds(work: Callable[[], object]) -> float:
    """Return the median time of one call."""
    taken = []
    for _ in range(TIMES):
        began = time.perf_counter_ns()
        work()
        taken.append(time.perf_counter_ns() - began)
    return statistics.median(taken) / 1000


def test_a_typical_rule_costs_little(rows: Rows) -> None:
    """Six conditions that all hold, so that each is evaluated; and the header with its five attributes."""
    target = Target(Route.WORKERS, "chest-ct")
    rules = RuleSet({target: parse(TYPICAL)})
    data_set = result()
    data_set.Modality = "CT"
    data_set.BodyPartExamined = "CHEST"
    data_set.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data_set.SliceThickness = "1.25"
    data_set.SeriesDescription = "Thin lung 1.25"
    with tempfile.TemporaryFile() as file:
        file.write(encode(data_set, EXPLICIT))
        file.flush()

        read = partial(read_header, file.fileno(), 0, EXPLICIT, with_references=False)
        plain, asked = microseconds(read), microseconds(partial(read, asked=rules.asked))
        found = read(asked=rules.asked)
    facts = facts_of(found, calling_ae_title="CT1", called_ae_title="EDGE", transfer_syntax_uid=EXPLICIT)
    assert rules.decide((target,), facts).accepted == (target,)
    took = microseconds(lambda: rules.decide((target,), facts))
    rows.within("a rule of six conditions, an instance", took, "µs", at_most=TARGET_MICROSECONDS)
    rows.within(
        "the header with its five attributes", asked, "µs", at_most=None, peer=f"without {plain:.0f} µs"
    )
