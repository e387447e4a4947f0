"""What each screen shows: rows are read, and made into words; the templates only lay them out.

Each function takes a session that only reads first, as those of gateway/database/tables do.
"""
