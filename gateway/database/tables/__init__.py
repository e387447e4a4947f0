"""Typed functions, one for each statement of gateway/database/sql; columns are read by name."""
