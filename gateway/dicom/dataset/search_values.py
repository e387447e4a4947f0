"""Read the accession number and the patient ID of a data set, for an operator who searches by them.

Nothing else in the gateway reads these two. They are returned to the caller, and never stored or logged (G8).
"""

from typing import NamedTuple

from gateway.dicom.dataset.elements import Walk, enter_none
from gateway.dicom.dataset.encoding import syntax_of
from gateway.dicom.dataset.reader import reader_of
from gateway.dicom.dataset.values import text_of_element

_ACCESSION_NUMBER = 0x0008_0050
_PATIENT_ID = 0x0010_0020
_UNTIL = 0x0010_0021


class SearchValues(NamedTuple):
    """The values without padding; empty where the data set has none. Only ASCII is decoded."""

    accession_number: str = ""
    patient_id: str = ""


def read_search_values(descriptor: int, offset: int, transfer_syntax_uid: str) -> SearchValues:
    """Read both values of the data set that begins at `offset` of a file.

    Raises:
        DataSetError: the data set cannot be parsed as far as they are.
    """
    found: dict[int, str] = {}
    with reader_of(descriptor, offset, transfer_syntax_uid) as reader:
        for element in Walk(reader, syntax_of(transfer_syntax_uid), enter_none, until=_UNTIL):
            if element.depth == 0 and element.tag in {_ACCESSION_NUMBER, _PATIENT_ID}:
                found[element.tag] = text_of_element(element, reader)
    return SearchValues(found.get(_ACCESSION_NUMBER, ""), found.get(_PATIENT_ID, ""))
