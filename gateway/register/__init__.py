"""Write the rows of acknowledged receptions, after the answer to the sender.

registrar        the thread of a receiver process that registers what the process receives
waiting          the receptions of that process that wait, and their order
postgres_state   whether PostgreSQL is away, or refuses
registration     one batch: transactions, names of files, repeats, results, log lines
registration_log its log lines
unregistered     the receptions that are not registered yet, as links in partial/
recovery         find the receptions that a dead or frozen process left, and those without a link
repeat           the file of a repeat: removed, or used in place of a lost one
results          the correlation of results, also of one that came before its source
siblings         versions of one SOP Instance UID, in the order of their reception
caller_origin    whether a caller is a worker, the PACS or a sender
host_lookup      the addresses of a host name
rebuild          register the whole spool again after the database was lost: its files in rebuild_files, one
                 transaction in rebuild_batch, whether it may be done in rebuild_plan

A reception is acknowledged when its file, with its envelope, is flushed under its final name. From then on
the first process that finds it registers it. Its link in partial/ is removed only after a known outcome.
"""
