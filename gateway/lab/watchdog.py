"""`python -m gateway.lab.watchdog IDENTITY`: ends a lab whose supervisor died.

Its standard input is a pipe whose other end only the supervisor holds. The kernel closes that end when
the supervisor ends, kill -9 included; then no process of the lab is left within a few seconds. If this
process dies too, the next start of the lab finds what is left (`leftovers`).
"""

import signal
import sys

from gateway.lab import stray_processes


def main() -> None:
    """Wait for the end of the supervisor, then end what it left; nothing, when it stopped in order."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # who stops a whole group of processes still needs us
    sys.stdin.buffer.read()
    stray_processes.end(sys.argv[1])


if __name__ == "__main__":
    main()
