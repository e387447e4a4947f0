"""A running lab with its console, under a light load, and Chromium to look at it.

Accounts: `ADMIN` is made with the one-time link; the others by rows. A page that reports an error fails the
test that looks at it: see `Watched`.
"""

import itertools
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, expect

from console.access import csrf_of, new_secret, session_cookie
from gateway.database.pool import Database
from gateway.database.queries import Query
from gateway.database.tables import console_users
from gateway.database.tables.console_users import Role
from gateway.dicom.association import PeerAddress
from gateway.dicom.requestor import associate
from gateway.errors import PeerError
from gateway.lab import layout
from gateway.lab.lab import Lab
from gateway.lab.pacs import Archive
from support.browser import chromium
from support.console_client import PASSWORD, account
from support.synthetic_instances import Instance, study_of
from support.waiting import wait_until
from support.watched import Watched

ADMIN, OPERATOR, VIEWER = "anna", "otto", "vera"
ROLES = {VIEWER: Role.VIEWER, OPERATOR: Role.OPERATOR, ADMIN: Role.ADMIN}
SECONDS = 60.0
"""For anything to happen in the lab or on a page, on a busy machine."""
LOAD_PAUSE_SECONDS = 2.0
expect.set_options(timeout=SECONDS * 1000)
VIEWER_URL = "http://localhost:3000/viewer?StudyInstanceUIDs={study}"
SETTINGS: dict[str, dict[str, Any]] = {
    "console": {"allow_faults": True, "viewer_url": VIEWER_URL},
    "forwarder": {"probe_interval_seconds": 1, "backoff_base_seconds": 1, "worker_affinity": "study"},
}


class ConsoleLab:
    """The lab, a browser, and what a test asks of both."""

    def __init__(self, lab: Lab, browser: Browser, senders: Sequence[str] = ("ORTHANC",)) -> None:
        self.lab = lab
        self._senders = senders
        self.browser = browser
        self.url = f"http://127.0.0.1:{lab.console_port}"
        self.database = Database(lab.postgres.dsn(), application_name="test", size=2)
        self._sessions: dict[str, str] = {}
        self._stop = threading.Event()
        self._load = threading.Thread(target=self._send_on)

    # ---- browsers ------------------------------------------------------------------------------------

    @contextmanager
    def looking(
        self,
        name: str | None = ADMIN,
        role: Role = Role.ADMIN,
        *,
        width: int = 1280,
        expected: Sequence[str] = (),
        **options: Any,
    ) -> Iterator[Page]:
        """Yield a new browser's page, signed in as that account (made where it is missing), or as nobody.

        `expected` are parts of messages of the browser that are no error of this test.
        """
        with self.context(name, role, width=width, **options) as context:
            page = context.new_page()
            watched = Watched(page, expected)
            yield page
            if watched.reports:
                watched.reports += self.errors()
            watched.require_nothing()

    @contextmanager
    def context(
        self, name: str | None, role: Role = Role.ADMIN, *, width: int = 1280, **options: Any
    ) -> Iterator[BrowserContext]:
        """Yield a browser of its own, with the cookie of a session of that account."""
        context = self.browser.new_context(
            base_url=self.url, viewport={"width": width, "height": 900}, reduced_motion="reduce", **options
        )
        context.set_default_timeout(SECONDS * 1000)
        if name is not None:
            cookie = session_cookie(self.lab.configuration.console)
            context.add_cookies([{"name": cookie, "value": self.session(name, role), "url": self.url}])
        try:
            yield context
        finally:
            context.close()

    def session(self, name: str, role: Role = Role.ADMIN) -> str:
        """Return the cookie of a session of that account. No password is typed, which would take long."""
        if name not in self._sessions:
            if self.value("SELECT count(*) FROM console_users WHERE name = %(n)s", n=name) == 0:
                account(self.database.dsn, name, role)
            with self.database.transaction() as session:
                console_users.begin_session(session, name, new := new_secret(), "127.0.0.1")
            self._sessions[name] = new
        return self._sessions[name]

    def post(self, context: BrowserContext, path: str, token: str, **fields: str) -> int:
        """Post a form with its CSRF token as a script of a page would; return the status of the answer."""
        answer = context.request.post(
            path, form={"csrf": csrf_of(token), **fields}, headers={"origin": self.url}, max_redirects=0
        )
        return answer.status

    def errors(self) -> list[str]:
        """Return what the console has logged as an error."""
        log = self.lab.folder / "logs" / "edge.log"
        lines = log.read_text("utf-8").splitlines() if log.exists() else []
        return [line for line in lines if '"stage":"console"' in line and '"level":"error"' in line]

    # ---- the edge and its peers ----------------------------------------------------------------------

    def send(self, instances: Sequence[Instance], calling: str = "ORTHANC") -> None:
        """Send to the edge; each is answered Success."""
        edge = self.lab.configuration.edge
        address = PeerAddress(
            "127.0.0.1", edge.port, edge.ae_title, timeout_seconds=30, connect_timeout_seconds=30
        )
        contexts = list({one.context: None for one in instances})
        with associate(address, calling_ae_title=calling, contexts=contexts) as association:
            for one in instances:
                status, _ = association.store(one.context, one.sop_instance_uid, [one.data_set()])
                assert status == 0

    def send_delivered(self, count: int = 1, calling: str = "ORTHANC") -> list[Instance]:
        """Send a study; return its instances when the PACS has them, and the edge knows."""
        sent = study_of(count)
        self.send(sent, calling)
        for one in sent:
            self.wait_state(one, "delivered")
        return sent

    def state(self, instance: Instance) -> str | None:
        """Return the state of the delivery to the PACS."""
        found: str | None = self.value(
            "SELECT max(d.state::text) FROM deliveries d JOIN instances i ON i.id = d.instance_id"
            " WHERE i.sop_instance_uid = %(uid)s AND d.route = 'pacs'",
            uid=instance.sop_instance_uid,
        )
        return found

    def wait_state(self, instance: Instance, state: str) -> None:
        """Wait until the delivery to the PACS is in that state."""
        wait_until(
            lambda: self.state(instance) == state, SECONDS, f"{instance.sop_instance_uid} to be {state}"
        )

    def delivery(self, instance: Instance) -> int:
        """Return the id of the delivery to the PACS."""
        found: int = self.value(
            "SELECT max(d.id) FROM deliveries d JOIN instances i ON i.id = d.instance_id"
            " WHERE i.sop_instance_uid = %(uid)s AND d.route = 'pacs'",
            uid=instance.sop_instance_uid,
        )
        return found

    def is_at_pacs(self, instance: Instance) -> bool:
        """Tell whether the PACS has a file of it."""
        return instance.sop_instance_uid in self.lab.pacs.holds()

    def lose_at_pacs(self, instance: Instance) -> None:
        """Delete it at the PACS."""
        (self.lab.folder / "pacs" / f"{instance.sop_instance_uid}.dcm").unlink()

    # ---- PostgreSQL ----------------------------------------------------------------------------------

    def run(self, sql: str, **values: Any) -> None:
        """Run a statement."""
        with self.database.transaction() as session:
            session.run(Query("test", sql), **values)

    def rows(self, sql: str, **values: Any) -> list[Any]:
        """Return the rows of a query."""
        with self.database.statement() as session:
            return session.all(Query("test", sql), **values)

    def value(self, sql: str, **values: Any) -> Any:
        """Return the only value of a query."""
        [row] = self.rows(sql, **values)
        return row[0]

    def make_dead(self, instance: Instance, error: str = "0xA700 out of resources") -> None:
        """Make the delivery to the PACS dead, although it was delivered."""
        with self.database.transaction() as session:
            session.run(Query("test", "SET LOCAL session_replication_role TO replica"))  # no state machine
            changed = session.run(
                Query(
                    "test",
                    "UPDATE deliveries SET state = 'dead', last_status = 42752, last_error = %(error)s"
                    " WHERE id = %(id)s AND state = 'delivered'",
                ),
                error=error,
                id=self.delivery(instance),
            )
        assert changed == 1

    def acted(self, verb: str, who: str) -> list[Any]:
        """Return target, count and outcome of what an account did, the newest first."""
        return self.rows(
            "SELECT target, count, outcome FROM activity WHERE verb = %(verb)s AND who = %(who)s"
            " AND via = 'console' ORDER BY id DESC",
            verb=verb,
            who=who,
        )

    # ---- the load ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin to send small studies, until `close`."""
        self._load.start()

    def close(self) -> None:
        """End the load and the connections."""
        self._stop.set()
        if self._load.is_alive():
            self._load.join()
        self.database.close()

    def _send_on(self) -> None:
        for sender in itertools.cycle(self._senders):
            if self._stop.wait(LOAD_PAUSE_SECONDS / len(self._senders)):
                return
            with suppress(PeerError, AssertionError):  # a test may have injected a fault
                self.send(study_of(2), sender)


