"""mini_pacs_edge: the architecture, in the order in which an instance lives.

    receive     an association is admitted, a C-STORE streams into the spool        gateway/receive, dicom
    spool       the file is flushed, named, and its directory flushed               gateway/spool/spool.py
    commit      one transaction: the instance, every delivery it owes, and the      gateway/receive/commit.py
                queue message of each; only now is Success answered                 gateway/database
    forward     an actor claims a delivery, sends the bytes, settles it             actors, gateway/forward
    correlate   a worker's result finds its source instances, inside the            gateway/correlate.py
                transaction that receives it, and is owed to the PACS
    sweep       each minute: what fell between two steps is brought back            gateway/sweep

Guarantees. Each has a number; a test proves that every number is claimed by a fault or acceptance test.

    G1  Durable before Success. C-STORE is answered 0x0000 only after the file is flushed under its final
        name, its directories are flushed, and one transaction has committed the instance, its deliveries
        and their messages.
    G2  Every debt is paid or shown. A committed delivery ends delivered, or stands in the open as pending
        (with the reason and the next time), dead (with the reason) or cancelled (by whom).
    G3  Bytes are preserved. The data set that leaves equals the one that came, in its own transfer syntax.
    G4  Repeats are harmless. The same bytes again owe nothing new while under way or just delivered; other
        bytes under the same UID are kept beside the first, flagged, and forwarded.
    G5  The PACS path waits for nobody: not for workers, their queue, the sweep, or another destination.
    G6  Any process may die at any instruction; nothing acknowledged is lost, and no operator is needed.
    G7  Strangers and garbage get nowhere: no path, log line, memory or place is theirs to take.
    G8  No patient in the logs: lines and messages carry UIDs and AE titles only.

Layers; imports point down, and import-linter holds it (pyproject.toml):

    cli | actors → lab → sender → receive → correlate → forward | sweep → kept → dicom | spool → store
    → faults → log → config → errors → domain

`domain` is pure. Only `store` (and the queue's broker in `actors`) speaks to PostgreSQL, only `dicom`
and the sender use DICOM libraries. The SCP does not import actors: it enqueues by contract
(`gateway.domain.contract`).
"""
