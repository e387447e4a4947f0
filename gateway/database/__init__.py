"""What the gateway knows, in PostgreSQL: the truth about every instance and every debt.

Statements stand in sql/*.sql, the schema in migrations/*.sql; each module here gives a typed function
per statement. Functions take a `Session`, so that their caller decides what is one transaction.
"""
