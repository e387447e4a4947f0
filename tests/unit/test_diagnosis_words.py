"""Codes become words, a port is known by what it answers, and findings have an order."""

import pytest

from gateway.diagnosis.conversation import Speaks, kind_of
from gateway.diagnosis.finding import Holds, note, problem, ranked
from gateway.diagnosis.words import in_words, of_tls
from gateway.domain.dimse_status import name_of


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (0x0000, "Success"),
        (0x0122, "Refused: SOP Class not supported"),
        (0x0124, "Refused: not authorized"),
        (0xA700, "Refused: out of resources"),
        (0xA7FF, "Refused: out of resources"),
        (0xA900, "Error: data set does not match SOP Class"),
        (0xB007, "Warning: data set does not match SOP Class"),
        (0xC123, "Error: cannot understand"),
        (0x1234, "a status that the standard does not define"),
    ],
)
def test_statuses_have_the_names_of_the_standard(status: int, name: str) -> None:
    """PS3.4 §B.2.3, Table B.2-1 and PS3.7 Annex C."""
    assert name_of(status) == name


def test_reasons_are_said_in_words() -> None:
    """Each status and each registered UID gets its name once; other numbers stay."""
    text = "ORTHANC answered 0xA700: not now; 1.2.840.10008.5.1.4.1.1.2 in 1.2.840.10008.1.2.4.50 of 1.2.3"
    said = in_words(text)
    assert "0xA700 (Refused: out of resources): not now" in said
    assert "CT Image Storage (1.2.840.10008.5.1.4.1.1.2)" in said
    assert "JPEG Baseline (Process 1) (1.2.840.10008.1.2.4.50)" in said
    assert said.endswith("of 1.2.3")
    assert in_words(said) == said
    assert (
        in_words("aborted by the peer: source 0, reason 0")
        == "aborted by the peer (A-ABORT of its application)"
    )
    assert "unexpected PDU" in in_words("aborted by the peer: source 2, reason 2")
    assert "does not trust the authority" in of_tls("TLSV1_ALERT_UNKNOWN_CA")


@pytest.mark.parametrize(
    ("answer", "speaks"),
    [
        (b"", Speaks.NOTHING),
        (b"\x02\x00\x00\x00\x00\xb8", Speaks.DICOM),
        (b"\x03\x00\x00\x00\x00\x04", Speaks.DICOM),
        (b"\x15\x03\x03\x00\x02\x02\x46", Speaks.TLS),
        (b"HTTP/1.1 400 Bad Request\r\n", Speaks.HTTP),
        (b"<html><body>no</body></html>", Speaks.HTTP),
        (b"SSH-2.0-OpenSSH_9.6\r\n", Speaks.SSH),
        (b"220 mail.hospital ESMTP\r\n", Speaks.MAIL),
        (b"what?", Speaks.OTHER),
    ],
)
def test_a_port_is_known_by_its_first_bytes(answer: bytes, speaks: Speaks) -> None:
    """Also where the answer is cut off."""
    assert kind_of(answer) is speaks


def test_findings_are_ranked_by_what_they_hold_back() -> None:
    """Problems first; each key once."""
    found = [
        note("n", "a note", holds=Holds.ALL),
        problem("w", "workers", holds=Holds.WORKERS),
        problem("a", "all", holds=Holds.ALL),
        problem("w", "workers again", holds=Holds.ALL),
    ]
    assert [one.key for one in ranked(found)] == ["a", "w", "n"]
    assert ranked(found)[0].document()["holds_back"] == "all"
