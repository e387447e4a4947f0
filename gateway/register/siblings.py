"""Keep the versions of one SOP Instance UID in the order of their reception, over all receivers.

Each receiver registers what it received itself. A version that was received while another one was in
incoming/ has a name with its digest. It waits while an earlier file of the UID is unregistered. A file with a
second link is unregistered, or is being moved.

A move may be cut off, and others may link files too. So no version waits longer than LONGEST_WAIT_SECONDS. If
a version is registered late all the same, PostgreSQL corrects the order
(functions/put_before_later_versions.sql).
"""

from contextlib import suppress
from time import monotonic

from gateway.domain.instance import Place
from gateway.errors import SpoolError
from gateway.register.unregistered import Unregistered
from gateway.spool.envelope import read_envelope
from gateway.spool.spool import Spool

LONGEST_WAIT_SECONDS = 90.0
"""Longer than the sweep needs to register what a frozen receiver left: OLD_LINK_SECONDS, and a minute between
two runs."""


def waits_for_other_version(spool: Spool, one: Unregistered) -> bool:
    """Tell whether another version that was received before is not registered yet."""
    if one.has_plain_name or monotonic() - one.arrived > LONGEST_WAIT_SECONDS:
        return False
    uid = one.envelope.sop_instance_uid
    folder = spool.root / Place.INCOMING / one.envelope.study_instance_uid
    for path in folder.glob(f"{uid}.*dcm"):  # also finds longer UIDs
        if path == one.path:
            continue
        with suppress(SpoolError, OSError):  # a file that cannot be read does not count
            if path.stat().st_nlink > 1:
                other = read_envelope(path)
                if (
                    other is not None
                    and other.sop_instance_uid == uid
                    and other.received_at < one.envelope.received_at
                ):
                    return True
    return False
