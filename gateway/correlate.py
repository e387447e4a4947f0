"""Find the instances that a result was derived from, in the transaction that registers the result.

After the commit the result is linked to its source instances, the expected results that it fulfils are marked
as arrived or late, and the result has a flag that says how its sources were found: `references`, `study`,
`ambiguous` or `unmatched`. It is sent to the PACS in each case.

If a SOP Instance UID has several versions, the source is the version that this worker got. A worker that
returns exactly the bytes of an original fulfils the expected result too (`correlate_equal`). A repeat of a
result is also correlated, because it may be the answer to a second request to the same worker.

If the process dies
    before the commit   nothing is stored; the result is unregistered, and the next process registers it
    after the commit    everything is stored; a repeat changes nothing
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.database.session import Session
from gateway.database.tables import results, units
from gateway.domain.matching import Correlation, Match, match


@dataclass(frozen=True, slots=True)
class Result:
    """The parts of a received result that correlation uses.

    `workers` are the workers that it may come from; several if they call with the same AE title.
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
    """The sources that were found. `late`: an expected result that it fulfils had timed out before.

    `is_older`: it is of an older generation of a series or study, and fulfils nothing.
    """

    match: Match
    late: bool
    is_older: bool = False

    @property
    def outcome(self) -> str:
        """The outcome of the log line."""
        if self.match.correlation is None:
            return "equals_source"
        if self.is_older:
            return "older_generation"
        return "late" if self.late else self.match.correlation.value


def correlate(session: Session, result: Result) -> Correlated:
    """Link `result` to its sources and mark the expected results that it fulfils."""
    found = _find(session, result)
    late = False
    if found.source_instance_ids:
        worker = next(iter(found.workers), result.workers[0])
        results.link_sources(session, result.instance_id, found.source_instance_ids, worker=worker)
    if found.expectation_ids:
        late = results.satisfy(session, found.expectation_ids, result_id=result.instance_id)
    answer = _answer_units(session, result, found)
    late = late or answer.late
    if found.correlation is Correlation.AMBIGUOUS and answer.answered == 1:
        found = replace(found, correlation=Correlation.STUDY)
    assert found.correlation is not None, "match sets it for a result with a row"
    results.flag(session, result.instance_id, found.correlation, late=late)
    return Correlated(found, late, answer.is_older)


def _answer_units(session: Session, result: Result, found: Match) -> units.UnitAnswer:
    """Mark the series and studies as answered that the result was derived from.

    If it references no instance, it answers the only one of its study whose result its worker owes.
    """
    if found.correlation is Correlation.REFERENCES:
        return units.answer(
            session, result.instance_id, source_ids=found.source_instance_ids, workers=result.workers
        )
    if found.expectation_ids:
        return units.UnitAnswer(0, late=False, is_older=False)
    studies = {
        result.study_instance_uid,
        *result.referenced_study_instance_uids,
        *result.referenced_sop_instance_uids,
    }
    return units.answer(session, result.instance_id, studies=studies, workers=result.workers)


def correlate_equal(session: Session, original_id: int, workers: Sequence[str]) -> Correlated:
    """Mark the result as arrived that `workers` should return for an original, which one returned unchanged.

    There is no row of a result to link or flag; the expected result refers to the original itself.
    """
    asked = results.candidates_by_reference(session, workers=workers, instance_ids=[original_id])
    expected = tuple(expectation for one in asked for expectation in one.expectation_ids)
    late = bool(expected) and results.satisfy(session, expected, result_id=original_id)
    answer = units.answer(session, original_id, source_ids=[original_id], workers=workers)
    return Correlated(Match(None, (original_id,), expected), late or answer.late, answer.is_older)


def _find(session: Session, result: Result) -> Match:
    """Search by the most exact reference first; ignore references to unknown instances."""
    named = results.candidates_by_reference(
        session,
        workers=result.workers,
        # Some applications give their result the SOP Instance UID of its source.
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
    # An item of Referenced Study Sequence has the study's UID as its Referenced SOP Instance UID.
    studies = [*result.referenced_study_instance_uids, *result.referenced_sop_instance_uids]
    others = [study for study in studies if study != result.study_instance_uid]
    in_study = results.candidates_in_study(session, workers=result.workers, studies=others) if others else []
    if not in_study:
        own = [result.study_instance_uid]
        in_study = results.candidates_in_study(session, workers=result.workers, studies=own)
    return match((), in_study)
