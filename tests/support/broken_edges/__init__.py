"""Edges that are broken in one way each; every module here adds its cases to `case.CASES`."""

from support.broken_edges import (
    deliveries,
    destinations,
    files,
    own_port,
    postgres,
    processes,
    results,
    senders,
    spool,
)
from support.broken_edges.case import CASES, Breaking, Case

__all__ = [
    "CASES",
    "Breaking",
    "Case",
    "deliveries",
    "destinations",
    "files",
    "own_port",
    "postgres",
    "processes",
    "results",
    "senders",
    "spool",
]
