"""The values that rules compare: decoded as pydicom decodes them, never a reason to refuse an instance."""

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.dicom_peers import EXPLICIT, IMPLICIT, bundled_files, read_quietly
from support.headers import BIG, DEFLATED, NEEDED, encode, explicit, instance, read, result

from gateway.dicom.dataset.encoding import VRS
from gateway.dicom.dataset.header import NOTHING, read_header
from gateway.dicom.dataset.part10 import read_file_meta
from gateway.dicom.dataset.values import MAX_BYTES, MAX_VALUES, decode
from gateway.errors import DataSetError
from gateway.rules.dictionary import Attribute, attribute
from gateway.rules.facts import Undecodable, Value

ASKED = (
    "ImageType", "StudyDate", "Modality", "Manufacturer", "StudyDescription", "PatientName", "PatientAge",
    "BodyPartExamined", "SliceThickness", "KVP", "SeriesNumber", "InstanceNumber", "Rows", "BitsStored",
    "PixelSpacing", "ImageOrientationPatient",
)  # fmt: skip


def by_tag(keywords: tuple[str, ...]) -> dict[int, Attribute]:
    """Return the attributes by their tags."""
    return {one.tag: one for one in map(attribute, keywords)}


def of(element: bytes, keyword: str, syntax: str = EXPLICIT, early: bytes = b"") -> tuple[Value, ...] | None:
    """Return the values of an attribute whose element stands behind the UIDs; None if it is missing."""
    return read(instance(early=early, late=element), syntax, asked=[keyword]).attributes.get(
        attribute(keyword).tag
    )


def test_values_of_every_bundled_file_are_those_of_pydicom() -> None:
    """Sixteen attributes in all files of pydicom that have the UIDs: many syntaxes and character sets."""
    compared = 0
    for path in bundled_files():
        try:
            meta = read_file_meta(path.read_bytes()[:65_536])
        except DataSetError:
            continue
        expected = read_quietly(path)
        if not all(expected.get(keyword) for keyword in NEEDED):
            continue
        with path.open("rb") as file:
            header = read_header(
                file.fileno(),
                meta.data_set_offset,
                meta.transfer_syntax_uid,
                with_references=False,
                asked=by_tag(ASKED),
            )
        for tag, asked in by_tag(ASKED).items():
            found = header.attributes.get(tag)
            value = expected.get(asked.keyword)
            if tag not in expected:
                assert found is None, (path.name, asked)
                continue
            several = value if expected[tag].VM > 1 else [value]
            wanted = tuple(one for one in several if one is not None and str(one).strip())
            assert found is not None, (path.name, asked)
            if any(isinstance(one, Undecodable) for one in found):
                continue  # by the standard; pydicom guesses
            compared += 1
            if found and isinstance(found[0], str):
                assert found == tuple(str(one).strip() for one in wanted), (path.name, asked)
            else:
                assert found == tuple(map(float, wanted)), (path.name, asked)
    assert compared > 500


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG, DEFLATED])
def test_values_in_every_encoding(syntax: str) -> None:
    """Text, decimal strings and binary numbers, in implicit, explicit, big endian and deflated data sets."""
    data_set = result()
    data_set.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data_set.SliceThickness = "1.50"
    data_set.Rows = 512
    data_set.PatientComments = ""
    header = read(
        encode(data_set, syntax), syntax, asked=["ImageType", "SliceThickness", "Rows", "PatientComments"]
    )
    assert list(header.attributes.values()) == [("ORIGINAL", "PRIMARY", "AXIAL"), (), (1.5,), (512,)]
    assert not header.attributes_defect


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "expected"),
    [
        ("PatientOrientation", b"CS", b" HFS\0", ("HFS",)),
        ("PatientOrientation", b"CS", b"", ()),
        ("PatientOrientation", b"CS", b"   \0", ()),
        ("PatientOrientation", b"CS", b"\\HFS\\ \\FFS ", ("HFS", "FFS")),
        ("PatientOrientation", b"CS", b"HF\xff", "does not allow"),
        ("PatientOrientation", b"US", b"\1\0", "has the VR US instead of CS"),
        ("SeriesNumber", b"IS", b" 7 ", (7.0,)),
        ("SeriesNumber", b"IS", b"7\\x\\9", (7.0, "is no number", 9.0)),
        ("SeriesNumber", b"IS", b"nan ", "is no number"),
        ("SeriesNumber", b"IS", b"1e999 ", "is no number"),
        ("SeriesNumber", b"US", b"\7\0", (7,)),
        ("Rows", b"US", b"\0\2", (512,)),
        ("Rows", b"US", b"\0\2\0", "does not fit"),
        ("Rows", b"UL", b"\0\2\0\0", (512,)),
        ("Rows", b"IS", b"512 ", "has the VR IS instead of US"),
        ("ImageComments", b"LT", b"a\\b ", ("a\\b",)),
        ("ImageComments", b"LT", b"a" * (MAX_BYTES + 2), "more than 4096 bytes"),
        ("ImageOrientationPatient", b"DS", b"1\\" * MAX_VALUES + b"1 ", "more than 64 values"),
    ],
)
def test_padded_empty_multi_valued_and_undecodable_values(
    keyword: str, vr: bytes, value: bytes, expected: tuple[object, ...] | str
) -> None:
    """A reason in place of what cannot be decoded; what can be stays."""
    asked = attribute(keyword)
    found = of(explicit((asked.tag >> 16, asked.tag & 0xFFFF), vr, value), keyword)
    assert found is not None
    shown = tuple(one.reason if isinstance(one, Undecodable) else one for one in found)
    if isinstance(expected, str):
        assert expected in str(shown[-1])
    else:
        assert shown == expected


