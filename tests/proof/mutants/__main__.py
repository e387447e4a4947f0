"""`python -m proof.mutants`: see the package. Exit codes: 0 no violation; 1 some; 2 usage."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson
from support import wire_edge

from gateway.database.migrate import migrate
from gateway.lab.postgres import EmbeddedPostgres
from proof.mutants import report
from proof.mutants.run import run

CHANGES: dict[str, dict[str, Any]] = {"forwarder": {"mode": "pacs_only"}, "edge": {"log_max_mb": 200}}


def main() -> int:
    """Run once; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="mutants", description="send wrong data sets to the edge and its peers"
    )
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, help="folder for table.md and table.json")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-mutants-"))
    folder.chmod(0o711)  # as root: PostgreSQL's user must be able to enter the folder
    server = EmbeddedPostgres(folder / "postgres")
    peers = folder / "peers"
    peers.mkdir()
    try:
        server.start()
        server.create_database(wire_edge.TEMPLATE)
        migrate(server.dsn(wire_edge.TEMPLATE))
        with wire_edge.edge(server, folder, CHANGES, actors=("pacs",)) as edge:
            outcome = run(edge, peers, count=arguments.count, seed=arguments.seed)
    finally:
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)
    text = report.as_markdown(outcome) + "\n"
    sys.stdout.write(text)
    if arguments.output is not None:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "table.md").write_text(text, encoding="utf-8")
        raw = orjson.dumps(report.as_json(outcome), option=orjson.OPT_INDENT_2)
        (arguments.output / "table.json").write_bytes(raw)
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
