"""`python tests/support/crashing_serve.py`: `mini-pacs serve`, killed at the n-th flush, link, row or commit.

CRASH_AT names the point: `writev:2:after` (a small file is written), `pwrite:2:after` (the envelope of a
large one is written), `fsync:4:before`, `link:2:after`, `unlink:1:before`, `receive:2:after` (the rows are
committed). SIGKILL ends the whole process group. The product has no code for this.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from cli.main import run
from gateway.database.tables import instances

P = ParamSpec("P")
R = TypeVar("R")


def crashing(call: Callable[P, R], number: int, when: str) -> Callable[P, R]:
    """Return `call` with a crash: the process group is killed around its n-th use in a receiver."""
    count = 0

    def reset() -> None:
        nonlocal count
        count = 0

    os.register_at_fork(after_in_child=reset)  # calls of the parent do not count

    def counted(*args: P.args, **kwargs: P.kwargs) -> R:
        nonlocal count
        count += 1
        is_the_one = count == number  # now: another thread may count its own call during this one
        if is_the_one and when == "before":
            os.killpg(0, signal.SIGKILL)
        result = call(*args, **kwargs)
        if is_the_one:
            os.killpg(0, signal.SIGKILL)
        return result

    return counted


def main() -> None:
    """Patch the calls, then run `mini-pacs serve`."""
    what, number, when = os.environ["CRASH_AT"].split(":")
    if what == "receive":
        instances.register = crashing(instances.register, int(number), when)
        instances.register_many = crashing(instances.register_many, int(number), when)
    else:
        setattr(os, what, crashing(getattr(os, what), int(number), when))
    sys.argv = ["mini-pacs", "serve"]
    run()


if __name__ == "__main__":
    main()
