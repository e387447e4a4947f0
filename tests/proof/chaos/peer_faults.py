"""What the PACS, the cables and the senders do wrong."""

import signal
from collections.abc import Callable
from dataclasses import replace

from proof.chaos.bed import Bed
from proof.chaos.cable import Cable
from proof.chaos.faults import Pick
from proof.chaos.pacs import WELL, Behaviour, behave

End = Callable[[], None]

_BEHAVIOURS = {
    "rejects": Behaviour(rejects=True),
    "hangs": Behaviour(),
    "is slow": Behaviour(),
    "answers A700": Behaviour(status=0xA700),
    "answers C000": Behaviour(status=0xC000),
    "answers B000": Behaviour(status=0xB000),
    "answers 0111": Behaviour(remembers=True),
    "aborts mid data set": Behaviour(aborts=True),
}
_WAITS = {"hangs", "is slow"}
"""Those whose value is a time before the answer, the others' a share of the data sets."""


def misbehave(bed: Bed, pick: Pick) -> End:
    """The PACS does so until the end."""
    behaviour, value = _BEHAVIOURS[pick.kind.action], pick.kind.value
    if pick.kind.action in _WAITS:
        behaviour = replace(behaviour, delay_seconds=value)
    elif value:
        behaviour = replace(behaviour, share=value)
    behave(bed.pacs.folder, behaviour)
    return lambda: behave(bed.pacs.folder, WELL)


def _cable(bed: Bed, pick: Pick) -> Cable:
    return bed.pacs_cable if pick.kind.target == "cable of the PACS" else bed.sender_cable


def cut(bed: Bed, pick: Pick) -> End | None:
    """Every connection is reset once, if there is one."""
    cable = _cable(bed, pick)
    return cable.mend if cable.cut() else None


def fray(bed: Bed, pick: Pick) -> End:
    """Connections are reset in the middle, until the end."""
    cable = _cable(bed, pick)
    cable.fray(int(pick.kind.value * (0.5 + pick.dice)))
    return cable.mend


def pull(bed: Bed, pick: Pick) -> End:
    """Nothing passes, until the end."""
    cable = _cable(bed, pick)
    cable.pull()
    return cable.mend


def refuse(bed: Bed, pick: Pick) -> End:
    """Connections are reset and none is made, until the end."""
    cable = _cable(bed, pick)
    cable.refuse()
    return cable.mend


def sender_dies(bed: Bed, pick: Pick) -> End | None:
    """A sender ends by SIGKILL in the middle of its next instance."""
    return _nothing if bed.signal_sender(pick.dice, signal.SIGUSR1) else None


def sender_aborts(bed: Bed, pick: Pick) -> End | None:
    """A sender aborts its association in the middle of its next instance."""
    return _nothing if bed.signal_sender(pick.dice, signal.SIGUSR2) else None


def _nothing() -> None:
    """It was over when it had begun."""
