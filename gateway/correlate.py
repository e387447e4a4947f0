"""A result finds the instances it was derived from, inside the transaction that receives it.

When `correlate` returns and the transaction commits, the result is linked to its sources, every
expectation that it satisfies is met (or noted as late), and it carries how it was found: by
`references`, by its `study`, `ambiguous` or `unmatched`. It is owed to the PACS in any case.

If the process dies before the commit, nothing happened; the worker got no Success and sends again.
A repeat is correlated too: it may be the answer to a second request to the same worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.domain.matching import Match, match
from gateway.store import results
from gateway.store.database import Session


@dataclass(frozen=True, slots=True)
class Result:
    """What correlation needs of a received result."""

    instance_id: int
    worker: str
    study_instance_uid: str
    referenced_sop_instance_uids: Sequence[str]
    referenced_series_instance_uids: Sequence[str]


@dataclass(frozen=True, slots=True)
class Correlated:
    """What was found; `late` where an expectation that it meets had timed out before."""

    match: Match
    late: bool


def correlate(session: Session, result: Result) -> Correlated:
    """Link `result` to its sources and settle what its worker owed."""
    references = bool(result.referenced_sop_instance_uids or result.referenced_series_instance_uids)
    if references:
        # A reference to an instance is more exact than one to its series.
        found = match(
            results.candidates_by_reference(
                session,
                worker=result.worker,
                sop_instance_uids=result.referenced_sop_instance_uids,
                series_instance_uids=(
                    () if result.referenced_sop_instance_uids else result.referenced_series_instance_uids
                ),
            ),
            (),
            has_references=True,
        )
    else:
        in_study = results.candidates_in_study(session, worker=result.worker, study=result.study_instance_uid)
        found = match((), in_study, has_references=False)
    late = False
    if found.source_instance_ids:
        results.link_sources(session, result.instance_id, found.source_instance_ids, worker=result.worker)
    if found.expectation_ids:
        late = results.satisfy(session, found.expectation_ids, result_id=result.instance_id)
    results.flag(session, result.instance_id, found.correlation, late=late)
    return Correlated(found, late)
