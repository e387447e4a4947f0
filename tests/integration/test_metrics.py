"""The exporter with PostgreSQL: counters that never fall, bounded labels, PostgreSQL away, no patient."""

import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeEdge
from prometheus_client import CollectorRegistry, generate_latest
from support import certificates
from support.edge_setup import EdgeSetup
from support.peers import Peer
from support.scraping import Scrape, counted, ledger
from support.synthetic_instances import Instance
from support.waiting import wait_until
from typer.testing import CliRunner

from cli import main
from gateway.database.pool import Database
from gateway.database.tables import metrics
from gateway.database.wakeup import Wakeup
from gateway.diagnosis.configuration import certificates_of
from gateway.errors import GatewayError
from gateway.metrics.current import CurrentConfiguration
from gateway.metrics.exporter import Exporter
from gateway.metrics.families import FAMILIES, MetricType
from gateway.metrics.findings import FindingsWatch
from gateway.metrics.from_database import FromDatabase
from gateway.metrics.from_host import FromHost
from gateway.metrics.spool_usage import SpoolUsage
from gateway.sweep.context import SweepContext
from gateway.sweep.run import sweep

HOSTILE = 'CT"1}{a="b\'`'


def exporter_of(edge: EdgeSetup, database: Database | None = None) -> Exporter:
    """Return an exporter without a cache."""
    usage = SpoolUsage(edge.configuration.edge.data_root)
    usage.look()
    current = CurrentConfiguration(edge.configuration)
    findings = FindingsWatch(current, edge.dsn)
    findings.look()
    return Exporter(
        [
            FromHost(current, usage),
            FromDatabase(current, database or edge.database),
            findings,
        ],
        cache_seconds=0,
    )


def scraped(exporter: Exporter) -> Scrape:
    """Return what a scrape gets."""
    registry = CollectorRegistry()
    registry.register(exporter)
    return Scrape(generate_latest(registry).decode())


@pytest.fixture
def edge(make_edge: MakeEdge) -> EdgeSetup:
    """Return an edge that sends originals to the PACS only."""
    changes: dict[str, dict[str, Any]] = {
        "edge": {
            "receivers": 1,
            "allowed_calling_aets": [HOSTILE, "ORTHANC", *(f"APP0{n}" for n in range(1, 6))],
        },
        "forwarder": {"mode": "pacs_only"},
    }
    return make_edge(changes)


@pytest.fixture
def running(edge: EdgeSetup) -> Iterator[EdgeSetup]:
    """Yield that edge with its processes, and a PACS that takes everything."""
    pacs = Peer(edge.configuration.forwarder.orthanc.port)
    pacs.on()
    edge.serve()
    edge.actors("pacs")
    try:
        yield edge
    finally:
        pacs.off()


def test_counters_equal_the_rows_and_survive_purge_and_reset(running: EdgeSetup) -> None:
    """Originals and repeats, then all rows are deleted: nothing falls, and it counts on."""
    edge = running
    instances = [Instance() for _ in range(20)]
    assert set(edge.send(*instances, *instances[:3], calling=HOSTILE)) == {0}
    pending = "SELECT count(*) FROM deliveries WHERE state <> 'delivered'"
    wait_until(lambda: edge.one(pending) == 0, 30, "all to be delivered")
    exporter = exporter_of(edge)
    wait_until(lambda: counted(scraped(exporter)) == ledger(edge), 10, "the counters to equal the rows")
    before = scraped(exporter)
    assert before.value("instances_received_total", calling_aet=HOSTILE, kind="repeat") == 3
    assert before.total("end_to_end_seconds_count", destination="ORTHANC") == 20
    assert before.total("delivery_duration_seconds_count") == before.total("delivery_attempts_total")
    assert before.value("destination_last_success_timestamp_seconds", destination="ORTHANC") > 1e9
    assert {dict(labels)["process"] for labels in before.values["mini_pacs_process_open_fds"]} >= {
        "serve",
        "receiver",
        "actors-pacs",
        "metrics",
    }
    edge.run("DELETE FROM instances")
    assert scraped(exporter).fallen(before) == []
    edge.kill()
    done = CliRunner().invoke(main.build("reset-db"), ["reset-db", "--yes"])
    assert done.exit_code == 0, done.output
    after = scraped(exporter)
    assert after.fallen(before) == []
    edge.serve()
    assert edge.send(Instance()) == [0]
    wait_until(
        lambda: (
            scraped(exporter).total("instances_received_total")
            == before.total("instances_received_total") + 1
        ),
        10,
        "the next reception to be counted",
    )


