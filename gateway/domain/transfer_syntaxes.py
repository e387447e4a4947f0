"""Which transfer syntaxes to offer to senders, from what the archives accept.

With `edge.accepted_transfer_syntaxes: as_archives` a sender is offered only transfer syntaxes that every
archive accepts. Others are declined at the negotiation, so that the sender can choose another one. Otherwise
the delivery would be dead, because the edge never transcodes.
"""

from collections import defaultdict
from collections.abc import Iterable

LOSSLESS = (
    "1.2.840.10008.1.2.1",  # Explicit VR Little Endian
    "1.2.840.10008.1.2",  # Implicit VR Little Endian
    "1.2.840.10008.1.2.2",  # Explicit VR Big Endian, retired
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless Only
    "1.2.840.10008.1.2.4.92",  # JPEG 2000 Part 2 Multi-component Lossless Only
    "1.2.840.10008.1.2.4.201",  # High-Throughput JPEG 2000 Lossless Only
    "1.2.840.10008.1.2.4.202",  # High-Throughput JPEG 2000 with RPCL Options Lossless Only
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, Non-Hierarchical, First-Order Prediction
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless, Non-Hierarchical
    "1.2.840.10008.1.2.4.110",  # JPEG XL Lossless
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.1.99",  # Deflated Explicit VR Little Endian
)
LOSSY = (
    *(f"1.2.840.10008.1.2.4.{n}" for n in ("50", "51", "81", "91", "93", "203", "111", "112")),  # JPEG …
    *(f"1.2.840.10008.1.2.4.{n}" for n in ("100", "100.1", "101", "101.1")),  # MPEG2
    *(f"1.2.840.10008.1.2.4.{n}" for n in ("102", "102.1", "103", "103.1", "104", "104.1")),  # MPEG-4
    *(f"1.2.840.10008.1.2.4.{n}" for n in ("105", "105.1", "106", "106.1", "107", "108")),  # MPEG-4, HEVC
)
ASKED = (*LOSSLESS, *LOSSY)
"""The transfer syntaxes that archives are asked for, the preferred one first: PS3.6 §A, Table A-1."""


def common(known: Iterable[tuple[str, str, bool]]) -> tuple[str, ...]:
    """Return the transfer syntaxes that every archive accepts, the preferred one first.

    `known` has archive, transfer syntax, and whether the archive accepts it. An archive that was not asked
    yet limits nothing. The result is empty if no archive was asked, or if they have none in common.
    """
    accepted: dict[str, set[str]] = defaultdict(set)
    for archive, transfer_syntax_uid, accepts in known:
        if accepts:
            accepted[archive].add(transfer_syntax_uid)
    sets = list(accepted.values())
    return tuple(uid for uid in ASKED if sets and all(uid in one for one in sets))
