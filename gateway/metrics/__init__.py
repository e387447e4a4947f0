"""The metrics of the edge, for Prometheus.

One process, `mini-pacs metrics`, serves all of them: it reads PostgreSQL and the spool when it is asked. The
counters are in PostgreSQL, so they survive every process. Registrations, attempts and results are counted in
their own transactions (gateway/database/tables/metrics.py). Receivers write their other counts every few
seconds; a process that is killed loses the last ones.

    families        the names, types and labels: docs/operate/metrics.md explains each of them
    exporter        a snapshot of all figures, kept for 5 s and shared by parallel scrapes
    from_database   the figures that are in PostgreSQL
    from_host       the figures of this host: disk, spool, certificates, the version
    findings        how many findings `mini-pacs status` has, counted in the background
    current         the configuration: config.yaml, read again when it has changed
    spool_usage     how many files and bytes each folder of the spool holds
    server          GET /metrics

If PostgreSQL is away, the exporter serves the figures of this host, and `mini_pacs_postgres_up 0`.
"""
