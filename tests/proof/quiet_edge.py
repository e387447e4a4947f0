"""`python -m proof.quiet_edge --minutes 10`: load a healthy edge; `diagnose` must find nothing wrong.

The edge must also answer each C-STORE of the load with Success. If it does not, the logs of the lab are kept.
pynetdicom misses a response once in some thousand: its reactor thread may take it as a request. So the log of
the edge decides whether a C-STORE without a response was answered.

Exit codes: 0 no finding was a problem, and all was answered; 1 otherwise; 2 usage; 3 this machine lacks what
a lab needs.
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from proof.edges import machine, sender
from proof.edges.judge import diagnose, status_is_green
from proof.edges.lab import Lab, Setup
from proof.edges.sender import JPEG

EVERY = 5.0  # s between two questions


def say(text: str) -> None:
    """Print without buffering."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Load:
    """A steady mix: single images, studies, JPEG, repeats, associations without a C-STORE."""

    def __init__(self, lab: Lab, seed: int) -> None:
        """Begin when `start` is called."""
        self._lab = lab
        self._random = random.Random(seed)  # noqa: S311  no secret
        self._ended = threading.Event()
        self._last: list[Dataset] = []
        self.counts: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    @property
    def unanswered(self) -> int:
        """Return how many sendings failed, and how many instances were not answered with Success."""
        return self.counts["failed"] + self.counts["not answered with Success"]

    def end(self) -> None:
        """Send nothing more."""
        self._ended.set()
        self._thread.join(60)

    def _run(self) -> None:
        kinds = (self._image, self._image, self._image, self._study, self._jpeg, self._repeat, self._echo)
        while not self._ended.wait(self._random.uniform(0.2, 1.0)):
            kind = self._random.choice(kinds)
            try:
                kind()
            except sender.AssociationLostError as error:
                if self._was_answered(error.last):
                    self.counts["responses that the sender missed"] += 1
                else:
                    self._note_failure(kind.__name__, error)
            except (sender.NotAssociatedError, OSError) as error:
                self._note_failure(kind.__name__, error)

    def _note_failure(self, what: str, error: Exception) -> None:
        self.counts["failed"] += 1
        say(f"FAILED at {datetime.now(UTC):%H:%M:%S.%f}: {what.strip('_')}: {error}")

    def _was_answered(self, sop_instance_uid: str) -> bool:
        """Tell whether the edge has answered a C-STORE of this instance with Success, by its log."""
        lines = map(json.loads, (self._lab.logs / "edge.log").read_text(encoding="utf-8").splitlines())
        return any(
            (line["stage"], line["outcome"], line.get("sop_instance_uid"))
            == ("receive", "success", sop_instance_uid)
            for line in lines
        )

    def _send(self, what: str, instances: list[Dataset]) -> None:
        statuses = sender.send(self._lab.port, instances)
        self.counts[what] += len(instances)
        for instance, status in zip(instances, statuses, strict=True):
            if status == -1 and self._was_answered(str(instance.SOPInstanceUID)):
                self.counts["responses that the sender missed"] += 1
            elif status != 0:
                self.counts["not answered with Success"] += 1
        self._last = instances

    def _image(self) -> None:
        self._send("images", [sender.synthetic(modality=self._random.choice(("CT", "MR")))])

    def _study(self) -> None:
        study = generate_uid()
        self._send("images of studies", [sender.synthetic(study=study) for _ in range(20)])

    def _jpeg(self) -> None:
        self._send("JPEG", [sender.synthetic(syntax=JPEG)])

    def _repeat(self) -> None:
        if self._last:
            self._send("repeats", self._last[:1])

    def _echo(self) -> None:
        sender.associate(self._lab.port, [(CTImageStorage, ExplicitVRLittleEndian)]).release()
        self.counts["empty associations"] += 1


def _watch(lab: Lab, minutes: float) -> tuple[int, Counter[str], Counter[str], list[float]]:
    """Ask until the time is over; return how often, the problems, the notes, the seconds of each."""
    asked, problems, notes, seconds = 0, Counter[str](), Counter[str](), []
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        begun = time.monotonic()
        answer = diagnose(lab)
        asked += 1
        seconds.append(answer.seconds)
        for finding in answer.findings:
            (problems if finding["severity"] == "problem" else notes)[finding["key"]] += 1
            if finding["severity"] == "problem":
                say(f"PROBLEM {finding['text']}")
        if answer.failed or (asked % 6 == 0 and not status_is_green(lab)):
            problems["status --check or diagnose failed"] += 1
            say(f"PROBLEM {answer.failed or 'status --check'}")
        time.sleep(max(0.0, EVERY - (time.monotonic() - begun)))
    return asked, problems, notes, seconds


def main() -> int:
    """Do one run; return the exit code."""
    parser = argparse.ArgumentParser(prog="proof.quiet_edge", description="a healthy edge: no false alarm")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the figures go")
    arguments = parser.parse_args()
    if lacks := machine.missing():
        say(f"NOT PROVEN: this machine lacks {', '.join(lacks)}")
        return 3
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process of the lab stays
    lab = Lab(Setup("quiet"), 99)
    try:
        load = Load(lab, arguments.seed)
        load.start()
        asked, problems, notes, seconds = _watch(lab, arguments.minutes)
        load.end()
        if load.unanswered:
            kept = Path(tempfile.mkdtemp(prefix="mini-pacs-quiet-edge-"))
            shutil.copytree(lab.logs, kept / "logs")
            problems["C-STORE without Success"] += load.unanswered
            say(f"the logs of the lab are kept in {kept}")
    finally:
        lab.close()
    sent = ", ".join(f"{count} {what}" for what, count in sorted(load.counts.items()))
    say(f"{arguments.minutes:g} minutes, asked {asked} times, {max(seconds):.1f} s at most; sent: {sent}")
    say(f"notes: {dict(notes) or 'none'}")
    if arguments.json:
        figures = {
            "asked": asked,
            "problems": problems,
            "notes": notes,
            "sent": load.counts,
            "seconds": seconds,
        }
        arguments.json.write_text(json.dumps(figures, indent=1))
    say(f"FAILED: {dict(problems)}" if problems else "PASSED: no false alarm")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
