"""The screens of the console, with the data of a day (pictures.day) and what a lab does live.

Meanwhile modalities send, one archive is away, one worker does not answer, another is paused, and a peer that
is not configured is refused.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page
from support.console_lab import ConsoleLab, console_lab
from support.launcher import REPOSITORY
from support.synthetic_instances import study_of
from support.waiting import wait_until

from gateway.database.tables.console_users import Role
from gateway.errors import PeerError
from gateway.lab.layout import LOOPBACK, choose_ports
from pictures import day

SENDERS = ("CT1", "CT2", "MR1", "US1")
BYTES_MOST = 200_000
COLOURS = 256
"""Of a picture that would have more bytes."""
LIVE_SECONDS = 30.0
"""For rates, and for what is wrong to be found."""
WAIT_SECONDS = 90.0
STUDY = """
SELECT study_instance_uid FROM instances WHERE calling_ae_title = 'CT1' AND study_instance_uid LIKE %(root)s
ORDER BY received_at DESC LIMIT 1"""
GALLERY = REPOSITORY / "build" / "console"


@dataclass(frozen=True)
class Shot:
    """One picture: a page, its width in pixels, its theme, and how much of its height."""

    name: str
    path: str
    width: int = 1280
    theme: str = "light"
    height: int = 900


SHOTS = (
    Shot("overview", "/", height=1080),
    Shot("studies", "/studies"),
    Shot("study", "/studies/{study}"),
    Shot("deliveries", "/deliveries"),
    Shot("destinations", "/destinations"),
    Shot("queue", "/queue"),
    Shot("refusals", "/refusals"),
    Shot("activity-dark", "/activity", theme="dark"),
    Shot("overview-phone", "/", width=390, height=844),
)
PAGES = {
    "overview": "/", "studies": "/studies", "study": "/studies/{study}", "deliveries": "/deliveries",
    "delivery": "/deliveries/{delivery}", "destinations": "/destinations", "queue": "/queue",
    "dead": "/queue/dead", "refusals": "/refusals", "faults": "/faults", "activity": "/activity",
    "accounts": "/accounts", "account": "/account",
}  # fmt: skip


def make(folder: Path) -> str | None:
    """Write the pictures of the documentation into `folder`; return why that is impossible here, or None."""
    if shutil.which("chromium") is None:
        return "needs Chromium; type `apt-get install chromium`"
    folder.mkdir(parents=True, exist_ok=True)
    with busy() as console:
        for shot in SHOTS:
            _keep(console, shot, folder / f"{shot.name}.png")
    return None


def gallery(folder: Path) -> str | None:
    """Write every page at each width in both themes, whole, into build/console: to look at the design."""
    if shutil.which("chromium") is None:
        return "needs Chromium; type `apt-get install chromium`"
    del folder
    GALLERY.mkdir(parents=True, exist_ok=True)
    with busy() as console:
        for theme, width, (name, path) in product(("light", "dark"), (1280, 390, 1920), PAGES.items()):
            _keep(console, Shot(name, path, width, theme, 0), GALLERY / f"{name}-{width}-{theme}.png")
    return None


@contextmanager
def busy() -> Iterator[ConsoleLab]:
    """Yield a lab with the rows of a day, in which some things go wrong now."""
    archive = choose_ports(well_known=False).pacs
    settings: dict[str, dict[str, Any]] = {
        "edge": {"allowed_calling_aets": [*SENDERS, "XR1", "ORTHANC", *(f"APP0{n}" for n in range(1, 6))]},
        "forwarder": {
            "probe_interval_seconds": 2,
            "backoff_base_seconds": 1,
            "worker_affinity": "study",
            "worker_timeout_seconds": 8,
            "archives": [{"ae_title": "VNA", "host": LOOPBACK, "port": archive, "timeout_s": 30}],
        },
    }
    with console_lab(settings, senders=SENDERS) as console:
        supervisor = console.lab.supervisor
        assert supervisor is not None
        day.fill(console.database)
        console.session("otto", Role.OPERATOR)
        console.session("vera", Role.VIEWER)
        console.send_delivered(3, calling="CT1")
        supervisor.take_down("archive-vna")
        supervisor.pause("app03")
        console.run(
            "UPDATE destinations SET paused = true, paused_by = 'otto',"
            " paused_until = now() + interval '2 h',"
            " pause_reason = 'New model is being installed' WHERE ae_title = 'APP05'"
        )
        console.run("SELECT dramatiq.send('sweep', 'export_report', '[]')")
        with suppress(PeerError):
            console.send(study_of(1), calling="US2")
        _wait(console)
        yield console
        supervisor.resume("app03")


def _wait(console: ConsoleLab) -> None:
    until = time.monotonic() + LIVE_SECONDS
    away = "SELECT count(*) FROM destinations WHERE ae_title = 'VNA' AND breaker = 'open'"
    with console.looking("vera", Role.VIEWER) as page:
        page.goto("/")
        wait_until(lambda: console.value(away) and time.monotonic() > until, WAIT_SECONDS, "the archive away")
        page.get_by_text("VNA").first.wait_for()


def _keep(console: ConsoleLab, shot: Shot, path: Path) -> None:
    where = shot.path.format(
        study=console.value(STUDY, root=f"{day.ROOT}.%"),
        delivery=console.value("SELECT max(id) FROM deliveries WHERE state = 'dead'"),
    )
    with console.looking(width=shot.width, color_scheme=shot.theme) as page:
        page.goto(where)
        if shot.height:
            page.set_viewport_size({"width": shot.width, "height": shot.height})
        _settle(page)
        taken = page.screenshot(full_page=not shot.height)
    image = Image.open(BytesIO(taken)).convert("RGB")
    image.save(path, "PNG", optimize=True)
    if path.stat().st_size > BYTES_MOST:
        image.quantize(COLOURS, dither=Image.Dither.NONE).save(path, "PNG", optimize=True)


def _settle(page: Page) -> None:
    """Wait until the charts are drawn and the times are local."""
    for number in range(page.locator("[data-chart]").count()):
        page.locator("[data-chart]").nth(number).locator("canvas").wait_for()
    page.wait_for_function(
        "![...document.querySelectorAll('time')].some((one) => one.textContent.endsWith('UTC'))"
    )
