"""Check every request before a page sees it, and give every answer its headers.

A request is refused, in this order, if

    its Host is not a name of this console          400    another site's name for this address
    its body is larger than BODY_MOST               413
    it changes something and
        its Origin is not this console              403    a form of another site
        its CSRF token is missing or wrong          403    the same
    nobody has signed in                            303 to /login, for all but PUBLIC

So a page needs no check of its own; console/action.py adds the role. The body of a form is read here, and the
page finds it in `scope["state"]["form"]`.
"""

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import Message, Receive, Scope, Send

from console.access import Account, account_of, csrf_of, new_secret, visit_cookie
from console.away import away
from gateway import log
from gateway.config.operation import Console
from gateway.errors import DatabaseError
from gateway.log import Stage

if TYPE_CHECKING:
    from console.parts import Parts

BODY_MOST = 64 * 1024
HOST_MOST = 300
FIELDS_MOST = 2000
SAFE = ("GET", "HEAD")
PUBLIC = ("/login", "/first/", "/static/", "/health")
"""What needs no account: paths, and beginnings of paths that end with a slash."""
PASSIVE = ("/live",)
"""Requests that a page makes by itself; they do not count as use of a session."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
WILDCARDS = ("0.0.0.0", "::", "")  # noqa: S104  compared with, never bound


@dataclass(frozen=True, slots=True)
class _Refusal(Exception):  # noqa: N818  an answer, no error
    status: int
    text: str
    why: str = ""


class Guard:
    """The outermost layer: every answer of the application gets the headers, also an error."""

    def __init__(self, app: Starlette) -> None:
        self.starlette = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, then hand it on."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self.starlette(scope, receive, send)
            return
        scope["app"] = self.starlette
        begun = _Begun()
        answer = _with_headers(scope, send, begun)
        request = Request(scope, receive)
        try:
            refused = await self._refused(request, scope)
            if refused is None:
                await self.starlette(scope, receive, answer)
                return
        except _Refusal as refusal:
            _log(request, refusal)
            refused = PlainTextResponse(refusal.text + "\n", status_code=refusal.status)
        except DatabaseError as error:
            refused = await away(request, error)
        except Exception as error:  # noqa: BLE001  the boundary of the process
            log.write(
                Stage.CONSOLE,
                "console_failed",
                level="error",
                error=f"unforeseen {type(error).__name__}",
                detail=log.frames(error),
            )
            if begun.is_true:
                return
            refused = PlainTextResponse(
                "A defect of the console; its log has the details.\n", status_code=500
            )
        await refused(scope, receive, answer)

    async def _refused(self, request: Request, scope: Scope) -> Response | None:
        """Return an answer instead of that of the page, or None if the page may answer.

        Raises:
            _Refusal: the request is refused.
            DatabaseError: nobody can sign in, because PostgreSQL is away.
        """
        parts: Parts = request.app.state.parts
        console = parts.configuration.console
        _check_host(request.headers, console)
        if request.method not in (*SAFE, "POST"):
            raise _Refusal(405, "Only GET and POST are known here.")
        state = scope.setdefault("state", {})
        state["account"] = None
        visit = request.cookies.get(visit_cookie(console), "")
        state["visit"], state["is_new_visit"] = visit or new_secret(), not visit
        state["form"] = form = {}
        if request.method == "POST":
            _check_origin(request.headers)
            form.update(await _form(request))
        public = _is_public(request.url.path)
        account = None
        if not request.url.path.startswith("/static/"):
            account = await self._account(request, parts, public=public)
            state["account"] = account
        if request.method == "POST":
            _check_csrf(request.headers, form, visit, account)
        if account is None and not public:
            return _to_sign_in(request)
        return None

    async def _account(self, request: Request, parts: "Parts", *, public: bool) -> Account | None:
        live = request.headers.get("x-live") == "1" or request.url.path in PASSIVE
        try:
            return await account_of(request, parts, uses=not live, fresh=request.method == "POST")
        except Exception:
            if public:
                return None  # the page for signing in says itself that PostgreSQL is away
            raise


def _is_public(path: str) -> bool:
    return any(path == one or (one.endswith("/") and path.startswith(one)) for one in PUBLIC)


def _check_host(headers: Headers, console: Console) -> None:
    given = headers.getlist("host")
    name = urlsplit(f"//{given[0]}").hostname if len(given) == 1 and _is_plain(given[0]) else None
    if name is None or name.lower() not in known_hosts(console):
        raise _Refusal(
            400,
            "This console is not known under that name: add it to console.hosts in config.yaml.",
            "unknown host",
        )


def _is_plain(host: str) -> bool:
    return len(host) <= HOST_MOST and all(one.isalnum() or one in ".-:[]" for one in host)


def known_hosts(console: Console) -> frozenset[str]:
    """Return the names under which browsers reach the console, without port, in lower case."""
    bound = () if console.bind in WILDCARDS else (console.bind,)
    return frozenset(
        one.lower().strip("[]") for one in ("localhost", "127.0.0.1", "::1", *bound, *console.hosts)
    )


def _check_origin(headers: Headers) -> None:
    """Compare host and port only: behind a proxy with TLS, this process does not see the scheme."""
    origin, host = headers.get("origin", ""), headers.get("host", "")
    site = headers.get("sec-fetch-site", "same-origin")
    if not origin or urlsplit(origin).netloc.lower() != host.lower() or site != "same-origin":
        raise _Refusal(403, "Refused: this form did not come from a page of this console.", "foreign origin")


async def _form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_MOST:
            raise _Refusal(413, "The form is too large.", "too large")
    if not body:
        return {}
    if kind != "application/x-www-form-urlencoded":
        raise _Refusal(415, "A form is expected.", "no form")
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=FIELDS_MOST, errors="strict"
        )
    except ValueError as error:
        raise _Refusal(400, "The form cannot be read.", "unreadable form") from error
    fields: dict[str, str] = {}
    for name, value in pairs:
        # several values of one name, as of checkboxes, are lines
        fields[name] = f"{fields[name]}\n{value}" if name in fields else value
    return fields


def _check_csrf(headers: Headers, form: dict[str, str], visit: str, account: Account | None) -> None:
    wanted = account.csrf if account is not None else (csrf_of(visit) if visit else "")
    given = headers.get("x-csrf-token") or form.pop("csrf", "")
    form.pop("csrf", None)
    if not wanted or not hmac.compare_digest(given.encode(), wanted.encode()):
        raise _Refusal(
            403,
            "Refused: the page is too old, or its form did not come from this console. Nothing was done. "
            "Load the page again.",
            "no valid token",
        )


def _to_sign_in(request: Request) -> Response:
    if request.headers.get("hx-request") or request.url.path in PASSIVE:
        # a part of a page cannot be the page for signing in: let the script load that
        return PlainTextResponse("Sign in again.\n", status_code=401, headers={"HX-Refresh": "true"})
    if request.method == "POST":
        return RedirectResponse("/login", status_code=303)
    url = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse("/login" if url == "/" else f"/login?{urlencode({'next': url})}", status_code=303)


@dataclass(slots=True)
class _Begun:
    """Whether the status of the answer was sent."""

    is_true: bool = False


def _with_headers(scope: Scope, send: Send, begun: _Begun) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            begun.is_true = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            parts: Parts = scope["app"].state.parts
            console = parts.configuration.console
            if console.tls is not None:
                headers["strict-transport-security"] = "max-age=31536000"
            if scope["path"].startswith("/static/"):
                headers["cache-control"] = "no-cache"  # asked again each time, by ETag
            else:
                headers["cache-control"] = "no-store"
                state = scope.get("state", {})
                if state.get("is_new_visit"):
                    attributes = "Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if console.tls else "")
                    headers.append("set-cookie", f"{visit_cookie(console)}={state['visit']}; {attributes}")
        await send(message)

    return answer


def _log(request: Request, refusal: _Refusal) -> None:
    if refusal.why:
        address = request.client.host if request.client else None
        log.write(
            Stage.CONSOLE, "request_refused", level="warning", remote_address=address, error=refusal.why
        )
