"""mini_pacs_edge: the architecture on one page, in the order in which an instance lives.

    receive     accept the association; stream the C-STORE into a `.part` file      gateway/receive, dicom
    spool       give the file its final name; flush the file and its folder         gateway/spool
    commit      write the instance, its deliveries and a queue message for each     gateway/receive/commit.py
                in one transaction; only then answer Success                        gateway/database
    forward     an actor claims a delivery, sends the instance to the PACS or to    actors, gateway/forward
                a worker, and records the outcome
    correlate   a worker's result is received in the same way; its transaction      gateway/correlate.py
                also links it to its source instances; it is then sent to the PACS
    sweep       each minute: repair what a crash left between two steps             gateway/sweep

If an actor process dies, others take over its work within 4 s (actors/queue/reaper.py).

A delivery is one instance that must be sent to one route: `pacs` or `workers`. Its row says whether it is
done. The message only wakes an actor, so a message that is lost or runs twice does no harm.

Each step is durable before the next one begins. A crash between two steps leaves the instance in the earlier
one, and the next attempt or the sweep continues from there. Most modules have a table "If the process dies"
that says what a crash leaves and who repairs it.

Guarantees. Tests refer to them by number; each has at least one test in tests/faults or tests/acceptance.

    G1  Durable before Success. A C-STORE is answered 0x0000 only after its file is flushed under its final
        name, its folders are flushed, and one transaction has committed the instance, its deliveries and
        their messages.
    G2  Every delivery is completed or shown. A committed delivery ends delivered; until then the command
        line shows it as pending (reason and next attempt), dead (reason) or cancelled (by whom).
    G3  Bytes are preserved. The data set that is sent equals the one that was received, in the same transfer
        syntax.
    G4  Repeats are harmless. The same bytes again create no new delivery while one is under way or was just
        completed. Other bytes under the same UID are stored beside the first, flagged, and forwarded.
    G5  The PACS path waits for nobody: not for a worker, its queue, the sweep or another destination.
    G6  Any process may die at any instruction; nothing that was acknowledged is lost, and no operator is
        needed. One exception: after three counted deaths of processes that ran it, a message is dead until
        an operator retries it.
    G7  Strangers and invalid data do no harm. They choose no path and no log line, and cannot use up memory
        or association slots.
    G8  No patient in the logs. Log lines and messages contain UIDs and AE titles only.

Layers. A module imports from the lines below its own only; import-linter verifies it (pyproject.toml).

    cli | actors         commands; Dramatiq actors and the queue's broker
    lab                  a whole edge with its neighbours on one machine, for tests and demos
    sender               the program that sends test instances
    receive              the Storage SCP
    correlate            results and their source instances
    forward | sweep      sending; repairing
    spool                durable files, one per instance
    dicom                PDUs, messages, associations, data sets
    database             all SQL of the edge, through psycopg2
    faults | log_tail    failures injected on purpose; printing of the log
    log                  JSON lines, no patient attributes
    config               config.yaml as a validated model
    config_text          reading its text, and messages about its errors
    errors               all exceptions of the edge
    domain               pure rules: no I/O, no clock, no library

`cli` and `actors` are packages beside `gateway`. Only `dicom` and `sender` use pynetdicom and pydicom.
`receive` does not import the actors: it writes messages with the names in `gateway.domain.contract`.
"""
