"""The processes of the edge as PostgreSQL and the operator see them.

`heartbeat` writes the row of this process every few seconds; `own_spool` tells whether it can write its
spool; `parent_pulse` lets the receivers tell whether their parent runs.
"""
