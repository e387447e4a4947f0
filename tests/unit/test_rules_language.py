"""Rules: what the language takes, what it refuses and with which words, and what a condition means."""

import pytest
import yaml

from gateway.rules.errors import RuleError
from gateway.rules.facts import Facts, Truth, Undecodable, Value
from gateway.rules.language import MAX_CONDITIONS, MAX_DEPTH, parse
from gateway.rules.tree import attributes_of

BAD = Undecodable("no number")
MODALITY, AGE, DATE, ROWS, IMAGE_TYPE = 0x00080060, 0x00101010, 0x00080020, 0x00280010, 0x00080008


def facts(attributes: dict[int, tuple[Value, ...]] | None = None, *, defect: str = "") -> Facts:
    """Return an instance of CT1 with these attributes."""
    return Facts("CT1", "EDGE", "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1", attributes or {}, defect)


def outcome(text: str, values: tuple[Value, ...] | None) -> str:
    """Return what a condition on one attribute says of its values; None: it is missing."""
    rule = parse(yaml.safe_load(text))
    (asked,) = attributes_of(rule)
    return rule.decide(facts({} if values is None else {asked.tag: values})).value


HOLDS, NOT, UNDECIDED = "holds", "does not hold", "cannot be decided"


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("{attribute: Modality, equals: CT}", ("CT",), HOLDS),
        ("{attribute: Modality, equals: CT}", ("ct",), NOT),
        ("{attribute: Modality, equals: CT}", ("MR",), NOT),
        ("{attribute: Modality, equals: CT}", (), NOT),
        ("{attribute: Modality, equals: CT}", None, NOT),
        ("{attribute: Modality, equals: CT}", (BAD,), UNDECIDED),
        ("{attribute: Modality, in: [CT, MR]}", ("MR",), HOLDS),
        ("{attribute: ImageType, in: [LOCALIZER]}", ("ORIGINAL", "PRIMARY", "LOCALIZER"), HOLDS),
        ("{attribute: ImageType, in: [LOCALIZER]}", ("ORIGINAL", BAD), UNDECIDED),
        ("{attribute: ImageType, in: [LOCALIZER]}", (BAD, "LOCALIZER"), HOLDS),
        ("{not: {attribute: Modality, equals: CT}}", (), HOLDS),
        ("{not: {attribute: Modality, equals: CT}}", None, HOLDS),
        ("{not: {attribute: Modality, equals: CT}}", (BAD,), UNDECIDED),
        ("{attribute: Modality, exists: true}", ("CT",), HOLDS),
        ("{attribute: Modality, exists: true}", (BAD,), HOLDS),
        ("{attribute: Modality, exists: true}", (), NOT),
        ("{attribute: Modality, exists: true}", None, NOT),
        ("{attribute: Modality, exists: false}", (), HOLDS),
        ("{attribute: Modality, exists: false}", None, HOLDS),
        ("{attribute: StudyDescription, matches: 'CHEST.*'}", ("CHEST ROUTINE",), HOLDS),
        ("{attribute: StudyDescription, matches: 'CHEST'}", ("CHEST ROUTINE",), NOT),
        ("{attribute: StudyDescription, matches: '(?i).*thorax.*'}", ("CT Thorax nativ",), HOLDS),
        ("{attribute: StudyDescription, matches: '.*'}", (), NOT),
        ("{attribute: StudyDescription, matches: '.*'}", (BAD,), UNDECIDED),
        ("{attribute: PatientName, matches: '.*MÜLLER.*'}", ("MÜLLER^EVA",), HOLDS),
        ("{attribute: Rows, equals: 512}", (512,), HOLDS),
        ("{attribute: SliceThickness, equals: 1.5}", (1.5,), HOLDS),
        ("{attribute: SliceThickness, range: {min: 1, max: 3}}", (3.0,), HOLDS),
        ("{attribute: SliceThickness, range: {min: 1, max: 3}}", (3.01,), NOT),
        ("{attribute: SliceThickness, range: {max: 3}}", (-1.0,), HOLDS),
        ("{attribute: SliceThickness, range: {max: 3}}", (), NOT),
        ("{attribute: SliceThickness, range: {max: 3}}", (BAD,), UNDECIDED),
        ("{attribute: PatientAge, range: {min: 18}}", ("018Y",), HOLDS),
        ("{attribute: PatientAge, range: {min: 18}}", ("215M",), NOT),
        ("{attribute: PatientAge, range: {min: 18}}", ("216M",), HOLDS),
        ("{attribute: PatientAge, range: {min: 18}}", ("18",), UNDECIDED),
        ("{attribute: PatientAge, range: {max: '028D'}}", ("004W",), HOLDS),
        ("{attribute: StudyDate, range: {min: '20240101'}}", ("20240101",), HOLDS),
        ("{attribute: StudyDate, range: {min: '20240101'}}", ("20231231",), NOT),
        ("{attribute: StudyDate, range: {min: '20240101'}}", ("2024.01.01",), UNDECIDED),
        ("{attribute: '(0008,0060)', equals: CT}", ("CT",), HOLDS),
        ("{attribute: '00080060', equals: CT}", ("CT",), HOLDS),
    ],
)
def test_a_condition_has_a_defined_outcome(
    text: str, values: tuple[Value, ...] | None, expected: str
) -> None:
    """Several, empty, missing and undecodable values."""
    assert outcome(text, values) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{calling_ae: CT1}", HOLDS),
        ("{calling_ae: [MR1, CT1]}", HOLDS),
        ("{calling_ae: {matches: 'CT[0-9]'}}", HOLDS),
        ("{called_ae: OTHER}", NOT),
        ("{sop_class: CTImageStorage}", HOLDS),
        ("{sop_class: CT Image Storage}", HOLDS),
        ("{sop_class: [MRImageStorage, 1.2.840.10008.5.1.4.1.1.2]}", HOLDS),
        ("{transfer_syntax: ExplicitVRLittleEndian}", HOLDS),
        ("{transfer_syntax: 1.2.3.4}", NOT),
        ("{any: [{calling_ae: MR1}, {called_ae: EDGE}]}", HOLDS),
        ("{all: [{calling_ae: CT1}, {called_ae: OTHER}]}", NOT),
    ],
)
def test_association_sop_class_and_transfer_syntax(text: str, expected: str) -> None:
    """They are compared as text; a SOP Class or transfer syntax may be given by its name."""
    assert parse(yaml.safe_load(text)).decide(facts()) == expected


