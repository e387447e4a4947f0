"""Running numbers for generated studies, so that people can tell them apart and say which they mean."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from gateway.sender.generate import Study

PREFIX = "EDGE"
MAX_WIDTH = 12
"""With the prefix a number fits AccessionNumber, an SH of 16 characters: PS3.5 §6.2."""

Numbers = Callable[[int], Sequence[int]]
"""Hands out as many numbers as asked for, never one twice."""


def numbered(
    studies: Sequence[Study], numbers: Numbers, width: int, patient_prefix: str | None
) -> list[Study]:
    """The studies with a number each: EDGE000001 as StudyID, AccessionNumber and PatientID.

    `patient_prefix` stands in place of EDGE in the PatientID.
    """
    return [
        replace(
            study,
            number=f"{PREFIX}{number:0{width}d}",
            patient_id=f"{patient_prefix or PREFIX}{number:0{width}d}",
        )
        for study, number in zip(studies, numbers(len(studies)), strict=True)
    ]
