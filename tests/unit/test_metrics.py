"""The exporter without PostgreSQL: one snapshot for many, escaped labels, histograms, files in the spool."""

import os
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway import config
from gateway.metrics.current import CurrentConfiguration
from gateway.metrics.exporter import Exporter
from gateway.metrics.families import Samples
from gateway.metrics.spool_usage import SpoolUsage, Usage

HOSTILE = 'A"} 1\nEVIL{x="'


def text_of(exporter: Exporter) -> str:
    """Return what a scrape gets."""
    registry = CollectorRegistry()
    registry.register(exporter)
    return generate_latest(registry).decode()


def test_parallel_scrapes_share_one_snapshot() -> None:
    """The sources are read once, however many ask at the same time."""
    begun, go_on = threading.Event(), threading.Event()
    calls = []

    def source() -> Samples:
        calls.append(1)
        begun.set()
        assert go_on.wait(10)
        samples = Samples()
        samples.set("postgres_up", 1)
        return samples

    exporter = Exporter([source])
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(text_of(exporter))) for _ in range(20)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(set(texts)) == 1
    assert "mini_pacs_postgres_up 1.0" in texts[0]


def test_a_snapshot_that_is_too_old_is_made_anew() -> None:
    """With no cache each scrape reads the sources."""
    numbers = iter(range(10))

    def source() -> Samples:
        samples = Samples()
        samples.set("faults_active", next(numbers))
        return samples

    exporter = Exporter([source], cache_seconds=0)
    assert "mini_pacs_faults_active 0.0" in text_of(exporter)
    assert "mini_pacs_faults_active 1.0" in text_of(exporter)


def test_a_hostile_label_cannot_forge_a_line() -> None:
    """Quotes, backslashes and line ends are escaped; the parser of Prometheus reads back the same text."""
    samples = Samples()
    for title in (HOSTILE, "B\\", 'C"'):
        samples.set("received_bytes_total", 1, calling_aet=title)
    text = text_of(Exporter([lambda: samples]))
    assert "EVIL{x" not in {line.split("{")[0] for line in text.splitlines()}
    [family] = [one for one in text_string_to_metric_families(text) if one.name == "mini_pacs_received_bytes"]
    assert {sample.labels["calling_aet"] for sample in family.samples} == {HOSTILE, "B\\", 'C"'}


def test_a_histogram_is_cumulative_and_ends_with_all() -> None:
    """Buckets are kept one by one; Prometheus gets each with those below it."""
    samples = Samples()
    histogram = samples.histogram("delivery_duration_seconds", destination="PACS")
    histogram.buckets = {"0.1": 3, "10.0": 1, "1.0": 2, "+Inf": 4}
    histogram.sum = 99
    lines = text_of(Exporter([lambda: samples])).splitlines()
    name = 'mini_pacs_delivery_duration_seconds_bucket{destination="PACS",le='
    assert [line for line in lines if line.startswith(name)] == [
        f'{name}"0.1"}} 3.0',
        f'{name}"1.0"}} 5.0',
        f'{name}"10.0"}} 6.0',
        f'{name}"+Inf"}} 10.0',
    ]
    assert 'mini_pacs_delivery_duration_seconds_count{destination="PACS"} 10.0' in lines


def test_a_figure_without_a_family_or_with_other_labels_is_a_mistake() -> None:
    """So that nothing is served that the page does not explain."""
    samples = Samples()
    with pytest.raises(KeyError):
        samples.set("invented", 1)
    with pytest.raises(KeyError):
        samples.set("deliveries", 1, destination="PACS")


def put(root: Path, name: str, size: int) -> None:
    """Write a file of the spool."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)


def test_the_files_of_the_spool_are_counted_by_place(tmp_path: Path) -> None:
    """Added and removed files are seen at the next look; a folder that did not change is not read again."""
    put(tmp_path, "sent/1.2/1.dcm", 100)
    put(tmp_path, "sent/1.2/2.dcm", 10)
    put(tmp_path, "incoming/1.3/3.dcm", 1)
    for folder in ("sent/1.2", "incoming/1.3"):
        os.utime(tmp_path / folder, (1, 1))  # old enough to be remembered
    usage = SpoolUsage(tmp_path)
    usage.look()
    assert usage.usage["sent"] == Usage(2, 110)
    assert usage.usage["incoming"] == Usage(1, 1)
    assert usage.usage["damaged"] == Usage(0, 0)
    (tmp_path / "sent" / "1.2").chmod(0o000)
    usage.look()
    assert usage.usage["sent"] == Usage(2, 110)
    (tmp_path / "sent" / "1.2").chmod(0o700)
    (tmp_path / "sent" / "1.2" / "1.dcm").unlink()
    put(tmp_path, "sent/1.4/4.dcm", 7)
    usage.look()
    assert usage.usage["sent"] == Usage(2, 17)


def test_a_partial_file_that_grows_is_seen(tmp_path: Path) -> None:
    """The time of its folder does not change, so these folders are read at every look."""
    put(tmp_path, "partial/aa/1.part", 1)
    os.utime(tmp_path / "partial" / "aa", (1, 1))
    usage = SpoolUsage(tmp_path)
    usage.look()
    with (tmp_path / "partial" / "aa" / "1.part").open("ab") as file:
        file.write(b"yy")
    usage.look()
    assert usage.usage["partial"] == Usage(1, 3)


def test_the_exporter_follows_the_file(edge_folder: Path) -> None:
    """A change is seen at the next scrape; a file with an error changes nothing."""
    path = edge_folder / "config.yaml"
    current = CurrentConfiguration(config.load(path))
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("edge:", "edge:\n  disk_reserve_mb: 77", 1), encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert current().edge.disk_reserve_mb == 77
    path.write_text("edge: [", encoding="utf-8")
    os.utime(path, ns=(2, 2))
    assert current().edge.disk_reserve_mb == 77
    path.unlink()
    assert current().edge.disk_reserve_mb == 77
