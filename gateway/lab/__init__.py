"""The lab: PostgreSQL, a PACS, workers and all processes of the edge on one machine, supervised."""
