"""Find the instances that a result was derived from, inside the transaction that receives it.

When `correlate` returns and the transaction commits, the result is linked to its sources, every
expectation that it satisfies is met (or noted as late), and it carries how it was found: by
`references`, by its `study`, `ambiguous` or `unmatched`. It is owed to the PACS in any case.

Of several versions of one SOP Instance UID, the source is the one that this worker was sent. A worker that
returns the very bytes of a kept original has answered for it: `correlate_equal`.

If the process dies before the commit, nothing happened; the worker got no Success and sends again.
A repeat is correlated too: it may be the answer to a second request to the same worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.database.session import Session
from gateway.database.tables import results
from gateway.domain.matching import Match, match


@dataclass(frozen=True, slots=True)
class Result:
    """What correlation needs of a received result.

    `workers` are those that it may come from: several, where they call by one AE title.
    """

    instance_id: int
    workers: Sequence[str]
    sop_instance_uid: str
    study_instance_uid: str
    referenced_sop_instance_uids: Sequence[str] = ()
    referenced_series_instance_uids: Sequence[str] = ()
    referenced_study_instance_uids: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Correlated:
    """What was found; `late` where an expectation that it meets had timed out before.

    `correlation` is None where the result equals its source.
    """

    match: Match
    late: bool

    @property
    def outcome(self) -> str:
        """One word for the log."""
        if self.match.correlation is None:
            return "equals_source"
        return "late" if self.late else self.match.correlation.value


def correlate(session: Session, result: Result) -> Correlated:
    """Link `result` to its sources and settle what its worker owed."""
    found = _find(session, result)
    late = False
    if found.source_instance_ids:
        worker = next(iter(found.workers), result.workers[0])
        results.link_sources(session, result.instance_id, found.source_instance_ids, worker=worker)
    if found.expectation_ids:
        late = results.satisfy(session, found.expectation_ids, result_id=result.instance_id)
    assert found.correlation is not None, "match always says how"
    results.flag(session, result.instance_id, found.correlation, late=late)
    return Correlated(found, late)


def correlate_equal(session: Session, original_id: int, workers: Sequence[str]) -> Correlated:
    """Settle what `workers` owed for an original that one of them returned unchanged.

    There is no row of a result to link or flag: the expectation names the original itself as its result.
    """
    asked = results.candidates_by_reference(session, workers=workers, instance_ids=[original_id])
    owed = tuple(one.expectation_id for one in asked if one.expectation_id is not None)
    late = bool(owed) and results.satisfy(session, owed, result_id=original_id)
    return Correlated(Match(None, (original_id,), owed), late)


def _find(session: Session, result: Result) -> Match:
    """Go from the most exact reference to the least; what nothing is known of does not count."""
    named = results.candidates_by_reference(
        session,
        workers=result.workers,
        # Some applications return their result under the SOP Instance UID of its source.
        sop_instance_uids=[*result.referenced_sop_instance_uids, result.sop_instance_uid],
    )
    if not named and result.referenced_series_instance_uids:
        named = results.candidates_by_reference(
            session,
            workers=result.workers,
            series_instance_uids=result.referenced_series_instance_uids,
        )
    if named:
        return match(named, ())
    # Referenced Study Sequence holds the UID of the study as a Referenced SOP Instance UID.
    studies = [*result.referenced_study_instance_uids, *result.referenced_sop_instance_uids]
    others = [study for study in studies if study != result.study_instance_uid]
    in_study = results.candidates_in_study(session, workers=result.workers, studies=others) if others else []
    if not in_study:
        own = [result.study_instance_uid]
        in_study = results.candidates_in_study(session, workers=result.workers, studies=own)
    return match((), in_study)
