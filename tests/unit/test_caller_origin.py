"""Who called is told by AE title and address, and an address that others share proves nothing."""

import socket
import threading

import pytest
from support.waiting import wait_until

from gateway.config.forwarder import Forwarder
from gateway.domain.allowlist import Address, address_of
from gateway.domain.routing import Origin
from gateway.register.caller_origin import Caller, CallerOrigins

PACS, PACS_ADDRESS = "ORTHANC", "192.0.2.1"
FIRST, SECOND, OUTSIDE = "192.0.2.11", "192.0.2.12", "192.0.2.99"


def forwarder(
    pacs_host: str = PACS_ADDRESS, hosts: tuple[str, ...] = (FIRST, SECOND), **of_first: object
) -> Forwarder:
    """Return a configuration with the PACS and workers APP01 … at these hosts."""
    workers: list[dict[str, object]] = [
        {"host": host, "port": 11201, "ae_title": f"APP0{number}"}
        for number, host in enumerate(hosts, start=1)
    ]
    workers[0].update(of_first)
    return Forwarder.model_validate(
        {"orthanc": {"host": pacs_host, "port": 4242, "ae_title": PACS}, "workers": workers}
    )


@pytest.mark.parametrize(
    ("title", "address", "expected"),
    [
        ("APP01", FIRST, Caller(Origin.WORKER, ("APP01",))),
        ("APP01", OUTSIDE, Caller(Origin.WORKER, ("APP01",))),
        ("AISCU", OUTSIDE, Caller(Origin.WORKER, ("APP01",))),
        ("OTHER", FIRST, Caller(Origin.WORKER, ("APP01",), by_address=True)),
        ("OTHER", f"::ffff:{SECOND}", Caller(Origin.WORKER, ("APP02",), by_address=True)),
        ("OTHER", OUTSIDE, Caller(Origin.SENDER)),
        ("OTHER", PACS_ADDRESS, Caller(Origin.PERHAPS_ARCHIVE)),
        (PACS, PACS_ADDRESS, Caller(Origin.ARCHIVE, archive=PACS)),
        (PACS, OUTSIDE, Caller(Origin.PERHAPS_ARCHIVE)),
        (PACS, FIRST, Caller(Origin.PERHAPS_ARCHIVE)),
        (PACS, "127.0.0.1", Caller(Origin.PERHAPS_ARCHIVE)),
    ],
)
def test_an_ae_title_or_an_address_identifies_a_caller(title: str, address: str, expected: Caller) -> None:
    """Each peer has a host of its own."""
    assert CallerOrigins(forwarder(calling_ae_titles=["AISCU", "APP01"])).identify(title, address) == expected


def test_a_worker_may_call_by_its_own_title_whatever_else_it_calls_by() -> None:
    """The loop guard does not depend on a complete list."""
    assert (
        CallerOrigins(forwarder(calling_ae_titles=["AISCU"])).identify("APP01", OUTSIDE).origin
        is Origin.WORKER
    )


def test_workers_that_share_a_title_are_all_named() -> None:
    """They are replicas of one application."""
    origins = CallerOrigins(forwarder(hosts=(FIRST, FIRST), calling_ae_titles=["APP02"]))
    assert origins.identify("APP02", FIRST).workers == ("APP01", "APP02")
    assert origins.identify("OTHER", FIRST).workers == ("APP01", "APP02")


def _of_this_machine() -> list[str]:
    """Loopback, and an address of an interface where there is one."""
    found = {"127.0.0.1", "127.0.0.2"}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((OUTSIDE, 9))  # sends nothing
        except OSError:
            return sorted(found)
        found.add(probe.getsockname()[0])
    return sorted(found)


@pytest.mark.parametrize("address", _of_this_machine())
def test_an_address_of_this_machine_identifies_nobody(address: str) -> None:
    """In a lab sender, PACS and workers share it, and originals must reach the workers."""
    origins = CallerOrigins(forwarder(pacs_host=address, hosts=(address,)))
    assert origins.identify("CT1", address) == Caller(Origin.SENDER)
    assert origins.identify(PACS, address) == Caller(Origin.PERHAPS_ARCHIVE)
    assert CallerOrigins(forwarder(hosts=(address,))).identify("CT1", address) == Caller(Origin.SENDER)


def test_a_host_shared_by_pacs_and_worker_identifies_neither() -> None:
    """The address alone is not enough."""
    origins = CallerOrigins(forwarder(pacs_host=FIRST, hosts=(FIRST,)))
    assert origins.identify("OTHER", FIRST) == Caller(Origin.PERHAPS_ARCHIVE)
    assert origins.identify(PACS, FIRST) == Caller(Origin.PERHAPS_ARCHIVE)


def test_names_are_looked_up_without_a_wait() -> None:
    """While the name server does not answer, the host has no address; afterwards it has."""
    answers = {"pacs.example": PACS_ADDRESS, "ai.example": FIRST}
    speaks = threading.Event()

    def look_up(host: str) -> frozenset[Address]:
        assert speaks.wait(30)
        return frozenset({address_of(answers[host])})

    origins = CallerOrigins(forwarder("pacs.example", ("ai.example",)), look_up=look_up)
    assert origins.identify("OTHER", FIRST).origin is Origin.SENDER
    assert origins.identify(PACS, PACS_ADDRESS).origin is Origin.PERHAPS_ARCHIVE
    speaks.set()
    wait_until(lambda: origins.identify("OTHER", FIRST).origin is Origin.WORKER, 10, "the worker's address")
    wait_until(
        lambda: origins.identify(PACS, PACS_ADDRESS).origin is Origin.ARCHIVE, 10, "the PACS's address"
    )


def test_the_last_answer_counts_while_none_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage of the name server starts no loop."""
    monkeypatch.setattr("gateway.register.caller_origin.CACHE_SECONDS", 0.0)
    asked: list[str] = []

    def look_up(host: str) -> frozenset[Address]:
        asked.append(host)
        if len(asked) > 1:
            raise OSError("no answer")
        return frozenset({address_of(FIRST)})

    origins = CallerOrigins(forwarder(hosts=("ai.example",)), look_up=look_up)
    wait_until(lambda: origins.identify("OTHER", FIRST).origin is Origin.WORKER, 10, "the first answer")
    wait_until(lambda: origins.identify("OTHER", OUTSIDE) and len(asked) > 2, 10, "two more questions")
    assert origins.identify("OTHER", FIRST).origin is Origin.WORKER
