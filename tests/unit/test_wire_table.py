"""The table of the benchmarks names what became worse since the last run."""

from dataclasses import asdict, replace

from support.wire_page import tables
from support.wire_table import Row, figures_of, kept, markdown, worse_than


def row(figure: float, *, more_is_better: bool, peer: str = "Orthanc 500/s") -> Row:
    """Return a row with that figure."""
    return Row("accept, CT", "700/s", peer, None, "reported", None, figure, more_is_better=more_is_better)


def test_a_rate_that_fell_by_more_than_15_percent_is_named() -> None:
    """The figure of the peer may differ; its name may not."""
    before = {("accept, CT", "Orthanc"): 2.0}
    assert worse_than(before, [row(1.69, more_is_better=True)]) == ["accept, CT, Orthanc: 1.69, was 2"]
    assert worse_than(before, [row(1.71, more_is_better=True)]) == []
    assert worse_than(before, [row(1.0, more_is_better=True, peer="storescp 900/s")]) == []


def test_a_time_that_grew_by_more_than_15_percent_is_named() -> None:
    """For a time, less is better."""
    before = {("accept, CT", "Orthanc"): 10.0}
    assert worse_than(before, [row(12.0, more_is_better=False)]) == ["accept, CT, Orthanc: 12, was 10"]
    assert worse_than(before, [row(11.0, more_is_better=False)]) == []
    assert worse_than(before, [row(5.0, more_is_better=False)]) == []


def test_the_table_is_written_for_the_page() -> None:
    """One line for each row."""
    assert markdown([row(1.4, more_is_better=True)]).splitlines()[2] == (
        "| accept, CT | 700/s | Orthanc 500/s |  | reported |  |"
    )


def test_a_case_that_ran_again_replaces_its_rows() -> None:
    """The rows of other cases are kept, so that each benchmark can run alone."""
    first = replace(row(1.4, more_is_better=True), benchmark="b.py::test_accept", case="CT-1")
    other = replace(first, case="CT-8")
    assert kept([asdict(first), asdict(other)], [replace(first, figure=2.0)]) == [asdict(other)]
    assert figures_of({"rows": [asdict(first)]}) == {("accept, CT", "Orthanc"): 1.4}


def test_the_page_has_a_heading_for_each_part_that_was_measured() -> None:
    """It says when, on which machine, and what became worse."""
    one = replace(
        row(1.4, more_is_better=True), benchmark="x/test_wire_1_accept.py::t", measured="2026-11-28T18:00"
    )
    content = {"machine": "2 cores", "date": "today", "worse": ["accept, CT"], "rows": [asdict(one)]}
    text = tables(content)
    assert "2 cores" in text
    assert "- accept, CT" in text
    assert "## Accepting\n\nMeasured 2026-11-28T18:00." in text
    assert "## Forwarding" not in text
