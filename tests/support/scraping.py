"""The figures of a scrape of `mini-pacs metrics`, and the same figures counted from the rows."""

import urllib.request
from collections import defaultdict
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from support.edge_setup import EdgeSetup

Labels = frozenset[tuple[str, str]]
SCRAPE_SECONDS = 30.0


class Scrape:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.values: dict[str, dict[Labels, float]] = defaultdict(dict)
        self.counters: set[str] = set()
        """The names of the series that never fall."""
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.values[sample.name][frozenset(sample.labels.items())] = sample.value
                if family.type in {"counter", "histogram"}:
                    self.counters.add(sample.name)

    def value(self, name: str, **labels: str) -> float:
        """Return one sample; KeyError if there is none."""
        return self.values[f"mini_pacs_{name}"][frozenset(labels.items())]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all samples that have these labels."""
        wanted = set(labels.items())
        return sum(value for have, value in self.values[f"mini_pacs_{name}"].items() if wanted <= have)

    def fallen(self, earlier: "Scrape") -> list[str]:
        """Return the counters that are lower than, or missing since, an earlier scrape.

        The CPU time of a process is left out: this counter ends with the process.
        """
        return [
            f"{name}{sorted(labels)}: {before} → {self.values[name].get(labels)}"
            for name in earlier.counters
            if not name.startswith("mini_pacs_process_")
            for labels, before in earlier.values[name].items()
            if self.values[name].get(labels, -1.0) < before
        ]


def scrape(port: int, seconds: float = SCRAPE_SECONDS) -> Scrape:
    """Ask an exporter on this machine."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=seconds) as answer:
        return Scrape(answer.read().decode())


def ledger(edge: EdgeSetup) -> Mapping[str, float]:
    """Return the values of the counters as counted from the rows, as long as nothing was purged."""
    return {
        "receptions": edge.one("SELECT count(*) FROM instances") + edge.one("SELECT count(*) FROM repeats"),
        "repeats": edge.one("SELECT count(*) FROM repeats"),
        "attempts": edge.one("SELECT count(*) FROM attempts"),
        "delivered": edge.one("SELECT count(*) FROM attempts WHERE outcome = 'delivered' AND NOT fenced"),
        "fenced": edge.one("SELECT count(*) FROM attempts WHERE fenced"),
    }


def counted(seen: Scrape) -> Mapping[str, float]:
    """Return the same by the counters."""
    return {
        "receptions": seen.total("instances_received_total"),
        "repeats": seen.total("instances_received_total", kind="repeat"),
        "attempts": seen.total("delivery_attempts_total"),
        "delivered": seen.total("delivery_attempts_total", outcome="delivered"),
        "fenced": seen.total("delivery_attempts_total", outcome="fenced"),
    }
