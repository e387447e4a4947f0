"""The folder of a lab, its ports on 127.0.0.1, and the config.yaml that names them.

    config.yaml           written once; the user may edit it
    data/                 the spool
    logs/                 edge.log, and NAME.out with the output of each process
    postgres/  pacs/      the files of PostgreSQL and of the PACS

An existing config.yaml is never overwritten; only the number of a port that another program uses is
replaced. If the process dies inside `write` or `replace_ports`, the file is as it was before.
"""

import random
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LOOPBACK = "127.0.0.1"
WORKERS = ("APP01", "APP02", "APP03", "APP04", "APP05")
WELL_KNOWN_HTTP = 8042
WELL_KNOWN = (11112, 4242, WELL_KNOWN_HTTP, 11201, 11202, 11203, 11204, 11205)
"""In the order of the fields of Ports."""

Take = Callable[[int], bool]
"""A function that tells whether a port may be used; it may also claim the port."""
Key = tuple[str | int, ...]
"""The path to a value in config.yaml: ("forwarder", "workers", 0, "port")."""

_HIGH = range(15_000, 32_000)
"""Below the ports of Linux for outgoing connections, because such a connection could take a free port."""

_random = random.SystemRandom()  # not the shared generator, which tests may seed


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on 127.0.0.1; `workers` has one for each of WORKERS."""

    edge: int
    pacs: int
    pacs_http: int
    workers: tuple[int, ...]


def is_free(port: int) -> bool:
    """Tell whether no process listens on the port; check all addresses, because Orthanc uses all of them."""
    with socket.socket() as probe:
        # Servers set this too: a closed connection in TIME_WAIT then does not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))  # never listens
        except OSError:
            return False
    return True


def is_listening(port: int) -> bool:
    """Tell whether a process accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)  # must exceed a round trip on loopback to a process that is paused
        return probe.connect_ex((LOOPBACK, port)) == 0


def free_ports(count: int, wanted: Iterable[int] = (), take: Take = is_free) -> list[int]:
    """Return `count` different ports that `take` allows: the wanted ones if possible, else random ones."""
    found: list[int] = []
    for port in wanted:
        found.append(port if take(port) else _any_free(found, take))
    while len(found) < count:
        found.append(_any_free(found, take))
    return found


def choose_ports(*, well_known: bool, take: Take = is_free) -> Ports:
    """Return the ports for a lab; with `well_known` the usual ones, as far as they are free."""
    wanted = WELL_KNOWN if well_known else ()
    edge, pacs, pacs_http, *workers = free_ports(3 + len(WORKERS), wanted, take)
    return Ports(edge, pacs, pacs_http, tuple(workers))


def configuration(ports: Ports, changes: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Return the content of a lab's config.yaml: the values that differ from the defaults.

    `changes` replace values, section by section: `{"forwarder": {"max_retries": 1}}`.
    """
    peers = {"host": LOOPBACK}
    content: dict[str, Any] = {
        "edge": {
            "ae_title": "MINI_EDGE",
            "bind_address": LOOPBACK,
            "port": ports.edge,
            "allowed_calling_aets": ["ORTHANC", *WORKERS],
        },
        "forwarder": {
            "orthanc": {**peers, "port": ports.pacs, "ae_title": "ORTHANC", "timeout_s": 30},
            "workers": [
                {**peers, "port": port, "ae_title": title, "timeout_s": 10}
                for title, port in zip(WORKERS, ports.workers, strict=True)
            ],
        },
    }
    for section, values in (changes or {}).items():
        content[section] = {**content.get(section, {}), **values}
    return content


def write(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write `folder`/config.yaml with that content unless it exists; return its path."""
    path = folder / "config.yaml"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(
            "# Written by the lab. Its processes read it when they start: after a change, restart the lab.\n"
            "# Missing keys have their defaults; the config.yaml of the project explains them.\n"
            + yaml.safe_dump(dict(content), sort_keys=False),
            encoding="utf-8",
        )
        part.replace(path)
    return path


def replace_ports(path: Path, ports: Mapping[Key, int]) -> list[Key]:
    """Replace these ports in config.yaml; leave comments and all else as they are.

    Return the keys that the file does not have, because their values are defaults; they are not written.
    """
    text = path.read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    places, absent = {}, []
    for key, port in ports.items():
        node = _at(root, key)
        if node is None:
            absent.append(key)
        else:
            places[node.start_mark.index, node.end_mark.index] = str(port)
    for (start, end), number in sorted(places.items(), reverse=True):
        text = text[:start] + number + text[end:]
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return absent


def _at(node: yaml.Node | None, key: Key) -> yaml.Node | None:
    for step in key:
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step] if step < len(node.value) else None
        elif isinstance(node, yaml.MappingNode):
            node = next((value for name, value in node.value if name.value == step), None)
        else:
            return None
    return node


def _any_free(taken: list[int], take: Take) -> int:
    while True:
        port = _random.choice(_HIGH)
        if port not in taken and take(port):
            return port
