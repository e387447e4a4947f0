"""Power cuts of a spool on the file system that forgets; PostgreSQL is on another disk and goes on.

Each trial has an empty spool and an empty database. It ends with a cut, in one of three ways:

    cut                 the power goes at a step of receiving and forwarding
    cut, then cut       it goes again at a step of the repair of what the first cut left
    kill, then cut      the processes die first, so what they did not flush is still readable when the
                        repair begins; then the power goes at a step of the repair
"""

import shutil
import time
from collections import Counter
from pathlib import Path
from random import Random

from gateway.database.migrate import migrate
from gateway.lab.postgres import EmbeddedPostgres
from proof.power_cuts.edge import LOOK_SECONDS, PoweredEdge, configuration
from proof.power_cuts.forgetful_nodes import Names
from proof.power_cuts.load import Load, senders
from proof.power_cuts.machine import FuseProcess
from proof.power_cuts.trial import Trial, recover_and_judge

KIND = "forgetful"
LOAD_SECONDS = 120.0
REPAIR_STEPS = (6, 20, 60)
"""Within how many steps of the repair of a cut the power goes again; one is chosen."""
_TEMPLATE = "power_cuts_empty"
_WAYS = ("cut", "cut", "cut, then cut", "kill, then cut")


class ForgetfulTrials:
    """All trials on one mount point and one PostgreSQL."""

    def __init__(
        self, folder: Path, *, names: tuple[Names, ...], seed: int, lies: bool, patience: float
    ) -> None:
        self._folder = folder
        self._names = names
        self._seed = seed
        self._patience = patience
        self._postgres = EmbeddedPostgres(folder / "postgres")
        self._postgres.start()
        self._postgres.create_database(_TEMPLATE)
        migrate(self._postgres.dsn(_TEMPLATE))
        self._files = FuseProcess(folder, folder / "disk", lies=lies)
        self._content = configuration(folder / "disk" / "data")
        self._number = 0

    def close(self) -> None:
        """End the file system and PostgreSQL."""
        try:
            self._files.close()
        finally:
            self._postgres.remove()

    def steps(self) -> tuple[int, Trial]:
        """Run once with a cut at the very end; return how many steps it took, and the result."""
        return self._trial(None)

    def at(self, step: int) -> Trial:
        """Run once with a cut at that step."""
        return self._trial(step)[1]

    def _trial(self, step: int | None) -> tuple[int, Trial]:
        self._number += 1
        generator = Random(f"{self._seed} {step}")  # noqa: S311  repeatable, no secret
        name = f"run_{self._number}"
        trial, began = Trial(KIND), time.monotonic()
        self._files.order("fresh")
        self._postgres.create_database(name, template=_TEMPLATE)
        edge = PoweredEdge(self._folder / name, self._content, self._postgres.dsn(name), self._files.position)
        load = Load(edge.run.configuration, self._files.position)
        try:
            edge.start_peers()
            self._live(edge, load, trial, generator, step)
            steps = self._files.position.get()
            self._lose_power(edge, load, trial, generator, step)
            recover_and_judge(
                *(edge, load, trial, self._patience), acknowledged=load.acknowledged(), before=Counter()
            )
        finally:
            edge.close()
            load.end()
        trial.seconds = time.monotonic() - began
        self._postgres.drop_database(name)
        shutil.rmtree(edge.run.folder)
        return steps, trial

    def _lose_power(
        self, edge: PoweredEdge, load: Load, trial: Trial, generator: Random, step: int | None
    ) -> None:
        way = "cut" if step is None else generator.choice(_WAYS)
        for event in way.split(", then "):
            self._stop_edge(edge, load)
            if event == "kill":
                trial.cuts.append(self._where("killed"))
                self._files.order("go")
            else:
                self._cut(trial, generator)
            if event != way.split(", then ")[-1]:
                self._live(edge, None, trial, generator, generator.randint(1, generator.choice(REPAIR_STEPS)))

    def _live(
        self, edge: PoweredEdge, load: Load | None, trial: Trial, generator: Random, steps: int | None
    ) -> None:
        """Run the edge until it is quiet, or has done so many steps."""
        if steps is not None:
            self._files.order("stop", after=steps)
        try:
            if not edge.start(self._files.has_stopped):
                return
            if load is not None:
                load.begin(senders(generator))
            deadline = time.monotonic() + LOAD_SECONDS
            is_quiet = edge.is_quiet if steps is None else edge.has_settled_rows
            while not self._files.has_stopped():
                if (load is None or load.is_over()) and is_quiet(load.acknowledged() if load else set()):
                    return
                assert time.monotonic() < deadline, "it is not quiet"
                time.sleep(LOOK_SECONDS)  # the interval between two looks
        except AssertionError as error:
            trial.violations.append(f"before the cut: {error}")

    def _stop_edge(self, edge: PoweredEdge, load: Load) -> None:
        edge.kill()
        load.end()

    def _where(self, word: str) -> str:
        stopped = self._files.stopped
        return (
            f"{word} when quiet"
            if stopped is None
            else f"{word} after step {stopped['stopped']}, {stopped['step']}"
        )

    def _cut(self, trial: Trial, generator: Random) -> None:
        where = self._where("cut")
        names = generator.choice(self._names)
        loss = self._files.order("cut", seed=generator.getrandbits(32), names=names.value)
        trial.cuts.append(f"{where}: {names.value}, {loss['names']} names and {loss['files']} files lost")
