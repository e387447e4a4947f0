"""The screens, in the order of the navigation.

Each is a module of console/pages that exports `routes`. To add one: write the module, and add a line here.
"""

import importlib
from dataclasses import dataclass

from starlette.routing import BaseRoute

from console.access import Account
from gateway.config.operation import Console
from gateway.database.tables.console_users import Role


@dataclass(frozen=True, slots=True)
class Screen:
    """A screen: its module in console/pages, and its entry in the navigation, if it has one."""

    module: str
    path: str = ""
    title: str = ""
    icon: str = ""
    """A symbol of console/static/icons.svg."""
    role: Role = Role.VIEWER
    needs_faults: bool = False
    """Shown only where console.allow_faults is on."""


SCREENS = (
    Screen("overview", "/", "Overview", "overview"),
    Screen("studies", "/studies", "Studies", "studies"),
    Screen("study"),
    Screen("deliveries", "/deliveries", "Deliveries", "deliveries"),
    Screen("destinations", "/destinations", "Destinations", "destinations"),
    Screen("queue", "/queue", "Queue", "queue"),
    Screen("refusals", "/refusals", "Refusals", "refusals"),
    Screen("faults", "/faults", "Faults", "faults", role=Role.ADMIN, needs_faults=True),
    Screen("activity", "/activity", "Activity", "activity"),
    Screen("accounts", "/accounts", "Accounts", "accounts", role=Role.ADMIN),
    Screen("own_account"),
    Screen("sign_in"),
    Screen("events"),
)


def routes() -> list[BaseRoute]:
    """Return the routes of all screens."""
    return [
        route
        for screen in SCREENS
        for route in importlib.import_module(f"console.pages.{screen.module}").routes
    ]


def entries_for(account: Account | None, console: Console) -> list[Screen]:
    """Return the entries of the navigation that an account may open."""
    if account is None:
        return []
    return [
        screen
        for screen in SCREENS
        if screen.path and account.may(screen.role) and (console.allow_faults or not screen.needs_faults)
    ]
