"""The counters of a chaos run: what was scraped is compared with what was committed, to the instance."""

from dataclasses import replace

from proof.chaos.counters import CounterVerdict, counted, differences
from support.scraping import Scrape

SCRAPED = Scrape(
    """# TYPE mini_pacs_instances_received_total counter
mini_pacs_instances_received_total{calling_aet="CT1",kind="original"} 40.0
mini_pacs_instances_received_total{calling_aet="CT2",kind="original"} 2.0
mini_pacs_instances_received_total{calling_aet="CT2",kind="repeat"} 0.0
# TYPE mini_pacs_delivery_attempts_total counter
mini_pacs_delivery_attempts_total{destination="ORTHANC",outcome="delivered"} 41.0
"""
)
COMMITTED = {
    ("instances_received_total", "original"): 42.0,
    ("delivery_attempts_total", "ORTHANC", "delivered"): 41.0,
}
GOOD = CounterVerdict(30, 2, (), 83, ())


def test_equal_counters_have_no_difference() -> None:
    """The senders of one kind are added up; a counter that is 0 need not be committed."""
    assert differences(counted(SCRAPED), COMMITTED) == []


def test_one_instance_too_many_or_too_few_is_a_difference() -> None:
    """Each is named with both figures, also a counter that was never scraped."""
    label = ("delivery_attempts_total", "ORTHANC", "fenced")
    off = {**COMMITTED, ("instances_received_total", "original"): 43.0, label: 1.0}
    assert differences(counted(SCRAPED), off) == [
        "delivery_attempts_total ORTHANC fenced is 0, committed were 1",
        "instances_received_total original is 42, committed were 43",
    ]


def test_a_deviation_fails_the_run() -> None:
    """A counter that fell, one that differs, and an exporter that was hardly scraped."""
    assert GOOD.failures(1) == []
    assert "fell" in replace(GOOD, fallen=("x: 2 → 1",)).failures(1)[0]
    assert "not what was committed" in replace(GOOD, differences=("x is 1, committed were 2",)).failures(1)[0]
    assert "only 3 scrapes" in replace(GOOD, scrapes=3).failures(1)[0]
    assert "83 registrations and attempts were committed, 0 counters differ" in GOOD.text()
