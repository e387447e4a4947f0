"""Make, change and remove accounts of the console."""

from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import activity, console_users
from gateway.database.tables.activity import Operator
from gateway.database.tables.console_users import Role
from gateway.errors import GatewayError


class AccountError(GatewayError):
    """The account cannot be changed; the text says why."""


def add(database: Database, name: str, role: Role, password_hash: str | None, operator: Operator) -> bool:
    """Make an account; return False if there is one of that name."""
    with database.transaction() as session:
        added = console_users.add(session, name, role, password_hash, by=operator.text)
        if added:
            activity.record(session, operator, "add-account", name, outcome=role.value)
    return added


def set_role(database: Database, name: str, role: Role, before: Role | None, operator: Operator) -> None:
    """Change the role of an account; `before` is the role that the operator saw, None if any.

    Raises:
        AccountError: there is no such account, it has another role, or it is the only admin.
    """
    with database.transaction() as session:
        if role is not Role.ADMIN:
            _keep_an_admin(session, name)
        found = console_users.role_of(session, name)
        if found is None:
            raise AccountError(f"There is no account {name}. Nothing was done.")
        if before is not None and found is not before:
            raise AccountError(f"{name} is {found} by now. Nothing was done.")
        console_users.set_role(session, name, role)
        activity.record(session, operator, "change-role", name, outcome=f"{found} to {role}")


def set_password(database: Database, name: str, password_hash: str, operator: Operator) -> None:
    """Change the password of an account; end its sessions and its lock.

    Raises:
        AccountError: there is no such account.
    """
    with database.transaction() as session:
        if not console_users.set_password(session, name, password_hash):
            raise AccountError(f"There is no account {name}. Nothing was done.")
        activity.record(session, operator, "change-password", name, outcome="changed; its sessions ended")


def unlock(database: Database, name: str, operator: Operator) -> bool:
    """End the lock that failed sign-ins caused; return False if the account is not locked."""
    with database.transaction() as session:
        unlocked = console_users.unlock(session, name)
        if unlocked:
            activity.record(session, operator, "unlock-account", name, outcome="may sign in again")
    return unlocked


def remove(database: Database, name: str, operator: Operator) -> None:
    """Delete an account and its sessions.

    Raises:
        AccountError: there is no such account, or it is the only admin.
    """
    with database.transaction() as session:
        _keep_an_admin(session, name)
        if not console_users.remove(session, name):
            raise AccountError(f"There is no account {name}. Nothing was done.")
        activity.record(session, operator, "remove-account", name, outcome="removed")


def _keep_an_admin(session: Session, name: str) -> None:
    if console_users.is_last_admin(session, name):
        raise AccountError(f"{name} is the only admin: make another one first. Nothing was done.")
