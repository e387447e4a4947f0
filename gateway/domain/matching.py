"""Is an instance a result, and what does it answer.

The questions to the database stand in `gateway/correlate.py`; what the answers mean stands here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.routing import Origin


class Correlation(StrEnum):
    """How a result found its sources; the last two are shown to the operator as flags."""

    REFERENCES = "references"  # by the instances or series it references, or by its source's own UID
    STUDY = "study"  # by its study, or one it references; its worker owed exactly one result there
    AMBIGUOUS = "ambiguous"  # by a study, where several results (or none) were owed
    UNMATCHED = "unmatched"  # nothing that it names is known here


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance that a result may have been derived from, with the expectation it would satisfy.

    `expectation_id` is None where the sender of the result owes nothing (any more) for it; `worker` is who
    was asked for it, None where the sender of the result never was.
    """

    instance_id: int
    expectation_id: int | None
    worker: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """What a result answers: its source instances, and the expectations it satisfies.

    `correlation` is None for a result that equals its source. `workers` are those that were asked for it,
    first the one that owes it.
    """

    correlation: Correlation | None
    source_instance_ids: tuple[int, ...]
    expectation_ids: tuple[int, ...]
    workers: tuple[str, ...] = ()


def is_result(origin: Origin, series_description: str, *, result_description: str) -> bool:
    """Tell a result from an original: it comes from a worker, or says so in its Series Description."""
    return origin is Origin.WORKER or series_description.strip() == result_description


def match(named: Sequence[Candidate], in_study: Sequence[Candidate]) -> Match:
    """Decide what a result answers.

    `named` are the kept originals that it references, `in_study` those of its study or of a study that it
    references (of use only where nothing it references is known).
    """
    found = named or in_study
    sources = tuple(dict.fromkeys(c.instance_id for c in found))
    owed = tuple(dict.fromkeys(c.expectation_id for c in found if c.expectation_id is not None))
    # Whoever owes the result comes before who was asked for another one.
    by_debt = sorted((c for c in found if c.worker is not None), key=lambda c: c.expectation_id is None)
    workers = tuple(dict.fromkeys(c.worker for c in by_debt if c.worker is not None))
    if named:
        return Match(Correlation.REFERENCES, sources, owed, workers)
    if not in_study:
        return Match(Correlation.UNMATCHED, (), ())
    if len(owed) == 1:
        return Match(Correlation.STUDY, sources, owed, workers)
    return Match(Correlation.AMBIGUOUS, sources, (), workers)
