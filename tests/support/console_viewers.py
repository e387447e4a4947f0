"""Viewers of the console without a browser: each follows the events and renews its page as scripts do."""

import http.client
import threading
from contextlib import suppress
from time import perf_counter

TIMEOUT_SECONDS = 30.0


class Viewer:
    """One open page."""

    def __init__(self, port: int, cookie: str, path: str) -> None:
        self.path = path
        self.renewals: list[float] = []
        """Seconds that each renewal of the page took."""
        self.failures: list[str] = []
        self._port = port
        self._headers = {"Cookie": cookie}
        self._ended = False
        self._events = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
        self._thread = threading.Thread(target=self._follow)

    def begin(self) -> None:
        """Open the page and follow its events."""
        self._thread.start()

    def end(self) -> None:
        """Close the page."""
        self._ended = True
        if self._events.sock is not None:
            with suppress(OSError):
                self._events.sock.shutdown(2)  # wakes the thread that reads from it
        self._thread.join()
        self._events.close()

    def _follow(self) -> None:
        try:
            self._events.request("GET", "/live", headers=self._headers)
            answer = self._events.getresponse()
            while line := answer.readline():
                if line == b"event: snapshot\n":
                    self._renew()
        except (OSError, http.client.HTTPException) as error:
            if not self._ended:
                self.failures.append(f"{type(error).__name__}: {error}")

    def _renew(self) -> None:
        began = perf_counter()
        status, _ = get(self._port, self.path, {**self._headers, "HX-Request": "true", "X-Live": "1"})
        self.renewals.append(perf_counter() - began)
        if status != http.client.OK:
            self.failures.append(f"{status} {self.path}")


def get(port: int, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    """Return status and body of a page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
