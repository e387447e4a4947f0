"""Find one UID with several images, and results of instances that nobody sent."""

from collections.abc import Iterator

from gateway.database.tables.overview import Overview
from gateway.database.tables.strays import ConflictsOfSender
from gateway.diagnosis.finding import Finding, Holds, note, problem
from gateway.domain.routing import Route
from gateway.times import moment

MANY = 3
"""So many further versions, or results without a source, are no accident."""


def conflicts(view: Overview) -> Iterator[Finding]:
    """Yield each sender that uses a SOP Instance UID for several images."""
    titles = {d.ae_title for d in view.destinations if d.route is Route.WORKERS}
    for one in view.conflicts:
        if one.calling_ae_title in titles:
            yield _of_worker(one)
            continue
        make = problem if one.versions - one.uids >= MANY else note
        sender = f"{one.calling_ae_title} at {one.remote_address}"
        uids = "one SOP Instance UID" if one.uids == 1 else f"{one.uids:,} SOP Instance UIDs"
        yield make(
            f"instances.conflict:{one.calling_ae_title}@{one.remote_address}",
            f"{sender} sent {one.versions:,} versions of {uids} with other bytes since "
            f"{moment(one.first_at)}, the last of {one.newest}",
            "all are kept and forwarded in their order; an archive keeps only the last one, so images "
            "replace each other",
            "`mini-pacs instances list --conflict` lists them; if they are different images, the sender must "
            "give each a UID of its own: ask its vendor",
            since=one.first_at,
            holds=Holds.SOME,
        )


def _of_worker(one: ConflictsOfSender) -> Finding:
    """Say that a worker returns its results under the UIDs of the images."""
    make = problem if one.versions >= MANY else note
    return make(
        f"instances.conflict:{one.calling_ae_title}@{one.remote_address}",
        f"{one.calling_ae_title} at {one.remote_address} returned {one.versions:,} results since "
        f"{moment(one.first_at)} under the SOP Instance UID of another image, the last under {one.newest}",
        "an archive keeps only the last one of a UID: the result replaces the image",
        f"ask the vendor of {one.calling_ae_title}: each result needs a SOP Instance UID of its own; "
        f"`mini-pacs destinations pause {one.calling_ae_title}` takes it out; `mini-pacs instances list "
        "--conflict` lists what happened",
        since=one.first_at,
        holds=Holds.WORKERS,
    )


def unmatched(view: Overview) -> Iterator[Finding]:
    """Yield each sender whose last results match no instance."""
    titles = {d.ae_title for d in view.destinations}
    for one in view.unmatched:
        is_worker = one.calling_ae_title in titles
        make = problem if is_worker and one.results >= MANY else note
        yield make(
            f"results.stray:{one.calling_ae_title}@{one.remote_address}",
            f"The last {one.results:,} results of {one.calling_ae_title} at {one.remote_address} name no "
            f"source that is known here, since {moment(one.first_at)}",
            "the PACS gets them all the same; what it was asked for stays unanswered, and is asked of others",
            "`mini-pacs results list --unmatched` says what each names; does it copy the UIDs of the images "
            "that it got?",
            since=one.first_at,
            holds=Holds.WORKERS,
        )
