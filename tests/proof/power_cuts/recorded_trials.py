"""Power cuts of a real file system, with spool and PostgreSQL on one recorded disk.

The run is recorded once. Then the disk is built as a power cut at one of its moments may have left it,
and mounted: the file system replays its journal, PostgreSQL its log, and the edge starts on both. Half of
the moments are just behind a flush, the others just before one, with a part of what it would have flushed.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from gateway.database.migrate import migrate
from gateway.errors import LabError
from gateway.lab.postgres import EmbeddedPostgres
from proof.power_cuts.edge import LOOK_SECONDS, PoweredEdge, configuration
from proof.power_cuts.load import Key, Load, senders
from proof.power_cuts.machine import FuseProcess, LoopMount, make_image
from proof.power_cuts.recording import Record, copy_sparse
from proof.power_cuts.trial import Trial, recover_and_judge

IMAGE_BYTES = 1 << 30
"""Sparse; xfs needs 300 MB, PostgreSQL about 150."""
RECORD_SECONDS = 180.0


class RecordedTrials:
    """One recorded run on one file system, and cuts of it."""

    def __init__(
        self, kind: str, folder: Path, *, rounds: int, seed: int, lies: bool, patience: float
    ) -> None:
        self.kind = kind
        self._folder = folder
        self._rounds = rounds
        self._generator = Random(f"{seed} {kind}")  # noqa: S311  repeatable, no secret
        self._lies = lies
        self._patience = patience
        self._disk = folder / "disk"
        self._content = configuration(self._disk / "data")
        self._before, self._live = folder / "before.img", folder / "live.img"

    # ---- recording -----------------------------------------------------------------------------------

    def record(self) -> str:
        """Prepare the disk and record a run on it; return a line about it."""
        make_image(self.kind, self._before, IMAGE_BYTES)
        with LoopMount(self.kind, self._before, self._disk):
            postgres = self._postgres()
            postgres.start()
            migrate(postgres.dsn())
            postgres.stop()
        copy_sparse(self._before, self._live)
        files = FuseProcess(self._folder, self._folder / "fuse", image=self._live)
        self._position = files.position
        try:
            with LoopMount(self.kind, files.image, self._disk):
                self._begin = files.position.get()
                self._run(files)
                self._end = files.position.get()
        finally:
            files.close()
        self._record = Record(self._before, self._live, self._folder / "rolling.img", lies=self._lies)
        flushes = sum(self._begin < at <= self._end for at in self._record.flushes())
        return (
            f"{self.kind}: recorded {self._end - self._begin} steps, {flushes} of them flushes;"
            f" {len(self._load.acknowledged())} instances acknowledged"
        )

    def _postgres(self) -> EmbeddedPostgres:
        return EmbeddedPostgres(self._disk / "postgres" / "data")

    def _run(self, files: FuseProcess) -> None:
        postgres = self._postgres()
        postgres.start()
        edge = PoweredEdge(self._folder / "recorded", self._content, postgres.dsn(), files.position)
        self._load = Load(edge.run.configuration, files.position)
        self._begin = files.position.get()
        try:
            edge.start_peers()
            edge.start()
            for _ in range(self._rounds):
                self._load.begin(senders(self._generator))
                deadline = time.monotonic() + RECORD_SECONDS
                while not self._load.is_over():
                    edge.check()
                    assert time.monotonic() < deadline, "the senders do not end"
                    time.sleep(LOOK_SECONDS)  # the interval between two looks
                self._load.end()
            rest = edge.wait_until_quiet(self._load.acknowledged(), self._patience)
            assert not rest, rest
            self._edge = edge
        finally:
            edge.close()
            self._load.end()
            postgres.stop()

    # ---- cutting -------------------------------------------------------------------------------------

    def cuts(self, count: int) -> Iterator[Trial]:
        """Yield the results of so many cuts, in the order of the record."""
        chosen: list[int] = []
        behind, before = self._record.flushes(), self._record.before_flushes()
        for positions, share in ((behind, count // 2), (before, count - count // 2)):
            within = [at for at in positions if self._begin < at <= self._end]
            chosen += self._generator.sample(within, min(share, len(within)))
        for number, position in enumerate(sorted(chosen), 1):
            yield self._cut(number, position)
        self._record.close()

    def _cut(self, number: int, position: int) -> Trial:
        acknowledged = self._load.acknowledged(position)
        trial, began = Trial(self.kind, acknowledged=len(acknowledged)), time.monotonic()
        image = self._folder / "cut.img"
        lost = self._record.build(position, image, self._generator)
        trial.cuts.append(f"cut after step {position - self._begin}: {lost} blocks lost")
        try:
            with LoopMount(self.kind, image, self._disk):
                self._recover(trial, number, position, acknowledged)
        except AssertionError as error:
            trial.violations.append(f"the file system: {error}")
        trial.seconds = time.monotonic() - began
        return trial

    def _recover(self, trial: Trial, number: int, position: int, acknowledged: set[Key]) -> None:
        postgres = self._postgres()
        try:
            postgres.start()
        except LabError as error:
            trial.violations.append(f"PostgreSQL does not come back: {error}")
            return
        folder = self._folder / f"after_{number}"
        edge = PoweredEdge(folder, self._content, postgres.dsn(), self._position)
        load = Load(edge.run.configuration, self._position)
        load.sent |= self._load.sent
        try:
            edge.start_peers()
            recover_and_judge(
                edge,
                load,
                trial,
                self._patience,
                acknowledged=acknowledged,
                before=self._edge.taken(position),
            )
        finally:
            edge.close()
            load.end()
            postgres.stop()
        shutil.rmtree(folder)
