"""`make fuzz`: garbage at a running SCP, and coverage-guided at every parser that reads from the wire.

    targets       each parser as a function of bytes that raises only where a promise is broken
    guided        the same under atheris, which follows coverage
    hostile       UIDs, AE titles and data sets of people who mean harm
    conversation  seeded PDUs: those that an association survives, and the one that ends it
    attacker      a process that has such conversations, one after the other
    holder        a process that holds connections: silent, half-open, a byte a second, without an end
    honest        senders who are served meanwhile, and how long that takes
    watch         the SCP's processes, memory, log lines and files
    campaign      all of it at once, for so many seconds
    report        what a person reads, and JSON

Nothing is known to the product of this: the bytes come from outside, and what is looked at is what an
operator could look at, too.
"""
