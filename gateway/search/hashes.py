"""Hash the accession number and the patient ID of each series, if edge.search_key is set.

The sweep calls it and reads one file of each series: no reception and no registration waits for it, and a
study is found a minute or two after it came. The values leave this module only as hashes.

If the process dies
    before the commit     the next run reads the files again
"""

from contextlib import suppress

from gateway.database.tables.evidence import SeriesFile
from gateway.database.tables.search_hashes import Hashed
from gateway.domain.search_hash import SearchField, hash_of, normalized
from gateway.errors import DataSetError, SpoolError
from gateway.spool.part10_file import Part10File
from gateway.spool.spool import Spool


def hashes_of(key: bytes, spool: Spool, file: SeriesFile) -> list[Hashed]:
    """Return the hashes of a series; none where its file is gone, cannot be read, or has neither value."""
    with (
        suppress(SpoolError, DataSetError),
        Part10File(spool.path(file.place, file.study_instance_uid, file.file_name)) as opened,
    ):
        values = opened.search_values(file.transfer_syntax_uid)
        found = {
            SearchField.ACCESSION_NUMBER: values.accession_number,
            SearchField.PATIENT_ID: values.patient_id,
        }
        return [
            Hashed(hash_of(key, field, value), file.study_instance_uid, file.series_instance_uid)
            for field, value in found.items()
            if normalized(value)
        ]
    return []


def hashes_to_find(key: bytes, word: str) -> list[bytes]:
    """Return the hashes that a typed word may have: as an accession number, and as a patient ID."""
    return [hash_of(key, field, word) for field in SearchField]
