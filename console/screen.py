"""Render a page, or only the part of it that changes.

    return page(request, "studies.html", part="_studies.html", rows=rows)

renders studies.html, which extends base.html and includes _studies.html in a live region; the requests that
the region makes each second get _studies.html alone. Every template has: `account`, `csrf`, `entries` (the
navigation), `path`, `query`, `theme`, `now`, `flash`, `allow_faults`, `viewer_url`.

Autoescape is always on. A text that a peer chose goes through the filter `plain`, too.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from console.access import Account, csrf_of
from console.database import query, shared
from console.parts import parts
from console.text import FILTERS, plain
from console.vendored import integrity
from gateway.database.session import Session

P = ParamSpec("P")
T = TypeVar("T")

THEMES = ("light", "dark")
FLASH_COOKIE = "mini_pacs_flash"
FLASH_SECONDS = 60
FLASH_MOST = 500


class Flash(NamedTuple):
    """A sentence about what was just done; `kind`: ok, note or bad."""

    text: str
    kind: str


def environment() -> Environment:
    """Return the templates of console/templates. An undefined name is an error, never an empty text."""
    made = Environment(
        loader=PackageLoader("console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(FILTERS)
    made.globals.update(integrity=integrity, live=live, link=link)
    return made


def account(request: Request) -> Account:
    """Return the account of the request. The guard lets no request without one reach a page."""
    found = request.state.account
    assert isinstance(found, Account)
    return found


def form(request: Request) -> dict[str, str]:
    """Return the fields of the form, without the CSRF token; values of one name are lines."""
    return dict(request.state.form)


def is_part(request: Request) -> bool:
    """Tell whether a script asks for the part of the page that changes."""
    return request.headers.get("hx-request") == "true"


async def read(
    request: Request,
    function: Callable[Concatenate[Session, P], T],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Read rows for a page. A live region shares rows that are up to a second old; a page reads its own."""
    reading = shared if is_part(request) else query
    return await reading(request, function, *args, **kwargs)


def page(
    request: Request, template: str, *, part: str | None = None, status: int = 200, **data: object
) -> Response:
    """Return the page, or its `part` if a live region asks for it."""
    # imported late: the screens import this module
    from console.routes import entries_for  # noqa: PLC0415

    of_all = parts(request)
    who: Account | None = request.state.account
    flash = _flash(request)
    chosen = part if part is not None and is_part(request) else template
    text = of_all.templates.get_template(chosen).render(
        {
            "account": who,
            "csrf": who.csrf if who is not None else csrf_of(request.state.visit),
            "entries": entries_for(who, of_all.configuration.console),
            "path": request.url.path,
            "query": request.url.query,
            "theme": _theme(request),
            "now": datetime.now(UTC),
            "flash": flash,
            "part": part,
            "allow_faults": of_all.configuration.console.allow_faults,
            "viewer_url": of_all.configuration.console.viewer_url,
            "edge": of_all.configuration.edge.ae_title,
            **data,
        }
    )
    answer = HTMLResponse(text, status_code=status)
    if flash is not None and chosen == template:
        answer.delete_cookie(FLASH_COOKIE, samesite="strict", httponly=True)
    return answer


def go(request: Request, url: str, said: str = "", kind: str = "ok") -> Response:
    """Redirect to a page of this console, which then shows the sentence `said`."""
    url = local(url)
    answer: Response = (
        Response(status_code=204, headers={"HX-Redirect": url})
        if is_part(request)
        else RedirectResponse(url, status_code=303)
    )
    if said:
        packed = base64.urlsafe_b64encode(json.dumps([plain(said, FLASH_MOST), kind]).encode()).decode()
        answer.set_cookie(
            FLASH_COOKIE,
            packed,
            max_age=FLASH_SECONDS,
            httponly=True,
            samesite="strict",
            secure=parts(request).configuration.console.tls is not None,
        )
    return answer


def local(url: str) -> str:
    """Return the path if it is one of this console, else `/`, so that no redirect leads to another site."""
    is_path = url.startswith("/") and not url.startswith(("//", "/\\"))
    return url if is_path and url.isprintable() and "\\" not in url else "/"


def link(path: str, query: Mapping[str, object] | None = None, **changed: object) -> str:
    """Return a path with a query string; `changed` values replace those of `query`, None removes one."""
    fields = {**(query or {}), **changed}
    text = urlencode({name: str(value) for name, value in fields.items() if value not in (None, "")})
    return f"{path}?{text}" if text else path


def live(path: str, query: str = "") -> Markup:
    """Return the attributes of an element whose content a script renews with each snapshot.

    <div {{ live(path, query) }}>{% include part %}</div>

    Its forms inherit none of this: a form that waited for its turn behind a renewal would be dropped.
    """
    return Markup(
        'class="live" hx-get="{}" hx-trigger="snapshot from:body" hx-swap="morph:innerHTML" '
        'hx-headers=\'{{"X-Live": "1"}}\' hx-sync="this:drop" hx-disinherit="*"'
    ).format(f"{path}?{query}" if query else path)


def _theme(request: Request) -> str:
    chosen = request.cookies.get("theme", "")
    return chosen if chosen in THEMES else "auto"


def _flash(request: Request) -> Flash | None:
    packed = request.cookies.get(FLASH_COOKIE)
    if not packed or is_part(request):
        return None
    try:
        text, kind = json.loads(base64.urlsafe_b64decode(packed))
        return Flash(plain(text, FLASH_MOST), kind if kind in {"ok", "note", "bad"} else "note")
    except (ValueError, TypeError, binascii.Error):
        return None
