"""Find the instances that results were derived from, in the transaction that registers the results.

After the commit a result is linked to its source instances, the expected results that it fulfils are marked
as arrived or late, and the result has a flag that says how its sources were found: `references`, `study`,
`ambiguous` or `unmatched`. It is sent to the PACS in each case.

If a SOP Instance UID has several versions, the source is the version that this worker got. A worker that
returns exactly the bytes of an original fulfils the expected result too (`correlate_equal`). A repeat of a
result is also correlated, because it may be the answer to a second request to the same worker.

If the process dies
    before the commit   nothing is stored; the results are unregistered, and the next process registers them
    after the commit    everything is stored; a repeat changes nothing
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.database.session import Session
from gateway.database.tables import results
from gateway.database.tables.results import FoundSources, RecordedResult, ResultReferences
from gateway.domain.matching import Candidate, Correlation, Match, match


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


def correlate(session: Session, batch: Sequence[Result]) -> list[Correlated]:
    """Link results to their sources and mark the expected results that they fulfil, in their order.

    Results that name instances are recorded together. One is recorded after those before it if it may fulfil
    what one of these fulfils, or is found by its study, where it counts how many results are still expected.
    """
    if not batch:
        return []
    correlated: list[Correlated] = []
    together: list[tuple[Result, Match]] = []
    taken: set[int] = set()
    for result, named in zip(batch, _named(session, batch), strict=True):
        found = match(named, ())
        if named and taken.isdisjoint(found.expectation_ids):
            together.append((result, found))
        else:
            correlated += _record(session, together)
            together = []
            # What is expected has changed since the look-up, but not which instances the result names.
            [again] = _named(session, [result]) if named else [named]
            found = match(again, ()) if again else _find_otherwise(session, result)
            correlated += _record(session, [(result, found)])
        taken.update(found.expectation_ids)
    return correlated + _record(session, together)


def _named(session: Session, batch: Sequence[Result]) -> list[list[Candidate]]:
    """Return the kept originals that each result names; references to unknown instances are ignored."""
    # Some applications give their result the SOP Instance UID of its source.
    asked = [
        ResultReferences(result.workers, [*result.referenced_sop_instance_uids, result.sop_instance_uid])
        for result in batch
    ]
    return results.candidates_by_reference(session, asked)


def _find_otherwise(session: Session, result: Result) -> Match:
    """Find the sources of a result that names no kept instance: by series, else by study."""
    if result.referenced_series_instance_uids:
        by_series = ResultReferences(
            result.workers, series_instance_uids=result.referenced_series_instance_uids
        )
        [named] = results.candidates_by_reference(session, [by_series])
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


def _record(session: Session, found: Sequence[tuple[Result, Match]]) -> list[Correlated]:
    if not found:
        return []
    recorded = results.record(session, [_sources(result, match_) for result, match_ in found])
    return [_correlated(match_, one) for (_, match_), one in zip(found, recorded, strict=True)]


def _sources(result: Result, found: Match) -> FoundSources:
    """Return what is recorded.

    A result that references no instance answers the only series or study whose result its worker owes, among
    the studies that it names; if it fulfils what was expected of an instance, it answers none.
    """
    by_reference = found.correlation is Correlation.REFERENCES
    studies = {
        result.study_instance_uid,
        *result.referenced_study_instance_uids,
        *result.referenced_sop_instance_uids,
    }
    return FoundSources(
        result.instance_id,
        found.correlation,
        next(iter(found.workers), result.workers[0]),
        result.workers,
        sources=found.source_instance_ids,
        expectations=found.expectation_ids,
        unit_sources=found.source_instance_ids if by_reference else (),
        studies=() if by_reference or found.expectation_ids else sorted(studies),
    )


def _correlated(found: Match, recorded: RecordedResult) -> Correlated:
    correlation = None if recorded.correlation is None else Correlation(recorded.correlation)
    return Correlated(replace(found, correlation=correlation), recorded.late, recorded.is_older)


def correlate_equal(session: Session, original_id: int, workers: Sequence[str]) -> Correlated:
    """Mark the result as arrived that `workers` should return for an original, which one returned unchanged.

    There is no row of a result to link or flag; the expected result refers to the original itself.
    """
    [asked] = results.candidates_by_reference(
        session, [ResultReferences(workers, instance_ids=[original_id])]
    )
    expected = tuple(expectation for one in asked for expectation in one.expectation_ids)
    sources = FoundSources(
        original_id, None, workers[0], workers, sources=(), expectations=expected, unit_sources=[original_id]
    )
    [recorded] = results.record(session, [sources])
    return _correlated(Match(None, (original_id,), expected), recorded)
