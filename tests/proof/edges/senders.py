"""Edges that turn a sender away, rightly or not."""

import io
import time
from collections.abc import Generator
from contextlib import suppress

from pydicom import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from proof.edges import sender
from proof.edges.edge import broken
from proof.edges.lab import Lab, Setup
from proof.edges.sender import JPEG, NotAssociatedError

SENDERS = Setup("senders")
WRITTEN = 6  # s until refusals are in PostgreSQL


def _turned_away(lab: Lab, times: int = 5, *, calling: str = "CT1", called: str = "MINI_EDGE") -> None:
    for _ in range(times):
        with suppress(NotAssociatedError):
            sender.send(lab.port, [sender.synthetic()], calling=calling, called=called)
    time.sleep(WRITTEN)


def part10(**changes: str) -> bytes:
    """Return a Part 10 file with these attributes."""
    made = sender.synthetic()
    for key, value in changes.items():
        setattr(made, key, value)
    written = io.BytesIO()
    dcmwrite(written, made, enforce_file_format=True)
    return written.getvalue()


@broken(
    SENDERS,
    (r"\bCT2\b", r"127\.0\.0\.1", r"not (in|on|allowed|listed)"),
    (r"edge\.allowed_calling_aets", r"CT2"),
)
def sender_unknown(lab: Lab) -> Generator[None]:
    """A new scanner sends, and nobody let it in."""
    _turned_away(lab, calling="CT2")
    yield
    lab.configure(
        {"edge": {"allowed_calling_aets": [*lab.base["edge"]["allowed_calling_aets"], "CT2@127.0.0.1"]}}
    )
    lab.send(1, calling="CT2")
    lab.configure({})


@broken(
    SENDERS, (r"\bCT3\b", r"127\.0\.0\.1", r"address"), (r"edge\.allowed_calling_aets", r"CT3@127\.0\.0\.1")
)
def sender_moved(lab: Lab) -> Generator[None]:
    """A scanner got another address than the one that is allowed."""
    allowed = lab.base["edge"]["allowed_calling_aets"]
    lab.configure({"edge": {"allowed_calling_aets": [*allowed, "CT3@10.9.9.9"]}})
    _turned_away(lab, calling="CT3")
    yield
    lab.configure({"edge": {"allowed_calling_aets": [*allowed, "CT3@127.0.0.1"]}})
    lab.send(1, calling="CT3")
    lab.configure({})


@broken(SENDERS, (r"\bCT1\b", r"EDGE_OLD", r"called|calls"), (r"MINI_EDGE|edge\.ae_title",))
def sender_calls_another_title(lab: Lab) -> Generator[None]:
    """A scanner calls the edge by its old AE title."""
    _turned_away(lab, called="EDGE_OLD")
    yield
    lab.send(1)


@broken(
    SENDERS,
    (r"associations", r"\bCT1\b", r"limit|at most|too many|holds?|max_associations"),
    (r"edge\.max_associations_per_peer",),
)
def sender_holds_all_associations(lab: Lab) -> Generator[None]:
    """A scanner leaves associations open until it gets no further one."""
    lab.configure({"edge": {"max_associations_per_peer": 3}})
    held = sender.hold(lab.port, 3)
    _turned_away(lab)
    yield
    for one in held:
        one.abort()
    lab.configure({})
    lab.send(1)


@broken(SENDERS, (r"\bCT1\b", r"MR Image Storage"), (r"edge\.(accepted|additional)_sop_classes",))
def sender_sop_class_declined(lab: Lab) -> Generator[None]:
    """The edge accepts CT only, and a scanner proposes MR."""
    lab.configure({"edge": {"accepted_sop_classes": [str(CTImageStorage)]}})
    for _ in range(4):
        sender.propose(lab.port, [(MRImageStorage, ExplicitVRLittleEndian)])
    time.sleep(WRITTEN)
    yield
    lab.configure({"edge": {"additional_sop_classes": [str(MRImageStorage)]}})
    lab.send(1, modality="MR")
    lab.configure({})


@broken(SENDERS, (r"\bCT1\b", r"JPEG Baseline"), (r"edge\.accepted_transfer_syntaxes",))
def sender_transfer_syntax_declined(lab: Lab) -> Generator[None]:
    """The edge accepts uncompressed data only, and a scanner proposes JPEG."""
    lab.configure({"edge": {"accepted_transfer_syntaxes": [str(ExplicitVRLittleEndian)]}})
    for _ in range(4):
        sender.propose(lab.port, [(CTImageStorage, JPEG)])
    time.sleep(WRITTEN)
    yield
    lab.configure({})
    sender.send(lab.port, [sender.synthetic(syntax=JPEG)])


@broken(
    SENDERS,
    (
        r"\bCT1\b",
        r"0xC000|cannot understand|parsed|could not be read|UID",
        r"\([0-9A-Fa-f]{4},[0-9A-Fa-f]{4}\)|Study ?Instance ?UID",
    ),
    (r"sender|scanner|vendor|modality",),
    gone_within=None,  # ten minutes after the last one: the edge cannot know that the vendor mended it
)
def sender_data_set_cut_off(lab: Lab) -> Generator[None]:
    """A scanner sends data sets that end in the middle of a value."""
    for _ in range(4):
        whole = part10()
        # before the value of Study Instance UID ends
        cut = whole[: whole.index(b"\x20\x00\x0d\x00") + 20]
        sender.send_bytes(lab.port, cut)
    time.sleep(WRITTEN)
    yield
    lab.send(1)


@broken(
    SENDERS,
    (r"\bCT1\b", r"SOP Instance UID|0xA900|not match|contradict"),
    (r"sender|scanner|vendor|modality",),
    gone_within=None,
)
def sender_contradicts_itself(lab: Lab) -> Generator[None]:
    """A scanner names another SOP Instance UID in the command than in the data set."""
    for _ in range(4):
        whole = part10()
        made = whole.rindex(b"\x08\x00\x18\x00")
        length = int.from_bytes(whole[made + 6 : made + 8], "little")
        uid = whole[made + 8 : made + 8 + length]
        other = generate_uid().encode()[: length - 1].ljust(length, b"\0")
        sender.send_bytes(lab.port, whole[:made] + whole[made:].replace(uid, other))
    time.sleep(WRITTEN)
    yield
    lab.send(1)


@broken(SENDERS, (r"other bytes|conflict", r"\bCT1\b|UID"), (r"instances list --conflict",), gone_within=None)
def same_uid_with_other_bytes(lab: Lab) -> Generator[None]:
    """A scanner uses one SOP Instance UID for many images."""
    first = sender.synthetic()
    for number in range(6):
        first.InstanceNumber = number
        sender.send(lab.port, [first])
    time.sleep(4)
    yield
    lab.settled()
