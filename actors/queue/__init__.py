"""A Dramatiq broker and consumer over dramatiq-pg's table in PostgreSQL (docs/queue.md).

A process has one consumer id, with one advisory lock and one row in `dramatiq.consumers`. The parameter
`consumer` is that id. It also has an `EdgeConsumer` for each queue; all of them claim under the one id.

A process whose lock is missing is called gone. A reaper frees its messages: they can be claimed again.
A process gives back messages that it has claimed and cannot start. A dead message has failed for good, and
waits for an operator.

broker          Dramatiq's broker: enqueue, consume, and what a process starts and stops
outgoing        a message that is enqueued, as the columns of its row
consumer        claim messages and hand them to threads
capacity        limit the messages that run to the number of threads (event: what a consumer waits for)
prefetch        whether to claim messages ahead
claim_floor     where in the queue a claim begins
document        the document of a row, checked and decoded
in_flight       messages that are claimed and have not ended
unstarted       end messages that no thread has started
ack             write the endings of messages, in batches
liveness        the connection with the lock (registration: its id and row; adoption: its messages)
notifications   pass NOTIFY on to the consumers
reaper          free the messages of processes that are gone
pooler          refuse a pooler in transaction mode
signals         call the middleware that handles a signal
stop_signal     mark a process that is told to stop
"""
