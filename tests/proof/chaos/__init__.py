"""`make chaos`: load over the lab's real processes while a fault_runner breaks them, then its ledger.

The rooms, in the order of a run:

    setup         the lab, with a PACS that misbehaves, proxies that can be cut, and a disk that can be filled
    sent_instances       what is sent: any process makes the same bytes of the same number
    sender      a process that sends it, and journals each answer as it came from the wire
    faults      the catalogue of what may go wrong, and the seeded order in which it does
    fault_runner   begins and ends faults while the senders send
    evidence    what senders, PACS, workers, database and spool say afterwards
    ledger      every acknowledged instance against that evidence
    recovery    how long after a fault's end its path carried again, and G5's latency
    report      what a person reads, and JSON

Nothing is recorded by the product for this: senders and PACS keep journals of their own, line by line.
"""
