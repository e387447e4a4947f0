"""Hostile UIDs, AE titles and data sets."""

import random
import struct
import zlib

from support.synthetic_instances import CT, Instance

ESCAPE = "mini-pacs-escaped"
"""In every UID that is a path; a file of that name anywhere is an escape."""
SECRET = b"GARBAGE-SECRET"
"""In every invalid UID and AE title; a log line that contains it quotes an attacker."""

UIDS: tuple[bytes, ...] = (
    f"../../../../../../../../tmp/{ESCAPE}".encode(),
    f"/tmp/{ESCAPE}".encode(),  # noqa: S108  what an attacker would write
    f"..\\..\\{ESCAPE}".encode(),
    f"1.2.3/../../{ESCAPE}".encode(),
    f"1.2.3\0/../{ESCAPE}".encode(),
    b"..",
    b".",
    b"1..2",
    b".1.2",
    b"1.2.",
    b"",
    b"\0" * 8,
    b"1.2\n3.4",
    b"1." + b"2" * 63,
    b"1.2." * 200 + b"3",
    b"1.2.3%n%s%x",
    "1.\u0662.\uff13".encode(),  # Unicode digits that are not ASCII
    b"\xff\xfe1.2.3",
    b"1.2.3';DROP TABLE instances;--",
    b'1.2.3"}\n{"stage":"forged"}',
)

AE_TITLES: tuple[bytes, ...] = (
    b'ORTHANC\n{"a":1}\n',
    b"\n\n\n\n",
    b'A\r\n{"stage":1}',
    b"\0" * 16,
    b" " * 16,
    b"\x1b[2J\x1b[31mRED",
    b"\xff" * 16,
    b"ORTHANC\0EVIL",
    b"../../etc/pass",
    b"orthanc",
    b"O\\RTHANC",
    b"%s%n%x%p",
)

_ITEM = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
_SEQUENCE = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFF_FFFF)
_DEPTH = 1000
NESTED = (_SEQUENCE + _ITEM) * _DEPTH
"""Sequences 1,000 deep, each of undefined length."""
_ENDS = (b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)) * _DEPTH
_PATIENT_NAME = b"\x10\x00\x10\x00PN"


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """Return an element in Explicit VR Little Endian with a short length."""
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def bomb() -> bytes:
    """Return a deflated data set of 100 KB that inflates to 100 MB before its UIDs."""
    deflate = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    block = element(9, 1, b"LO", bytes(0xFFF0))
    return b"".join(deflate.compress(block) for _ in range(1600)) + deflate.flush()


def _short(rng: random.Random, honest: bytes) -> bytes:
    return honest[: rng.randint(1, 120)]


def _noise(rng: random.Random, _: bytes) -> bytes:
    return SECRET + rng.randbytes(rng.randint(0, 300))


def _hostile_uid(rng: random.Random, _: bytes) -> bytes:
    uid = rng.choice(UIDS)[:200]
    return element(8, 0x16, b"UI", CT.encode() + b"\0") + element(8, 0x18, b"UI", uid)


def _endless(rng: random.Random, _: bytes) -> bytes:
    return struct.pack("<HH2sHI", 8, 0x16, b"UN", 0, rng.choice((0xFFFF_FFFF, 0xFFFF_FFFE, 1 << 31)))


def _hostile_study(rng: random.Random, honest: bytes) -> bytes:
    return honest.replace(b"1.2.4\0", rng.choice((b"../../", b"/tmp/x", b"1..2.3", b"\n1.2\n\n")))


def _misplaced(_: random.Random, __: bytes) -> bytes:
    return element(0x10, 0x10, b"PN", SECRET) * 3 + b"\xfe\xff\x0d\xe0" + bytes(4)


def _nested(_: random.Random, __: bytes) -> bytes:
    return NESTED


def nested_within(_: random.Random, honest: bytes) -> bytes:
    """Return a data set with its UIDs behind sequences nested 1,000 deep, correct in all else."""
    at = honest.index(_PATIENT_NAME)
    return honest[:at] + NESTED + _ENDS + honest[at:]


def _contradicting(_: random.Random, __: bytes) -> bytes:
    return Instance(sop_instance_uid="9.9.9", payload=SECRET).data_set()


_LIES = (
    *(_noise, _hostile_uid, _short, _endless, _hostile_study, _misplaced, _contradicting) * 4,
    _nested,
    nested_within,
)


def data_set(rng: random.Random, sop_instance_uid: str) -> bytes:
    """Return elements with wrong lengths, order, depth or UIDs."""
    honest = Instance(sop_instance_uid=sop_instance_uid, study_instance_uid="1.2.4", payload=SECRET)
    return rng.choice(_LIES)(rng, honest.data_set())
