"""The screen Deliveries: filters, groups by reason, and a page of rows."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from gateway.database.session import Session
from gateway.database.tables import delivery_search
from gateway.database.tables.delivery_search import Page, ReasonGroup, WantedDeliveries
from gateway.domain.delivery import State
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, is_ae_title, is_uid
from gateway.domain.routing import Route, Target

PAGE = 50

STATES: dict[str, tuple[str, tuple[State, ...] | None]] = {
    "": ("any state", None),
    "waiting": ("waiting", (State.COLLECTING, State.PENDING, State.IN_FLIGHT)),
    "dead": ("dead", (State.DEAD,)),
    "cancelled": ("cancelled", (State.CANCELLED,)),
    "pending": ("pending", (State.PENDING,)),
    "collecting": ("collecting", (State.COLLECTING,)),
    "in_flight": ("in flight", (State.IN_FLIGHT,)),
    "delivered": ("delivered", (State.DELIVERED,)),
}
"""The values of the filter `state`, with their label."""


@dataclass(frozen=True, slots=True)
class Filter:
    """The filters of the screen as they are in its address. A value that makes no sense selects all."""

    state: str = ""
    target: str = ""
    worker: str = ""
    reason: str = ""
    study: str = ""

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> "Filter":
        """Read the filters from the query string, or from the form of an action."""
        state, target = fields.get("state", ""), fields.get("target", "")
        worker, reason, study = (fields.get(name, "") for name in ("worker", "reason", "study"))
        return cls(
            state if state in STATES else "",
            target if _target(target) is not None else "",
            worker if worker and is_ae_title(worker) else "",
            reason if reason.isascii() and reason.isalnum() else "",
            study if is_uid(study, MAX_DATA_SET_UID_LENGTH) else "",
        )

    @property
    def wanted(self) -> WantedDeliveries:
        """Return the selection for the search."""
        return WantedDeliveries(
            STATES[self.state][1],
            _target(self.target),
            self.worker or None,
            self.reason or None,
            self.study or None,
        )

    @property
    def fields(self) -> dict[str, str]:
        """Return the filters as fields of an address or a form, without empty ones."""
        return {name: value for name, value in asdict(self).items() if value}

    @property
    def words(self) -> str:
        """Return the filters in words: `dead, to ORTHANC, for one reason`."""
        parts = (
            STATES[self.state][0] if self.state else "",
            f"to {self.target.partition(':')[2]}" if self.target else "",
            f"last sent to {self.worker}" if self.worker else "",
            "for one reason" if self.reason else "",
            f"of study {self.study}" if self.study else "",
        )
        return ", ".join(part for part in parts if part) or "all"


def _target(text: str) -> Target | None:
    route, colon, name = text.partition(":")
    if not colon or not name or route not in set(Route):
        return None
    return Target(Route(route), name)


@dataclass(frozen=True, slots=True)
class ListedDeliveries:
    """What the screen shows. `seen` is the number of deliveries in all groups."""

    page: Page
    groups: tuple[ReasonGroup, ...]
    seen: int

    @property
    def is_more(self) -> bool:
        """Whether there are more deliveries than were counted."""
        return self.seen >= delivery_search.GROUPED


def listed(session: Session, chosen: Filter, after: int | None) -> ListedDeliveries:
    """Read the groups and a page of deliveries, newest first."""
    groups = () if after is not None else tuple(delivery_search.groups(session, chosen.wanted))
    page = delivery_search.page(session, chosen.wanted, limit=PAGE, after=after)
    return ListedDeliveries(page, groups, groups[0].seen if groups else 0)
