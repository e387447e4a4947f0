"""PostgreSQL: connections, statements, migrations, and one typed function for each statement.

    pool, session, connection   lend connections, run statements, translate psycopg2's errors (failure)
    sql/, queries, rows         named statements; rows become dataclasses by the names of their columns
    tables/                     one typed function for each statement
    migrations/, migrate        the schema, changed step by step; functions/ and schema.sql show the result
    wakeup                      wakes consumers after a commit
    roles, reset, wait, dsn     what single commands and the start of a process need

The functions of tables/ take a `Session`, so that their caller decides what is one transaction.
"""
