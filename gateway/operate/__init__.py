"""What an operator does: the use cases of the command line and of the console.

Each function changes rows in a transaction, and records in the same transaction who did it (`activity`). Then
it moves files, wakes consumers and writes a line into the log.

If the process dies
    before the commit   nothing was changed, and nothing is recorded
    after it            the sweep moves the files and sends the messages; consumers look each second anyway
"""