def test_a_scrape_has_no_uid_and_no_patient(running: EdgeSetup) -> None:
    """What a sender chose is in no label but its AE title, which is escaped."""
    instance = Instance()
    assert running.send(instance, calling=HOSTILE) == [0]
    exporter = exporter_of(running)
    wait_until(lambda: scraped(exporter).total("instances_received_total") == 1, 10, "it to be counted")
    text = scraped(exporter).text
    for uid in (instance.sop_instance_uid, instance.study_instance_uid, instance.sop_class_uid):
        assert uid not in text
    assert not re.search(r'"[0-9]+(\.[0-9]+){4,}"', text)
    assert 'calling_aet="CT\\"1}{a=\\"b' in text


def add_receptions(edge: EdgeSetup, titles: list[str]) -> None:
    """Count one reception for each title, as a registration does."""
    edge.run(
        "INSERT INTO counted_receptions (calling_ae_title, kind, receptions, bytes)"
        " SELECT title, 'original', 1, 7 FROM unnest(%(titles)s::text[]) AS t (title)",
        titles=titles,
    )


def test_series_are_bounded_under_ten_thousand_titles(edge: EdgeSetup) -> None:
    """After 200 titles further ones are `other`; the sum is exact, and known titles stay."""
    exporter = exporter_of(edge)
    seen = None
    for batch in range(4):
        add_receptions(edge, [f"T{batch}-{number}" for number in range(2500)] + ["T0-0"])
        found = scraped(exporter)
        assert found.total("instances_received_total") == 2501 * (batch + 1)
        assert found.total("received_bytes_total") == 7 * 2501 * (batch + 1)
        assert len(found.values["mini_pacs_received_bytes_total"]) == metrics.MAX_TITLES + 1
        if seen is not None:
            assert found.fallen(seen) == []
        seen = found
    assert seen is not None
    assert seen.value("received_bytes_total", calling_aet="T0-0") == 5 * 7


