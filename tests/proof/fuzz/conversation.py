"""The PDUs of an attacker: seeded PDUs that an association survives, and the one that ends it.

Each PDU counts once, and only if the SCP must have read it. PDUs behind one that ends the association are
neither sent nor counted.
"""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

from support.dicom_peers import CT, EXPLICIT, p_data, pdv

from gateway.dicom import command, pdu
from gateway.dicom.contexts import VERIFICATION, Offer
from gateway.dicom.negotiation import encode_request
from proof.fuzz.hostile import AE_TITLES, SECRET, UIDS, data_set
from proof.fuzz.mutation import LENGTHS, mutated

Said = tuple[bytes, int]
"""A PDU, and how many responses it must have."""

_US = struct.Struct("<HHIH")
_IMPLICIT = struct.Struct("<HHI")
_IMAGE, _ECHO = 1, 3
_OPERATIONS = (0x0010, 0x0020, 0x0021, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150, 0x7FFF, 0x0000)
_MALFORMED_SHARE = 0.12
"""How many of the PDUs of an association are C-STOREs, the most expensive to refuse."""


@dataclass(frozen=True, slots=True)
class Title:
    """The AE titles of an attacker's association."""

    calling: str
    called: str


def request(title: Title) -> bytes:
    """Return a valid A-ASSOCIATE-RQ: the attacker is on the allowlist."""
    return encode_request(
        called_ae_title=title.called,
        calling_ae_title=title.calling,
        offers=(Offer(_IMAGE, CT, (EXPLICIT,)), Offer(_ECHO, VERIFICATION, ("1.2.840.10008.1.2",))),
        max_pdu_bytes=16_384,
    )


def wrong_request(rng: random.Random, title: Title) -> bytes:
    """Return a hostile A-ASSOCIATE-RQ, or another PDU in its place."""
    honest = request(title)
    kind = rng.randrange(6)
    if kind == 0:
        return honest[:26] + rng.choice(AE_TITLES).ljust(16)[:16] + honest[42:]
    if kind == 1:
        return honest[:10] + rng.choice(AE_TITLES).ljust(16)[:16] + honest[26:]
    if kind == 2:
        return pdu.HEADER.pack(pdu.ASSOCIATE_RQ, rng.choice(LENGTHS)) + rng.randbytes(rng.randint(0, 200))
    if kind == 3:
        return rng.randbytes(rng.randint(1, 300))
    return mutated(rng, honest)


# ---- what an association survives --------------------------------------------------------------------


def _text(number: int, value: bytes) -> bytes:
    return _IMPLICIT.pack(0, number, len(value)) + value


def _command(field: int, *elements: bytes, has_data_set: bool, message_id: int = 1) -> bytes:
    return b"".join(
        (
            _US.pack(0, command.COMMAND_FIELD, 2, field),
            _US.pack(0, command.MESSAGE_ID, 2, message_id),
            _US.pack(0, command.COMMAND_DATA_SET_TYPE, 2, 1 if has_data_set else command.NO_DATA_SET),
            *elements,
        )
    )


def _noise_element(rng: random.Random) -> bytes:
    value = SECRET + rng.randbytes(rng.randint(0, 40))
    return _IMPLICIT.pack(rng.choice((0, 2, 0xFFFE, 0x7FE0)), rng.randint(0x2000, 0xFFFF), len(value)) + value


def _unserved(rng: random.Random) -> Said:
    """Return a command of an unknown operation, with elements that do not belong there."""
    raw = _command(rng.choice(_OPERATIONS), _noise_element(rng), has_data_set=False)
    return p_data(pdv(_ECHO, rng.choice((3, 0x83, 0xFF)), raw)), 1


def _odd_echo(rng: random.Random) -> Said:
    """Return a C-ECHO with hostile UIDs."""
    uids = (_text(2, rng.choice(UIDS)), _text(0x1000, rng.choice(UIDS)))
    raw = _command(command.C_ECHO_RQ, *uids, _noise_element(rng), has_data_set=False)
    return p_data(pdv(_ECHO, 3, raw)), 1


def _cancel(rng: random.Random) -> Said:
    """Return a C-CANCEL of a request that does not exist."""
    return p_data(pdv(_ECHO, 3, _command(command.C_CANCEL_RQ, _noise_element(rng), has_data_set=False))), 0


def _empty(_: random.Random) -> Said:
    """Return an empty P-DATA-TF."""
    return p_data(), 0


def _crumbs(rng: random.Random) -> Said:
    """Return a command in PDVs of no bytes and of one byte."""
    raw = _command(rng.choice(_OPERATIONS), has_data_set=False)
    values = [pdv(_ECHO, 1, raw[at : at + 1]) + pdv(_ECHO, 1, b"") for at in range(len(raw))]
    return p_data(*values, pdv(_ECHO, 3, b"")), 1


def _store_without(rng: random.Random) -> Said:
    """Return a C-STORE that announces no data set."""
    uids = (_text(2, CT.encode()), _text(0x1000, rng.choice(UIDS)))
    return p_data(pdv(_IMAGE, 3, _command(command.C_STORE_RQ, *uids, has_data_set=False))), 1


def _store(rng: random.Random) -> Said:
    """Return a C-STORE with a path as UID, or with a data set that contradicts it or is invalid."""
    uid = rng.choice(UIDS) if rng.random() < 0.3 else f"1.2.826.0.1.{rng.getrandbits(60)}".encode()
    uids = (_text(2, CT.encode()), _text(0x1000, uid))
    raw = _command(command.C_STORE_RQ, *uids, has_data_set=True)
    data = data_set(rng, uid.decode("latin-1"))
    where = _ECHO if rng.random() < 0.1 else _IMAGE
    return p_data(pdv(where, 3, raw), pdv(where, 0, b""), pdv(where, 2, data)), 1


_CHEAP: tuple[Callable[[random.Random], Said], ...] = (
    _unserved,
    _odd_echo,
    _cancel,
    _empty,
    _unserved,
    _odd_echo,
    _crumbs,
)
_DEAR: tuple[Callable[[random.Random], Said], ...] = (_store, _store, _store, _store_without)


def survived(rng: random.Random) -> Said:
    """Return a malformed PDU that the SCP answers or ignores."""
    return rng.choice(_DEAR if rng.random() < _MALFORMED_SHARE else _CHEAP)(rng)


# ---- what ends it ------------------------------------------------------------------------------------


def fatal(rng: random.Random, title: Title) -> bytes:
    """Return the last PDU of an association."""
    kind = rng.randrange(5)
    if kind == 0:
        return pdu.HEADER.pack(rng.randrange(256), rng.choice(LENGTHS)) + rng.randbytes(rng.randint(0, 60))
    if kind == 1:
        return p_data(pdu.PDV_HEADER.pack(rng.choice(LENGTHS), rng.randrange(256), rng.randrange(256)))
    if kind == 2:
        return p_data(pdv(_IMAGE, 3, rng.randbytes(rng.randint(0, 200))))
    if kind == 3:
        return request(title)
    return mutated(rng, survived(rng)[0])
