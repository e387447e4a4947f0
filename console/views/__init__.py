"""The content of each screen: read rows and turn them into words. The templates only lay them out.

Each function takes a session that only reads first, as those of gateway/database/tables do.
"""