def test_an_unknown_vr_is_that_of_the_dictionary() -> None:
    """A program that did not know the attribute wrote UN."""
    element = struct.pack("<HH2sHI", 0x20, 0x20, b"UN", 0, 4) + b"L\\P "
    assert of(element, "PatientOrientation") == ("L", "P")


@pytest.mark.parametrize(
    ("character_set", "raw", "expected"),
    [
        (b"ISO_IR 100", "Müller".encode("latin-1"), "Müller"),
        (b"ISO_IR 192", "Müller 山".encode(), "Müller 山"),
        (b"ISO_IR 192", b"M\xfcller", None),
        (b"", "Müller".encode("latin-1"), None),
        (b"ISO_IR 999 ", b"M\xfcller", None),
        (b"GB18030 ", "誠".encode("gb18030"), "誠"),  # its second byte is a backslash
        (b"\\ISO 2022 IR 87 ", b"a\x1b$B;3ED\x1b(B ", "a山田"),
        (b"\\ISO 2022 IR 149", b"\x1b$)C\xb1\xe8", "김"),
        (b"ISO 2022 IR 6\\ISO 2022 IR 100 ", b"a\x1b-A\xfc\nb", "aü\nb"),
        (b"\\ISO 2022 IR 87 ", b"\x1b-A\xfc", None),
        (b"\\ISO 2022 IR 87 ", b"a\x1b[31m", None),
        (b"ISO_IR 100", b"a\x1b$B;3ED\x1b(B ", None),
    ],
)
def test_text_is_decoded_by_its_specific_character_set(
    character_set: bytes, raw: bytes, expected: str | None
) -> None:
    """Bytes that the declared character set does not have are undecodable, never guessed."""
    element = explicit((0x20, 0x4000), b"LT", raw + b" " * (len(raw) % 2))
    found = of(element, "ImageComments", early=explicit((8, 5), b"CS", character_set))
    assert found is not None
    assert found == (expected,) if expected else isinstance(found[0], Undecodable)


def test_a_rule_may_ask_for_the_character_set_itself() -> None:
    """Other text is decoded by it all the same."""
    early = explicit((8, 5), b"CS", b"ISO_IR 100")
    late = explicit((0x20, 0x4000), b"LT", "Müller".encode("latin-1"))
    header = read(instance(early=early, late=late), asked=["SpecificCharacterSet", "ImageComments"])
    assert list(header.attributes.values()) == [("ISO_IR 100",), ("Müller",)]


def test_a_defect_behind_the_uids_refuses_no_instance() -> None:
    """The header is read; the reason stands beside the attributes that were found."""
    cut = struct.pack("<HH2sH", 0x20, 0x4000, b"LT", 500) + b"short"
    found = explicit((0x20, 0x13), b"IS", b"7 ")
    header = read(instance(late=found + cut), asked=["InstanceNumber", "ImageComments"])
    assert header.attributes == {attribute("InstanceNumber").tag: (7.0,)}
    assert header.attributes_defect == "(0020,4000) at byte 58: cut off in a value"


def test_fragments_of_pixel_data_are_not_walked() -> None:
    """A missing attribute behind the UIDs does not make the reader follow 100,000 fragments."""
    fragments = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 300_000
    pixels = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFF_FFFF) + fragments
    header = read(instance(late=pixels), asked=["PerformedProcedureStepID"])
    assert header.attributes == {}
    assert not header.attributes_defect


SEEDS = [(syntax, encode(result(), syntax)) for syntax in (IMPLICIT, EXPLICIT, BIG, DEFLATED)]


@given(
    seed=st.sampled_from(SEEDS),
    cuts=st.lists(st.tuples(st.integers(0, 900), st.binary(min_size=1, max_size=6)), min_size=1, max_size=8),
    end=st.integers(0, 900) | st.none(),
)
def test_asking_for_attributes_changes_nothing_else(
    seed: tuple[str, bytes], cuts: list[tuple[int, bytes]], end: int | None
) -> None:
    """Mutated bytes give the same header, or the same error, whether rules ask for attributes or not."""
    syntax, original = seed
    raw = bytearray(original)
    for position, patch in cuts:
        raw[position : position + len(patch)] = patch
    try:
        plain = read(bytes(raw[:end]), syntax)
    except DataSetError as error:
        with pytest.raises(type(error)):
            read(bytes(raw[:end]), syntax, asked=ASKED)
        return
    found = read(bytes(raw[:end]), syntax, asked=ASKED)
    assert found._replace(attributes=NOTHING, attributes_defect="") == plain._replace(attributes=NOTHING)


@given(
    st.binary(max_size=80)
    | st.text(alphabet="\x1b$()BAJ\\\\^=aé山", max_size=40).map(lambda t: t.encode("utf-8")),
    st.sampled_from(
        ["PatientName", "ImageComments", "StudyDescription", "Rows", "SliceThickness", "Modality"]
    ),
    st.sampled_from(sorted({b"", *VRS})),
    st.sampled_from(
        ["", "ISO_IR 100", "ISO_IR 192", "\\ISO 2022 IR 87", "\\ISO 2022 IR 149", "GB18030", "x"]
    ),
    st.booleans(),
)
def test_no_bytes_raise_an_error(
    raw: bytes,
    keyword: str,
    vr: bytes,
    character_set: str,
    big_endian: bool,  # noqa: FBT001
) -> None:
    """Whatever a sender writes gives values or reasons; text has no padding, numbers are finite."""
    values = decode(raw, attribute(keyword), vr=vr, big_endian=big_endian, character_set=character_set)
    for value in values:
        if isinstance(value, str):
            assert value
            assert value == value.strip(" ")
        elif not isinstance(value, Undecodable):
            assert math.isfinite(value)
