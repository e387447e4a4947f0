"""Is an instance a result, and what does it answer.

The questions to the database stand in `gateway/correlate.py`; what the answers mean stands here.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Correlation(StrEnum):
    """How a result found its sources; the last two are shown to the operator as flags."""

    REFERENCES = "references"  # by the instances it references
    STUDY = "study"  # no references; its study, and that worker owed exactly one result there
    AMBIGUOUS = "ambiguous"  # no references; its study, but several results (or none) were owed
    UNMATCHED = "unmatched"  # neither is known here


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance that a result may have been derived from, with the expectation it would satisfy.

    `expectation_id` is None where the sender of the result owes nothing (any more) for it.
    """

    instance_id: int
    expectation_id: int | None


@dataclass(frozen=True, slots=True)
class Match:
    """What a result answers: its source instances and the expectations it satisfies."""

    correlation: Correlation
    source_instance_ids: tuple[int, ...]
    expectation_ids: tuple[int, ...]


def is_result(
    *,
    calling_ae_title: str,
    series_description: str,
    worker_ae_titles: Collection[str],
    result_description: str,
) -> bool:
    """Tell a result from an original: it comes from a worker, or says so in its Series Description."""
    return calling_ae_title in worker_ae_titles or series_description.strip() == result_description


def match(by_reference: Sequence[Candidate], in_study: Sequence[Candidate], *, has_references: bool) -> Match:
    """Decide what a result answers.

    `by_reference` are the kept originals that it references, `in_study` the originals of its study
    (asked for only when it has no references).
    """
    if has_references and by_reference:
        return Match(
            Correlation.REFERENCES,
            tuple(dict.fromkeys(c.instance_id for c in by_reference)),
            tuple(dict.fromkeys(c.expectation_id for c in by_reference if c.expectation_id is not None)),
        )
    if has_references or not in_study:
        return Match(Correlation.UNMATCHED, (), ())
    sources = tuple(dict.fromkeys(c.instance_id for c in in_study))
    owed = tuple(dict.fromkeys(c.expectation_id for c in in_study if c.expectation_id is not None))
    if len(owed) == 1:
        return Match(Correlation.STUDY, sources, owed)
    return Match(Correlation.AMBIGUOUS, sources, ())