def test_exporter_and_sweep_may_fold_at_the_same_time(edge: EdgeSetup) -> None:
    """Everything is counted once, however many move it while transactions add to it."""
    stopped = threading.Event()

    def fold() -> None:
        database = Database(edge.dsn, application_name="test", size=1)
        while not stopped.is_set():
            with database.transaction() as session:
                metrics.fold(session)
        database.close()

    threads = [threading.Thread(target=fold) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(50):
        add_receptions(edge, [f"CT{number % 5}"] * 20)
    stopped.set()
    for thread in threads:
        thread.join()
    assert scraped(exporter_of(edge)).total("instances_received_total") == 1000


def test_what_is_rolled_back_is_not_counted(edge: EdgeSetup) -> None:
    """The count is in the transaction of what it counts."""

    def fail() -> None:
        with edge.database.transaction() as session:
            session.script("INSERT INTO counted_receptions VALUES (now(), 'CT1', 'original', 5, 5)")
            raise GatewayError("the transaction fails")

    with pytest.raises(GatewayError):
        fail()
    assert scraped(exporter_of(edge)).total("instances_received_total") == 0


def test_without_postgresql_the_figures_of_this_host_are_served(edge: EdgeSetup) -> None:
    """200, `postgres_up` 0, disk and spool; no figure of PostgreSQL, old or new. It comes back by itself."""
    away = Database("postgresql://mini_pacs@127.0.0.1:1/none", application_name="test", size=1)
    found = scraped(exporter_of(edge, away))
    assert found.value("postgres_up") == 0
    for name in ("disk_free_bytes", "disk_reserve_bytes", "unregistered_instances", "build_info"):
        assert found.values[f"mini_pacs_{name}"], name
    assert found.value("spool_files", place="incoming") == 0
    assert not found.values["mini_pacs_deliveries"]
    assert not found.values["mini_pacs_instances_received_total"]
    assert scraped(exporter_of(edge)).value("postgres_up") == 1


def test_every_family_is_served(running: EdgeSetup) -> None:
    """On an edge with one delivered instance; tests/acceptance/test_monitoring.py has the results."""
    wakeup = Wakeup(running.dsn)
    sweep(SweepContext(running.configuration, running.database, running.spool, wakeup))
    wakeup.close()
    assert running.send(Instance()) == [0]
    exporter = exporter_of(running)
    elsewhere = {
        "result_duration_seconds",
        "certificate_expiry_timestamp_seconds",
        "results_owed",
        "results_total",
    }

    def missing() -> set[str]:
        found = scraped(exporter)
        return {
            family.name
            for family in FAMILIES
            if not found.values[
                f"mini_pacs_{family.name}" + ("_count" if family.type is MetricType.HISTOGRAM else "")
            ]
        } - elsewhere

    wait_until(lambda: not missing(), 20, f"every metric; missing: {missing()}")


def test_findings_are_those_of_the_diagnosis(edge: EdgeSetup) -> None:
    """Without processes there are problems; with PostgreSQL away the diagnosis still ends, and says so."""
    current = CurrentConfiguration(edge.configuration)
    watch = FindingsWatch(current, edge.dsn)
    assert not watch().values
    watch.look()
    assert scraped(Exporter([watch])).value("findings", severity="problem") > 0
    assert scraped(Exporter([watch])).value("findings", severity="note") >= 0
    away = FindingsWatch(current, "postgresql://mini_pacs@127.0.0.1:1/none")
    away.look()
    assert scraped(Exporter([away])).value("findings", severity="problem") > 0


def test_the_end_of_certificates_is_served(make_edge: MakeEdge, tmp_path: Path) -> None:
    """Of those that senders, browsers and a destination see; what has ended is a finding, too."""
    made = certificates.make(tmp_path / "tls")
    own = {"certificate": str(made.edge.certificate), "key": str(made.edge.key)}
    ended = {"certificate": str(made.expired.certificate), "key": str(made.expired.key)}
    changes: dict[str, dict[str, Any]] = {
        "edge": {"tls": {**own, "client_certificate": "none"}},
        "console": {"tls": ended},
        "forwarder": {
            "orthanc": {
                "host": "127.0.0.1",
                "port": 4242,
                "ae_title": "ORTHANC",
                "tls": {**own, "verify": "none"},
            }
        },
    }
    edge = make_edge(changes)
    found = scraped(exporter_of(edge))
    assert found.value("certificate_expiry_timestamp_seconds", peer="edge") > time.time()
    assert found.value("certificate_expiry_timestamp_seconds", peer="console") < time.time()
    assert found.value("certificate_expiry_timestamp_seconds", peer="ORTHANC") > time.time()
    said = certificates_of(edge.configuration, datetime.now(UTC))
    [finding] = [one for one in said if one.what.startswith("console.tls.certificate")]
    assert finding.problem
    assert "browsers refuse the console" in finding.means


def test_cancelled_deliveries_are_counted_in_their_transaction(edge: EdgeSetup) -> None:
    """Each transition counts once, also of many at once; a purge takes nothing back."""
    edge.serve()
    assert set(edge.send(*(Instance() for _ in range(5)))) == {0}
    edge.settle()
    exporter = exporter_of(edge)
    assert scraped(exporter).value("deliveries_cancelled_total", destination="ORTHANC") == 0
    cancel = ["deliveries", "cancel", "--route", "pacs", "--yes"]
    for _ in range(2):  # the second finds none
        CliRunner().invoke(main.build("deliveries"), cancel)
    assert edge.one("SELECT count(*) FROM deliveries WHERE state = 'cancelled'") == 5
    assert scraped(exporter).value("deliveries_cancelled_total", destination="ORTHANC") == 5
    retry = ["deliveries", "retry", "--state", "cancelled"]
    assert CliRunner().invoke(main.build("deliveries"), retry).exit_code == 0
    edge.run("DELETE FROM instances WHERE id <> (SELECT min(id) FROM instances)")
    CliRunner().invoke(main.build("deliveries"), cancel)
    assert scraped(exporter).value("deliveries_cancelled_total", destination="ORTHANC") == 6
