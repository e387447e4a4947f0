"""Ask one peer as a forwarder does: its name, TCP, TLS, an association with our titles, Verification.

Each step has a limit of two seconds. What the peer refuses is named in words, with the key of config.yaml
that has to be changed, or what to do at the peer. peer_answer.py has the words if there is no association.
"""

import socket
from dataclasses import replace

from gateway.config import Configuration
from gateway.config.destination import Destination
from gateway.diagnosis.bounded import HangsError, within
from gateway.diagnosis.peer_answer import (
    STEP_SECONDS,
    PeerAnswer,
    no_association,
    rejected,
    unreachable,
)
from gateway.dicom.association import Association, PeerAddress
from gateway.dicom.contexts import VERIFICATION
from gateway.dicom.requestor import associate
from gateway.domain.dimse_status import Status, name_of
from gateway.errors import (
    AssociationRejectedError,
    ConfigurationError,
    PeerAwayError,
    PeerError,
)
from gateway.forward.opening import COMMON, VERIFICATIONS, may_be_due_to_contexts
from gateway.forward.peer import address_of


def key_of(configuration: Configuration, ae_title: str) -> str:
    """Return the place of a destination in config.yaml."""
    forwarder = configuration.forwarder
    if forwarder.orthanc.ae_title == ae_title:
        return "forwarder.orthanc"
    if any(archive.ae_title == ae_title for archive in forwarder.archives):
        return f"forwarder.archives[{ae_title}]"
    for name, application in forwarder.applications.items():
        if any(worker.ae_title == ae_title for worker in application.workers):
            return f"forwarder.applications.{name}.workers[{ae_title}]"
    return f"forwarder.workers[{ae_title}]"


def ask(configuration: Configuration, destination: Destination) -> PeerAnswer:
    """Ask a destination; each step may be the last."""
    place = key_of(configuration, destination.ae_title)
    found = _look_up(destination, place)
    if isinstance(found, PeerAnswer):
        return found
    return with_addresses(_converse(configuration, destination, place), destination.host, found, place)


def with_addresses(answer: PeerAnswer, host: str, addresses: list[str], place: str) -> PeerAnswer:
    """Name the addresses behind a host name where the wrong host may have answered, or none."""
    if not answer.wrong or host in addresses or answer.reached not in {"name", "TCP"}:
        return answer
    return replace(
        answer,
        wrong=f"{answer.wrong}; {host} has the address {' and '.join(addresses)}",
        remedy=f"{answer.remedy}; if that address is wrong, correct DNS or /etc/hosts, or {place}.host",
    )


def _look_up(destination: Destination, place: str) -> list[str] | PeerAnswer:
    """Return the addresses of its host name, or what is wrong."""
    try:
        found = within(
            STEP_SECONDS,
            lambda: socket.getaddrinfo(destination.host, destination.port, type=socket.SOCK_STREAM),
        )
    except HangsError:
        return PeerAnswer(
            wrong=f"cannot be looked up: the name server does not answer for {destination.host}",
            remedy=f"repair DNS (/etc/resolv.conf), or write an IP address into {place}.host",
        )
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        return PeerAnswer(
            wrong=f"cannot be looked up: the host name {destination.host} has no address ({reason})",
            remedy=f"correct {place}.host, or the name server",
        )
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _converse(configuration: Configuration, destination: Destination, place: str) -> PeerAnswer:
    """Open an association and send a C-ECHO."""
    try:
        peer = address_of(destination, configuration.forwarder)
    except ConfigurationError as error:
        return PeerAnswer("TCP", f"cannot be reached: {error}", "repair that file; `mini-pacs config check`")
    quick = replace(peer, timeout_seconds=STEP_SECONDS, connect_timeout_seconds=STEP_SECONDS)
    ours = configuration.edge.ae_title
    try:
        association = _associate(quick, ours)
    except AssociationRejectedError as error:
        return rejected(error, destination, ours, place)
    except PeerAwayError as error:
        if isinstance(error.__cause__, OSError):
            return unreachable(error.__cause__, destination, place)
        return no_association(error, destination, ours, place)
    return _verify(association, destination, place)


def _associate(peer: PeerAddress, ours: str) -> Association:
    try:
        return associate(peer, calling_ae_title=ours, contexts=[*VERIFICATIONS, *COMMON])
    except PeerAwayError as refusal:
        if not may_be_due_to_contexts(refusal):
            raise
        try:
            return associate(peer, calling_ae_title=ours, contexts=VERIFICATIONS)
        except PeerAwayError as error:
            raise refusal from error


def _verify(association: Association, destination: Destination, place: str) -> PeerAnswer:
    title = destination.ae_title
    has_verification = any(context.sop_class_uid == VERIFICATION for context in association.accepted)
    stores = any(context.sop_class_uid != VERIFICATION for context in association.accepted)
    proposed = any(context.sop_class_uid != VERIFICATION for context in association.proposed)
    try:
        status = association.echo() if has_verification else Status.SUCCESS
        association.release()
    except PeerError as error:
        reason = str(error)
        return PeerAnswer(
            "association",
            f"accepts an association and does not answer C-ECHO: {reason}",
            f"restart {title}; `mini-pacs destinations echo {title}`",
        )
    if status != Status.SUCCESS:
        return PeerAnswer(
            "association",
            f"answers C-ECHO with 0x{status:04X} ({name_of(status)})",
            f"look into the log of {title}",
        )
    if proposed and not stores:
        return PeerAnswer(
            "C-ECHO" if has_verification else "association",
            f"accepts an association, but none of {len(COMMON)} usual presentation contexts for storage",
            f"let {title} accept the Storage SOP Classes that the edge sends; is {place}.port a Storage SCP?",
            "instances wait for forwarder.give_up_after_hours, then they are dead",
        )
    return PeerAnswer("C-ECHO" if has_verification else "an association")
