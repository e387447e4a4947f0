"""Rules: declarative conditions that say which instances a destination accepts.

    language    from the YAML of a key `accepts` to a validated rule, or an error that says what to write
    dictionary  names of attributes, SOP Classes and transfer syntaxes
    comparisons what one condition compares: equals, in, matches, range, exists
    tree        the rule: conditions under all, any and not; its outcome, its words, its canonical form
    facts       what is known of an instance: association and the values of its attributes
    ruleset     the rules of all targets as one version, with its digest; what they decide

A rule has one of three outcomes: it holds, it does not hold, or it cannot be decided, because a value that it
asks for cannot be decoded. If a condition cannot be decided, `not` of it cannot be decided; `all` and `any`
are decided if the other conditions suffice (Kleene's logic). So the order of the conditions does not change
the outcome.

Nothing here reads a file or a socket, and no rule is executed as code. A regular expression is of RE2, whose
time is linear in the length of the value.
"""
