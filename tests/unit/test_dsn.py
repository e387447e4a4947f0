"""An invalid DATABASE_URL is refused without printing any part of it."""

import traceback

import pytest

from gateway.database.dsn import checked, each_address, where
from gateway.errors import ConfigurationError


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://edge:sec@ret@db/mini_pacs",
        "postgresql://edge:sec/ret@db/mini_pacs",
        "postgresql://edge:sec?ret@db/mini_pacs",
        "postgresql://edge:sec#ret@db/mini_pacs",
        "postgresql://edge:sec%ret@db/mini_pacs",
        "postgresql://edge:secret",
        "postgres:/edge:secret@db/mini_pacs",
        "edge:secret@db/mini_pacs",
        "host=db password='secret",
        "host=db password=sec ret",
        "postgresql://edge:secret@db/mini_pacs?sslmodus=require",
        "postgresql://edge:secret@[::1/mini_pacs",
    ],
)
def test_a_url_that_libpq_would_quote_is_refused_without_quoting(text: str) -> None:
    """Neither message nor traceback holds a part of the password."""
    with pytest.raises(ConfigurationError) as refused:
        checked(text)
    printed = "".join(traceback.format_exception_only(refused.value)) + str(refused.value)
    assert "DATABASE_URL" in printed
    for piece in ("sec", "ret"):
        assert piece not in printed


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://edge:sec%40%2Fret@db/mini_pacs",
        "postgresql://edge:sec:ret@db:5432,other:5433/mini_pacs?target_session_attrs=read-write",
        "postgresql://edge@/mini_pacs?host=%2Frun%2Fpostgresql",
        "postgresql:///mini_pacs",
        "postgresql://edge:secret@[::1]:5432/mini_pacs",
        "host=db port=5432 user=edge password='sec@/ret'",
    ],
)
def test_a_url_that_libpq_accepts_is_unchanged(text: str) -> None:
    """Several hosts, sockets, escaped passwords, keywords."""
    assert checked(text) == text


def test_each_host_is_tried_by_itself() -> None:
    """Host and port stay together; one host, or a choice that only libpq can make, is unchanged."""
    found = each_address("postgresql://edge:p%40ss@a:1,b:2/mini_pacs?target_session_attrs=read-write")
    assert [("host=a" in one and "port=1" in one, "host=b" in one and "port=2" in one) for one in found] == [
        (True, False),
        (False, True),
    ]
    assert all("password=p@ss" in one and "target_session_attrs=read-write" in one for one in found)
    assert [one.count("port=5433") for one in each_address("host=a,b port=5433")] == [1, 1]
    assert ["port" in one for one in each_address("host=a,b")] == [False, False]
    for alone in ("postgresql://a/db", "host=a,b target_session_attrs=prefer-standby"):
        assert each_address(alone) == [alone]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://edge:secret@db/x", "db:5432"),
        ("postgresql://edge:secret@db:6543/x", "db:6543"),
        ("postgresql://edge:secret@db1:1,db2:2/x", "db1:1, db2:2"),
        ("host=db1,db2 port=7 password=secret", "db1:7, db2:7"),
        ("postgresql://edge:secret@[::1]:7/x", "[::1]:7"),
        ("host=/run/postgresql password=secret", "/run/postgresql:5432"),
        ("dbname=x password=secret", "its local socket:5432"),
        ("postgresql://edge:secret@[::1/x", "an address that libpq cannot parse"),
    ],
)
def test_an_address_is_shown_without_its_password(
    text: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Host and port of each server, for every error of PostgreSQL."""
    monkeypatch.delenv("PGHOST", raising=False)
    monkeypatch.delenv("PGPORT", raising=False)
    assert where(text) == shown
