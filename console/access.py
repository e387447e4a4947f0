"""The account of a request: that of a session's cookie, or the one that a trusted reverse proxy names.

The header of a proxy counts only from the address of that proxy (`console.trusted_proxy`), and only for a
name that has an account: the account says which role it has.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from gateway.config.operation import Console
from gateway.database.tables import console_users
from gateway.database.tables.activity import Operator, Via
from gateway.database.tables.console_users import Role
from gateway.domain.allowlist import address_of as address_of_connection

if TYPE_CHECKING:
    from console.parts import Parts

NAME_MOST = 64


@dataclass(frozen=True, slots=True)
class Account:
    """The account of a request. Every form must return `csrf`; `by_proxy`: a reverse proxy signed it in."""

    name: str
    role: Role
    csrf: str
    address: str
    by_proxy: bool = False

    def may(self, role: Role) -> bool:
        """Tell whether this account may do what `role` may."""
        return self.role.may(role)

    @property
    def operator(self) -> Operator:
        """Return who acts, for the record of what operators did."""
        return Operator(self.name, Via.CONSOLE, self.address)


def session_cookie(console: Console) -> str:
    """Return the name of the session's cookie. With TLS a browser takes it from this host only."""
    return "__Host-mini_pacs_session" if console.tls else "mini_pacs_session"


def visit_cookie(console: Console) -> str:
    """Return the name of the cookie that binds the CSRF token of a browser without a session."""
    return "__Host-mini_pacs_visit" if console.tls else "mini_pacs_visit"


def csrf_of(secret: str, name: str = "") -> str:
    """Return the CSRF token that belongs to a cookie; a site that cannot read the cookie cannot make it."""
    return hmac.new(secret.encode(), f"csrf {name}".encode(), hashlib.sha256).hexdigest()


def new_secret() -> str:
    """Return the value of a new cookie."""
    return secrets.token_urlsafe(32)


def address_of(request: HTTPConnection) -> str:
    """Return the address of the connection; never one that a header names."""
    return request.client.host if request.client else ""


async def account_of(request: HTTPConnection, parts: "Parts", *, uses: bool, fresh: bool) -> Account | None:
    """Return the account of a request; None if nobody has signed in.

    Raises:
        DatabaseError: PostgreSQL is away, and it is not known from before.
    """
    console = parts.configuration.console
    address = address_of(request)
    token = request.cookies.get(session_cookie(console), "")
    if token:
        found = await parts.sessions.find(token, uses=uses, fresh=fresh)
        if found is not None:
            return Account(found.name, found.role, csrf_of(token), address)
    name = _named_by_proxy(request, console, address)
    if name is None:
        return None
    role = await _role_of(name, parts, fresh=fresh)
    visit = request.cookies.get(visit_cookie(console), "")
    return None if role is None else Account(name, role, csrf_of(visit, name), address, by_proxy=True)


async def _role_of(name: str, parts: "Parts", *, fresh: bool) -> Role | None:
    """Read the role of an account; without `fresh` it may be one second old."""
    roles = {} if fresh else await parts.reading.shared(console_users.roles)
    return roles.get(name) or await parts.reading.query(console_users.role_of, name)


def _named_by_proxy(request: HTTPConnection, console: Console, address: str) -> str | None:
    if console.trusted_header is None or console.trusted_proxy is None:
        return None
    given = request.headers.getlist(console.trusted_header)
    if len(given) != 1 or not 0 < len(given[0]) <= NAME_MOST or not is_in(address, console.trusted_proxy):
        return None
    return given[0]


def is_in(address: str, network: str) -> bool:
    """Tell whether an address belongs to a network; IPv4 in IPv6 counts as IPv4."""
    try:
        found = address_of_connection(address)
    except ValueError:
        return False
    within = ip_network(network)
    return found.version == within.version and found in within
