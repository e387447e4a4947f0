"""Decide whether an instance is a result, and from which instances it was derived.

`gateway/correlate.py` queries the database; this module interprets the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.domain.routing import Origin


class Correlation(StrEnum):
    """How the sources of a result were found; the last two are shown to the operator as flags."""

    REFERENCES = "references"  # it references them or their series, or has the UID of one
    STUDY = "study"  # found by its study or one it references; exactly one result was expected there
    AMBIGUOUS = "ambiguous"  # found as by STUDY, but several results were expected there, or none
    UNMATCHED = "unmatched"  # the edge has no source and no other instance of these studies


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance that a result may have been derived from, and the expected results that it would fulfil.

    There are several if the sender serves several applications that got this instance, none if no result is
    expected from it. `worker` is the sender if it got this instance, else None.
    """

    instance_id: int
    expectation_ids: tuple[int, ...] = ()
    worker: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """The source instances of a result, and the expected results that it fulfils.

    `correlation` is None for a result that equals its source. `workers` are the senders that got a source
    instance; those from which a result is still expected come first.
    """

    correlation: Correlation | None
    source_instance_ids: tuple[int, ...]
    expectation_ids: tuple[int, ...]
    workers: tuple[str, ...] = ()


def is_result(origin: Origin, series_description: str, *, result_description: str) -> bool:
    """Tell whether an instance is a result: a worker sent it, or its Series Description says so."""
    return origin is Origin.WORKER or series_description.strip() == result_description


def match(named: Sequence[Candidate], in_study: Sequence[Candidate]) -> Match:
    """Decide which instances a result was derived from.

    `named` are the stored originals that it references. `in_study` are those of its study or of a study that
    it references; they are used only if `named` is empty.
    """
    found = named or in_study
    sources = tuple(dict.fromkeys(c.instance_id for c in found))
    expected = tuple(dict.fromkeys(one for c in found for one in c.expectation_ids))
    expecting = len({c.expectation_ids for c in found if c.expectation_ids})
    # Workers from which this result is expected come before the others.
    by_expected = sorted((c for c in found if c.worker is not None), key=lambda c: not c.expectation_ids)
    workers = tuple(dict.fromkeys(c.worker for c in by_expected if c.worker is not None))
    if named:
        return Match(Correlation.REFERENCES, sources, expected, workers)
    if not in_study:
        return Match(Correlation.UNMATCHED, (), ())
    if expecting == 1:
        return Match(Correlation.STUDY, sources, expected, workers)
    return Match(Correlation.AMBIGUOUS, sources, (), workers)
