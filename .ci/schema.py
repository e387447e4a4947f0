"""Write gateway/database/schema.sql: start a PostgreSQL, apply the migrations, describe what they made."""

import shutil
import tempfile
from pathlib import Path

from gateway.database.describe import schema
from gateway.database.migrate import migrate
from gateway.database.pool import Database
from gateway.lab.postgres import EmbeddedPostgres

TARGET = Path(__file__).parents[1] / "gateway" / "database" / "schema.sql"


def main() -> None:
    """Write the file, and nothing else."""
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-schema-"))
    folder.chmod(0o711)  # as root, the server's user must pass through
    server = EmbeddedPostgres(folder / "postgres")
    try:
        server.start()
        server.create_database("described")
        dsn = server.dsn("described")
        migrate(dsn)
        database = Database(dsn, application_name="mini-pacs schema", size=1)
        with database.transaction() as session:
            text = schema(session)
        database.close()
        TARGET.write_text(text, encoding="utf-8")
        print(f"wrote {TARGET}")
    finally:
        server.remove()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
