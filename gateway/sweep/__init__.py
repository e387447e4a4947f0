"""The sweep: repair and purge each minute. Each verb can run alone, repeatedly, and as a dry run.

rescue      give a delivery that no living actor works on back to pending
reconcile   register what dead and frozen receivers left; make rows, messages and files agree: a pending
            delivery without a message, a file without a row, a file in the wrong folder, an instance without
            a file
expire      act on overdue results whose message was lost; not while an older instance is unregistered
purge       delete delivered files and rows after their retention; never anything undelivered

A file in incoming/ without a row may be an acknowledged instance. If its envelope is finished it is
registered, and never deleted (gateway/register).

clear moves or removes files for `mini-pacs reset-db`. Nothing waits for the sweep in normal operation: living
actors take over the claims of dead ones within seconds, receivers register what they receive, and each
deadline has a message of its own.
"""
