"""Receive instances: from the association to the durable file. Every instance enters the edge here.

server             the parent process: binds the port, forks the receivers, restarts one that died
receiver           one receiver process: a thread per association, and the registrar (gateway/register)
admission          who may associate and what they may send; the `Policy` of the acceptor
unassociated       connections that have not requested an association yet
limits             how many associations are open, over all receiver processes
allowed_callers    edge.allowed_calling_aets: AE titles and the addresses they may come from
declined_contexts  the log's sentence about presentation contexts that were not accepted
c_store            one C-STORE: stream, read header, write the envelope, name, flush, answer
checks             the UIDs of command and data set
statuses           error to DIMSE status
c_store_log        the log lines of one C-STORE
context            what each receiver process gives to its receptions

The answer does not need PostgreSQL. gateway/register writes the rows after it.
"""
