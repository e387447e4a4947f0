"""After the cut and a restart: what is wrong, one sentence each; there must be nothing.

It knows the answers that senders got, and nothing of the order in which the edge works. So an instance may
have been registered before its answer or behind it.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from support.synthetic_instances import Instance

from proof.power_cuts.edge import PoweredEdge, Seen
from proof.power_cuts.load import Key


def violations(
    edge: PoweredEdge, acknowledged: set[Key], sent: Mapping[Key, Instance], taken: Seen
) -> list[str]:
    """Compare what was acknowledged with rows, files and peers; and both with what was sent."""
    rows = edge.rows()
    found = [f"{uid} was answered Success and has no row" for uid, _ in acknowledged - rows.keys()]
    # a result says that a worker has its sources, although the worker that sends it never took them
    answered = {uid for one in sent.values() for _, uid in one.sources}
    for key, (size, place, study, name, kind, deliveries) in rows.items():
        path = edge.run.root / place / study / name
        if key not in sent:
            found.append(f"{key[0]} has a row with bytes that nobody sent")
        elif not _holds(path, sent[key], size):
            found.append(f"{key[0]}: {place}/{study}/{name} is not what was sent")
        if key not in acknowledged:
            continue
        states = dict(delivery.split() for delivery in deliveries or ())
        for route in ("pacs",) if kind == "result" else ("pacs", "workers"):
            state = states.get(route, "not owed")
            if state != "delivered":
                found.append(f"{key[0]} was answered Success; to {route} it is {state}")
            elif not taken[route, key] and not (route == "workers" and key[0] in answered):
                found.append(f"{key[0]} counts as delivered to {route}, which never got it")
    found += [
        f"{uid} came to {route} with bytes that nobody sent"
        for route, (uid, digest) in taken
        if (uid, digest) not in sent
    ]
    return sorted(found)


def _holds(path: Path, instance: Instance, size: int) -> bool:
    data_set = instance.data_set()
    if not path.exists() or size != len(data_set):
        return False
    kept = path.read_bytes()[-size:]
    return hashlib.sha256(kept).digest() == hashlib.sha256(data_set).digest()
