"""Write one JSON line to standard output per event; the fields are fixed, none has patient data."""

import json
import sys
import threading
from datetime import UTC, datetime

_lock = threading.Lock()


def write(
    event: str,
    *,
    worker: str,
    outcome: str = "ok",
    sop_instance_uid: str | None = None,
    study_instance_uid: str | None = None,
    result_sop_instance_uid: str | None = None,
    calling_ae_title: str | None = None,
    status: int | None = None,
    attempt: int | None = None,
    duration_ms: float | None = None,
    error: str | None = None,
) -> None:
    """Write one line to standard output; leave out fields that are None."""
    fields = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "worker": worker,
        "event": event,
        "outcome": outcome,
        "study_instance_uid": study_instance_uid,
        "sop_instance_uid": sop_instance_uid,
        "result_sop_instance_uid": result_sop_instance_uid,
        "calling_ae_title": calling_ae_title,
        "status": None if status is None else f"0x{status:04X}",
        "attempt": attempt,
        "duration_ms": None if duration_ms is None else round(duration_ms, 1),
        "error": error,
    }
    line = json.dumps({name: value for name, value in fields.items() if value is not None})
    with _lock:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
