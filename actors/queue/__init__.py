"""A Dramatiq broker and consumer over dramatiq-pg's table in PostgreSQL (docs/queue.md).

broker          Dramatiq's broker: enqueue, consume, and what a process starts and stops
outgoing        a message that is enqueued, as the columns of its row
consumer        claim messages and hand them to threads
capacity        as many messages as there are threads (event: what a consumer waits for)
prefetch        whether to claim messages ahead
claim_floor     where in the queue a claim begins
document        the document of a row, checked and decoded
in_flight       messages that are claimed and have not ended
unstarted       end messages that no thread has started
ack             write the endings of messages, in batches
liveness        the connection with the lock (registration: its id and row; adoption: messages that still run)
notifications   pass NOTIFY on to the consumers
reaper          free the messages of dead consumers
pooler          refuse a pooler in transaction mode
"""
