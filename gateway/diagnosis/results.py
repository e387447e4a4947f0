"""Results of the workers: given up, without a match; and repeats that were not forwarded."""

from collections.abc import Iterator

from gateway.database.tables.overview import Overview
from gateway.diagnosis.finding import Finding, Holds, note, problem
from gateway.domain.routing import Route
from gateway.times import since

LACKS = {Route.PACS: "the PACS", Route.ARCHIVES: "an archive", Route.WORKERS: "an application"}


def results(view: Overview) -> Iterator[Finding]:
    """Yield what is wrong with results."""
    found = view.results
    if found.given_up:
        yield problem(
            "results.given_up",
            f"{found.given_up:,} instances got no result from any worker",
            "the edge asks no further worker; the PACS gets their originals all the same",
            "`mini-pacs destinations list` shows what workers owe; when they answer again: "
            "`mini-pacs deliveries resend --route workers --study UID`",
            holds=Holds.WORKERS,
        )
    for count, key, what in (
        (found.unmatched, "results.unmatched", "match no instance here"),
        (found.ambiguous, "results.ambiguous", "match several instances"),
    ):
        if count:
            yield note(
                key,
                f"{count:,} results {what}",
                "the PACS gets them all the same",
                "`mini-pacs results list --unmatched` says from whom they are, and why",
            )


def repeats(view: Overview) -> Iterator[Finding]:
    """Yield a note about repeats that were not forwarded."""
    repeated = view.unforwarded
    if repeated is not None:
        yield note(
            "repeats.unforwarded",
            f"{repeated.count:,} instances were sent again and not forwarded, the last "
            f"{since(repeated.at, view.now)} ago by {repeated.calling_ae_title}: they were delivered before "
            "(edge.duplicate_window_seconds)",
            "",
            f"where {LACKS[Route(repeated.route)]} lacks them: `mini-pacs deliveries resend "
            f"--route {repeated.route} --study {repeated.study_instance_uid}`",
            since=repeated.at,
        )
