"""`mini-pacs config`: check the file, load it into the running processes, show the history.

`check` shows the effective configuration, errors, warnings, and differences from the configuration that runs.
"""

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address

import typer

from cli import config_history, contexts, file_notes, reload, rule_notes
from cli.documents import Json, Schema, print_document
from cli.operator import opened
from cli.screen import console, table
from console.first_link import is_loopback
from gateway import config
from gateway.config import Configuration
from gateway.config.edge import Edge
from gateway.config.forwarder import Forwarder
from gateway.database.dsn import dsn_from_environment
from gateway.database.tables import configurations
from gateway.diagnosis import certificates
from gateway.diagnosis.startable import in_use, refusals
from gateway.errors import ConfigurationError, DatabaseError
from gateway.processes.history import changes_since
from gateway.search.key import search_key

app = typer.Typer(
    help="Check the configuration, load it without a restart, show its history.", no_args_is_help=True
)
app.command("reload")(reload.reload)
app.command("history")(config_history.history)

MINIMUM_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.4": "MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
}
"""SOP Classes that a gateway has to accept as a minimum; PS3.4 §B.5, Table B.5-1."""


@app.callback()
def _noun() -> None:
    """Check the configuration, load it without a restart, show its history."""


@app.command()
def check(as_json: Json = False) -> None:
    """Print the effective configuration, where it looks for the database, and warnings.

    Run it as the user that runs the edge, because it also tries certificates, keys and folders. Exit code 2
    where a process would refuse to start, with a line for each wrong key.
    """
    configuration = config.load()
    dsn_from_environment()
    wrong = list(refusals(configuration))
    if wrong:
        raise ConfigurationError("\n".join(f"{configuration.source}: {sentence}" for sentence in wrong))
    database = database_source(os.environ)
    said = [*warnings(configuration, os.environ), *_differs(configuration)]
    values = dict(flat(configuration.model_dump(mode="json", exclude={"source"})))
    if as_json:
        source = str(configuration.source)
        content = {"source": source, "database": database, "values": values, "warnings": said}
        print_document(Schema.CONFIG, content)
        return
    screen = console()
    rows = table("key", "value", title=f"{configuration.source}")
    for key, value in values.items():
        rows.add_row(key, _text(value))
    screen.print(rows)
    screen.print(f"\nThe database is set by {database}.", soft_wrap=True)
    for sentence in said:
        screen.print(f"· {sentence}", soft_wrap=True)
    screen.print("The configuration is valid.")


def _differs(configuration: Configuration) -> Iterator[str]:
    """Yield what the file changes against the version that runs; nothing if PostgreSQL cannot be reached."""
    try:
        with opened("config check") as database, database.statement() as session:
            runs = configurations.taken(session)
    except DatabaseError as error:
        yield f"the version that runs is not known, so the file was not compared with it: {error}"
        return
    for change in changes_since(runs, configuration):
        after = (
            f"after a restart of {change.restart}" if change.restart else "after `mini-pacs config reload`"
        )
        yield f"{change.text}: counts {after}"


