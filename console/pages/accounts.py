"""Accounts: who may use the console, in which role. For admins."""

from functools import partial

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console import sign_in
from console.action import Action, ActionRefusedError, Form, Plan, Question, Said, change, forbidden
from console.database import query
from console.parts import parts
from console.screen import account, page
from console.sign_in import WeakPasswordError
from gateway.database.tables import console_users
from gateway.database.tables.console_users import ConsoleUser, Role
from gateway.operate import accounts as use_cases

ROLES = tuple((role.value, role.value) for role in Role)


async def show(request: Request) -> Response:
    """List the accounts."""
    if not account(request).may(Role.ADMIN):
        return forbidden(request, Role.ADMIN)
    users = await query(request, console_users.users)
    return page(request, "accounts.html", users=users, roles=ROLES)


async def _user(request: Request, fields: Form) -> ConsoleUser:
    users = await query(request, console_users.users)
    for user in users:
        if user.name == fields.get("name"):
            return user
    raise HTTPException(404, "There is no such account any more.")


def _password(fields: Form) -> None:
    if fields.get("password", "") != fields.get("again", ""):
        raise ActionRefusedError("The two passwords differ. Nothing was done.")


def _passwords(hint: str = "") -> tuple[Question, ...]:
    hint = hint or f"At least {sign_in.PASSWORD_LEAST} characters."
    return (
        Question("password", "Password", kind="password", hint=hint, is_required=True),
        Question("again", "The same password again", kind="password", is_required=True),
    )


async def _hash(fields: Form) -> str:
    _password(fields)
    try:
        return await anyio.to_thread.run_sync(partial(sign_in.hashed, fields.get("password", "")))
    except WeakPasswordError as weak:
        raise ActionRefusedError(f"Nothing was done: {weak}.") from weak


# ---- add -----------------------------------------------------------------------------------------------


async def _plan_add(request: Request, fields: Form) -> Plan:
    name = fields.get("name", "").strip()
    if not sign_in.is_name(name):
        raise ActionRefusedError(sign_in.NAME_RULE)
    role = _role(fields)
    if await query(request, console_users.role_of, name) is not None:
        raise ActionRefusedError(f"There is an account {name} already.")
    says = {
        Role.VIEWER: "It may look at everything, and change nothing.",
        Role.OPERATOR: "It may look at everything, and retry, resend, cancel, pause and resume.",
        Role.ADMIN: "It may do everything, and make further accounts.",
    }
    return Plan(
        f"Make the account {name}, {role}?", "Make the account", sentences=(says[role],), ask=_passwords()
    )


async def _do_add(request: Request, fields: Form, _: Plan) -> Said:
    name, role = fields["name"].strip(), _role(fields)
    password_hash = await _hash(fields)
    added = await change(request, use_cases.add, name, role, password_hash, account(request).operator)
    if not added:
        raise ActionRefusedError(f"There is an account {name} already.")
    return Said(f"{name} can sign in now, as {role}.")


# ---- change and remove ---------------------------------------------------------------------------------


async def _plan_role(request: Request, fields: Form) -> Plan:
    user = await _user(request, fields)
    return Plan(
        f"Change the role of {user.name}?",
        "Change the role",
        seen=user.role,
        sentences=(f"{user.name} is {user.role} now. The new role counts at once, in open sessions, too.",),
        ask=(Question("role", "New role", user.role, choices=ROLES),),
    )


async def _do_role(request: Request, fields: Form, plan: Plan) -> Said:
    user = await _user(request, fields)
    role = _role(fields)
    before = Role(plan.seen)
    await _refuse_last(
        change(request, use_cases.set_role, user.name, role, before, account(request).operator)
    )
    parts(request).sessions.forget(user.name)
    return Said(f"{user.name} is {role} now.")


async def _plan_password(request: Request, fields: Form) -> Plan:
    user = await _user(request, fields)
    return Plan(
        f"Set a new password for {user.name}?",
        "Set the password",
        sentences=("It ends the open sessions of this account, and its lock.",),
        ask=_passwords(),
    )


async def _do_password(request: Request, fields: Form, _: Plan) -> Said:
    user = await _user(request, fields)
    password_hash = await _hash(fields)
    await change(request, use_cases.set_password, user.name, password_hash, account(request).operator)
    parts(request).sessions.forget(user.name)
    return Said(f"{user.name} has a new password.")


async def _plan_unlock(request: Request, fields: Form) -> Plan:
    user = await _user(request, fields)
    if not user.is_locked:
        raise ActionRefusedError(f"{user.name} is not locked any more. Nothing was done.")
    return Plan("", "Unlock")


async def _do_unlock(request: Request, fields: Form, _: Plan) -> Said:
    user = await _user(request, fields)
    if not await change(request, use_cases.unlock, user.name, account(request).operator):
        return Said(f"{user.name} is not locked any more. Nothing was done.", "note")
    return Said(f"{user.name} can sign in again.")


async def _plan_remove(request: Request, fields: Form) -> Plan:
    user = await _user(request, fields)
    return Plan(
        f"Remove the account {user.name}?",
        "Remove the account",
        seen=user.role,
        sentences=("Its sessions end at once. What it did stays in the record of activity.",),
        is_harmful=True,
    )


async def _do_remove(request: Request, fields: Form, _: Plan) -> Said:
    user = await _user(request, fields)
    await _refuse_last(change(request, use_cases.remove, user.name, account(request).operator))
    parts(request).sessions.forget(user.name)
    return Said(f"{user.name} was removed.")


async def _refuse_last(changing: object) -> None:
    try:
        await changing  # type: ignore[misc]
    except use_cases.AccountError as error:
        raise ActionRefusedError(str(error)) from error


def _role(fields: Form) -> Role:
    try:
        return Role(fields.get("role", ""))
    except ValueError as error:
        raise ActionRefusedError("Choose a role.") from error


ADD = Action("/accounts/add", Role.ADMIN, _plan_add, _do_add, back="/accounts")
ROLE = Action("/accounts/role", Role.ADMIN, _plan_role, _do_role, back="/accounts")
PASSWORD = Action("/accounts/password", Role.ADMIN, _plan_password, _do_password, back="/accounts")
UNLOCK = Action("/accounts/unlock", Role.ADMIN, _plan_unlock, _do_unlock, asks=False, back="/accounts")
REMOVE = Action("/accounts/remove", Role.ADMIN, _plan_remove, _do_remove, back="/accounts")

routes = [Route("/accounts", show), ADD.route, ROLE.route, PASSWORD.route, UNLOCK.route, REMOVE.route]