def test_a_defect_of_the_data_set_leaves_missing_attributes_undecided() -> None:
    """What was read before the defect counts; what was not found may be behind it."""
    rule = parse({"attribute": "Modality", "exists": False})
    broken = facts({ROWS: (512,)}, defect="(0018,0010) at byte 700: cut off")
    assert rule.decide(broken) is Truth.UNDECIDED
    assert parse({"attribute": "Rows", "equals": 512}).decide(broken) is Truth.HOLDS


def test_what_the_rest_decides_is_decided() -> None:
    """`all` with a false one, and `any` with a true one, are decided, in whatever order."""
    undecided = {"attribute": "Modality", "equals": "CT"}
    yes, no = {"calling_ae": "CT1"}, {"calling_ae": "MR1"}
    known = facts({MODALITY: (BAD,)})
    for rules, of_all, of_any in (
        ([undecided, no], NOT, UNDECIDED),
        ([no, undecided], NOT, UNDECIDED),
        ([undecided, yes], UNDECIDED, HOLDS),
        ([yes, undecided], UNDECIDED, HOLDS),
    ):
        assert parse({"all": rules}).decide(known) == of_all
        assert parse({"any": rules}).decide(known) == of_any


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "a rule is a mapping with one of the keys all, any, not, attribute"),
        ("{}", "one key of all, any, not"),
        ("{modality: CT}", "unknown key 'modality'"),
        ("{equals: CT}", "equals needs an attribute beside it"),
        ("{all: []}", "all: a list with at least one rule is expected"),
        ("{all: {calling_ae: CT1}}", "all: a list with at least one rule is expected"),
        ("{all: [{calling_ae: CT1}, {any: [{x: 1}]}]}", r"all\[1\]: any\[0\]: unknown key 'x'"),
        ("{calling_ae: CT1, called_ae: EDGE}", "put several conditions into all"),
        (
            "{attribute: Modality}",
            "exactly one of equals, in, matches, range, exists is expected, found none",
        ),
        ("{attribute: Modality, equals: CT, exists: true}", "found equals, exists"),
        ("{attribute: BodyPart, equals: CHEST}", "did you mean BodyPartExamined?"),
        ("{attribute: body part examined, equals: CHEST}", "did you mean BodyPartExamined?"),
        ("{attribute: 00100020, equals: A}", "write a keyword, or the tag in quotes"),
        ("{attribute: '(0008,FFFE)', equals: A}", "the standard has no such attribute"),
        ("{attribute: PixelData, exists: true}", "Ask for an attribute before"),
        ("{attribute: '(FFFA,FFFA)', exists: true}", "Ask for an attribute before"),
        ("{attribute: '(0019,100C)', equals: 1000}", "is private"),
        ("{attribute: '(0009,xx01)', private_creator: GEMS_IDEN_01, equals: CT01}", "is private"),
        ("{attribute: TransferSyntaxUID, equals: A}", "use transfer_syntax"),
        ("{attribute: '(0008,0000)', equals: 1}", "group length"),
        ("{attribute: RequestAttributesSequence, exists: true}", "is a sequence"),
        ("{attribute: RequestAttributesSequence.AccessionNumber, exists: true}", "outside of sequences"),
        ("{attribute: SmallestImagePixelValue, equals: 1}", "compare text and numbers only"),
        ("{attribute: RedPaletteColorLookupTableData, exists: true}", "compare text and numbers only"),
        ("{attribute: BurnedInAnnotation, equals: NO}", "write the text in quotes"),
        ("{attribute: StudyDate, equals: 2024-01-01}", "is no text: write it in quotes"),
        ("{attribute: AccessionNumber, equals: 1234}", "is no text: write it in quotes"),
        ("{attribute: Modality, equals: ' CT'}", "without their padding"),
        ("{attribute: Modality, equals: ''}", "For an empty value use exists: false"),
        ("{attribute: ImageType, equals: 'ORIGINAL\\PRIMARY'}", "Ask for one of them"),
        ("{attribute: Modality, in: CT}", "a list of 1 to 1000 values is expected"),
        ("{attribute: Modality, exists: CT}", "true or false is expected"),
        ("{attribute: Rows, equals: '512'}", "a number without quotes is expected"),
        ("{attribute: Rows, equals: .nan}", "a number without quotes is expected"),
        ("{attribute: Rows, matches: '5.*'}", "use equals, in or range"),
        ("{attribute: Modality, range: {min: A}}", "use in or matches"),
        ("{attribute: Rows, range: [1, 2]}", "{min: …, max: …} is expected"),
        ("{attribute: Rows, range: {minimum: 1}}", "{min: …, max: …} is expected"),
        ("{attribute: Rows, range: {min: 2, max: 1}}", "nothing would be in the range"),
        ("{attribute: StudyDate, range: {min: 20240101}}", "eight digits in quotes"),
        ("{attribute: StudyDescription, matches: '(?=a)'}", "is no regular expression of RE2"),
        ("{attribute: StudyDescription, matches: '(a{1000}){1000}'}", "is no regular expression of RE2"),
        ("{attribute: StudyDescription, matches: 5}", "a regular expression in quotes"),
        ("{calling_ae: 'A\\B'}", "no AE title"),
        ("{calling_ae: A_TITLE_THAT_IS_TOO_LONG}", "no AE title"),
        ("{calling_ae: []}", "a text, or a list"),
        ("{calling_ae: {equals: CT1}}", "a text, a list, or {matches: …} is expected"),
        ("{sop_class: MR Image Storag}", "did you mean MRImageStorage?"),
        ("{sop_class: 1.2.840.10008.1.2}", "is not the UID of a SOP Class"),
        ("{transfer_syntax: 1.2.840.10008.5.1.4.1.1.2}", "is not the UID of a Transfer Syntax"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_to_write(text: str, words: str) -> None:
    """Each refusal names the place and says what to write instead."""
    with pytest.raises(RuleError) as refused:
        parse(yaml.safe_load(text))
    assert words.replace("\\[", "[").replace("\\]", "]") in str(refused.value)


def test_the_size_of_a_rule_is_limited() -> None:
    """Depth, conditions and the length of a regular expression, so that an evaluation stays short."""
    deep: object = {"calling_ae": "CT1"}
    for _ in range(MAX_DEPTH):
        deep = {"not": deep}
    with pytest.raises(RuleError, match="levels deep"):
        parse(deep)
    with pytest.raises(RuleError, match="at most 100 conditions"):
        parse({"any": [{"calling_ae": "CT1"}] * (MAX_CONDITIONS + 1)})
    with pytest.raises(RuleError, match="at most 500 characters"):
        parse({"attribute": "StudyDescription", "matches": "a" * 501})
    with pytest.raises(RuleError, match="1 to 1000 values"):
        parse({"attribute": "StudyDescription", "in": [str(n) for n in range(1001)]})


def test_a_regular_expression_cannot_run_long() -> None:
    """Patterns that take exponential time elsewhere end; the suite's time limit is the assertion."""
    value = "a" * 4095 + "b"
    for pattern in ("(a+)+", "(a|aa)+", "(.*a){20}", "(a?){100}a{100}"):
        rule = parse({"attribute": "StudyDescription", "matches": pattern})
        assert rule.decide(facts({0x00081030: (value,)})) is Truth.DOES_NOT_HOLD


def test_words_say_the_rule_line_by_line() -> None:
    """What `rules check` prints."""
    rule = parse(
        yaml.safe_load(
            "{all: [{attribute: Modality, equals: CT}, "
            "{not: {attribute: BodyPartExamined, in: [HEAD, NECK]}}, "
            "{sop_class: 1.2.840.10008.5.1.4.1.1.2}, {attribute: PatientAge, range: {min: 18}}]}"
        )
    )
    assert [(depth, node.words) for depth, node in rule.nodes()] == [
        (0, "all of these hold:"),
        (1, "Modality (0008,0060) is CT"),
        (1, "this does not hold:"),
        (2, "BodyPartExamined (0018,0015) is one of HEAD, NECK"),
        (1, "the SOP Class is CTImageStorage"),
        (1, "PatientAge (0010,1010) is at least 18 years"),
    ]


def test_the_canonical_form_is_the_same_rule() -> None:
    """Keywords and tags, names and UIDs, 512 and 512.0 are one rule; its canonical form parses to it."""
    one = parse({"all": [{"attribute": "Rows", "equals": 512}, {"sop_class": "CTImageStorage"}]})
    other = parse(
        {"all": [{"attribute": "(0028,0010)", "equals": 512.0}, {"sop_class": ["1.2.840.10008.5.1.4.1.1.2"]}]}
    )
    assert one == other
    assert one.canonical == other.canonical
    assert parse(one.canonical) == one
