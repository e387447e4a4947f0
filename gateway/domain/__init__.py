"""The rules of the edge as pure functions and values: standard library only, no clock, no I/O.

identifiers    which UIDs and AE titles may be used in a path or a log line
allowlist      the entries of edge.allowed_calling_aets
instance       kind, folder and file name of a stored instance
routing        to which routes an instance is sent, and in which order
contract       names of actors and queues, for the code that enqueues
delivery       the states of a delivery and the only transitions between them
dimse_status   the statuses of PS3.4 and PS3.7, and what a peer means by each
outcome        the outcome of one attempt, and what follows from it
backoff        how long to wait before the next attempt
matching       whether an instance is a result, and which instances it was derived from
timeline       the steps of an instance, for the command line
"""
