"""The whole gateway on one machine: PostgreSQL, a PACS, workers and our processes, supervised."""