def flat(section: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield each key with its sections, as `edge.urgent.modalities`, and its value."""
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, one in enumerate(value):
                yield from flat(one, f"{prefix}{name}[{number}].")
        else:
            yield f"{prefix}{name}", value


def database_source(environment: Mapping[str, str]) -> str:
    """Return which variables say where PostgreSQL is; never a password."""
    if environment.get("DATABASE_URL"):
        return "DATABASE_URL"
    names = [f"POSTGRES_{part}" for part in ("HOST", "PORT", "DB", "USER", "PASSWORD")]
    given = [name for name in names if environment.get(name)]
    return ", ".join(given) or "nothing: it is looked for on 127.0.0.1:5432, database and user mini_pacs"


def warnings(configuration: Configuration, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each value that is allowed but may be a mistake."""
    if environment.get("DATABASE_URL") and environment.get("POSTGRES_HOST"):
        yield "DATABASE_URL and POSTGRES_HOST are both set: DATABASE_URL is used"
    yield from certificates.warnings(configuration, datetime.now(UTC))
    yield from _of_spool(configuration.edge)
    yield from _of_senders(configuration)
    yield from contexts.warnings(configuration.edge)
    yield from _of_search(configuration.edge)
    yield from _of_addresses(configuration)
    yield from _of_console(configuration)
    yield from file_notes.warnings(configuration)
    yield from _of_destinations(configuration)
    yield from _of_retries(configuration.forwarder)
    yield from rule_notes.warnings(configuration)


def _of_search(edge: Edge) -> Iterator[str]:
    try:
        search_key(edge)
    except ConfigurationError as error:
        yield f"{error}; nothing is hashed, and `mini-pacs why` finds no number"


def _of_spool(edge: Edge) -> Iterator[str]:
    if not edge.data_root.is_dir():
        yield f"edge.data_root {edge.data_root} does not exist yet: `mini-pacs serve` creates it"
    if edge.disk_reserve_mb == 0:
        yield "edge.disk_reserve_mb is 0: the disk may become full, also for PostgreSQL"


def _of_senders(configuration: Configuration) -> Iterator[str]:
    edge = configuration.edge
    for uid, name in MINIMUM_SOP_CLASSES.items():
        if edge.accepted_sop_classes and uid not in edge.accepted_sop_classes:
            yield f"edge.accepted_sop_classes lacks {name} ({uid})"
    for title in edge.urgent.calling_aets:
        if title not in edge.calling_ae_titles:
            yield f"edge.urgent.calling_aets names {title}, which edge.allowed_calling_aets does not allow"
    pacs = configuration.forwarder.orthanc.ae_title
    if pacs not in edge.calling_ae_titles:
        yield f"{pacs} is not in edge.allowed_calling_aets: it cannot send to the edge"


def _of_addresses(configuration: Configuration) -> Iterator[str]:
    edge = configuration.edge
    if in_use(edge):
        yield f"edge.port {edge.port} is in use; if not by the edge itself, `mini-pacs serve` cannot start"
    shown = edge.tls is not None and edge.tls.client_certificate == "required"
    anywhere = [entry.ae_title for entry in edge.allowed_callers if entry.origin is None]
    if anywhere and not shown and not _is_loopback(edge.bind_address):
        yield (
            f"edge.allowed_calling_aets lets {', '.join(anywhere)} in from any address, and edge.tls asks "
            "for no certificate: any caller can use an AE title; write AE@address or AE@network"
        )
    for worker in configuration.forwarder.workers:
        entries = [entry for entry in edge.allowed_callers if entry.ae_title in worker.calling_titles]
        try:
            address = ip_address(worker.host)
        except ValueError:
            continue  # a host name: its address is not known here
        if all(entry.network is not None and address not in entry.network for entry in entries):
            yield (
                f"{worker.ae_title} is reached at {worker.host}, from where edge.allowed_calling_aets does "
                "not let it in: its results may be rejected"
            )


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _of_destinations(configuration: Configuration) -> Iterator[str]:
    ours = {("127.0.0.1", configuration.edge.port), ("localhost", configuration.edge.port)}
    addresses: dict[tuple[str, int], str] = {}
    for destination in configuration.destinations:
        address = destination.host, destination.port
        title = destination.ae_title
        other = addresses.setdefault(address, title)
        if other != title:
            yield f"{other} and {title} have the same address {destination.host}:{destination.port}"
        if address in ours:
            yield f"{title} has the edge's own port {destination.port}: the edge would send to itself"


def _of_retries(forwarder: Forwarder) -> Iterator[str]:
    if forwarder.backoff_base_seconds > forwarder.backoff_max_seconds:
        yield "forwarder.backoff_base_seconds exceeds backoff_max_seconds: every wait is the latter"
    if 0 < len(forwarder.workers) <= forwarder.max_redispatch:
        yield "forwarder.max_redispatch asks more workers than there are: a worker is asked twice"


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "(none)"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _of_console(configuration: Configuration) -> Iterator[str]:
    console = configuration.console
    is_local = console.bind == "localhost" or is_loopback(console.bind)
    if not is_local and console.tls is None:
        yield (
            f"console.bind {console.bind} is reached from other machines, and console.tls is off: passwords "
            "and sessions can be read on the way; set console.tls, or 127.0.0.1 with a reverse proxy"
        )
