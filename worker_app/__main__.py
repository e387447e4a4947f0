"""`python -m worker_app`: run one AI application until SIGTERM or SIGINT.

Exit codes: 0 stopped by a signal, 1 cannot listen on the port, 2 a setting is invalid.
"""

import logging
import os
import queue
import signal
import sys
import tempfile
import threading
import warnings
from types import FrameType
from typing import TYPE_CHECKING

import pydicom.config
from PIL import Image

from worker_app import log, scp
from worker_app.collecting import Collector
from worker_app.returning import THREADS, Returner
from worker_app.settings import ResultUnit, Settings, SettingsError, read

if TYPE_CHECKING:
    from worker_app.waiting import Work

MAX_PICTURE_PIXELS = 64 << 20
"""Limits the size of a decoded frame, whatever its attributes are."""


def main() -> int:
    """Serve until a signal, and return the exit code."""
    try:
        settings = read(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"worker_app: {error}\n")
        return 2
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    _silence_libraries()
    with tempfile.TemporaryDirectory(prefix="worker_app-") as folder:
        tempfile.tempdir = folder  # where pynetdicom writes received data sets
        return _serve(settings, stopping)


def _serve(settings: Settings, stopping: threading.Event) -> int:
    # A series must not be refused when it is complete: the collector has a limit of its own.
    waiting: queue.Queue[Work] = queue.Queue(0 if settings.unit is ResultUnit.SERIES else scp.MAX_WAITING)
    collector = Collector(settings, waiting.put, stopping)
    try:
        server = scp.start(settings, scp.Inbox(waiting, collector))
    except OSError as error:
        sys.stderr.write(
            f"worker_app: cannot listen on {settings.bind_address}:{settings.port}: {error.strerror}; "
            "set WORKER_PORT or WORKER_BIND_ADDRESS\n"
        )
        return 1
    if settings.unit is ResultUnit.SERIES:
        threading.Thread(target=collector.run, name="collector", daemon=True).start()
    for number in range(THREADS):
        # Daemon threads: a send that waits for a response must not delay the end of the process.
        threading.Thread(
            target=Returner(settings, waiting, stopping).run, name=f"returner-{number}", daemon=True
        ).start()
    log.write("start", worker=settings.ae_title)
    stopping.wait()
    server.ae.shutdown()
    log.write("stop", worker=settings.ae_title)
    return 0


def _silence_libraries() -> None:
    """Silence the libraries: their warnings contain values of attributes, maybe patient data (G8)."""
    warnings.simplefilter("ignore")
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    Image.MAX_IMAGE_PIXELS = MAX_PICTURE_PIXELS


if __name__ == "__main__":
    sys.exit(main())
