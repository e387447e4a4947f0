"""The allowlist: the meaning of an entry, what config.yaml refuses, and host names that change."""

import threading
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.allowlist import Address, Entry, address_of, find_problem, parse
from gateway.receive import allowed_callers
from gateway.receive.allowed_callers import AllowedCallers


def allowed(entries: list[str], title: str, address: str) -> bool:
    """Tell whether these entries let it in."""
    known = AllowedCallers(map(parse, entries))
    return known.has_title(title) and known.why_address_refused(title, address) is None


@pytest.mark.parametrize(
    ("entry", "address", "lets_in"),
    [
        ("CT1", "203.0.113.9", True),
        ("CT1", "2001:db8::9", True),
        ("CT1@10.1.2.3", "10.1.2.3", True),
        ("CT1@10.1.2.3", "10.1.2.4", False),
        ("CT1@10.0.0.0/8", "10.255.0.1", True),
        ("CT1@10.0.0.0/8", "11.0.0.1", False),
        ("CT1@10.0.0.0/8", "::ffff:10.2.3.4", True),
        ("CT1@10.0.0.0/8", "::10.2.3.4", False),
        ("CT1@fd00::/8", "fd12::1", True),
        ("CT1@fd00::/8", "fe80::1", False),
        ("CT1@fe80::/10", "fe80::1%eth0", True),
        ("CT1@0.0.0.0/0", "2001:db8::9", False),
        ("CT@1@10.0.0.0/8", "10.0.0.1", False),
        ("CT2", "10.0.0.1", False),
    ],
)
def test_an_entry_admits_its_title_from_its_network_only(entry: str, address: str, lets_in: bool) -> None:  # noqa: FBT001  a column
    """IPv4 and IPv6 are separate, except IPv4 through a socket of IPv6."""
    assert allowed([entry], "CT1", address) is lets_in


def test_each_of_several_entries_admits_its_title() -> None:
    """A title may have several addresses; a title that contains an @ is written with an address."""
    entries = ["CT1@10.0.0.1", "CT1@10.0.0.2", "A@B@192.0.2.0/24"]
    assert allowed(entries, "CT1", "10.0.0.1")
    assert allowed(entries, "CT1", "10.0.0.2")
    assert not allowed(entries, "CT1", "192.0.2.1")
    assert allowed(entries, "A@B", "192.0.2.1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("CT1@", "is expected"),
        ("@10.0.0.1", "AE title"),
        ("SEVENTEEN_LETTERS@10.0.0.1", "AE title"),
        ("CT1@10.0.0.1/8", "host bits"),
        ("CT1@10.0.0.300", "10.0.0.300"),
        ("CT1@10.0.0.0/33", "10.0.0.0/33"),
        ("CT1@fd00::/129", "fd00::/129"),
        ("CT1@ct 1", "is expected"),
        ("CT1@-ct1", "is expected"),
        ("CT1@" + "a" * 254, "is expected"),
    ],
)
def test_an_entry_without_a_meaning_is_refused(text: str, words: str) -> None:
    """The message says what is wrong."""
    with pytest.raises(ValueError, match=words):
        parse(text)


@given(st.text(max_size=40))
def test_any_text_is_refused_or_means_what_it_says(text: str) -> None:
    """An accepted entry, written out again, means the same."""
    try:
        entry = parse(text)
    except ValueError:
        return
    written = entry.ae_title if entry.origin is None else f"{entry.ae_title}@{entry.origin}"
    assert entry.origin is not None or "@" not in text
    assert parse(written) == entry


def test_entries_that_contradict_each_other_are_named() -> None:
    """Duplicates, and an address beside the title alone, which admits everybody."""
    assert find_problem([parse("A@10.0.0.0/8"), parse("A@10.0.0.1"), parse("B")]) is None
    assert find_problem([parse("A@10.0.0.1"), parse("A@10.0.0.1/32")]) == "duplicate entry A@10.0.0.1"
    assert "has no effect" in str(find_problem([parse("A"), parse("A@10.0.0.0/8")]))


class Names:
    """A name server that answers what it is told to."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, host: str) -> frozenset[Address]:
        """Return the next answer; None fails."""
        self.asked.append(host)
        assert self.may_answer.wait(10)
        answer = self.answers.pop(0)
        if answer is None:
            raise OSError(-2, "Name or service not known")
        return frozenset({ip_address(answer)})


def test_a_host_with_a_new_address_is_admitted_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of the name server is used for a while, then renewed; without a new one it stays."""
    names = Names("10.0.0.1", "10.0.0.2", None)
    known = AllowedCallers([Entry("CT1", host="ct1")], look_up=names)
    assert names.asked == []
    assert [known.why_address_refused("CT1", f"10.0.0.{n}") is None for n in (1, 1, 2)] == [True, True, False]
    assert names.asked == ["ct1"]
    monkeypatch.setattr(allowed_callers, "CACHE_SECONDS", 0.0)
    known._hosts["ct1"].valid_until = 0.0
    assert known.why_address_refused("CT1", "10.0.0.2") is None
    known._hosts["ct1"].valid_until = 0.0
    assert known.why_address_refused("CT1", "10.0.0.2") is None
    assert len(names.asked) == 3


def test_a_host_without_an_address_admits_nobody_and_is_logged() -> None:
    """The name server is not asked again at each attempt."""
    names = Names(None)
    known = AllowedCallers([Entry("CT1", host="ct1")], look_up=names)
    for _ in range(3):
        assert "ct1 has no address: Name or service not known" in str(
            known.why_address_refused("CT1", "10.0.0.1")
        )
    assert names.asked == ["ct1"]


def test_a_hanging_name_server_delays_one_caller_only() -> None:
    """The others use the last answer."""
    names = Names("10.0.0.1", "10.0.0.2")
    known = AllowedCallers([Entry("CT1", host="ct1")], look_up=names)
    assert known.why_address_refused("CT1", "10.0.0.1") is None
    names.may_answer.clear()
    known._hosts["ct1"].valid_until = 0.0
    slow = threading.Thread(target=known.why_address_refused, args=("CT1", "10.0.0.2"))
    slow.start()
    while len(names.asked) < 2:
        assert slow.is_alive()
    assert known.why_address_refused("CT1", "10.0.0.1") is None
    names.may_answer.set()
    slow.join()
    assert known.why_address_refused("CT1", "10.0.0.2") is None


def test_a_real_name_is_looked_up() -> None:
    """By the system's resolver."""
    assert allowed(["CT1@localhost"], "CT1", "127.0.0.1")
    assert not allowed(["CT1@localhost"], "CT1", "192.0.2.1")


def test_addresses_lose_their_scope_and_their_mapping() -> None:
    """The text of a socket becomes a plain address."""
    assert str(address_of("::ffff:192.0.2.1")) == "192.0.2.1"
    assert str(address_of("fe80::1%2")) == "fe80::1"
