"""Collect the errors of a page: errors of scripts, failed requests, violations of the content policy."""

from collections.abc import Sequence

from playwright.sync_api import ConsoleMessage, Page, Request, Response

_ABORTED = "net::ERR_ABORTED"
"""The error of a request that the browser itself ended, because the page went on to another."""
_LISTEN = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`violates ${event.violatedDirective}: ${event.blockedURI} in ${event.sourceFile}`));
"""
FAILURE = 400


class Watched:
    """Collects what a page reports. `expected` are parts of reports that are left out."""

    def __init__(self, page: Page, expected: Sequence[str] = ()) -> None:
        self.reports: list[str] = []
        self._expected = tuple(expected)
        page.add_init_script(_LISTEN)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._report(f"script: {error}"))
        page.on("requestfailed", self._failed)
        page.on("response", self._answered)
        page.on("dialog", lambda dialog: self._report(f"dialog: {dialog.message}"))

    def require_nothing(self) -> None:
        """Fail if anything was reported."""
        assert not self.reports, "\n".join(self.reports)

    def _report(self, text: str) -> None:
        if not any(one in text for one in self._expected):
            self.reports.append(text)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._report(f"{message.type}: {message.text} at {message.location.get('url')}")

    def _failed(self, request: Request) -> None:
        if request.failure != _ABORTED:
            self._report(f"request: {request.method} {request.url}: {request.failure}")

    def _answered(self, response: Response) -> None:
        if response.status >= FAILURE:
            self._report(f"answer: {response.status} {response.request.method} {response.url}")
