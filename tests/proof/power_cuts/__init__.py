"""`make power-cuts`: the power goes while the edge works, and nothing that was acknowledged may be lost.

SIGKILL leaves what the kernel holds; a power cut takes what was not flushed. Two kinds of disk can show it:

    forgetful     a FUSE file system in memory that forgets what was not flushed, bytes and names apart; the
                  spool is on it
    ext4, xfs     a real file system on a loop device, whose image records every write and flush; spool and
                  PostgreSQL are on it

The modules, in the order of a run:

    machine            what the machine must have; mounts in a namespace of the run's own
    server             one FUSE file system as a process: it counts steps, stops, and loses its power
    fuse               the kernel's protocol on /dev/fuse
    file_system        the operations of both file systems
    forgetful          the file system that forgets
    forgetful_nodes    its files and names, and what a cut does to them
    recording          the file system that records, and the disk as it was at any moment of the record
    edge               the edge as processes, its peers with their journal, and when it is quiet
    load               senders, and their journal
    forgetful_trials   cuts on the file system that forgets
    recorded_trials    cuts of the record of a real file system
    trial              start after a cut, wait until it is quiet
    judge              what was acknowledged against rows, files and what the peers got
    report             a table as text, and JSON

The check knows only what senders were answered, so it holds whether an instance is registered before Success
or behind it. With `--lying-disk` flushes do nothing, and the program must find violations.
"""
