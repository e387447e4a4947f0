"""The tables: typed functions for each statement, rows read by name."""
