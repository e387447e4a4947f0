"""`make fuzz`: garbage against a running SCP, and coverage-guided fuzzing of every parser of the wire.

    targets       each parser as a function of bytes that raises only where a guarantee is violated
    guided        the same under atheris, which follows coverage
    hostile       UIDs, AE titles and data sets of attackers
    conversation  seeded PDUs: those that an association survives, and the one that ends it
    attacker      a process that has such conversations, one after the other
    holder        a process that holds connections: silent, half-open, a byte a second, endless
    honest        senders that are served meanwhile, and how long that takes
    watch         the SCP's processes, memory, log lines and files
    campaign      all of it at once, for a number of seconds
    report        a table for a person, and JSON

The product has no code for this: the bytes come from outside, and the checks use what an operator can see.
"""
