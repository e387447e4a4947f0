"""`mini-pacs console`: see and operate the edge in a browser; and its accounts."""

import sys
from getpass import getpass
from pathlib import Path
from typing import Annotated

import typer

from cli.advice import RefusedError
from cli.documents import Json, Schema, print_document, print_page
from cli.operator import configured, opened, operator
from cli.screen import console as screen_of
from cli.screen import table
from console import server, sign_in
from console.first_link import FirstLink
from console.sign_in import WeakPasswordError
from gateway.database.dsn import dsn_from_environment
from gateway.database.pool import Database
from gateway.database.tables import console_users
from gateway.database.tables.console_users import Role
from gateway.errors import DatabaseError
from gateway.operate import accounts
from gateway.operate.accounts import AccountError
from gateway.times import clock, dated

app = typer.Typer(help="See and operate the edge in a browser; the accounts for that.")
users = typer.Typer(help="List, add, change and remove the accounts of the console.", no_args_is_help=True)
app.add_typer(users, name="user")

Name = Annotated[str, typer.Argument(help="The name of the account.", show_default=False)]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="Read the password from the first line of a file, - for standard input. Without this option "
        "the command asks for it.",
        show_default=False,
    ),
]


@app.callback(invoke_without_command=True)
def console(
    context: typer.Context,
    bind: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on, instead of console.bind of config.yaml.", show_default=False
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Port, instead of console.port of config.yaml.", show_default=False
        ),
    ] = None,
) -> None:
    """Serve the console until SIGTERM or Ctrl-C: see and operate the edge in a browser.

    Without an account it prints a link that makes the first one. The link works once, within 15 minutes, and
    on this machine only. docs/operate/console.md has the rest.
    """
    if context.invoked_subcommand is not None:
        return
    configuration = configured()
    dsn = dsn_from_environment()
    link = FirstLink()
    made = server.bound(configuration, dsn, link, address=bind, port=port)
    typer.echo(f"Console on {made.url}")
    if _has_no_account():
        typer.echo(
            "There is no account yet. Make the first one with this link, within 15 minutes, on this "
            "machine:\n"
            f"  {made.local_url}/first/{link.make()}"
        )
    sys.stdout.flush()
    made.run()


def _has_no_account() -> bool:
    try:
        with opened("console") as database, database.statement() as session:
            return console_users.count(session) == 0
    except DatabaseError:
        return False  # the page for signing in says that PostgreSQL is away


@users.command("list")
def list_(as_json: Json = False) -> None:
    """List the accounts."""
    with opened("console user") as database, database.statement() as session:
        found = console_users.users(session)
    if as_json:
        print_page(Schema.CONSOLE_USERS, found)
        return
    if not found:
        typer.echo("There is no account yet: `mini-pacs console user add NAME --role admin`")
        return
    rows = table("name", "role", "signs in by", "last sign-in", "made", "by", title=dated("Accounts"))
    for one in found:
        how = "password" if one.has_password else "reverse proxy"
        locked = f"{how}, locked" if one.is_locked else how
        rows.add_row(one.name, one.role, locked, clock(one.used_at), clock(one.created_at), one.created_by)
    screen_of().print(rows)


@users.command()
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="What the account may do.")] = Role.VIEWER,
    password_file: PasswordFile = None,
    by_proxy: Annotated[
        bool,
        typer.Option("--by-proxy", help="No password: only a reverse proxy signs it in (trusted_header)."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Add an account. A viewer may look, an operator may act, an admin may also change accounts."""
    if not sign_in.is_name(name):
        raise typer.BadParameter(sign_in.NAME_RULE, param_hint="NAME")
    if by_proxy and password_file is not None:
        raise typer.BadParameter("--by-proxy and --password-file exclude each other")
    password_hash = None if by_proxy else _hash(password_file)
    with opened("console user", changes=True) as database:
        if not accounts.add(database, name, role, password_hash, operator()):
            raise RefusedError(
                f"there is an account {name} already; `mini-pacs console user list` lists them"
            )
    _say(name, f"{name} may sign in, as {role}.", as_json=as_json)


@users.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Remove an account. Its sessions end within seconds."""
    with opened("console user", changes=True) as database:
        _or_refused(database, name, None)
    _say(name, f"{name} was removed.", as_json=as_json)


@users.command()
def password(name: Name, password_file: PasswordFile = None, as_json: Json = False) -> None:
    """Set a new password. It ends the sessions and the lock of the account."""
    with opened("console user", changes=True) as database:
        with database.statement() as session:
            if console_users.role_of(session, name) is None:
                raise RefusedError(f"there is no account {name}; `mini-pacs console user list` lists them")
        try:
            accounts.set_password(database, name, _hash(password_file), operator())
        except AccountError as error:
            raise RefusedError(str(error)) from error
    _say(name, f"{name} has a new password.", as_json=as_json)


@users.command()
def role(
    name: Name,
    new: Annotated[Role, typer.Argument(metavar="ROLE", help="viewer, operator or admin.")],
    as_json: Json = False,
) -> None:
    """Change what an account may do. The change counts within seconds, also in open sessions."""
    with opened("console user", changes=True) as database:
        _or_refused(database, name, new)
    _say(name, f"{name} is {new} now.", as_json=as_json)


def _or_refused(database: Database, name: str, role: Role | None) -> None:
    try:
        if role is None:
            accounts.remove(database, name, operator())
        else:
            accounts.set_role(database, name, role, None, operator())
    except AccountError as error:
        raise RefusedError(str(error)) from error


def _say(name: str, sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_document(Schema.CHANGED_CONSOLE_USER, {"name": name, "said": sentence})
    else:
        typer.echo(sentence)


def _hash(file: Path | None) -> str:
    try:
        return sign_in.hashed(_password(file))
    except WeakPasswordError as weak:
        raise typer.BadParameter(str(weak)) from weak


def _password(file: Path | None) -> str:
    if file is None and sys.stdin is not None and sys.stdin.isatty():
        typed = getpass("Password: ")
        if typed != getpass("The same again: "):
            raise typer.BadParameter("the two passwords differ")
        return typed
    if file is None or str(file) == "-":
        return (sys.stdin.readline() if sys.stdin is not None else "").rstrip("\r\n")
    try:
        return file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}", param_hint="--password-file") from error
