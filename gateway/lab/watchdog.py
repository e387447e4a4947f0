"""`python -m gateway.lab.watchdog IDENTITY`: end the processes of a lab whose supervisor died.

Its standard input is a pipe whose other end only the supervisor holds. The kernel closes that end when the
supervisor ends, by kill -9 too; then this process ends all others of the lab within a few seconds. If it dies
as well, the next start of the lab ends what is left (`stray_processes`).
"""

import signal
import sys

from gateway.lab import stray_processes


def main() -> None:
    """Wait for the end of the supervisor, then end the processes that it left, if any."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a signal to the whole group must not end this process
    sys.stdin.buffer.read()
    stray_processes.end(sys.argv[1])


if __name__ == "__main__":
    main()
