"""Find and check the DSN, the text that says where PostgreSQL is; no error message quotes a password.

libpq quotes what it cannot parse. Where a special character of a password is not percent-encoded, libpq cuts
the URL in the wrong place and quotes a part of the password. Such a URL is refused here, without quoting it.
"""

import os
import re

import psycopg2
import psycopg2.extensions as pg

from gateway.errors import ConfigurationError

_URL = re.compile(r"postgres(?:ql)?://([^/?#]*)(.*)", re.DOTALL)
_HINT = (
    "DATABASE_URL is not shown, for it may hold a password; it must be like "
    "postgresql://USER:PASSWORD@HOST:5432/DB, with @ : / ? # % of a password written as "
    "%40 %3A %2F %3F %23 %25"
)


def dsn_from_environment() -> str:
    """Return `DATABASE_URL`, else a DSN of POSTGRES_HOST, _PORT, _DB, _USER and _PASSWORD.

    Raises:
        ConfigurationError: it is not valid; the message says what is expected and quotes nothing of it.
    """
    url = os.environ.get("DATABASE_URL")
    if url:
        return checked(url)
    port = os.environ.get("POSTGRES_PORT") or "5432"
    if not is_port(port):
        raise ConfigurationError(f"POSTGRES_PORT = {port!r}: a port from 1 to 65535 is expected")
    given = {
        "host": os.environ.get("POSTGRES_HOST", "127.0.0.1"),
        "port": port,
        "dbname": os.environ.get("POSTGRES_DB", "mini_pacs"),
        "user": os.environ.get("POSTGRES_USER", "mini_pacs"),
        "password": os.environ.get("POSTGRES_PASSWORD"),
    }
    return str(pg.make_dsn(**{key: value for key, value in given.items() if value is not None}))


def checked(text: str) -> str:
    """Return `text` if libpq finds the password in it.

    Raises:
        ConfigurationError: it does not; the message quotes nothing of `text`.
    """
    url = _URL.fullmatch(text)
    if url is not None and (url[1].count("@") > 1 or "@" in url[2]):
        # an @ in the password: libpq would take the text behind it for the host, and name it in errors
        raise ConfigurationError(_HINT)
    try:
        given = pg.parse_dsn(text)
    except psycopg2.Error:
        raise ConfigurationError(_HINT) from None
    ports = str(given.get("port", "")).split(",")
    if not all(is_port(port) or not port for port in ports):
        # libpq would take a part of the password for the port, and name it in errors
        raise ConfigurationError(_HINT)
    return text


def is_port(text: str) -> bool:
    """Tell whether `text` is the number of a TCP port."""
    return text.isascii() and text.isdigit() and 0 < int(text[:6]) <= 65535  # noqa: PLR2004  16 bits


def where(text: str) -> str:
    """Return host and port of each server that `text` names, as `db1:5432, db2:5432`; never a password."""
    try:
        given = pg.parse_dsn(text)
    except psycopg2.Error:  # quotes what it cannot parse
        return "an address that libpq cannot parse"
    hosts = str(given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST") or "").split(",")
    ports = str(given.get("port") or os.environ.get("PGPORT") or "5432").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    return ", ".join(
        f"{f'[{host}]' if ':' in host else host or 'its local socket'}:{port or '5432'}"
        for host, port in zip(hosts, ports, strict=False)
    )


def each_address(text: str) -> list[str]:
    """Split a DSN with several hosts into one DSN for each host, in their order.

    libpq tries the next host only when one refuses. A host that does not answer, such as a machine without
    power, would use up the whole deadline of each attempt to connect.
    """
    given = pg.parse_dsn(text)
    hosts = str(given.get("host", "")).split(",")
    if len(hosts) == 1 or "hostaddr" in given or given.get("target_session_attrs") == "prefer-standby":
        return [text]
    ports = str(given.get("port", "")).split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    return [
        str(pg.make_dsn(**{**given, "host": host, **({"port": port} if port else {})}))
        for host, port in zip(hosts, ports, strict=True)
    ]


def described(text: str) -> str:
    """Return host, port, database and user of a DSN, as `db1:5432, database mini_pacs, user edge`."""
    try:
        given = pg.parse_dsn(text)
    except psycopg2.Error:  # quotes what it cannot parse
        return where(text)
    user = str(given.get("user") or os.environ.get("PGUSER") or "that of the process")
    database = str(given.get("dbname") or os.environ.get("PGDATABASE") or user)
    return f"{where(text)}, database {database}, user {user}"


def local_ports(text: str) -> tuple[list[int], list[str]]:
    """Return the TCP ports on this host, and the Unix sockets, that a DSN may mean."""
    try:
        given = pg.parse_dsn(text)
    except psycopg2.Error:  # quotes what it cannot parse
        return [], []
    ports: list[int] = []
    sockets: list[str] = []
    for address in each_address(text):
        one = {**given, **pg.parse_dsn(address)}
        port = str(one.get("port") or os.environ.get("PGPORT") or "5432")
        host = str(one.get("host") or "")
        if host.startswith("/"):
            sockets.append(f"{host}/.s.PGSQL.{port}")
        elif host in {"localhost", "127.0.0.1", "::1", ""} and is_port(port):
            ports.append(int(port))
    return ports, sockets
