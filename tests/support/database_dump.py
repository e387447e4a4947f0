"""Write the data of a database as SQL, with times relative to the moment at which it is loaded."""

import socket
from collections.abc import Iterator

import psycopg2.extensions

Cursor = psycopg2.extensions.cursor

_TABLES = """
SELECT c.oid::regclass::text, quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname IN ('public', 'dramatiq') AND c.relname <> 'schema_migrations' ORDER BY 2
"""
_COLUMNS = """
SELECT quote_ident(attname), atttypid = 'timestamptz'::regtype FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
_SEQUENCES = """
SELECT quote_ident(schemaname) || '.' || quote_ident(sequencename), coalesce(last_value, start_value),
    last_value IS NOT NULL
FROM pg_sequences WHERE schemaname IN ('public', 'dramatiq') ORDER BY 1
"""


def dump(cursor: Cursor) -> str:
    """Return INSERT statements for every table but schema_migrations, and the states of the sequences.

    The name of this host becomes `edge-host`.
    """
    lines = ["SET LOCAL session_replication_role = replica;  -- the order of the tables does not matter"]
    cursor.execute(_TABLES)
    for _, table in cursor.fetchall():
        lines += _rows(cursor, table)
    cursor.execute(_SEQUENCES)
    for sequence, value, called in cursor.fetchall():
        lines.append(f"SELECT pg_catalog.setval('{sequence}', {value}, {str(called).lower()});")
    lines.append("SET LOCAL session_replication_role = origin;")
    host = socket.gethostname()
    text = "\n".join(lines) + "\n"
    return text.replace(f"'{host}'", "'edge-host'").replace(f"@{host}'", "@edge-host'")


def _rows(cursor: Cursor, table: str) -> Iterator[str]:
    cursor.execute(_COLUMNS, (table,))
    columns = cursor.fetchall()
    names = ", ".join(name for name, _ in columns)
    values = ", ".join(
        _time(name) if is_time else f"quote_nullable({name}::text)" for name, is_time in columns
    )
    cursor.execute(f"SELECT {values} FROM {table} ORDER BY 1")  # noqa: S608  names of the catalogue
    for row in cursor.fetchall():
        yield f"INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE VALUES ({', '.join(row)});"  # noqa: S608


def _time(name: str) -> str:
    """Return an expression that gives the SQL of a time, relative to now."""
    seconds = f"round(extract(epoch FROM {name} - now())::numeric, 3)"
    return f"coalesce('now() + interval ''' || {seconds} || ' s''', 'NULL')"
