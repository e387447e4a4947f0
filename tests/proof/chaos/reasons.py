"""The reasons of dead deliveries, and whether a fault of this run explains each.

No I/O. All faults of a run end, so a delivery may be dead only because of a fault: a peer refused the
instance on every attempt, or the actor was killed at each. Any other reason is a defect of the edge, even
if no file is lost.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from proof.chaos.faults import Done, Way
from proof.chaos.ledger import ARCHIVES, GIVEN_UP, NOT_SENT, PACS, Deviation

ENDED = frozenset({"dead", "cancelled", GIVEN_UP, NOT_SENT})


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause of dead deliveries: its name, the pattern of the reason, and the fault behind it."""

    says: str
    what: str
    reason: re.Pattern[str]
    does: Callable[[Done, Way], bool]


def _is(*names: str) -> Callable[[Done, Way], bool]:
    return lambda fault, _: fault.name in names


_BROKEN = (
    "silent for",
    "did not come to its end",
    "connection lost",
    "connection closed by the peer",
    "aborted by the peer",
    "took nothing for",
    "the association has ended",
    "fault drop_association",
)

HANG = "inject worker_hang"

CAUSES: tuple[Cause, ...] = (
    Cause(
        "the peer refused it (0xC000)",
        "dead",
        re.compile(r"gave up after \d+ attempts: \S+ answered 0xC000"),
        _is("answers C000 the PACS"),
    ),
    Cause(
        "the PACS holds another version (0x0111)",
        "dead",
        re.compile(r"conflict: the peer holds this SOP Instance UID already"),
        _is("answers 0111 the PACS"),
    ),
    Cause(
        "the peer broke off each time",
        "dead",
        re.compile(rf"gave up after \d+ attempts: .*(?:{'|'.join(_BROKEN)})"),
        lambda fault, way: way in fault.ways,
    ),
    Cause(
        "its actors were killed over it",
        "dead",
        re.compile(r"process \d+ on \S+ died while running it"),
        lambda fault, way: fault.name.startswith("kill") and "actors-" in fault.name and way in fault.ways,
    ),
    Cause(
        "no worker had it: each was taken to have answered",
        GIVEN_UP,
        re.compile(""),
        _is(HANG),
    ),
    Cause("another version's result answered for it", NOT_SENT, re.compile(""), _is(HANG)),
)


def causes(deviations: Iterable[Deviation], faults: Sequence[Done]) -> Counter[str]:
    """Return how many dead deliveries this run's faults explain, by cause."""
    found = (_cause(deviation, faults) for deviation in deviations if deviation.what in ENDED)
    return Counter(f"{cause.what}: {cause.says}" for cause in found if cause is not None)


def unexplained(deviations: Iterable[Deviation], faults: Sequence[Done]) -> list[Deviation]:
    """Return the dead deliveries that no fault of this run explains."""
    return [one for one in deviations if one.what in ENDED and _cause(one, faults) is None]


def _cause(deviation: Deviation, faults: Sequence[Done]) -> Cause | None:
    way = _way(deviation.route)
    for cause in CAUSES:
        if deviation.what == cause.what and cause.reason.match(deviation.reason):
            return cause if any(cause.does(fault, way) for fault in faults) else None
    return None


def _way(route: str) -> Way:
    """Return the path of a route of the ledger: `pacs (results)`, `workers.chest-ct`, `units of chest-ct`."""
    name = route.partition(" ")[0].partition(".")[0]
    return Way(name) if name in {PACS, ARCHIVES} else Way.WORKERS
