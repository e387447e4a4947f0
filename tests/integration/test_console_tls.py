"""The console with a certificate of its own: `console.tls`."""

import http.client
import re
import signal
import ssl
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import pytest
from conftest import MakeEdge, Reconfigure
from support import certificates
from support.certificates import Certificates
from support.console_client import PASSWORD, account
from support.launcher import Processes

from console.first_link import FirstLink
from console.server import bound
from gateway.database.tables.console_users import Role
from gateway.errors import ConfigurationError
from gateway.lab import layout


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return the certificates of this file."""
    return certificates.make(tmp_path_factory.mktemp("console") / "pki")


class Tls:
    """A client of the console that trusts the authority of the test, with its cookies."""

    def __init__(self, port: int, ca: Path) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(ca))
        self.cookies: dict[str, str] = {}
        self.attributes: dict[str, str] = {}

    def ask(self, method: str, path: str, fields: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Return the status, the text and the header `strict-transport-security` of an answer."""
        connection = http.client.HTTPSConnection("localhost", self._port, context=self._context, timeout=60)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if method == "POST":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            headers["Origin"] = f"https://localhost:{self._port}"
        connection.request(method, path, urlencode(fields or {}), headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        for cookie in answer.headers.get_all("set-cookie") or []:
            pair, _, attributes = cookie.partition(";")
            name, _, value = pair.partition("=")
            self.cookies[name], self.attributes[name] = value, attributes.lower()
        connection.close()
        return answer.status, text, answer.headers.get("strict-transport-security", "")


def test_somebody_signs_in_over_tls_with_secure_cookies(
    make_edge: MakeEdge, processes: Processes, pki: Certificates
) -> None:
    """The cookies have the prefix __Host- and are Secure; without TLS nothing is answered."""
    tls = {"certificate": str(pki.edge.certificate), "key": str(pki.edge.key)}
    edge = make_edge({"console": {"tls": tls}})
    account(edge.dsn, "anna", Role.VIEWER)
    [port] = layout.free_ports(1)
    console = processes.start("mini-pacs", "console", "--port", str(port))
    console.wait_for_line(rf"Console on https://127\.0\.0\.1:{port}\n", 60)
    browser = Tls(port, pki.ca)
    status, page, transport = browser.ask("GET", "/login")
    assert (status, transport) == (200, "max-age=31536000")
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found is not None
    status, _, _ = browser.ask("POST", "/login", {"csrf": found[1], "name": "anna", "password": PASSWORD})
    assert status == 303
    assert set(browser.cookies) == {"__Host-mini_pacs_session", "__Host-mini_pacs_visit"}
    for name in browser.cookies:
        assert {"secure", "httponly", "samesite=strict", "path=/"} <= set(
            browser.attributes[name].replace(" ", "").split(";")
        )
    assert browser.ask("GET", "/account")[0] == 200
    with pytest.raises((http.client.HTTPException, OSError)):
        urllib.request.urlopen(f"http://localhost:{port}/health", timeout=60)
    console.send(signal.SIGTERM)
    assert console.wait() == 0


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        ("missing.pem", "edge.key", r"console\.tls\.certificate = .*missing\.pem: No such file or directory"),
        ("edge.pem", "missing.key", r"console\.tls\.key = .*missing\.key: No such file or directory"),
        ("edge.pem", "stranger.key", r"KEY_VALUES_MISMATCH.*belonging to the certificate"),
        ("edge.pem", "locked.key", r"the key without a password"),
        ("edge.key", "edge.key", r"PEM"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named(
    reconfigure: Reconfigure, pki: Certificates, certificate: str, key: str, said: str
) -> None:
    """Before anything is bound: which key of config.yaml, which file, and why. No password is asked for."""
    folder = pki.edge.key.parent
    if not (folder / "locked.key").exists():
        certificates.lock(pki.edge.key, folder / "locked.key", "secret")
    tls = {"certificate": str(folder / certificate), "key": str(folder / key)}
    found = reconfigure({"console": {"tls": tls}})
    with pytest.raises(ConfigurationError, match=said):
        bound(found, "postgresql://127.0.0.1:1/none", FirstLink(), port=1)
