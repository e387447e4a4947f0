"""`make chaos`: load over the lab's real processes while faults are injected, then a ledger of all instances.

The modules, in the order of a run:

    setup            the lab, a PACS that misbehaves, proxies between the peers, a disk that can be filled
    sent_instances   the instances that are sent: any process makes the same bytes of the same number
    sender           a process that sends them, and writes each answer from the wire to its journal
    faults           the catalogue of faults, and their seeded order
    fault_runner     begins and ends faults while the senders send
    evidence         what senders, PACS, workers, database and spool say afterwards
    ledger           compares every acknowledged instance with that evidence
    unit_ledger      the same for the series and studies that applications get whole
    counters         scrapes the exporter, and compares its counters with what PostgreSQL committed
    recovery         how long after a fault's end its path worked again, and the latency for G5
    outages          what senders noticed while PostgreSQL was away
    outage           a run of its own: PostgreSQL away for long, under full load (outage_sender)
    report           a table for a person, and JSON

The product records nothing for this: senders and PACS keep journals of their own, line by line.
"""
