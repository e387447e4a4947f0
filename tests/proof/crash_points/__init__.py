"""`make campaign`: the process under proof dies at every crash point of the flow, and the ledger closes.

The rooms, in the order of a run:

    points      what a crash point is, and how a process is made to die at the n-th of a kind
    children    the real programs as forked processes: the SCP, an actor process, the peers
    environment       one PostgreSQL, one configuration; for each run a copy of a prepared database and spool
    scenario    receiving, correlating, forwarding, an outage, sweeping: what is prepared, and who dies
    ledger      what was acknowledged against rows, queue, files and what the peers took
    walk        a dry run counts the points, then each of them is one run: die, restart, settle, count
    report      what a person reads, and JSON

None of it is in the product, and no list of points stands anywhere: a new fsync is results by itself.
"""
