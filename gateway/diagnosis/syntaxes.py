"""Transfer syntaxes that an archive does not accept any more, with `as_archives`."""

from collections.abc import Iterator

from gateway.database.tables.overview import Overview
from gateway.diagnosis.finding import Finding, Holds, note
from gateway.dicom.names import named
from gateway.times import since

SHOWN = 3
"""How many transfer syntaxes are named."""


def declined(view: Overview) -> Iterator[Finding]:
    """Yield each archive that accepted a transfer syntax and declines it now."""
    for one in view.declined:
        uids = one.transfer_syntax_uids
        more = f" and {len(uids) - SHOWN} more" if len(uids) > SHOWN else ""
        yield note(
            f"syntaxes.declined:{one.ae_title}",
            f"{one.ae_title} does not accept {', '.join(map(named, uids[:SHOWN]))}{more} any more, since "
            f"{since(one.declined_at, view.now)}",
            "senders are not offered that any more; an instance that was received in it before cannot be "
            "sent there, and ends dead",
            f"let {one.ae_title} accept it again; `mini-pacs deliveries list --state dead --target "
            f"{one.ae_title}` shows what could not be sent. Ends by itself after 7 days",
            since=one.declined_at,
            holds=Holds.SOME,
        )
