"""A day as rows (day.sql), for pictures: 10,000 instances, an outage of the PACS, a slow worker.

    7 to 17 hours ago   night: few studies
    6 hours ago         the PACS is away for 40 minutes; what waited is delivered afterwards
    all day             SLOW answers late

The rows agree with each other as the product would write them; there are no files.
"""

from pathlib import Path

from gateway.database.pool import Database
from gateway.database.tables.metrics import LONG_BOUNDS

ROOT = "1.2.826.0.1.3680043.10.1338.28"
SLOW = "APP03"
STUDIES = 400
SQL = Path(__file__).with_suffix(".sql")


def fill(database: Database) -> None:
    """Write the day."""
    bounds = f"ARRAY[{', '.join(map(str, LONG_BOUNDS))}]::float8[]"
    text = SQL.read_text("utf-8").format(root=ROOT, slow=SLOW, studies=STUDIES, bounds=bounds)
    database.close()  # a connection keeps the deadline that it was opened with
    database.deadline_seconds = 1800
    with database.transaction() as session:
        session.script(text)
    with database.statement() as session:
        session.script("VACUUM ANALYZE")
    database.close()
