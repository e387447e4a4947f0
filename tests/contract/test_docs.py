"""docs/ and CONTRIBUTING.md say what the code says: paths, commands, keys, states, tables, commits."""

import re
import subprocess
from pathlib import Path

import psycopg2
import pytest
from support.documents import (
    code,
    commands,
    complaint,
    configuration_keys,
    is_key,
    make_targets,
    page,
    section,
    tracked,
)
from support.launcher import REPOSITORY

import gateway
from gateway.domain import contract
from gateway.domain.delivery import TRANSITIONS
from gateway.faults import EFFECTS, Name

PAGES = [REPOSITORY / "CONTRIBUTING.md", *tracked("docs/*.md", "docs/**/*.md")]
LINKED = [path for path in tracked("*.md", "**/*.md") if ".github" not in path.parts]
TOP = "gateway|actors|cli|worker_app|tests|docs|images|\\.ci|\\.github"
ROOT = r"[A-Z]{2,}\.md|Makefile|config\.yaml|docker-compose\.yml|pyproject\.toml|requirements[\w-]*\.\w+"
CITED = re.compile(rf"(?<![\w/.<-])(?:(?:{TOP})/[\w./-]*\w|(?:{ROOT}))(?![\w*<])")
PLACEHOLDER = re.compile(r"NNNN|_\*")
ARCHITECTURE = page("docs/architecture.md")

WITHOUT_THEIR_PAGE = {
    "gateway/database/migrations/0002_gateway.sql",  # released: its text is compared with what was applied
    "tests/proof/mutants/__main__.py",  # the name of a file that it writes
}
"""Files that cite a page which is not in the repository. Take off what cites docs/ instead; add none."""


KNOWN = (
    "docker compose up --build",
    "docker compose ps",
    (
        "docker exec -it mini_pacs_edge python /app/sender_simulator.py /tmp/test.dcm --host edge"
        " --port 11112 --calling-aet ORTHANC --called-aet MINI_EDGE"
    ),
    (
        "docker exec -it mini_pacs_edge python /app/sender_simulator.py --generate 3 --seq-from-db"
        " --patient-id EDGE --patient-name TEST^EDGE --series-description SYNTHETIC --calling-aet ORTHANC"
    ),
    "docker exec -it mini_pacs_edge python /app/cli.py status",
    "docker exec -it mini_pacs_edge python /app/cli.py inject-fault reject_all",
    "docker exec -it mini_pacs_edge python /app/cli.py clear-faults",
    "docker exec -it mini_pacs_edge python /app/cli.py reset-db",
    "docker compose logs -f edge | grep -E 'forward_pacs|forward_worker|ai_result'",
    "docker compose stop app02",
    "docker compose restart",
    "docker compose down",
)
"""Commands of users that must not change."""


def named(path: Path) -> str:
    """Return a path as a test's name."""
    return str(path.relative_to(REPOSITORY))


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_path_that_a_page_cites_exists(path: Path) -> None:
    """Paths from the root of the repository, and the bare names of test files."""
    text = path.read_text(encoding="utf-8")
    cited = {name for name in CITED.findall(text) if not PLACEHOLDER.search(name)}
    assert [name for name in sorted(cited) if not (REPOSITORY / name).exists()] == []
    tests = {found.name for found in tracked("tests/**/*.py")}
    assert set(re.findall(r"(?<![\w/])test_\w+\.py", text)) <= tests


def test_a_page_of_docs_is_never_cited_by_a_missing_path() -> None:
    """The pattern of the test above finds what it should."""
    assert CITED.findall("see gateway/spool/spool.py, `tests/faults`, .ci/run and CHANGELOG.md.") == [
        "gateway/spool/spool.py",
        "tests/faults",
        ".ci/run",
        "CHANGELOG.md",
    ]


def test_every_page_that_a_file_cites_exists() -> None:
    """A name that ends in .md, in any file of the repository, is that of a page of the repository."""
    pages = {path.name for path in tracked("*.md", "**/*.md")}
    citing = set()
    for path in tracked("*"):
        if path.suffix in {".lock", ".dcm"} or path == Path(__file__):
            continue
        cited = set(re.findall(r"([\w-]+\.md)\b", path.read_text(encoding="utf-8", errors="replace")))
        if cited - pages:
            citing.add(named(path))
    assert citing <= WITHOUT_THEIR_PAGE


