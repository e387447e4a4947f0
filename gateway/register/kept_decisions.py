"""Keep what the rules decided at a reception, in the transaction that registers it."""

from collections.abc import Mapping, Sequence

from gateway.database.session import Session
from gateway.database.tables import decisions
from gateway.database.tables.instances import RegisteredInstance
from gateway.register.repeat import NEW
from gateway.register.unregistered import Unregistered
from gateway.rules.ruleset import NO_RULES


def keep_decisions(
    session: Session,
    batch: Sequence[Unregistered],
    found: Sequence[RegisteredInstance],
    texts: Mapping[bytes, str],
) -> None:
    """Write the decisions of new instances. A repeat keeps the decision of the first reception.

    Nothing is written where no target had a rule, so that an edge without rules pays nothing. `texts` are the
    rules that this process has had, by their digests. Another process that decided may have had others.
    """
    kept = [
        decisions.Decided(
            registered.instance_id,
            one.envelope.rules,
            one.envelope.targets,
            one.envelope.refused,
            one.envelope.undecided,
        )
        for one, registered in zip(batch, found, strict=True)
        if registered.verdict in NEW and one.envelope.rules != NO_RULES
    ]
    if kept:
        used = {one.rules: texts[one.rules] for one in kept if one.rules in texts}
        decisions.keep(session, kept, used)
