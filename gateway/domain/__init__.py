"""The rules of the gateway as pure values: standard library only, no clock, no I/O.

identifiers    which UIDs and AE titles may come near a path or a log line
instance       what one kept reception is: kind, place, file name
routing        which routes an instance is owed to
delivery       the states of one debt and the only transitions between them
dimse_status   the statuses of PS3.4 and PS3.7 and what a peer means by each
outcome        what one attempt came to, and what follows from it
backoff        how long to wait before the next attempt
matching       is it a result, and what does it answer
"""
