"""What `mini-pacs config check` warns of: files that the configuration names, and who can read them."""

import stat
from collections.abc import Iterator
from pathlib import Path

from gateway.config import Configuration
from gateway.dicom.tls import check_pair
from gateway.errors import ConfigurationError


def warnings(configuration: Configuration) -> Iterator[str]:
    """Yield a warning for each file of console and `notify` that cannot be used, and for each open one."""
    yield from _of_console(configuration)
    yield from _of_notify(configuration)
    yield from _of_modes(configuration)


def _of_console(configuration: Configuration) -> Iterator[str]:
    # A warning and no refusal: the console may run on another host, or as another user.
    tls = configuration.console.tls
    try:
        if tls is not None:
            check_pair(tls.certificate, tls.key, "console.tls")
    except ConfigurationError as error:
        yield f"{error}; `mini-pacs console` cannot start"


def _of_notify(configuration: Configuration) -> Iterator[str]:
    notify = configuration.notify
    files: dict[str, Path | None] = {}
    if notify is not None and notify.webhook is not None:
        files["notify.webhook.authorization_file"] = notify.webhook.authorization_file
    if notify is not None and notify.mail is not None:
        files["notify.mail.password_file"] = notify.mail.password_file
    for name, path in files.items():
        try:
            if path is not None:
                path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
            yield f"{name} {path}: {reason}; nobody is told of findings; try `mini-pacs notify test`"


def _of_modes(configuration: Configuration) -> Iterator[str]:
    """Warn of keys and of patients' data that other users can read."""
    edge = configuration.edge
    for name, key in _keys(configuration).items():
        if _mode(key) & (stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP):
            yield f"{name} {key} is open to other users: chmod 600 it, or 640 with a group of its own"
    for name, path in (("edge.data_root", edge.data_root), ("edge.log_path", edge.log_path)):
        if _mode(path) & stat.S_IRWXO:
            yield f"{name} {path} is open to every user of this machine: chmod o= it"


def _keys(configuration: Configuration) -> dict[str, Path]:
    edge, console = configuration.edge, configuration.console
    keys = {"edge.tls.key": edge.tls.key} if edge.tls is not None else {}
    for destination in configuration.destinations:
        if destination.tls is not None and destination.tls.key is not None:
            keys[f"the tls.key of {destination.ae_title}"] = destination.tls.key
    if edge.search_key is not None:
        keys["edge.search_key"] = edge.search_key
    if console.tls is not None:
        keys["console.tls.key"] = console.tls.key
    return keys


def _mode(path: Path) -> int:
    """Return the permission bits of a file; 0 where it does not exist or cannot be seen."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0
