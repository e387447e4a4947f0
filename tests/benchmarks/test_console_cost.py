"""What the console costs with 1,000,000 deliveries of 100,000 studies: pages, viewers, idle CPU, memory.

The rows are written by SQL (tests/support/filled_database.py). `CONSOLE_SOAK_MINUTES` says how long
50 viewers look on while the memory is watched.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from conftest import MakeEdge
from support import filled_database
from support.console_client import account
from support.console_viewers import Viewer, get
from support.edge_setup import EdgeSetup
from support.launcher import Process, Processes
from support.wire_data import scaled
from support.wire_edge import cpu_seconds, resident_mb
from support.wire_table import Rows

from console.access import new_secret, session_cookie
from gateway.database.pool import Database
from gateway.database.tables import console_users
from gateway.database.tables.console_users import Role
from gateway.lab.layout import free_ports

pytestmark = [pytest.mark.benchmark, pytest.mark.growth, pytest.mark.timeout(7200)]

STUDIES = scaled(100_000)
DELIVERIES = scaled(1_000_000)
INSTANCES = DELIVERIES * 2 // 3
"""Half of them are originals, which have two deliveries; results have one."""
WAITING = 20_000
MOST_MS = 300
REPEATS = 5
LOOK_SECONDS = 15.0
SOAK_MINUTES = float(os.environ.get("CONSOLE_SOAK_MINUTES", "1"))
VIEWERS = 50
LIVE = ("/", "/studies", "/deliveries", "/destinations", "/queue")
STUDY = filled_database.study(STUDIES // 2)
PAGES = (
    *LIVE,
    "/overview/history",
    "/overview/history?window=day",
    "/studies?state=undelivered",
    "/studies?sender=MR7",
    "/studies?period=hour",
    f"/studies/{STUDY}",
    "/deliveries?state=dead",
    "/deliveries?state=pending",
    "/deliveries?state=delivered",
    "/deliveries?target=pacs:ORTHANC",
    f"/deliveries?study={STUDY}",
    f"/deliveries?after={DELIVERIES // 2}",
    f"/deliveries/{DELIVERIES // 2}",
    "/queue/dead",
    "/refusals",
    "/activity",
)


def test_the_console_of_a_large_edge(make_edge: MakeEdge, processes: Processes, rows: Rows) -> None:
    """Every page, then nobody, then one viewer of each screen, then fifty."""
    edge = make_edge()
    database = Database(edge.dsn, application_name="bench", size=1)
    filled_database.fill(database, studies=STUDIES, instances=INSTANCES, waiting=WAITING)
    [port] = free_ports(1)
    process = processes.start("mini-pacs", "console", "--port", str(port), name="console")
    process.wait_for_port(port, 30)
    cookies = _signed_in(edge)
    _pages(port, cookies[0], rows)
    _idle(process, rows)
    _viewers(edge, process, port, cookies, rows)
    database.close()


def _signed_in(edge: EdgeSetup) -> list[str]:
    """Return the cookies of a session for each viewer."""
    tokens = [new_secret() for _ in range(VIEWERS)]
    name = account(edge.dsn, "bench", Role.VIEWER, password=False)
    with edge.database.transaction() as session:
        for token in tokens:
            console_users.begin_session(session, name, token, "127.0.0.1")
    return [f"{session_cookie(edge.configuration.console)}={token}" for token in tokens]


def _pages(port: int, cookie: str, rows: Rows) -> None:
    for path in PAGES:
        took = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            status, _body = get(port, path, {"Cookie": cookie})
            took.append((time.perf_counter() - began) * 1000)
            assert status == 200, (path, status)
        name = path.replace(STUDY, "UID")
        rows.within(
            f"console, {name}, {DELIVERIES:,} deliveries",
            statistics.median(took),
            "ms",
            at_most=MOST_MS,
            peer=f"longest {max(took):.0f} ms",
        )


def _idle(process: Process, rows: Rows) -> None:
    time.sleep(2)  # the snapshot of the last page is taken
    share = _share(process, lambda: time.sleep(LOOK_SECONDS))
    rows.within("console, idle, CPU of a core", share * 100, "%", at_most=1)


def _viewers(edge: EdgeSetup, process: Process, port: int, cookies: list[str], rows: Rows) -> None:
    with _looking(port, cookies[: len(LIVE)]):
        few = _rate(edge)
    with _looking(port, cookies) as viewers:
        many = _rate(edge)
        share = _share(process, lambda: time.sleep(LOOK_SECONDS))
        before, most = resident_mb(process.pid), 0.0
        until = time.monotonic() + SOAK_MINUTES * 60
        while time.monotonic() < until:
            time.sleep(5)
            most = max(most, resident_mb(process.pid))
        after = resident_mb(process.pid)
        slowest = max(max(one.renewals) for one in viewers)
    assert not [failure for one in viewers for failure in one.failures]
    name = f"console, {VIEWERS} viewers of {len(LIVE)} screens"
    alone = f"one each {few:.1f}/s"
    rows.within(f"{name}, transactions of PostgreSQL", many, "/s", at_most=few * 1.3, peer=alone)
    slow = f"slowest renewal {slowest:.2f} s"
    rows.within(f"{name}, CPU of a core", share * 100, "%", at_most=None, peer=slow)
    grown = f"{before:.0f} MB before, {most:.0f} MB at most"
    what = f"{name}, memory that {SOAK_MINUTES:g} minutes add"
    rows.within(what, after - before, "MB", at_most=10, peer=grown)


@contextmanager
def _looking(port: int, cookies: list[str]) -> Iterator[list[Viewer]]:
    """Yield a viewer for each session, of the live screens by turns, once all have renewed their page."""
    with ExitStack() as stack:
        viewers = [Viewer(port, cookie, LIVE[number % len(LIVE)]) for number, cookie in enumerate(cookies)]
        for one in viewers:
            one.begin()
            stack.callback(one.end)
        time.sleep(3)
        yield viewers


def _rate(edge: EdgeSetup) -> float:
    """Return the transactions that PostgreSQL committed a second; those of this question are few."""
    count = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    time.sleep(2)  # each connection reports at most once a second
    began, first = time.monotonic(), int(edge.one(count))
    time.sleep(LOOK_SECONDS)
    return (int(edge.one(count)) - first) / (time.monotonic() - began)


def _share(process: Process, during: Callable[[], None]) -> float:
    began, first = time.monotonic(), cpu_seconds(process.pid)
    during()
    return (cpu_seconds(process.pid) - first) / (time.monotonic() - began)
