"""The parts of the console that need neither a database nor a server."""

import hashlib
import json
import re
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import console
from console.access import csrf_of, is_in
from console.charts import quantile
from console.first_link import LASTS_SECONDS, FirstLink, is_loopback
from console.guard import known_hosts
from console.remedies import Button, button_of, told
from console.routes import SCREENS
from console.screen import environment, link, local
from console.sign_in import WeakPasswordError, hashed, is_name, verified
from console.text import age, bytes_, commands, count, plain, time, uid
from console.views.sentence import marked
from gateway.config.operation import Console
from gateway.database.tables.console_users import Role
from gateway.diagnosis.finding import problem
from gateway.times import moment, moments_as

FOLDER = Path(console.__file__).parent
VENDOR = FOLDER / "static" / "vendor"
HOSTILE = "<script>alert(1)</script>\"'\u202e\x1b[2J\x00"


# ---- scripts of others ----------------------------------------------------------------------------


def test_the_vendored_files_are_those_of_the_manifest() -> None:
    """Each has its hash, and the licence of its package is beside it."""
    manifest = json.loads((VENDOR / "manifest.json").read_text(encoding="utf-8"))["files"]
    licences = {f"{one['package']}.LICENSE" for one in manifest.values()}
    assert {path.name for path in VENDOR.iterdir()} == {*manifest, *licences, "manifest.json"}
    for name, one in manifest.items():
        content = (VENDOR / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == one["sha256"]
        assert f"sha384-{b64encode(hashlib.sha384(content).digest()).decode()}" == one["integrity"]
        assert one["licence"] in {"0BSD", "MIT"}
        assert re.fullmatch(r"\d+\.\d+\.\d+", one["version"])


def test_templates_have_no_inline_script_or_style_and_name_no_other_site() -> None:
    """The policy of the pages would refuse them, and there is no internet."""
    for path in (FOLDER / "templates").glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<style|\sstyle=|\son(click|load|change|submit|error)=|javascript:", text), path
        assert not re.search(r"<script(?![^>]*\ssrc=\"/static/)", text), path
        assert not re.search(r"(src|href|action)=\"(https?:)?//", text), path
        assert "|safe" not in text.replace(" ", ""), path
    for path in (FOLDER / "static").glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\(", path.read_text("utf-8")), (
            path
        )


def test_every_icon_that_a_template_names_exists() -> None:
    """A missing one would be an empty space."""
    symbols = set(re.findall(r'<symbol id="(\w+)"', (FOLDER / "static" / "icons.svg").read_text("utf-8")))
    named = {screen.icon for screen in SCREENS if screen.icon}
    for path in (FOLDER / "templates").glob("*.html"):
        named |= set(re.findall(r'icon\("(\w+)"\)', path.read_text(encoding="utf-8")))
    assert named <= symbols


# ---- text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "commands", "uid"])
def test_hostile_text_is_escaped_by_every_filter(name: str) -> None:
    """Markup, quotes, control and direction characters."""
    rendered = environment().from_string("<a title='{{ text | " + name + " }}'>{{ text | " + name + " }}</a>")
    shown = rendered.render(text=HOSTILE)
    assert "<script" not in shown
    assert not set(shown) & {"\u202e", "\x1b", "\x00"}


def test_long_text_is_shortened() -> None:
    """10,000 characters take no more place than 300."""
    assert len(plain("x" * 10_000)) == 300
    assert len(commands("x" * 10_000)) == 2000
    assert uid("1." + "2" * 62) == f'<span class="uid" title="1.{"2" * 62}">…{"2" * 14}</span>'


def test_times_sizes_and_counts() -> None:
    """As people read them."""
    when = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
    assert 'datetime="2026-03-01T12:30:05.000+00:00"' in time(when)
    assert "2026-03-01 12:30:05 UTC" in time(when)
    assert ">3 min ago<" in age(datetime.now(UTC) - timedelta(minutes=3))
    assert (bytes_(0), bytes_(1536), bytes_(5 << 40)) == ("0 B", "1.5 KiB", "5.0 TiB")
    assert (count(1234567), count(0.25), count(None)) == ("1,234,567", "0.2", "\N{EN DASH}")


def test_commands_between_backticks_are_code() -> None:
    """And are escaped."""
    assert commands("type `mini-pacs <x>` now") == "type <code>mini-pacs &lt;x&gt;</code> now"


def test_a_time_in_a_sentence_is_shown_as_every_other_time() -> None:
    """It is the typed one; what only looks like one, or is in code, stays text. A finding says it once."""
    when = datetime(2026, 3, 1, 12, 30, 5, tzinfo=UTC)
    with moments_as(marked):
        text = f"PACS is away since {moment(when)} (3 min): `x` <b>"
    assert commands(text) == f"PACS is away since {time(when)} (3 min): <code>x</code> &lt;b&gt;"
    for fake in (
        "\u27e6<script>\u27e7",
        "\u27e62026-13-45T99:99:99+00:00\u27e7",
        "2026-03-01 12:30:05+00:00",
    ):
        assert "<time" not in commands(fake)
        assert "<script" not in commands(fake)
    said, other = problem("x", text, since=when), problem("x", "PACS is away", since=when)
    assert (told(said, frozenset()).since, told(other, frozenset()).since) == (None, when)


def test_links_and_redirects_stay_on_the_console() -> None:
    """A path, never another site."""
    assert link("/deliveries", {"state": "dead", "after": "3"}, after=None) == "/deliveries?state=dead"
    for url in ("//evil", "https://evil", "/\\evil", "javascript:x", "", "/a\\b", "/a\nb"):
        assert local(url) == "/"
    assert local("/studies?x=1") == "/studies?x=1"


# ---- who may -------------------------------------------------------------------------------------------


def test_a_role_includes_those_before_it() -> None:
    """Viewer < operator < admin."""
    assert [[one.may(other) for other in Role] for one in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_addresses_and_hosts() -> None:
    """IPv4 in IPv6 counts as IPv4; what is no address belongs to nothing."""
    assert is_in("::ffff:10.1.2.3", "10.0.0.0/8")
    assert not is_in("testclient", "0.0.0.0/0")
    assert not is_in("10.1.2.3", "::/0")
    assert is_loopback("127.0.0.2")
    assert not is_loopback("10.0.0.1")
    assert not is_loopback("")
    assert known_hosts(Console(bind="0.0.0.0", hosts=("Console.Hospital",))) == {  # noqa: S104
        "localhost",
        "127.0.0.1",
        "::1",
        "console.hospital",
    }


def test_the_csrf_token_depends_on_cookie_and_name() -> None:
    """Nobody makes it without the cookie."""
    assert len({csrf_of("a"), csrf_of("b"), csrf_of("a", "anna")}) == 3


def test_passwords_and_names() -> None:
    """Bounds of both; a wrong hash is no match and no error."""
    assert verified(hashed("0123456789"), "0123456789")
    assert not verified(hashed("0123456789"), "0123456780")
    assert not verified("no hash", "0123456789")
    for password in ("short", "x" * 1001):
        with pytest.raises(WeakPasswordError):
            hashed(password)
    assert is_name("anna.b@hospital")
    assert not any(map(is_name, ("", "-x", "a b", "x" * 65, "<x>", "a\n")))


def test_the_first_link_expires_and_is_replaced() -> None:
    """It counts for 15 minutes from this machine; a new one ends the old one."""
    now = [0.0]
    found = FirstLink(lambda: now[0])
    token = found.make()
    now[0] = LASTS_SECONDS
    assert found.counts(token, "127.0.0.1")
    assert found.counts(token, "::ffff:127.0.0.1")
    assert not found.counts(token, "10.0.0.1")
    now[0] += 1
    assert not found.counts(token, "127.0.0.1")
    old, new = found.make(), found.make()
    assert not found.counts(old, "127.0.0.1")
    found.use()
    assert not found.counts(new, "127.0.0.1")


# ---- figures --------------------------------------------------------------------------------------------


def test_a_quantile_lies_within_its_bucket() -> None:
    """Between the bounds of the bucket that holds it; beyond the last bound it is that bound."""
    counts = {0.1: 5.0, 1.0: 5.0, float("inf"): 0.0}
    assert quantile(counts, 0.5) == pytest.approx(0.1)
    assert quantile(counts, 0.75) == pytest.approx(0.55)
    assert quantile({1.0: 0.0, float("inf"): 3.0}, 0.95) == 1.0
    assert quantile({}, 0.5) == 0.0


def test_commands_of_a_finding_become_buttons_where_there_is_an_action() -> None:
    """The others are text to copy."""
    resume = Button("/destinations/resume", "Resume PACS", {"ae_title": "PACS"})
    assert button_of("mini-pacs destinations resume PACS") == resume
    retry = button_of("mini-pacs deliveries retry --state dead --target VNA")
    assert retry == Button("/deliveries/retry", "Retry dead VNA", {"state": "dead", "target": "VNA"})
    assert button_of("mini-pacs db migrate") is None
    assert button_of("mini-pacs deliveries retry 'x") is None
    finding = problem("k", "what", "", "`mini-pacs destinations resume PACS` or `mini-pacs serve`")
    with_action = told(finding, frozenset({"/destinations/resume"}))
    assert (with_action.buttons, with_action.commands) == ((resume,), ("mini-pacs serve",))
    without = told(finding, frozenset())
    assert without.commands == ("mini-pacs destinations resume PACS", "mini-pacs serve")