def test_nothing_outside_of_the_repository_is_needed() -> None:
    """No file names the folder beside the repository that the first developers had."""
    beside = "../" + "shared"
    assert [named(path) for path in tracked("*") if beside in path.read_text("utf-8", "replace")] == []


@pytest.mark.parametrize("path", LINKED, ids=named)
def test_every_link_leads_to_a_file_and_an_anchor(path: Path) -> None:
    """Relative links of all pages; `make docs` looks at those of docs/ as well."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (path.parent / name).resolve() if name else path
        assert found.exists(), target
        assert found.is_relative_to(REPOSITORY), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in set(map(slug, headings)), target


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_command_exists(path: Path) -> None:
    """`mini-pacs …` with its options, `make …`, and the queue behind `dramatiq actors -Q`."""
    text = path.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", page("Makefile"), re.MULTILINE))
    assert make_targets(text) <= targets
    complaints = {command: complaint(command) for command in commands(text)}
    assert {command: said for command, said in complaints.items() if said} == {}
    queues = {str(one.queue_name) for one in contract.ALL}
    assert set(re.findall(r"dramatiq actors -Q (\w+)", "\n".join(code(text)))) <= queues


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("status --study UID", None),
        ("deliveries retry --study UID", None),
        ("stauts", "no command stauts"),
        ("deliveries revive", "no command deliveries revive"),
        ("status --studies UID", "no option --studies"),
    ],
)
def test_a_command_that_does_not_exist_is_seen(command: str, said: str | None) -> None:
    """The test above can fail."""
    assert complaint(command) == said


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_configuration_key_exists(path: Path) -> None:
    """`edge.…`, `forwarder.…` and `sweep.…` are keys of config.yaml."""
    for key in configuration_keys(path.read_text(encoding="utf-8")):
        assert is_key(key), key


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("edge.port", True),
        ("edge.urgent.modalities", True),
        ("edge.tls.client_certificate", True),
        ("forwarder.orthanc.timeout_s", True),
        ("forwarder.workers[].calling_ae_titles", True),
        ("forwarder.orthanc.calling_ae_titles", False),
        ("forwarder.orthanc.timeout", False),
        ("edge.port.x", False),
        ("edge.ports", False),
    ],
)
def test_a_key_that_does_not_exist_is_seen(key: str, known: bool) -> None:  # noqa: FBT001
    """The test above can fail, also for a key of a section in a section."""
    assert configuration_keys(f"see `{key}`") == [key]
    assert is_key(key) is known


def test_the_diagram_of_states_is_the_table_of_transitions() -> None:
    """Every line is a transition of gateway/domain/delivery.py, and every transition has a line."""
    drawn = []
    before = ""
    for line in section(ARCHITECTURE, "The states of a delivery").splitlines():
        if found := re.match(r"(\w*) *─*[┬├└]─ (\w+) ─+▶ (\w+)", line.strip()):
            before = found[1] or before
            drawn.append((before, found[2], found[3]))
    assert sorted(drawn) == sorted((str(s), str(e), str(after)) for (s, e), after in TRANSITIONS.items())


def test_the_diagram_of_tables_is_the_schema(database_url: str) -> None:
    """Every table of the migrations has its line, every foreign key its arrow, and there are no others."""
    text = section(ARCHITECTURE, "The tables")
    listed = re.findall(r"^\| `([\w.]+)` \|", text, re.MULTILINE)
    drawn = []
    to = ""
    for line in text.splitlines():
        if found := re.match(r"(?:(\w+) ◀)?[─ ]*[┬├└─]─ (\w+)\.(\w+)", line.strip()):
            to = found[1] or to
            drawn.append((found[2], found[3], to))
    connection = psycopg2.connect(database_url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT c.oid::regclass::text FROM pg_class c"
                " WHERE c.relnamespace IN ('public'::regnamespace, 'dramatiq'::regnamespace)"
                " AND c.relkind = 'r'"
            )
            tables = [row[0] for row in cursor.fetchall()]
            cursor.execute(
                "SELECT c.conrelid::regclass::text, a.attname, c.confrelid::regclass::text"
                " FROM pg_constraint c CROSS JOIN unnest(c.conkey) AS k (number)"
                " JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number"
                " WHERE c.contype = 'f'"
            )
            keys = [tuple(row) for row in cursor.fetchall()]
    finally:
        connection.close()
    assert sorted(listed) == sorted(tables)
    assert sorted(drawn) == sorted(keys)


def test_the_page_of_guarantees_has_every_guarantee() -> None:
    """Number and title are those of gateway/__init__.py."""
    stated = re.findall(r"^    (G\d)  ([^.:;,]+)", str(gateway.__doc__), re.MULTILINE)
    rows = re.findall(r"^\| (G\d) \| ([^|]+) \|", page("docs/operate/guarantees.md"), re.MULTILINE)
    assert rows == stated


def test_the_page_of_faults_has_every_fault_with_its_default() -> None:
    """As `mini-pacs faults` lists them."""
    rows = re.findall(r"^\| `(\w+)`(?: \(([\d.]+)\))? \|", page("docs/operate/faults.md"), re.MULTILINE)
    assert set(EFFECTS) == set(Name)
    assert rows == [
        (name.value, "" if EFFECTS[name].default is None else f"{EFFECTS[name].default:g}") for name in Name
    ]


def test_the_commands_that_users_know_stand_word_for_word() -> None:
    """docs/operate/containers.md has the commands that the lab in containers had from its first day."""
    text = page("docs/operate/containers.md")
    assert [line for line in KNOWN if line not in text] == []


def test_the_pictures_are_small_and_load_nothing() -> None:
    """A page shows each; it has at most 200 KB, and needs no network."""
    of_console = tracked("docs/pictures/console/*")
    others = set(tracked("docs/pictures/*")) - set(of_console)
    shown = {
        "status.svg": "README.md",
        "viewer.png": "README.md",
        "latency.svg": "docs/benchmarks.md",
        "associations.svg": "docs/benchmarks.md",
    }
    assert {path.name for path in others} == shown.keys()
    assert len(of_console) == 9
    for name, where in shown.items():
        assert f"({'docs/' if where == 'README.md' else ''}pictures/{name})" in page(where)
    for path in of_console:
        assert f"(../pictures/console/{path.name})" in page("docs/operate/console.md")
    for path in (*others, *of_console):
        assert path.stat().st_size <= 200_000
    for name in ("status.svg", "latency.svg", "associations.svg"):
        assert 'url("http' not in page(f"docs/pictures/{name}")


def test_every_decision_is_in_the_index() -> None:
    """Under its own title, in the order of the numbers."""
    found = sorted((REPOSITORY / "docs" / "adr").glob("[0-9]*.md"))
    titles = [path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for path in found]
    rows = re.findall(r"^\| (\d+) \| \[(.*?)\]\((\S+)\) \| \S.*\|$", page("docs/adr/index.md"), re.MULTILINE)
    assert [(f"{number}. {title}", name) for number, title, name in rows] == [
        (title, path.name) for title, path in zip(titles, found, strict=True)
    ]


def test_every_commit_that_is_cited_exists_under_its_subject() -> None:
    """Commits of docs/adr, and the examples of CONTRIBUTING.md; a shallow clone cannot tell."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=True
        ).stdout.strip()

    if git("rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("this clone is shallow: it has no history")
    cited = {
        commit
        for path in (*tracked("docs/adr/*.md"), REPOSITORY / "CONTRIBUTING.md")
        for commit in re.findall(r"\b[0-9a-f]{7}\b", path.read_text(encoding="utf-8"))
    }
    assert cited
    for commit in sorted(cited):
        assert git("cat-file", "-t", commit) == "commit"
    examples = re.findall(r"([0-9a-f]{7}) \"(.*?)\"(?= \(|[.;])", " ".join(page("CONTRIBUTING.md").split()))
    assert len(examples) == 8
    for commit, subject in examples:
        assert git("show", "-s", "--format=%s", commit) == subject
