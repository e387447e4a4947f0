"""The instances of a run by number: every process makes the same bytes of the same number.

So a killed sender can continue where its journal ends, another sender can repeat its instances, and the
comparison needs no stored files.
"""

from dataclasses import dataclass, replace
from random import Random

from support.synthetic_instances import CT, MG, MR, SECONDARY_CAPTURE, Instance

STUDY_SIZE = 16
RESULT_SHARE = 0.75
"""The share of instances that go to the PACS only.

The others also go to a worker, which derives a result of 0.8 MB. That takes some 60 ms of CPU, too much for
every instance on a machine with two cores.
"""
CT_SHARE = 0.03
CT_BYTES = 262_144
SMALL_BYTES = (512, 6000)
HOSPITAL_STUDIES = ("CT", "MR", "CT", "MR", "MG")
"""The Modality of the studies of a hospital, one after the other."""
_SOP_CLASSES = {"CT": CT, "MR": MR, "MG": MG}

_ROOT = "1.2.826.0.1.3680043"


@dataclass(frozen=True, slots=True)
class Number:
    """The number of an instance: its sender and its count; `version` 1 has other bytes under the same UID."""

    seed: int
    sender: int
    count: int
    version: int = 0
    hospital: bool = False
    """Of a study that is CT, MR or MG as a whole, and has two interleaved series."""


def uid(number: Number) -> str:
    """Return its SOP Instance UID, which is the same for all versions."""
    return f"{_ROOT}.{number.seed}.{number.sender}.{number.count}"


def count_of(sop_instance_uid: str) -> int:
    """Return its number among the instances of its sender."""
    return int(sop_instance_uid.rpartition(".")[2])


def modality(number: Number) -> str:
    """Return the Modality of the study."""
    return HOSPITAL_STUDIES[number.count // STUDY_SIZE % len(HOSPITAL_STUDIES)] if number.hospital else "MR"


def instance(number: Number) -> Instance:
    """Return the instance; equal numbers give equal bytes."""
    kind = Random(f"{number.seed}:{number.sender}:{number.count}")  # noqa: S311  to be repeatable
    share = kind.random()
    content = Random(f"{number.seed}:{number.sender}:{number.count}:{number.version}")  # noqa: S311
    study = number.count // STUDY_SIZE
    study_instance_uid = f"{_ROOT}.{number.seed}.{number.sender}.9.{study}"
    series = 1 + number.count % 2 if number.hospital else 1
    of_study = modality(number)
    blank = Instance(
        uid(number),
        study_instance_uid,
        f"{study_instance_uid}.{series}",
        _SOP_CLASSES[of_study],
        modality=of_study,
    )
    if share < CT_SHARE and number.hospital:
        return replace(blank, payload=content.randbytes(CT_BYTES))
    if share < CT_SHARE:
        return replace(blank, sop_class_uid=CT, modality="CT", payload=content.randbytes(CT_BYTES))
    payload = content.randbytes(2 * content.randrange(*(size // 2 for size in SMALL_BYTES)))
    if share < CT_SHARE + RESULT_SHARE and number.count % STUDY_SIZE:
        source = replace(number, count=number.count - 1, version=0)
        return replace(
            blank,
            sop_class_uid=SECONDARY_CAPTURE,
            series_description="AI_RESULT",
            modality="OT",
            sources=((_SOP_CLASSES[of_study], uid(source)),),
            payload=payload,
        )
    return replace(blank, payload=payload)
