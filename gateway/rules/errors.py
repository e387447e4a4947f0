"""The error of a rule that cannot be used."""


class RuleError(ValueError):
    """A rule is not valid; the text says which value, and what to write instead."""
