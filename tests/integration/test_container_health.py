"""The health check of the edge's container, for each possible configuration of an edge."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeEdge
from support import certificates
from support.edge_setup import EdgeSetup
from support.launcher import REPOSITORY

IMAGES = REPOSITORY / "images"


def verdict(edge: EdgeSetup) -> int:
    """Return the exit code of the check, as Docker sees it."""
    check = edge.start(
        sys.executable, IMAGES / "edge" / "healthy.py", "edge", PYTHONPATH=str(IMAGES), name="healthy"
    )
    return check.wait(10)


def anybody(_: Path) -> dict[str, Any]:
    """Titles are accepted from every address."""
    return {}


def addressed(_: Path) -> dict[str, Any]:
    """No title is accepted from this container; the entries of the allowlist are longer than a title."""
    titles = ["CT1@10.1.0.0/16", *(f"APP0{number}@192.168.100.0/24" for number in range(1, 6))]
    return {"allowed_calling_aets": titles}


def on_one_address(_: Path) -> dict[str, Any]:
    """The edge does not listen on 127.0.0.1."""
    return {"bind_address": "127.0.0.2"}


def without_room(_: Path) -> dict[str, Any]:
    """The reserve is larger than the disk: every association is rejected temporarily (2/3/1)."""
    return {"disk_reserve_mb": 1 << 30}


def secure(folder: Path) -> dict[str, Any]:
    """Only TLS connections are accepted."""
    made = certificates.make(folder)
    return {"tls": {"certificate": str(made.edge.certificate), "key": str(made.edge.key), "ca": str(made.ca)}}


@pytest.mark.parametrize("how", [anybody, addressed, on_one_address, without_room, secure])
def test_an_edge_is_healthy_while_it_serves(
    make_edge: MakeEdge, tmp_path: Path, how: Callable[[Path], dict[str, Any]]
) -> None:
    """Docker sees the edge as healthy, and as unhealthy after its end."""
    edge = make_edge({"edge": how(tmp_path / "certificates")})
    edge.serve()
    assert verdict(edge) == 0
    edge.scp.stop()
    assert verdict(edge) == 1


def test_an_edge_is_healthy_while_postgresql_is_away(make_edge: MakeEdge) -> None:
    """It receives, also if PostgreSQL was away at its start."""
    edge = make_edge({"edge": {}})
    edge.serve(DATABASE_URL="postgresql://mini_pacs@127.0.0.1:1/mini_pacs")
    assert verdict(edge) == 0


def test_an_edge_that_rejects_the_changed_check_is_unhealthy(make_edge: MakeEdge) -> None:
    """config.yaml was changed and the edge not restarted, so it serves the old values."""
    edge = make_edge({"edge": {}})
    edge.serve()
    source = edge.configuration.source
    source.write_text(source.read_text(encoding="utf-8").replace("MINI_EDGE", "OTHER_EDGE"), encoding="utf-8")
    assert verdict(edge) == 1
