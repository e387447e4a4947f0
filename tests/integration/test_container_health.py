"""The health check of the edge's container, for each way in which an edge may be configured."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certificates
import pytest
from conftest import MakeEdge
from edge_bed import EdgeBed
from launcher import REPOSITORY

IMAGES = REPOSITORY / "images"


def verdict(edge: EdgeBed) -> int:
    """The exit code of the check, as Docker sees it."""
    check = edge.start(
        sys.executable, IMAGES / "edge" / "healthy.py", "edge", PYTHONPATH=str(IMAGES), name="healthy"
    )
    return check.wait(10)


def anybody(_: Path) -> dict[str, Any]:
    """Titles are let in from everywhere."""
    return {}


def addressed(_: Path) -> dict[str, Any]:
    """No title is let in from this container, and the names are longer than a title."""
    titles = ["CT1@10.1.0.0/16", *(f"APP0{number}@192.168.100.0/24" for number in range(1, 6))]
    return {"allowed_calling_aets": titles}


def secure(folder: Path) -> dict[str, Any]:
    """Only who speaks TLS is heard."""
    made = certificates.make(folder)
    return {"tls": {"certificate": str(made.edge.certificate), "key": str(made.edge.key), "ca": str(made.ca)}}


@pytest.mark.parametrize("how", [anybody, addressed, secure])
def test_an_edge_is_healthy_while_it_serves(
    make_edge: MakeEdge, tmp_path: Path, how: Callable[[Path], dict[str, Any]]
) -> None:
    """Docker is told so, and told when it is over."""
    edge = make_edge({"edge": how(tmp_path / "certificates")})
    edge.serve()
    assert verdict(edge) == 0
    edge.scp.stop()
    assert verdict(edge) == 1
