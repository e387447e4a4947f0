"""Cut a release: `make release VERSION=0.3.0`, with `DRY=1` to see what would be done.

The order: check what can be checked at once, run the tests, change CHANGELOG.md and pyproject.toml, build the
sdist and the wheel into dist/, commit, tag. Nothing is pushed.

If the process dies
    before the commit   two files are changed; type `git checkout -- CHANGELOG.md pyproject.toml`
    before the tag      the commit has no tag; type `git tag -a vX.Y.Z -m "Release X.Y.Z"`
"""

import argparse
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
CHANGELOG = REPOSITORY / "CHANGELOG.md"
PROJECT = REPOSITORY / "pyproject.toml"
TESTS = ("make", "check", "docs", "test")

_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_VERSION_LINE = re.compile(r'^version = "([^"]*)"$', re.MULTILINE)
_UNRELEASED = "## [Unreleased]\n"


class ReleaseRefusedError(Exception):
    """The release cannot be cut; the message says why and what to do."""


def main() -> None:
    """Cut the release, or print one sentence that says why not."""
    parser = argparse.ArgumentParser(prog="make release VERSION=X.Y.Z", description=__doc__)
    parser.add_argument("version")
    parser.add_argument("--builder", required=True, help="a Python that has hatchling")
    parser.add_argument("--dry-run", action="store_true", help="change nothing")
    words = parser.parse_args()
    try:
        release(words.version, builder=words.builder, dry_run=words.dry_run)
    except ReleaseRefusedError as error:
        sys.exit(f"release refused: {error}")


def release(version: str, *, builder: str, dry_run: bool) -> None:
    """Do everything, in the order of the module's docstring.

    Raises:
        ReleaseRefusedError: a check, a test or the build failed; no file of the project is changed.
    """
    project, changelog = PROJECT.read_text("utf-8"), CHANGELOG.read_text("utf-8")
    check_tree()
    new_project = with_version(project, version)
    new_changelog = with_release(changelog, version, date=f"{datetime.now(UTC):%Y-%m-%d}")
    if git("tag", "--list", f"v{version}"):
        raise ReleaseRefusedError(f"the tag v{version} exists already; choose a newer version")
    if dry_run:
        print(f"would run `{' '.join(TESTS)}`, then")
        print(f"would write pyproject.toml: version {version}")
        print(f"would write CHANGELOG.md, the section of {version}:\n\n{section(new_changelog, version)}")
        print(f"would build dist/*{version}*, commit 'Release {version}' and tag v{version}")
        return
    run(*TESTS)
    check_tree()  # a test that leaves something behind would be in the release
    PROJECT.write_text(new_project, "utf-8")
    CHANGELOG.write_text(new_changelog, "utf-8")
    try:
        run(builder, "-m", "hatchling", "build", "--directory", "dist")
        git("commit", "--quiet", "--message", f"Release {version}", "--", PROJECT.name, CHANGELOG.name)
    except ReleaseRefusedError:
        PROJECT.write_text(project, "utf-8")
        CHANGELOG.write_text(changelog, "utf-8")
        raise
    git("tag", "--annotate", f"v{version}", "--message", f"Release {version}")
    print(f"released {version}: commit {git('rev-parse', '--short', 'HEAD')}, tag v{version}, files in dist/")
    print(f"to publish it: git push origin HEAD v{version}")
    print(f"for the upgrade tests of the next version: make release-data VERSION={version} COMMIT=v{version}")


def check_tree() -> None:
    """Refuse a tree with changes: the release is what is committed.

    Raises:
        ReleaseRefusedError: a file is changed, or is not known to Git.
    """
    changed = git("status", "--porcelain")
    if changed:
        raise ReleaseRefusedError(f"the tree has changes; commit or remove them first:\n{changed}")


def with_version(project: str, version: str) -> str:
    """Return the text of pyproject.toml with that version.

    Raises:
        ReleaseRefusedError: it is no version, or not newer than the present one.
    """
    found = _VERSION.fullmatch(version)
    if found is None:
        raise ReleaseRefusedError(
            f"VERSION={version!r} is no version of the form X.Y.Z; type `make release VERSION=0.3.0`"
        )
    line = _VERSION_LINE.search(project)
    if line is None:
        raise ReleaseRefusedError('pyproject.toml has no line `version = "X.Y.Z"`')
    present = _VERSION.fullmatch(line[1])
    if present is not None and tuple(map(int, found.groups())) <= tuple(map(int, present.groups())):
        raise ReleaseRefusedError(f"VERSION={version} is not newer than {line[1]}, which pyproject.toml has")
    return project[: line.start(1)] + version + project[line.end(1) :]


def with_release(changelog: str, version: str, *, date: str) -> str:
    """Return the text of CHANGELOG.md with the entries of Unreleased under that version and date.

    Raises:
        ReleaseRefusedError: there is no section Unreleased, or it has no entry.
    """
    before, heading, after = changelog.partition(_UNRELEASED)
    if not heading:
        raise ReleaseRefusedError(f"CHANGELOG.md has no line `{_UNRELEASED.strip()}`")
    if not re.search(r"^- ", after.partition("\n## ")[0], re.MULTILINE):
        raise ReleaseRefusedError(
            "the section Unreleased of CHANGELOG.md has no entry: say there what operators notice"
        )
    return f"{before}{heading}\n## [{version}] - {date}\n{after}"


def section(changelog: str, version: str) -> str:
    """Return what stands under the heading of `version`."""
    return changelog.partition(f"## [{version}]")[2].partition("\n## ")[0].partition("\n")[2].strip()


def git(*words: str) -> str:
    """Return what a command of Git prints.

    Raises:
        ReleaseRefusedError: it failed.
    """
    done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseRefusedError(f"`git {' '.join(words)}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def run(*words: str) -> None:
    """Run a command, its output on the terminal.

    Raises:
        ReleaseRefusedError: it failed.
    """
    if subprocess.run(words, cwd=REPOSITORY, check=False).returncode:
        raise ReleaseRefusedError(f"`{' '.join(words)}` failed; nothing was changed")


if __name__ == "__main__":
    main()
