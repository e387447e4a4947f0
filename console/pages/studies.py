"""Studies: newest first, live, with filters; and the search for what somebody typed.

The typed word may be an accession number or a patient ID. So every word comes by POST, and is never written
into an address, a log line, the record of activity or the answer.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.action import change
from console.database import query, shared
from console.pages.positions import position, position_of
from console.parts import parts
from console.screen import account, form, go, page, read
from console.screen import link as link_to
from console.views import studies as views
from gateway.database.session import Session
from gateway.database.tables import search_hashes, studies, study_search
from gateway.database.tables.studies import Position
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, is_ae_title, is_uid
from gateway.errors import ConfigurationError
from gateway.search.key import search_key
from gateway.search.word import is_known_title, studies_by_number

FIELDS = ("period", "from", "until", "zone", "state", "sender", "after")
LARGEST_ZONE = 14 * 60
LARGEST_ID = (1 << 63) - 1


async def show(request: Request) -> Response:
    """List the studies that the filters select."""
    fields = {name: request.query_params.get(name, "") for name in FIELDS}
    sender = fields["sender"] if is_ae_title(fields["sender"]) else ""
    looked_for = views.wanted(
        fields["period"],
        fields["state"],
        sender,
        begin=_local(fields["from"], fields["zone"]),
        until=_local(fields["until"], fields["zone"]),
    )
    after = place_of(fields["after"])
    listed = await read(request, views.listed, looked_for, after)
    senders = await shared(request, study_search.senders)
    following = None if listed.following is None else position_text(listed.following)
    return page(
        request,
        "studies.html",
        part="_studies.html",
        listed=listed,
        fields=fields | {"sender": sender},
        senders=_offered(request, senders, sender),
        periods=views.PERIODS,
        states=views.STATES,
        is_filtered=any(value for name, value in fields.items() if name not in {"after", "zone"}),
        is_first=after is None,
        next_page=None if following is None else link_to("/studies", fields, after=following),
        has_key=_has_key(request),
        heading="Studies",
    )


def _offered(request: Request, recent: Iterable[str], chosen: str = "") -> list[str]:
    """Return the AE titles that the filter offers: configured ones, and those that sent something lately."""
    titles = {*recent, *parts(request).configuration.edge.calling_ae_titles, chosen}
    return sorted(title for title in titles if is_ae_title(title))


def position_text(place: Position) -> str:
    """Return a place in a list as text for an address."""
    return position((place.received_at, str(place.instance_id))) or ""


def place_of(text: str) -> Position | None:
    """Return the place that a text of `position_text` names; None where it is none."""
    found = position_of(text, lambda one: str(min(int(one), LARGEST_ID)))
    return None if found is None else Position(found[0], int(found[1]))


def _local(text: str, zone: str) -> datetime | None:
    """Return a time that was typed in the zone of the browser, which is `zone` minutes before UTC."""
    try:
        minutes = int(zone or "0")
        if not text or abs(minutes) > LARGEST_ZONE:
            return None
        when = datetime.fromisoformat(text[:19])
        if when.tzinfo is not None or when.year < 1970:  # noqa: PLR2004  the years that PostgreSQL and Python share
            return None
        return when.replace(tzinfo=timezone(timedelta(minutes=-minutes))).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _has_key(request: Request) -> bool:
    return parts(request).configuration.edge.search_key is not None


# ---- the search ----------------------------------------------------------------------------------------


async def search(request: Request) -> Response:
    """Find the typed word: a study, the studies of a sender, or those with a number of a patient."""
    word = form(request).get("word", "").strip()
    if not word:
        return go(
            request, "/studies", "Type a UID, an AE title, an accession number or a patient ID.", "note"
        )
    if "." in word and is_uid(word, MAX_DATA_SET_UID_LENGTH):
        return await _of_uid(request, word)
    if await query(request, is_known_title, word, parts(request).configuration):
        return go(request, link_to("/studies", {"sender": word}))
    return await _of_number(request, word)


async def _of_uid(request: Request, uid: str) -> Response:
    found = await query(request, _studies_of, uid)
    if len(found) > 1:
        return await _list(request, found, f"Studies that hold {uid}")
    return go(request, f"/studies/{found[0] if found else uid}")


def _studies_of(session: Session, uid: str) -> list[str]:
    return [uid] if studies.is_kept(session, uid) else study_search.studies_of(session, uid)


async def _of_number(request: Request, word: str) -> Response:
    try:
        key = search_key(parts(request).configuration.edge)
    except ConfigurationError as error:
        return go(request, "/studies", f"Numbers cannot be searched: {error}", "bad")
    if key is None:
        return go(
            request,
            "/studies",
            "That is no UID and no AE title that the edge knows. Accession numbers and patient IDs are found "
            "where `edge.search_key` is set, or with `mini-pacs why --read-files` on the host of the edge.",
            "note",
        )
    found = await change(request, studies_by_number, key, word, account(request).operator)
    if found is None:
        most = search_hashes.MOST_SEARCHES
        return go(
            request, "/studies", f"More than {most} searches by number within two minutes: wait.", "bad"
        )
    return await _list(request, found, "Studies with that number")


async def _list(request: Request, study_instance_uids: list[str], heading: str) -> Response:
    listed = await query(request, views.those, study_instance_uids)
    return page(
        request,
        "studies.html",
        listed=listed,
        fields=dict.fromkeys(FIELDS, ""),
        senders=_offered(request, ()),
        periods=views.PERIODS,
        states=views.STATES,
        is_filtered=True,
        is_first=True,
        next_page=None,
        has_key=_has_key(request),
        heading=heading,
    )


routes = [Route("/studies", show), Route("/studies/search", search, methods=["POST"])]
