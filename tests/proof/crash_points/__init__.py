"""`make crash-points`: a process dies at every crash point of the flow, and the ledger must close.

The modules, in the order of a run:

    points            what a crash point is, and how a process dies at the n-th of a kind
    child_processes   the real programs as forked processes: the SCP, an actor process, the peers
    environment       one PostgreSQL, one configuration; for each run a copy of a database and a spool
    scenario          the flows: what is prepared, and which process dies
    rare_receptions   what the second flow of receiving sends
    left_receptions   what a dead receiver leaves unregistered, and what PostgreSQL refuses
    ledger            what was acknowledged against rows, queue, files and what the peers got
    trials            count the points in a run without a crash; then one run with a crash for each
    report            a table as text, and JSON

The product has no code for this, and there is no list of points: a new fsync is found automatically.
"""
