"""The studies that `mini-pacs send --generate N` makes: size, UIDs, patients, and numbers."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cli.advice import UsageError
from gateway.sender.generate import DEFAULT_MODALITY, Study
from gateway.sender.numbering import numbered, with_patients
from gateway.sender.rewrite import Edits


@dataclass(frozen=True, slots=True)
class Generation:
    """What the options say of the studies to generate."""

    studies: int
    instances: int | None
    patient_id: str | None
    patient_name: str | None
    is_numbered: bool
    digits: int


def studies_of(wanted: Generation, edits: Edits) -> list[Study]:
    """Return the studies to generate, each with its patient; none without `--generate`.

    Raises:
        UsageError: an option does not go together with another.
    """
    _check(wanted, edits)
    when = datetime.now().astimezone()
    studies = [
        Study(
            instances=wanted.instances or 1,
            when=when,
            modality=edits.attributes.get("Modality", DEFAULT_MODALITY),
            study_instance_uid=edits.study_instance_uid,
            series_instance_uid=edits.series_instance_uid,
            sop_instance_uid=edits.sop_instance_uid,
            series_description=edits.attributes.get("SeriesDescription"),
        )
        for _ in range(wanted.studies)
    ]
    patient_id, patient_name = wanted.patient_id, wanted.patient_name
    if wanted.is_numbered:
        return numbered(
            studies, _next_numbers, wanted.digits, patient_prefix=patient_id, patient_name=patient_name
        )
    run = secrets.token_hex(3).upper()
    return with_patients(studies, run, patient_id=patient_id, patient_name=patient_name)


def _check(wanted: Generation, edits: Edits) -> None:
    count = wanted.studies
    if not count:
        if wanted.is_numbered:
            raise UsageError("--seq-from-db numbers generated studies: add --generate N")
        if wanted.instances is not None:
            raise UsageError("--instances is the size of generated studies: add --generate N")
        return
    if edits.sop_instance_uid is not None and (count, wanted.instances or 1) != (1, 1):
        raise UsageError("--sop-uid names one instance: use --generate 1 without --instances")
    for option, what, uid in (
        ("--study-uid", "study", edits.study_instance_uid),
        ("--series-uid", "series", edits.series_instance_uid),
    ):
        if uid is not None and count > 1:
            raise UsageError(
                f"{option} names one {what}, but more are to be generated: use --generate 1 --instances M"
            )


def _next_numbers(count: int) -> Sequence[int]:
    """Take numbers from the sequence in the edge's database."""
    # Imported here: a sender on another machine has no database, and no driver for one.
    from gateway.database.dsn import dsn_from_environment  # noqa: PLC0415  see above
    from gateway.database.pool import Database  # noqa: PLC0415  see above
    from gateway.database.tables.numbers import next_numbers  # noqa: PLC0415  see above

    database = Database(dsn_from_environment(), application_name="mini-pacs send", size=1)
    try:
        return next_numbers(database, count)
    finally:
        database.close()
