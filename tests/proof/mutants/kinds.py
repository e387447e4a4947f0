"""The kinds of malformed data sets. Each kind is a function of its plan; the seed decides all choices."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

from support.dicom_peers import CT

from gateway.dicom.dataset.part10 import preamble_and_file_meta
from proof.fuzz.mutation import mutated
from proof.mutants.dataset import BIG, DEFLATED, EXPLICIT, IMPLICIT, UNDEFINED, Plan, deflated, pad, text

Kind = Callable[[random.Random, Plan], bytes]
KINDS: dict[str, Kind] = {}

SEQUENCE = 0x0008_1140
NOTE = 0x0010_21B0
STUDY = 0x0020_000D
PIXELS = 0x7FE0_0010
_NO_VRS = (b"??", b"--", b"  ", b"\0\0", b"ob", b"Lo", b"1A", b"\xff\xff")
_FUTURE_VRS = (b"XX", b"ZZ", b"OX", b"QQ")
_VRS = (b"AE", b"CS", b"DS", b"LO", b"OB", b"OW", b"SQ", b"UI", b"UL", b"UN", b"US", b"UT")


def kind(name: str) -> Callable[[Kind], Kind]:
    """Register a function as the kind of that name."""

    def enter(function: Kind) -> Kind:
        KINDS[name] = function
        return function

    return enter


def _inserted(rng: random.Random, plan: Plan, raw: bytes, *, before: int = PIXELS) -> bytes:
    """Return the data set with `raw` inserted before a random element up to `before`."""
    parts = plan.elements()
    places = [tag for tag in parts if tag <= before]
    chosen = rng.choice(places)
    return b"".join(raw + part if tag == chosen else part for tag, part in parts.items())


def _replaced(plan: Plan, tag: int, raw: bytes) -> bytes:
    return b"".join((plan.elements() | {tag: raw}).values())


def _joined(plan: Plan) -> bytes:
    return b"".join(plan.elements().values())


@kind("valid")
def _valid(_: random.Random, plan: Plan) -> bytes:
    return _joined(plan)


def _head(group: int) -> Kind:
    def head(rng: random.Random, plan: Plan) -> bytes:
        """Return one to three elements of that group for the start of a data set, in its encoding or not."""
        choices = {
            2: [(0, b"UL"), (0x10, b"UI"), (0x12, b"UI"), (0x13, b"SH"), (0x16, b"AE"), (0x102, b"OB")]
        }
        numbers = choices.get(group, [(0, b"UL"), (0x10, b"LO"), (0x1130, b"CS"), (0x1000, b"UI")])
        coding = (
            plan.coding if rng.random() < 0.7 else replace(plan.coding, explicit=not plan.coding.explicit)
        )
        raw = b""
        for number, vr in sorted(rng.sample(numbers, rng.randint(1, 3))):
            value = {b"UL": rng.randbytes(4), b"UI": text(EXPLICIT, b"\0")}.get(vr, b"SYNTH ")
            raw += coding.element(group << 16 | number, vr, value)
        return raw + _joined(plan)

    return head


for _group in range(7):
    kind(f"group {_group:04X} in front")(_head(_group))


@kind("Part 10 header in front")
def _part10(_: random.Random, plan: Plan) -> bytes:
    head = preamble_and_file_meta(CT, plan.sop_instance_uid, plan.transfer_syntax_uid, source_ae_title="X")
    return head + _joined(plan)


@kind("elements reordered")
def _reordered(rng: random.Random, plan: Plan) -> bytes:
    parts = list(plan.elements().values())
    rng.shuffle(parts)
    return b"".join(parts)


@kind("element twice")
def _twice(rng: random.Random, plan: Plan) -> bytes:
    return _inserted(rng, plan, rng.choice(list(plan.elements().values())))


@kind("element missing")
def _missing(rng: random.Random, plan: Plan) -> bytes:
    parts = plan.elements()
    del parts[rng.choice(list(parts))]
    return b"".join(parts.values())


@kind("VR that is none")
def _no_vr(rng: random.Random, plan: Plan) -> bytes:
    value = rng.choice((b"", b"A NOTE", b"SYNTHETIC NOTE", bytes(20)))
    return _inserted(rng, plan, plan.coding.element(NOTE, rng.choice(_NO_VRS), value))


@kind("VR of the future, two-byte length")
def _future_short(rng: random.Random, plan: Plan) -> bytes:
    return _inserted(rng, plan, plan.coding.element(NOTE, rng.choice(_FUTURE_VRS), b"A NOTE"))


@kind("VR of the future, four-byte length")
def _future_long(rng: random.Random, plan: Plan) -> bytes:
    raw = plan.coding.element(NOTE, b"UN", b"A NOTE")
    return _inserted(rng, plan, raw.replace(b"UN", rng.choice(_FUTURE_VRS), 1))


@kind("VR of another element")
def _other_vr(rng: random.Random, plan: Plan) -> bytes:
    tag = rng.choice((0x0008_0060, 0x0010_0020, NOTE, 0x0020_0013, 0x0029_1001))
    return _replaced(plan, tag, plan.coding.element(tag, rng.choice(_VRS), b"SYNTH "))


@kind("implicit element in an explicit data set, or the reverse")
def _other_coding(rng: random.Random, plan: Plan) -> bytes:
    coding = replace(plan.coding, explicit=not plan.coding.explicit)
    return _inserted(rng, plan, coding.element(NOTE, b"LT", rng.choice((b"", b"A NOTE", bytes(300)))))


@kind("another transfer syntax than negotiated")
def _other_syntax(rng: random.Random, plan: Plan) -> bytes:
    return _joined(plan.coded(rng.choice((EXPLICIT, IMPLICIT, BIG))))


@kind("length odd")
def _odd(rng: random.Random, plan: Plan) -> bytes:
    return _inserted(rng, plan, plan.coding.element(NOTE, b"LT", b"ABC"))


@kind("length wrong")
def _length(rng: random.Random, plan: Plan) -> bytes:
    length = rng.choice((0, 1, 4, 7, 8, 0x7F, 0xFFFE, 0xFFFF, 0x1_0000, 0x7FFF_FFFF, 0xFFFF_FFFE))
    vr = rng.choice((b"LT", b"UT", b"OB", b"UN"))
    return _inserted(rng, plan, plan.coding.element(NOTE, vr, b"A NOTE", length))


@kind("length undefined where none may be")
def _undefined(rng: random.Random, plan: Plan) -> bytes:
    raw = plan.coding.element(NOTE, rng.choice((b"OB", b"UT", b"UN")), b"A NOTE", UNDEFINED)
    return _inserted(rng, plan, raw + (plan.coding.mark(0xE0DD) if rng.random() < 0.5 else b""))


def _reference(plan: Plan) -> bytes:
    return plan.coding.element(0x0008_1155, b"UI", b"1.2.3\0")


@kind("item delimiter missing")
def _no_item_end(rng: random.Random, plan: Plan) -> bytes:
    item = plan.coding.item(_reference(plan), open_=True, ended=False)
    return _replaced(plan, SEQUENCE, plan.coding.sequence(SEQUENCE, item, open_=rng.random() < 0.5))


@kind("sequence delimiter missing")
def _no_sequence_end(rng: random.Random, plan: Plan) -> bytes:
    item = plan.coding.item(_reference(plan), open_=rng.random() < 0.5)
    return _replaced(plan, SEQUENCE, plan.coding.sequence(SEQUENCE, item, open_=True, ended=False))


@kind("delimiter superfluous, inside")
def _more_inside(rng: random.Random, plan: Plan) -> bytes:
    end = plan.coding.mark(rng.choice((0xE00D, 0xE0DD)))
    content = plan.coding.item(_reference(plan)) + end + plan.coding.item(_reference(plan))
    return _replaced(plan, SEQUENCE, plan.coding.sequence(SEQUENCE, content, open_=plan.open_))


@kind("delimiter superfluous, behind")
def _more_behind(rng: random.Random, plan: Plan) -> bytes:
    end = plan.coding.mark(rng.choice((0xE00D, 0xE0DD)))
    return _replaced(plan, SEQUENCE, plan.elements()[SEQUENCE] + end)


@kind("item length wrong")
def _item_length(rng: random.Random, plan: Plan) -> bytes:
    reference = _reference(plan)
    length = rng.choice((0, 2, len(reference) - 2, len(reference) + 8, 5000, 0xFFFF_FFFE))
    item = plan.coding.mark(0xE000, length) + reference
    return _replaced(plan, SEQUENCE, plan.coding.sequence(SEQUENCE, item, open_=plan.open_))


@kind("sequence length wrong")
def _sequence_length(rng: random.Random, plan: Plan) -> bytes:
    item = plan.coding.item(_reference(plan))
    length = rng.choice((0, 4, len(item) - 2, len(item) + 8, 9000, 0xFFFF_FFFE))
    return _replaced(plan, SEQUENCE, plan.coding.element(SEQUENCE, b"SQ", item, length))


@kind("element where an item must stand")
def _no_item(_: random.Random, plan: Plan) -> bytes:
    return _replaced(plan, SEQUENCE, plan.coding.sequence(SEQUENCE, _reference(plan), open_=plan.open_))


@kind("sequences in one another")
def _nested(rng: random.Random, plan: Plan) -> bytes:
    raw = b""
    for _ in range(rng.choice((5, 20, 31, 33, 70, 200))):
        raw = plan.coding.sequence(SEQUENCE, plan.coding.item(raw, open_=plan.open_), open_=plan.open_)
    return _replaced(plan, SEQUENCE, raw)


@kind("cut off")
def _cut(rng: random.Random, plan: Plan) -> bytes:
    raw = _joined(plan)
    return raw[: rng.randrange(len(raw))]


@kind("bytes behind the end")
def _tail(rng: random.Random, plan: Plan) -> bytes:
    return _joined(plan) + rng.choice((bytes(1), bytes(12), bytes(2000), b"\xff" * 10, rng.randbytes(40)))


@kind("group length wrong")
def _group_length(rng: random.Random, plan: Plan) -> bytes:
    group = rng.choice((0x0008, 0x0010, 0x0020, 0x0028))
    parts = plan.elements()
    first = next(tag for tag in parts if tag >> 16 == group)
    raw = plan.coding.element(group << 16, b"UL", rng.choice((bytes(4), b"\xff" * 4, rng.randbytes(4))))
    return b"".join(raw + part if tag == first else part for tag, part in parts.items())


_UIDS = {
    "of 65 to 128 characters": lambda rng: b"1.2." + b"3" * rng.choice((61, 62, 80, 124)),
    "of more than 128 characters": lambda rng: b"1.2." + b"3" * rng.choice((125, 200, 1000)),
    "with a dot at the end": lambda rng: b"1.2.%d." % rng.randrange(10**9),
    "with an empty component": lambda rng: b"1..%d" % rng.randrange(10**9),
    "with a leading zero": lambda rng: b"1.02.%d" % rng.randrange(10**9),
    "with a NUL inside": lambda rng: b"1.2.%d\0.77" % rng.randrange(10**9),
    "padded with blanks": lambda rng: b"1.2.%d    " % rng.randrange(10**9),
    "with letters": lambda rng: b"1.2.a%d" % rng.randrange(10**9),
    "with a path": lambda rng: b"../../%d" % rng.randrange(10**9),
    "empty": lambda _: b"",
}


def _uid(make: Callable[[random.Random], bytes]) -> Kind:
    def uid(rng: random.Random, plan: Plan) -> bytes:
        wrong = make(rng)
        if rng.random() < 0.5:
            return _joined(replace(plan, study_instance_uid=wrong))
        return _joined(replace(plan, series_instance_uid=wrong))

    return uid


for _name, _make in _UIDS.items():
    kind(f"Study or Series UID {_name}")(_uid(_make))


@kind("SOP Instance UID of another instance")
def _contradiction(rng: random.Random, plan: Plan) -> bytes:
    return _joined(replace(plan, sop_instance_uid=f"1.2.{rng.randrange(10**9)}"))


@kind("text with NULs and controls")
def _controls(rng: random.Random, plan: Plan) -> bytes:
    tag = rng.choice((0x0008_0060, 0x0008_103E, 0x0010_0020, NOTE))
    value = pad(rng.choice((b"A\0B", b"\0\0", b"\xff\xfe", b"\x1b[2J", b"\r\n\t", rng.randbytes(9))), b" ")
    return _replaced(plan, tag, plan.coding.element(tag, b"LO", value))


@kind("bytes changed anywhere")
def _anywhere(rng: random.Random, plan: Plan) -> bytes:
    return mutated(rng, _joined(plan))


@kind("deflated stream broken")
def _stream(rng: random.Random, plan: Plan) -> bytes:
    return mutated(rng, deflated(_joined(plan)))


DEFLATED_ONLY = frozenset({"deflated stream broken"})


def plans(rng: random.Random, count: int, root: str) -> Iterator[tuple[str, Plan, bytes]]:
    """Yield that many data sets: name of the kind, plan, and bytes to send; all kinds equally often."""
    names = list(KINDS)
    syntaxes = (EXPLICIT, IMPLICIT, DEFLATED, BIG, EXPLICIT, IMPLICIT)
    for number in range(count):
        name = names[number % len(names)]
        syntax = DEFLATED if name in DEFLATED_ONLY else syntaxes[number // len(names) % len(syntaxes)]
        study = f"{root}.{number // 200}"
        plan = Plan(
            f"{study}.{number}", study.encode(), f"{study}.0".encode(), syntax, open_=rng.random() < 0.5
        )
        raw = KINDS[name](rng, plan)
        yield name, plan, raw if syntax != DEFLATED or name in DEFLATED_ONLY else deflated(raw)