@contextmanager
def console_lab(
    settings: Mapping[str, Mapping[str, Any]] | None = None, senders: Sequence[str] = ("ORTHANC",)
) -> Iterator[ConsoleLab]:
    """Yield a lab with a console whose first account, ADMIN, was made with the one-time link."""
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-tests-"))
    folder.chmod(0o711)  # as root: PostgreSQL's user must be able to enter the folder
    changes = {**SETTINGS, **(settings or {})}
    layout.write(folder / "lab", layout.configuration(layout.choose_ports(well_known=False), changes))
    lab = Lab(folder / "lab", console=True)
    pacs = lab.configuration.forwarder.orthanc
    lab.pacs = Archive(folder / "lab" / "pacs", pacs.ae_title, pacs.port)  # its files can be deleted
    try:
        with chromium(draws=False) as browser:
            lab.start()
            console = ConsoleLab(lab, browser, senders)
            try:
                make_first_account(console)
                console.begin()
                yield console
            finally:
                console.close()
    finally:
        lab.remove()
        shutil.rmtree(folder)


def first_link(console: ConsoleLab) -> str:
    """Return the one-time link that the console has printed."""
    found = re.search(r"http\S+/first/\S+", console.lab.console_words)
    assert found is not None, console.lab.console_words
    return found[0]


def make_first_account(console: ConsoleLab) -> None:
    """Open the one-time link, and make ADMIN."""
    with console.looking(None) as page:
        page.goto(first_link(console))
        page.get_by_label("Name").fill(ADMIN)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("The same password again").fill(PASSWORD)
        page.get_by_role("button", name="Make the account").click()
        expect(page.get_by_text(f"Welcome, {ADMIN}")).to_be_visible()
