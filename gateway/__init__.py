"""mini_pacs_edge: the architecture on one page, in the order of the steps of an instance.

    receive     accept the association; stream the C-STORE into a `.part` file      gateway/receive, dicom
    spool       write the envelope into the file, give it its final name, flush     gateway/spool
                file and folder; then answer Success. The envelope contains which       gateway/rules
                archives and applications get the instance, as the rules decide
    register    after the answer: write the instance, its deliveries and a queue    gateway/register
                message for each in one transaction                                 gateway/database
    correlate   the transaction that registers a worker's result also links it to   gateway/correlate.py
                its source instances; the result is then sent to the PACS
    forward     an actor claims a delivery, sends the instance to an archive or     actors, gateway/forward
                to a worker, and records the outcome
    sweep       each minute: register what a dead receiver left, and repair what a  gateway/sweep
                crash left between two steps

The envelope holds what the edge must know of a reception beside its data set, so Success does not need
PostgreSQL. While PostgreSQL is away, the edge receives, and its instances are unregistered. When PostgreSQL
is back, the receivers register them, and they are forwarded.

If an actor process dies, another process of the same queue, or its successor, can claim its messages within
4 s (actors/queue/reaper.py, docs/queue.md).

A delivery is one instance that must be sent to one target: an archive, such as the PACS, or an application,
which is one kind of AI with its workers (gateway/domain/routing.py). The row of the delivery has its state.
The message only wakes an actor. A message that runs twice does no harm, and the sweep replaces a lost one.

Success and the registration are durable before the next step begins. A crash of PostgreSQL may undo a claim
or the record of a delivery; the peer then gets the instance twice. A crash between two steps leaves the
instance in the earlier step, and the next process, attempt or sweep continues from there. Most modules have a
table "If the process dies" that says what a crash leaves and who repairs it.

Guarantees. Tests refer to them by number; each has at least one test in tests/faults or tests/acceptance.

    G1  Durable before Success. C-STORE is answered 0x0000 only after the file with its envelope is flushed
        under its final name, and its directories are flushed. From then on it is registered and delivered
        without an operator, whichever process dies; only a lost database needs a command.
    G2  Every delivery is completed or shown. An instance that was answered Success is shown as unregistered
        until its deliveries are committed. A committed delivery ends delivered; until then the edge shows it
        as pending (reason and next attempt), dead (reason) or cancelled (by whom).
    G3  Bytes are preserved. The data set that is sent equals the one that was received, in the same transfer
        syntax.
    G4  Repeats are harmless. The same bytes again create no new delivery while one is under way or was just
        completed. Other bytes under the same UID are stored beside the first, flagged, and forwarded.
    G5  The PACS path waits for nobody: not for a worker, its queue, the sweep or another destination.
    G6  Any process may die at any instruction; nothing that was acknowledged is lost, and no operator is
        needed. PostgreSQL is one of these processes: while it is away, the edge receives. Two exceptions:
        after three counted deaths of processes that ran it, a message is dead until an operator retries it;
        a reception that PostgreSQL refuses three times is kept in failed/, shown, and tried again at each
        start.
    G7  Strangers and invalid data do no harm. They choose no path and no log line, and cannot use up memory
        or association slots.
    G8  No patient in the logs. Log lines and messages contain UIDs and AE titles only. The database holds
        keyed hashes of accession numbers and patient IDs if edge.search_key is set, and nothing else of a
        patient.

Layers. A module imports from the lines below its own only; import-linter verifies it (pyproject.toml).

    cli | actors         commands; Dramatiq actors and the queue's broker
    console              the edge in a browser
    lab                  a whole edge with its neighbours on one machine, for tests and demos
    operate              what an operator does: the use cases of command line and console
    metrics              the figures of the edge for Prometheus
    sender               the program that sends test instances
    notify               a webhook or a mail about what is wrong
    receive | sweep | diagnosis   the Storage SCP; repairing; what is wrong, and what to type
    search               what became of an instance, a study, or the instances of a sender
    register             the rows of acknowledged receptions
    correlate            results and their source instances
    forward              sending
    processes            the rows of the running processes
    spool                durable files, one per instance
    dicom                PDUs, messages, associations, data sets
    database             all SQL of the edge, through psycopg2
    faults | log_tail    failures injected on purpose; printing of the log
    log                  JSON lines, no patient attributes
    config               config.yaml as a validated model
    config_text          reading its text, and messages about its errors
    rules                conditions on an instance; imports pydicom's dictionary
    errors               all exceptions of the edge
    importing | times    imports without the garbage collector; times and durations for people
    domain               pure rules: no I/O, no clock, no library

`cli`, `console` and `actors` are packages beside `gateway`. Only `dicom` and `sender` use pynetdicom and
pydicom.
`register` does not import the actors: it writes messages with the names in `gateway.domain.contract`.
"""
