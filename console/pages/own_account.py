"""The own account: who is signed in, and the own password."""

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console import sign_in
from console.action import Action, ActionRefusedError, Form, Plan, Said, change
from console.database import query
from console.parts import parts
from console.screen import account, page
from console.sign_in import WeakPasswordError
from gateway.database.pool import Database
from gateway.database.tables import console_users
from gateway.database.tables.console_users import Role
from gateway.operate import accounts as use_cases
from gateway.operate.accounts import AccountError

BACK = "/account"
WRONG = "The present password is wrong, or too many attempts failed. Nothing was done."


async def show(request: Request) -> Response:
    """Show the account."""
    found = await query(request, console_users.login, account(request).name)
    return page(
        request,
        "own_account.html",
        has_password=found is not None and found.password_hash is not None,
        least=sign_in.PASSWORD_LEAST,
    )


async def _plan(request: Request, fields: Form) -> Plan:
    if account(request).by_proxy:
        raise ActionRefusedError("A reverse proxy signs this account in: it has no password to change here.")
    if fields.get("password", "") != fields.get("again", ""):
        raise ActionRefusedError("The two new passwords differ. Nothing was done.")
    return Plan("", "Change the password")


async def _do(request: Request, fields: Form, plan: Plan) -> Said:
    del plan
    who = account(request)
    if not await change(request, _is_right, who.name, fields.get("present", ""), who.address):
        raise ActionRefusedError(WRONG)
    try:
        password_hash = await anyio.to_thread.run_sync(sign_in.hashed, fields.get("password", ""))
        await change(request, use_cases.set_password, who.name, password_hash, who.operator)
    except (WeakPasswordError, AccountError) as error:
        raise ActionRefusedError(f"{str(error).rstrip('.')}. Nothing was done.") from error
    parts(request).sessions.forget(who.name)
    return Said("The password is changed. Sign in with the new one.", to="/login")


def _is_right(database: Database, name: str, password: str, address: str) -> bool:
    """Tell whether the present password is right; count it as a failed sign-in where it is not.

    Somebody who found an open session cannot try passwords without end: the account locks.
    """
    with database.statement() as session:
        found = console_users.login(session, name)
        locked = found is None or found.is_locked or console_users.address_is_locked(session, address)
    known = None if found is None else found.password_hash
    if known is not None and not locked and sign_in.verified(known, password):
        return True
    with database.transaction() as session:
        console_users.note_failure(session, name, address)
    return False


routes = [
    Route(BACK, show),
    Action(f"{BACK}/password", Role.VIEWER, _plan, _do, asks=False, back=BACK).route,
]
