"""Valid bytes with seeded changes, so that a run can be repeated."""

import random
import struct
from collections.abc import Callable

LENGTHS = (
    0,
    1,
    2,
    3,
    0x7F,
    0xFF,
    0xFFFE,
    0xFFFF,
    0x1_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFE,
    0xFFFF_FFFF,
)

Mutation = Callable[[random.Random, bytearray], None]


def _flip(rng: random.Random, raw: bytearray) -> None:
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, raw: bytearray) -> None:
    at = rng.randrange(len(raw))
    patch = rng.randbytes(rng.randint(1, 8))
    raw[at : at + len(patch)] = patch


def _length(rng: random.Random, raw: bytearray) -> None:
    """Write a length of four or two bytes, in either byte order, at any position."""
    form = rng.choice((">I", "<I", ">H", "<H"))
    value = rng.choice(LENGTHS) & (0xFFFF if form[1] == "H" else 0xFFFF_FFFF)
    at = rng.randrange(len(raw))
    patch = struct.pack(form, value)
    raw[at : at + len(patch)] = patch


def _cut(rng: random.Random, raw: bytearray) -> None:
    at = rng.randrange(len(raw))
    del raw[at : at + rng.randint(1, 64)]


def _insert(rng: random.Random, raw: bytearray) -> None:
    at = rng.randrange(len(raw))
    raw[at:at] = rng.randbytes(rng.randint(1, 64))


def _repeat(rng: random.Random, raw: bytearray) -> None:
    at = rng.randrange(len(raw))
    raw[at:at] = raw[at : at + rng.randint(1, 256)]


MUTATIONS: tuple[Mutation, ...] = (_flip, _overwrite, _length, _length, _cut, _insert, _repeat)


def mutated(rng: random.Random, raw: bytes) -> bytes:
    """Return `raw` with one to four errors; it always differs from `raw`."""
    while True:
        wrong = bytearray(raw)
        for _ in range(rng.randint(1, 4)):
            if wrong:
                rng.choice(MUTATIONS)(rng, wrong)
        if wrong != raw:
            return bytes(wrong)
