"""`python -m proof.fuzz`: garbage against a real SCP. Exit codes: 0 no violation; 1 some; 2 usage."""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from support import wire_edge

from gateway.database.migrate import migrate
from gateway.lab.postgres import EmbeddedPostgres
from proof.fuzz import campaign, report


def main() -> int:
    """Run one campaign; return the exit code."""
    parser = argparse.ArgumentParser(prog="fuzz", description="send garbage to a running SCP")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--at-least", type=int, default=1_000_000, help="malformed PDUs, or it does not pass")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-fuzz-"))
    folder.chmod(0o711)  # as root: PostgreSQL's user must be able to enter the folder
    server = EmbeddedPostgres(folder / "postgres")
    try:
        server.start()
        server.create_database(wire_edge.TEMPLATE)
        migrate(server.dsn(wire_edge.TEMPLATE))
        with wire_edge.edge(server, folder) as edge:
            outcome = campaign.run(
                edge,
                seconds=arguments.seconds,
                seed=arguments.seed,
                connections=arguments.connections,
                at_least=arguments.at_least,
            )
    finally:
        server.remove()
    found = outcome.violations()
    sys.stdout.write(report.as_text(outcome) + "\n")
    if found:
        sys.stdout.write(f"kept: {folder}\n")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
