"""The references by which each kind of result names its sources."""

import pytest
from pydicom.dataset import Dataset
from support.dicom_peers import EXPLICIT, IMPLICIT
from support.headers import BIG, encode, read


def dataset_of(**values: object) -> Dataset:
    """Return a data set of these keywords."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


SOP = dataset_of(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID="1.9.2")
IN_SERIES = dataset_of(SeriesInstanceUID="1.9.1", ReferencedSOPSequence=[SOP])
INSTANCES_IN_SERIES = dataset_of(SeriesInstanceUID="1.9.1", ReferencedInstanceSequence=[SOP])
IN_STUDY = dataset_of(StudyInstanceUID="1.9", ReferencedSeriesSequence=[IN_SERIES])
IMAGE = dataset_of(ValueType="IMAGE", ReferencedSOPSequence=[SOP])
UIDREF = dataset_of(ValueType="UIDREF", UID="1.9.1")
CONTOUR = dataset_of(ContourImageSequence=[SOP])
RT_SERIES = dataset_of(SeriesInstanceUID="1.9.1", ContourImageSequence=[SOP])
RT_STUDY = dataset_of(ReferencedSOPInstanceUID="1.9", RTReferencedSeriesSequence=[RT_SERIES])
INSTANCE, SERIES, STUDY = ("1.9.2",), ("1.9.1",), ("1.9",)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize(
    ("keyword", "member", "named"),
    [
        ("CurrentRequestedProcedureEvidenceSequence", IN_STUDY, (INSTANCE, SERIES, STUDY)),
        (
            "PertinentOtherEvidenceSequence",
            IN_STUDY,
            (INSTANCE, SERIES, STUDY),
        ),  # highdicom, without a request
        ("StudiesContainingOtherReferencedInstancesSequence", IN_STUDY, (INSTANCE, SERIES, STUDY)),  # SEG
        ("ReferencedSeriesSequence", INSTANCES_IN_SERIES, (INSTANCE, SERIES, ())),  # SEG, GSPS
        ("ReferencedSeriesSequence", dataset_of(SeriesInstanceUID="1.9.1"), ((), SERIES, ())),
        ("ReferencedStudySequence", dataset_of(ReferencedSOPInstanceUID="1.9"), (("1.9",), (), ())),
        (
            "ContentSequence",
            dataset_of(ContentSequence=[dataset_of(ContentSequence=[IMAGE])]),
            (INSTANCE, (), ()),
        ),  # SR
        ("ContentSequence", UIDREF, ((), SERIES, SERIES)),  # of TID 1411
        ("GraphicAnnotationSequence", dataset_of(ReferencedImageSequence=[SOP]), (INSTANCE, (), ())),
        ("BlendingSequence", IN_STUDY, (INSTANCE, SERIES, STUDY)),
        ("RegistrationSequence", dataset_of(ReferencedImageSequence=[SOP]), (INSTANCE, (), ())),
        ("DeformableRegistrationSequence", dataset_of(ReferencedImageSequence=[SOP]), (INSTANCE, (), ())),
        ("FiducialSetSequence", dataset_of(ReferencedImageSequence=[SOP]), (INSTANCE, (), ())),
        (
            "ReferencedImageRealWorldValueMappingSequence",
            dataset_of(ReferencedImageSequence=[SOP]),
            (INSTANCE, (), ()),
        ),
        ("AdvancedBlendingSequence", IN_STUDY, (INSTANCE, SERIES, STUDY)),
        (
            "RelatedSeriesSequence",
            dataset_of(StudyInstanceUID="1.9", SeriesInstanceUID="1.9.1"),
            ((), SERIES, STUDY),
        ),
        ("SourceInstanceSequence", SOP, (INSTANCE, (), ())),  # encapsulated PDF
        ("ReferencedWaveformSequence", SOP, (INSTANCE, (), ())),
        (
            "ReferencedFrameOfReferenceSequence",
            dataset_of(RTReferencedStudySequence=[RT_STUDY]),
            (("1.9", "1.9.2"), SERIES, ()),
        ),
        ("ROIContourSequence", dataset_of(ContourSequence=[CONTOUR]), (INSTANCE, (), ())),
        ("PredecessorDocumentsSequence", IN_STUDY, ((), (), ())),  # another result
        ("IdenticalDocumentsSequence", IN_STUDY, ((), (), ())),
        ("ReferencedPerformedProcedureStepSequence", SOP, ((), (), ())),
    ],
)
def test_the_references_of_each_kind_of_result_are_found(
    syntax: str,
    keyword: str,
    member: Dataset,
    named: tuple[tuple[str, ...], ...],
) -> None:
    """Instances, series and studies of SR, SEG, GSPS, RT and documents; not references to other results."""
    data_set = dataset_of(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11",
        SOPInstanceUID="1.2.3.4",
        StudyInstanceUID="1.2.3",
        SeriesInstanceUID="1.2.3.5",
    )
    setattr(data_set, keyword, [member])
    header = read(encode(data_set, syntax), syntax, with_references=True)
    assert named == (
        header.referenced_sop_instance_uids,
        header.referenced_series_instance_uids,
        header.referenced_study_instance_uids,
    )
