"""Give generated studies numbers and patients, so that people can distinguish the studies."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from pydicom.uid import generate_uid

from gateway.sender.generate import DEFAULT_PATIENT_ID, DEFAULT_PATIENT_NAME, Study

PREFIX = "EDGE"
MAX_WIDTH = 12
"""Prefix and number together fit into AccessionNumber, which has VR SH with 16 characters: PS3.5 §6.2."""

Numbers = Callable[[int], Sequence[int]]
"""Returns the requested count of numbers, and never the same number twice."""


def numbered(
    studies: Sequence[Study],
    numbers: Numbers,
    width: int,
    *,
    patient_prefix: str | None,
    patient_name: str | None,
) -> list[Study]:
    """Return the studies with a number each: EDGE000001 as StudyID, AccessionNumber and PatientID.

    `patient_prefix` replaces EDGE in the PatientID. Without `patient_name` the number is part of the
    PatientName. Each study gets its StudyInstanceUID here, so that it can be reported with its number.
    """
    return [
        replace(
            study,
            number=f"{PREFIX}{number:0{width}d}",
            study_instance_uid=study.study_instance_uid or generate_uid(prefix=None),
            patient_id=f"{patient_prefix or PREFIX}{number:0{width}d}",
            patient_name=patient_name or f"{DEFAULT_PATIENT_NAME} {number:0{width}d}",
        )
        for study, number in zip(studies, numbers(len(studies)), strict=True)
    ]


def with_patients(
    studies: Sequence[Study], run: str, *, patient_id: str | None, patient_name: str | None
) -> list[Study]:
    """Return the studies with a patient each, named after `run` and the position of the study in it.

    A given `patient_id` or `patient_name` is used for every study. Then the studies still differ in StudyID
    and StudyDescription.
    """
    return [
        replace(
            study,
            patient_id=patient_id or f"{DEFAULT_PATIENT_ID}-{run}-{position:03d}",
            patient_name=patient_name or f"{DEFAULT_PATIENT_NAME} {run}-{position:03d}",
            study_id=f"{run}-{position:03d}",
        )
        for position, study in enumerate(studies, 1)
    ]
