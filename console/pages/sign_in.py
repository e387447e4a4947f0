"""Sign in, sign out, and the page of the one-time link with which the first account is made."""

from typing import Any

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from console import sign_in
from console.access import address_of, session_cookie
from console.parts import Parts, parts
from console.screen import form, go, local, page
from gateway import log
from gateway.database.tables import activity, console_users
from gateway.database.tables.activity import Operator, Via
from gateway.errors import DatabaseError
from gateway.log import Stage

WRONG = "Name or password is wrong, or too many sign-ins failed. After five failures wait a minute, or more."
LINK_IS_OVER = (
    "This link works once, within 15 minutes, and on the machine of the console only. Restart "
    "`mini-pacs console` for a new one, or type `mini-pacs console user add NAME --role admin`."
)


async def show(request: Request) -> Response:
    """Show the form, or how the first account is made."""
    if request.state.account is not None:
        return RedirectResponse("/", status_code=303)
    return await _form(request, request.query_params.get("next", ""))


async def _form(
    request: Request, following: str, *, error: str = "", name: str = "", status: int = 200
) -> Response:
    is_up, has_accounts = True, True
    try:
        has_accounts = await parts(request).reading.shared(console_users.count) > 0
    except DatabaseError:
        is_up = False
    return page(
        request,
        "login.html",
        status=status,
        following=local(following) if following else "/",
        error=error,
        name=name,
        is_up=is_up,
        has_accounts=has_accounts,
    )


async def enter(request: Request) -> Response:
    """Sign in."""
    fields, found = form(request), parts(request)
    name, following = fields.get("name", "").strip(), fields.get("next", "")
    token = await anyio.to_thread.run_sync(
        lambda: found.sign_in.begin(name, fields.get("password", ""), address_of(request))
    )
    if token is None:
        return await _form(request, following, error=WRONG, name=name[:64], status=401)
    return _with_session(found, go(request, local(following) if following else "/"), token)


async def leave(request: Request) -> Response:
    """Sign out."""
    found = parts(request)
    name = session_cookie(found.configuration.console)
    token = request.cookies.get(name, "")
    if token:
        await found.sessions.end(token)
    answer = go(request, "/login")
    answer.delete_cookie(
        name, secure=found.configuration.console.tls is not None, httponly=True, samesite="strict"
    )
    return answer


def _with_session(found: Parts, answer: Response, token: str) -> Response:
    console = found.configuration.console
    answer.set_cookie(
        session_cookie(console), token, httponly=True, samesite="strict", secure=console.tls is not None
    )
    return answer


# ---- the first account ---------------------------------------------------------------------------------


async def first(request: Request) -> Response:
    """Show the form that makes the first account."""
    _check(request)
    return page(request, "first.html", error="", name="")


async def make_first(request: Request) -> Response:
    """Make the first account, an admin, and sign it in."""
    token = _check(request)
    found, fields = parts(request), form(request)
    name, password = fields.get("name", "").strip(), fields.get("password", "")
    error = ""
    if not sign_in.is_name(name):
        error = sign_in.NAME_RULE
    elif password != fields.get("again", ""):
        error = "The two passwords differ."
    else:
        try:
            made = await anyio.to_thread.run_sync(lambda: _make(found, name, password, address_of(request)))
        except sign_in.WeakPasswordError as weak:
            error = f"Choose another one: {weak}."
        else:
            found.link.use()
            if not made:
                raise HTTPException(404, LINK_IS_OVER)
            cookie = await anyio.to_thread.run_sync(
                lambda: found.sign_in.begin(name, password, address_of(request))
            )
            answer = go(request, "/", f"Welcome, {name}. This account is an admin.")
            return _with_session(found, answer, cookie) if cookie else answer
    data: dict[str, Any] = {"error": error, "name": name[:64], "token": token}
    return page(request, "first.html", status=400, **data)


def _check(request: Request) -> str:
    token = str(request.path_params["token"])
    if not parts(request).link.counts(token, address_of(request)):
        log.write(Stage.CONSOLE, "link_refused", level="warning", remote_address=address_of(request))
        raise HTTPException(404, LINK_IS_OVER)
    return token


def _make(found: Parts, name: str, password: str, address: str) -> bool:
    password_hash = sign_in.hashed(password)
    operator = Operator(name, Via.CONSOLE, address)
    with found.acting.transaction() as session:
        made = console_users.add_first(session, name, password_hash, by="the first link")
        if made:
            activity.record(session, operator, "add-account", name, outcome="admin, by the first link")
    return made


routes = [
    Route("/login", show),
    Route("/login", enter, methods=["POST"]),
    Route("/logout", leave, methods=["POST"]),
    Route("/first/{token}", first),
    Route("/first/{token}", make_first, methods=["POST"]),
]
