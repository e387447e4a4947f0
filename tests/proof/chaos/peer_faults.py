"""The faults of PACS, connections and senders."""

import signal
from collections.abc import Callable
from dataclasses import replace

from proof.chaos.faults import Pick
from proof.chaos.pacs import WELL, Behaviour, behave
from proof.chaos.setup import Setup
from proof.chaos.tcp_proxy import TcpProxy

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
"""The value of these is a time before the answer; that of the others is a share of the data sets."""


def misbehave(setup: Setup, pick: Pick) -> End:
    """Set that behaviour of the PACS until the end."""
    behaviour, value = _BEHAVIOURS[pick.kind.action], pick.kind.value
    if pick.kind.action in _WAITS:
        behaviour = replace(behaviour, delay_seconds=value)
    elif value:
        behaviour = replace(behaviour, share=value)
    behave(setup.pacs.folder, behaviour)
    return lambda: behave(setup.pacs.folder, WELL)


def _proxy(setup: Setup, pick: Pick) -> TcpProxy:
    return setup.pacs_proxy if pick.kind.target == "connections of the PACS" else setup.sender_proxy


def cut(setup: Setup, pick: Pick) -> End | None:
    """Reset every connection once; do nothing if there is none."""
    proxy = _proxy(setup, pick)
    return proxy.mend if proxy.cut() else None


def break_after(setup: Setup, pick: Pick) -> End:
    """Reset connections in the middle until the end."""
    proxy = _proxy(setup, pick)
    proxy.break_after(int(pick.kind.value * (0.5 + pick.dice)))
    return proxy.mend


def stall(setup: Setup, pick: Pick) -> End:
    """Hold all bytes until the end."""
    proxy = _proxy(setup, pick)
    proxy.stall()
    return proxy.mend


def refuse(setup: Setup, pick: Pick) -> End:
    """Reset all connections, and refuse new ones, until the end."""
    proxy = _proxy(setup, pick)
    proxy.refuse()
    return proxy.mend


def sender_dies(setup: Setup, pick: Pick) -> End | None:
    """Let a sender end by SIGKILL in the middle of its next instance."""
    return _nothing if setup.signal_sender(pick.dice, signal.SIGUSR1) else None


def sender_aborts(setup: Setup, pick: Pick) -> End | None:
    """Let a sender abort its association in the middle of its next instance."""
    return _nothing if setup.signal_sender(pick.dice, signal.SIGUSR2) else None


def _nothing() -> None:
    """Do nothing: the fault was over when it began."""
