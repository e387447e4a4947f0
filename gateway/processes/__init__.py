"""The processes of the edge as PostgreSQL and the operator see them, and the configuration that they take.

Who runs:

    heartbeat         writes the row of this process every few seconds, and looks for a new configuration
    own_spool         tells whether this process can write its spool
    parent_pulse      lets the receivers tell whether their parent runs

Which configuration:

    live              the configuration of this process, which a reload exchanges
    keys              which keys a running process takes
    document          a configuration as text; its merge with the keys that wait for a restart
    difference        what changed, in words
    history           what changed since the version that runs
    handover          gives what was taken to the receivers that are forked later
    reload            proposes a version to every process, and decides by the answers
    removed           the deliveries to removed targets: handed over, or cancelled
    standing          compares the file, the version that runs, and what each process uses
"""
