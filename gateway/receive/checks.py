"""Check the UIDs of a C-STORE: in its command, in its data set, and that both name the same instance.

A UID becomes part of a path and of log lines, so it is checked before it is used for either (G7).
"""

from gateway.dicom.dataset.header import Header
from gateway.dicom.policy import StoreRequest
from gateway.domain.identifiers import MAX_DATA_SET_UID_LENGTH, MAX_UID_LENGTH, is_uid
from gateway.errors import ContradictionError, DataSetError


def check_command(request: StoreRequest) -> None:
    """Check the SOP Instance UID and SOP Class UID of the command.

    Raises:
        DataSetError: one of them is missing or not a UID.
    """
    for tag, uid in (("(0000,1000)", request.sop_instance_uid), ("(0000,0002)", request.sop_class_uid)):
        if not is_uid(uid):
            raise _not_a_uid(tag, MAX_UID_LENGTH)


def check_data_set_uids(header: Header) -> None:
    """Check the Study and the Series Instance UID of the data set.

    Raises:
        DataSetError: one of them is missing or not a UID.
    """
    for tag, uid in (
        ("(0020,000D)", header.study_instance_uid),
        ("(0020,000E)", header.series_instance_uid),
    ):
        if not is_uid(uid, MAX_DATA_SET_UID_LENGTH):
            raise _not_a_uid(tag, MAX_DATA_SET_UID_LENGTH)


def check_agreement(request: StoreRequest, header: Header) -> None:
    """Check that command and data set name the same SOP Instance and SOP Class.

    Raises:
        ContradictionError: they differ.
    """
    if header.sop_instance_uid != request.sop_instance_uid:
        raise ContradictionError("SOP Instance UID differs from the command's")
    if header.sop_class_uid != request.sop_class_uid:
        raise ContradictionError("SOP Class UID differs from the command's")


def _not_a_uid(tag: str, limit: int) -> DataSetError:
    # At most 63 characters: Error Comment is of VR LO.
    return DataSetError(f"{tag} is no UID: 1 to {limit} digits and dots, a digit first")
