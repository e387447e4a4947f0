"""Tell a webhook or people by mail that a finding opened or closed.

message.py    what is told: one text and one JSON document for all that is new
endpoints.py  the webhook and the mail server, each with a deadline
tell.py       tell what was not told yet, and record it; the queue runs it
outage.py     tell that PostgreSQL cannot be used, without the queue
"""
