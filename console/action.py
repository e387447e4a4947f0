"""The one way in which the console changes something.

    RETRY = Action("/deliveries/retry", role=Role.OPERATOR, plan=plan_retry, do=do_retry)
    routes = [Route("/deliveries", deliveries), RETRY.route]

A form posts to the path of the action. Then, in this order:

    1. the guard has checked Host, Origin and CSRF token; here the role is checked            403
    2. `plan(request, form)` says what would be done, to how many, and `seen`, the state that it was based on
    3. without `confirmed` in the form: a page that says this, with a button that posts the form again
    4. with `confirmed`, but another `seen` than before: nothing is done, the new state is shown 409
    5. `do(request, form, plan)` calls the use case of gateway/operate, and returns what to say

`plan` raises ActionRefusedError if nothing can be done; its text is shown. `do` changes the rows only if they
are still as `plan` saw them: two operators may press a button at once, so the use case compares and sets.

A form may carry the `seen` of the row that a page showed: then step 3 says if the row has changed since.
A form carries `back`, the path to return to.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.parts import parts
from console.screen import account, form, go, is_part, page
from gateway.database.pool import Database
from gateway.database.tables.console_users import Role
from gateway.errors import GatewayError

P = ParamSpec("P")
T = TypeVar("T")


class ActionRefusedError(GatewayError):
    """The action cannot be done; the text says why, and what to do instead."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an action would do, shown before it is done.

    `title` is a question with the count, `sentences` say what it means for images, `button` is the verb.
    `seen` is any text that differs if the rows have changed, for example `dead:12`.
    """

    title: str
    button: str
    seen: str = ""
    sentences: tuple[str, ...] = ()
    count: int | None = None
    is_harmful: bool = False
    """The action loses or delays something: the button is red."""
    ask: tuple["Question", ...] = ()
    """Fields that the page asks for, such as a reason."""


@dataclass(frozen=True, slots=True)
class Question:
    """A field of the page that asks. `choices` are values with their labels; without them it is a text."""

    name: str
    label: str
    value: str = ""
    kind: str = "text"
    choices: tuple[tuple[str, str], ...] = ()
    hint: str = ""
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What to say after an action. `kind`: ok, note (nothing was changed) or bad."""

    text: str
    kind: str = "ok"
    to: str | None = None
    """Another page than the one that the form came from."""


Form = dict[str, str]


@dataclass(frozen=True, slots=True)
class Action:
    """A path that changes something, and who may use it."""

    path: str
    role: Role
    plan: Callable[[Request, Form], Awaitable[Plan]]
    do: Callable[[Request, Form, Plan], Awaitable[Said]]
    asks: bool = True
    """Whether somebody confirms it first. False only for harmless actions, such as a C-ECHO."""
    back: str = "/"
    hidden: tuple[str, ...] = field(default=("confirmed", "seen", "back"))

    @property
    def route(self) -> Route:
        """Return the route of the action: POST only."""
        return Route(self.path, self._handle, methods=["POST"])

    async def _handle(self, request: Request) -> Response:
        who = account(request)
        if not who.may(self.role):
            return forbidden(request, self.role)
        fields = form(request)
        back = fields.get("back") or self.back
        try:
            plan = await self.plan(request, fields)
            seen = fields.get("seen")
            is_stale = seen is not None and plan.seen not in {"", seen}
            if self.asks and (is_stale or fields.get("confirmed") != "yes"):
                return self._ask(request, plan, fields, back, is_stale=is_stale)
            said = await self.do(request, fields, plan)
        except ActionRefusedError as refusal:
            return go(request, back, str(refusal), "bad")
        return go(request, said.to or back, said.text, said.kind)

    def _ask(self, request: Request, plan: Plan, fields: Form, back: str, *, is_stale: bool) -> Response:
        asked = {question.name for question in plan.ask}
        carried = {name: value for name, value in fields.items() if name not in (*self.hidden, *asked)}
        return page(
            request,
            "confirm.html",
            part="_confirm.html",
            # htmx shows no answer with the status of an error
            status=409 if is_stale and not is_part(request) else 200,
            plan=plan,
            action=self.path,
            carried=carried,
            given=fields,
            back=back,
            is_stale=is_stale,
        )


def forbidden(request: Request, role: Role) -> Response:
    """Answer that the account may not do this."""
    return page(request, "forbidden.html", status=403, needed=role)


async def change(
    request: Request, function: Callable[Concatenate[Database, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call a use case of gateway/operate in a thread, with a database that may change rows."""
    call = partial(function, parts(request).acting, *args, **kwargs)
    return await anyio.to_thread.run_sync(call)
