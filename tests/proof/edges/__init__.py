"""Broken edges: each is built with real processes, broken, asked about, mended, and asked about again.

    machine       what root can do here: mounts, network namespaces, users, a clock that is wrong
    postgres      a PostgreSQL server of its own for a lab
    certificates  a CA and certificates, good and bad ones
    peer          a Storage SCP with a chosen misbehaviour, as a program
    sender        send synthetic instances, also such as must be refused
    lab           the processes of an edge, its PACS and its workers, without a supervisor
    edge          what a broken edge is: how it breaks, what an operator must be told, how it is mended
    pacs, security, senders, database, processes, spool, results, leftovers: the edges, by family
    strange_pacs, strange_peers, strange_database, strange_machine: further edges, by family
    judge         ask `mini-pacs diagnose` and `status --check`, and compare with what must be said
    report        the table

`python -m proof.edges --list` names all of them.
"""
