"""The plot of the benchmarks: where points are, and what is written beside them."""

import re
from xml.etree import ElementTree as ET

from support import plot
from support.wire_page import of_associations
from support.wire_table import Row

NAMESPACE = "{http://www.w3.org/2000/svg}"


def test_a_plot_is_svg_with_a_line_and_a_name_for_each_series() -> None:
    """A point that is ten times higher is one decade higher, and a name may hold any character."""
    drawn = plot.lines("T", "x", "ms", {"a & b": [(0, 1.0), (10, 10.0)], "c": [(10, 100.0)]})
    root = ET.fromstring(drawn)  # noqa: S314  our own text
    texts = [element.text for element in root.iter(f"{NAMESPACE}text")]
    assert {"T", "x", "ms", "a & b", "c", "1", "10", "100"} <= set(texts)
    circles = [(float(one.attrib["cx"]), float(one.attrib["cy"])) for one in root.iter(f"{NAMESPACE}circle")]
    [(left, lowest), (right, middle), (same, highest)] = circles
    assert left < right == same
    assert lowest - middle == middle - highest > 0


def test_a_time_of_zero_is_drawn() -> None:
    """A logarithm of 0 does not exist; it is drawn at a microsecond."""
    assert re.search(r"<circle ", plot.lines("T", "x", "ms", {"a": [(1, 0.0)]}))


def test_the_rates_of_several_associations_are_read_from_their_rows() -> None:
    """Other rows are left out; the points of a line go from few associations to many."""
    names = [
        ("accept, CT, 16 associations at once", "904/s", "Orthanc 668/s"),
        ("accept, CT, 4 associations at once", "820/s", "Orthanc 520/s"),
        ("accept, CT, 2 receivers", "862/s", "one receiver 596/s"),
    ]
    rows = [Row(what, ours, peer, 1.0, "reported", None, 1.0, True, "", "", "") for what, ours, peer in names]
    assert of_associations(rows) == {
        "Orthanc, CT": [(4, 520), (16, 668)],
        "edge, CT": [(4, 820), (16, 904)],
    }
