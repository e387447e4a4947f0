"""`python tests/support/failing_serve.py`: `mini-pacs serve` on a disk that fails on request.

FAIL_FILE names a file. If it contains `write:2:EIO`, the second write of a reception fails with that error,
and the file is removed. With `write:*:EROFS` every write below `edge.data_root` fails until the file is
removed. The product has no code for this.
"""

import errno
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from cli.main import run
from gateway import config

P = ParamSpec("P")
R = TypeVar("R")

_lock = threading.Lock()
_counts: dict[str, int] = {}


def _fails(name: str, *, of_reception: bool) -> int | None:
    """Return the error with which this use of `name` must fail."""
    order = Path(os.environ["FAIL_FILE"])
    with _lock:
        try:
            text = order.read_text(encoding="ascii")
        except FileNotFoundError:
            text = ""
        if not text:  # no file, or half written: the SCP may read it at any time
            _counts.clear()
            return None
        words, number, code = text.split(":")
        if name not in words.split(",") or not (of_reception or number == "*"):
            return None
        _counts[text] = _counts.get(text, 0) + 1
        if number == "*":
            return int(getattr(errno, code))
        if _counts[text] < int(number):
            return None
        order.unlink()
        _counts.clear()
        return int(getattr(errno, code))


def failing(name: str, call: Callable[P, R], root: Path) -> Callable[P, R]:
    """Return `call`, which fails on request for paths below `root`."""

    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        what = args[0]
        try:
            path = Path(f"/proc/self/fd/{what}").readlink() if isinstance(what, int) else Path(str(what))
        except OSError:
            path = Path()
        creates = name != "open" or (len(args) > 1 and int(args[1]) & os.O_CREAT)  # type: ignore[call-overload]
        # Another thread writes spool.seen.
        is_mark = path == root or path.name.startswith("spool.")
        fails = creates and path.is_relative_to(root)
        code = _fails(name, of_reception=not is_mark) if fails else None
        if code is not None:
            raise OSError(code, os.strerror(code))
        return call(*args, **kwargs)

    return called


def main() -> None:
    """Patch the calls, then run `mini-pacs serve`."""
    root = config.load().edge.data_root
    for name in ("open", "write", "fsync", "link", "mkdir", "unlink"):
        setattr(os, name, failing(name, getattr(os, name), root))
    os.writev = failing("write", os.writev, root)
    sys.argv = ["mini-pacs", "serve"]
    run()


if __name__ == "__main__":
    main()
