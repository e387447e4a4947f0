"""What surrounds the code: releases, hooks, the CI workflow, lock files, type information."""

import importlib.util
import os
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from support.documents import page, tracked
from support.launcher import REPOSITORY

PROJECT: dict[str, Any] = tomllib.loads(page("pyproject.toml"))
CHANGELOG = (
    "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- Something.\n\n## [0.1.0] - 2026-11-23\n\n- First.\n"
)
PYPROJECT = '[project]\nname = "x"\nversion = "0.1.0"\n'


@pytest.fixture(scope="module")
def release() -> ModuleType:
    """Return the script behind `make release`."""
    spec = importlib.util.spec_from_file_location("release", REPOSITORY / ".ci" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clone(release: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small repository with a changelog and a project, at which the script is pointed."""
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "Tester")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "tester@example.org")
    for name in [name for name in os.environ if name in {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}]:
        monkeypatch.delenv(name)  # of a hook that runs the tests
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG, "utf-8")
    (tmp_path / "pyproject.toml").write_text(PYPROJECT, "utf-8")
    monkeypatch.setattr(release, "REPOSITORY", tmp_path)
    monkeypatch.setattr(release, "CHANGELOG", tmp_path / "CHANGELOG.md")
    monkeypatch.setattr(release, "PROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(release, "TESTS", ("true",))
    for words in (("init", "--quiet"), ("add", "--all"), ("commit", "--quiet", "--message", "Begin")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    return tmp_path


def git(folder: Path, *words: str) -> str:
    """Return what Git prints."""
    return subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_a_release_moves_the_entries_commits_and_tags(release: ModuleType, clone: Path) -> None:
    """Unreleased is empty afterwards, version and date stand above its entries, and the tree is clean."""
    release.release("0.2.0", builder="true", dry_run=False)
    changelog = (clone / "CHANGELOG.md").read_text("utf-8")
    assert re.search(
        r"## \[Unreleased\]\n\n## \[0\.2\.0\] - \d{4}-\d\d-\d\d\n\n### Added\n\n- Something\.", changelog
    )
    assert tomllib.loads((clone / "pyproject.toml").read_text("utf-8"))["project"]["version"] == "0.2.0"
    assert git(clone, "status", "--porcelain") == ""
    assert git(clone, "show", "-s", "--format=%s") == "Release 0.2.0"
    assert git(clone, "rev-list", "-n", "1", "v0.2.0") == git(clone, "rev-parse", "HEAD")


def test_a_dry_run_changes_nothing(
    release: ModuleType, clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints the section that would be made."""
    before = git(clone, "rev-parse", "HEAD")
    release.release("0.2.0", builder="false", dry_run=True)
    assert "- Something." in capsys.readouterr().out
    assert git(clone, "rev-parse", "HEAD") == before
    assert git(clone, "status", "--porcelain") == ""
    assert git(clone, "tag") == ""


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("", "is no version of the form X.Y.Z"),
        ("0.2", "is no version of the form X.Y.Z"),
        ("v0.2.0", "is no version of the form X.Y.Z"),
        ("0.1.0", "is not newer than 0.1.0"),
        ("0.0.9", "is not newer than 0.1.0"),
    ],
)
def test_a_wrong_version_is_refused(release: ModuleType, clone: Path, version: str, said: str) -> None:
    """The message names it."""
    assert clone
    with pytest.raises(release.ReleaseRefusedError, match=re.escape(said)):
        release.release(version, builder="true", dry_run=False)


def test_a_changed_tree_is_refused(release: ModuleType, clone: Path) -> None:
    """A file that Git does not know counts too."""
    (clone / "forgotten.py").touch()
    with pytest.raises(release.ReleaseRefusedError, match=r"the tree has changes.*\n.*forgotten\.py"):
        release.release("0.2.0", builder="true", dry_run=True)


def test_a_release_without_entries_is_refused(release: ModuleType, clone: Path) -> None:
    """Headings alone are no entries, and those of the version before do not count."""
    (clone / "CHANGELOG.md").write_text(CHANGELOG.replace("- Something.\n", ""), "utf-8")
    git(clone, "commit", "--quiet", "--all", "--message", "Forget")
    with pytest.raises(release.ReleaseRefusedError, match="has no entry"):
        release.release("0.2.0", builder="true", dry_run=True)


def test_an_existing_tag_is_refused(release: ModuleType, clone: Path) -> None:
    """A release is cut once."""
    git(clone, "tag", "v0.2.0")
    with pytest.raises(release.ReleaseRefusedError, match=r"v0\.2\.0 exists"):
        release.release("0.2.0", builder="true", dry_run=True)


def test_a_build_that_fails_leaves_the_files_as_they_were(release: ModuleType, clone: Path) -> None:
    """No commit, no tag, no change."""
    before = git(clone, "rev-parse", "HEAD")
    with pytest.raises(release.ReleaseRefusedError, match="`false -m hatchling"):
        release.release("0.2.0", builder="false", dry_run=False)
    assert git(clone, "status", "--porcelain") == ""
    assert git(clone, "rev-parse", "HEAD") == before
    assert git(clone, "tag") == ""


def test_the_changelog_can_be_released(release: ModuleType) -> None:
    """It has the heading that the script looks for."""
    assert "## [Unreleased]\n" in page("CHANGELOG.md")
    assert release.with_version(page("pyproject.toml"), "99.0.0") != page("pyproject.toml")


def test_every_package_says_that_it_has_types() -> None:
    """Each package of the wheel has a py.typed (PEP 561)."""
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert [name for name in packages if not (REPOSITORY / name / "py.typed").is_file()] == []


def test_the_docs_are_built_from_a_lock_with_hashes() -> None:
    """requirements-docs.lock holds what the group `docs` of pyproject.toml asks for."""
    lock = page("requirements-docs.lock").replace("\\\n", " ")
    pins = {line.partition("==")[0]: line for line in lock.splitlines() if line[:1].isalnum()}
    assert all("--hash=sha256:" in line for line in pins.values())
    asked = {re.split(r"[<>=~]", requirement)[0] for requirement in PROJECT["dependency-groups"]["docs"]}
    assert asked <= set(pins)
    assert "--require-hashes -r requirements-docs.lock" in page("Makefile")


def test_the_workflow_calls_what_every_ci_calls() -> None:
    """`.ci/run`, with the whole history, from which the upgrade is tested."""
    workflow = yaml.safe_load(page(".github/workflows/ci.yml"))
    steps = workflow["jobs"]["run"]["steps"]
    assert any(step.get("run", "").endswith("bash .ci/run") for step in steps)
    assert [step["with"]["fetch-depth"] for step in steps if "checkout" in step.get("uses", "")] == [0]


def test_every_hook_is_a_tool_of_the_project() -> None:
    """Local hooks only, each a program of .venv, so that they work without a network."""
    hooks = yaml.safe_load(page(".pre-commit-config.yaml"))
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    named = [hook["entry"].split()[0] for repo in hooks["repos"] for hook in repo["hooks"]]
    checked = set(re.findall(r"\$\(BIN\)/([\w-]+)", page("Makefile").split("\ncheck:")[1].split("\n\n")[0]))
    assert {Path(name).name for name in named} == checked
    assert all(name.startswith(".venv/bin/") for name in named)


def test_text_files_are_as_editorconfig_says() -> None:
    """A newline at the end, no blanks before it, no tabs in Python."""
    for path in tracked("*.py", "*.md", "*.yml", "*.yaml", "*.sql", "*.toml"):
        text = path.read_text(encoding="utf-8")
        assert text.endswith("\n") or not text, path
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), path
