"""The service init: how it treats folders and a configuration of another owner."""

from pathlib import Path

import pytest
from support.compose_lab import IMAGE, ComposeLab, run

EDGE, ORTHANC, OTHER = 10001, 10042, 12345


def init(folder: Path, *, mode: str = "rw", **environment: int) -> tuple[int, str]:
    """Run the service's program with its rights; return exit code and output."""
    mounts = [f"{folder / name}:/app/{name}" for name in ("data", "logs")]
    mounts.append(f"{folder / 'config.yaml'}:/app/config.yaml:{mode}")
    capabilities = [f"--cap-add={name}" for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER")]
    done = run(
        "docker", "run", "--rm", "--user", "0:0", "--read-only", "--network", "none", "--cap-drop", "ALL",
        *capabilities,
        *(f"--env={name}={value}" for name, value in environment.items()),
        *(f"--volume={mount}" for mount in mounts),
        IMAGE, "prepare-mounts", check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(lab: ComposeLab, tmp_path: Path) -> Path:
    """Return the folder of a clone as a lab of another user left it; the lab has built the image."""
    del lab
    (tmp_path / "data" / "sent" / "1.2").mkdir(parents=True)
    (tmp_path / "logs").mkdir()
    for name in ("data/sent/1.2/3.dcm", "logs/edge.log", "config.yaml"):
        (tmp_path / name).touch(0o600)
    return tmp_path


def owners(folder: Path, *names: str) -> set[tuple[int, int]]:
    """Return the owners of these paths."""
    found = [(folder / name).stat() for name in names]
    return {(one.st_uid, one.st_gid) for one in found}


@pytest.mark.parametrize("user", [EDGE, OTHER])
def test_existing_files_are_given_to_the_user_of_the_edge(folder: Path, user: int) -> None:
    """Spool and log, to their last file, also for EDGE_UID and EDGE_GID; Orthanc's folder goes to Orthanc."""
    code, said = init(folder) if user == EDGE else init(folder, EDGE_UID=user, EDGE_GID=user)
    assert (code, said) == (0, f"config.yaml had mode 600: made readable for the edge's user {user}:{user}\n")
    mine = ("data/sent", "data/sent/1.2", "data/sent/1.2/3.dcm", "logs", "logs/edge.log")
    assert owners(folder, *mine) == {(user, user)}
    assert owners(folder, "data") == {(0, user)}
    assert owners(folder, "data/orthanc") == {(ORTHANC, ORTHANC)}


@pytest.mark.parametrize(("mode", "group"), [(0o644, 0), (0o640, EDGE)])
def test_a_readable_configuration_keeps_its_owner(folder: Path, mode: int, group: int) -> None:
    """It is readable by everybody, or by the edge's group."""
    path = folder / "config.yaml"
    path.chmod(mode)
    run("chgrp", str(group), path)
    assert init(folder) == (0, "")
    assert path.stat().st_mode & 0o777 == mode


def test_an_unreadable_configuration_names_the_remedy(folder: Path) -> None:
    """Only init prints the error; otherwise a dozen services would fail of it."""
    code, said = init(folder, mode="ro")
    assert code == 1
    assert "cannot be read by the edge's user 10001:10001: chmod a+r config.yaml" in said
