"""What `mini-pacs demo` does in its lab: send the specimens, then wait until the PACS has every result."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gateway.database.pool import Database
from gateway.database.tables.studies import result_series
from gateway.database.tables.timeline import of_studies
from gateway.dicom.association import PeerAddress
from gateway.domain.timeline import AT_ARCHIVES, InstanceTimeline, StepName, summary
from gateway.errors import DatabaseUnavailableError, LabError
from gateway.lab.lab import Lab
from gateway.lab.specimens import specimens
from gateway.sender.send import SendOptions, Sent, send

TIMEOUT_SECONDS = 240.0
"""Must exceed the two minutes that the whole demo takes on two slow cores."""
SEND_TIMEOUT_SECONDS = 30.0
"""Must exceed the slowest flush of the edge's disk, and its wait for a registration that is behind."""

_POLL_SECONDS = 0.3


@dataclass(slots=True)
class DemoRun:
    """The instances that the demo sent, and what happened to them so far."""

    names: dict[str, str] = field(default_factory=dict)
    """Study Instance UID → the name of the study in the output."""
    sent: dict[str, Sent] = field(default_factory=dict)
    """SOP Instance UID → the answer of the edge."""
    timelines: list[InstanceTimeline] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    """SOP Instance UIDs that the PACS lists as stored; empty until every delivery is done."""
    result_series: dict[str, list[int]] = field(default_factory=dict)
    """Study Instance UID → how many results each of its series of results has."""
    seconds: float = 0.0
    """From the first C-STORE until the last query."""

    def is_complete(self) -> bool:
        """Tell whether the PACS holds every original and a result for each."""
        results = {uid for one in self.timelines for uid in one.result_sop_instance_uids}
        return self._is_delivered() and self.sent.keys() | results <= self.held

    def _is_delivered(self) -> bool:
        """Tell whether every step of every instance is done, according to the database."""
        known = {one.sop_instance_uid for one in self.timelines}
        return self.sent.keys() == known and all(one.missing() is None for one in self.timelines)

    def send(self, lab: Lab, folder: Path, progress: Progress) -> None:
        """Prepare the specimens in `folder` and send each one once.

        Raises:
            LabError: the edge did not accept an instance.
        """
        instances = []
        preparing = progress.add_task("prepared", total=None)
        for name, instance in specimens(folder):
            self.names[instance.study_instance_uid] = name
            instances.append(instance)
            progress.update(preparing, completed=len(instances))
        progress.update(preparing, total=len(instances))
        edge = lab.configuration.edge
        peer = PeerAddress("127.0.0.1", edge.port, edge.ae_title, SEND_TIMEOUT_SECONDS, SEND_TIMEOUT_SECONDS)
        options = SendOptions(lab.configuration.forwarder.orthanc.ae_title)
        sending = progress.add_task("sent", total=len(instances))
        begun = time.monotonic()
        for sent in send(instances, peer, options):
            if not sent.accepted:
                raise LabError(
                    f"the edge did not accept {sent.instance.origin}: {sent.status} {sent.comment}"
                )
            self.sent[sent.instance.sop_instance_uid] = sent
            progress.advance(sending)
        self.seconds = time.monotonic() - begun

    def wait(self, lab: Lab, progress: Progress) -> None:
        """Wait until the PACS holds everything, at most TIMEOUT_SECONDS."""
        archives = lab.configuration.forwarder.archives
        steps = [step for step in StepName if archives or step not in AT_ARCHIVES]
        tasks = {step: progress.add_task(step.value, total=len(self.sent)) for step in steps}
        database = Database(lab.postgres.dsn(), application_name="mini-pacs demo", size=1)
        begun = time.monotonic() - self.seconds
        try:
            while not self.is_complete() and self.seconds < TIMEOUT_SECONDS:
                time.sleep(_POLL_SECONDS)
                self.seconds = time.monotonic() - begun
                try:
                    with database.transaction() as session:
                        self.timelines = of_studies(session, self.names)
                        self.result_series = result_series(session, self.names)
                except DatabaseUnavailableError:
                    continue  # The supervisor restarts PostgreSQL; the next query reads the rows.
                for step in summary(self.timelines):
                    progress.update(tasks[step.name], completed=step.done)
                if self._is_delivered():
                    self.held = lab.pacs.holds()
        finally:
            database.close()


def progress_bars(screen: Console) -> Progress:
    """Return the progress bars of a run."""
    return Progress(
        TextColumn("{task.description:20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=screen,
    )
