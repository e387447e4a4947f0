"""All runs of one scenario: a run without a crash counts its points, then each point has its own run.

A run copies the prepared state, kills the process at the point, restarts it, sends again what got no
Success, waits until everything is settled, and makes the ledger. The number of points may differ a little
between runs, since an ack writer batches what is ready. A point that was not reached is a run without a
crash, whose ledger must close as well. The points of a kind are tried until a run does not reach the next
one.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from signal import SIGKILL

from support.waiting import wait_until

from proof.crash_points import left_receptions
from proof.crash_points.child_processes import Child
from proof.crash_points.environment import Environment, Prepared, Run
from proof.crash_points.ledger import deviations
from proof.crash_points.points import Kind, Point, When, read_trace
from proof.crash_points.scenario import Scenario, settle

OVER_SECONDS = 40.0
LAST_SECONDS = 0.5
MORE = 3
"""This many points beyond those of the dry run are tried before a kind is finished."""


@dataclass(frozen=True)
class TrialResult:
    """The result of one run; `site` is the place in the product, empty where the point was not reached."""

    scenario: str
    point: Point | None
    """None in a run without a crash."""
    site: str
    seconds: float
    deviations: list[str] = field(default_factory=list)
    output: str = ""


class Trials:
    """All runs of one prepared scenario."""

    def __init__(
        self, environment: Environment, scenario: Scenario, prepared: Prepared | None = None
    ) -> None:
        self._environment = environment
        self.scenario = scenario
        self._prepared = prepared or scenario.prepare(environment)
        self.sites: dict[tuple[Kind, int], str] = {}
        """The points of the dry run."""

    def dry(self) -> TrialResult:
        """Run without a crash, and count the points."""
        return self._run(None, self.sites.update)

    def points(self) -> list[Point]:
        """Return the points of the dry run."""
        return [Point(kind, number, when) for kind, number in self.sites for when in When]

    def all(self) -> Iterator[TrialResult]:
        """Run once for every point, and crash there."""
        for kind in Kind:
            counted = sum(known is kind for known, _ in self.sites)
            for number in range(1, counted + MORE + 1):
                reached = False
                for when in When:
                    results = self.at(Point(kind, number, when))
                    reached = reached or bool(results.site)
                    if results.site or results.deviations or number <= counted:
                        yield results
                    if not results.site:
                        break
                if not reached:
                    break

    def at(self, point: Point) -> TrialResult:
        """Run once, and crash at `point`."""
        return self._run(point, lambda _: None)

    def _run(self, point: Point | None, learn: Callable[[dict[tuple[Kind, int], str]], None]) -> TrialResult:
        began = time.monotonic()
        run = self._environment.begin(self._prepared)
        reached = False
        try:
            reached = self._crash(run, point)
            learn(read_trace(run.trace))
            self._restart(run, point)
            found = deviations(run, purged=self.scenario.purged(run)) + self.scenario.check(run)
        except AssertionError as error:
            found = [f"it does not settle: {error}"]
        run.close()
        results = TrialResult(
            self.scenario.name,
            point,
            read_trace(run.trace)[point.kind, point.number] if reached and point else "",
            time.monotonic() - began,
            found,
            run.output() if found else "",
        )
        self._environment.drop(run)
        return results

    def _crash(self, run: Run, point: Point | None) -> bool:
        """Run until the process has died at the point (True) or has done everything (False)."""
        scenario = self.scenario
        scenario.arrange(run)
        run.peers(pacs=not scenario.pacs_is_away)
        trap = run.trap(point)
        if scenario.victim == "scp":
            victim = run.serve(trap)
            over = not victim.ended() and scenario.over(run)
        else:
            victim = run.work(scenario.victim, threads=1, trap=trap)
            wait_until(lambda: victim.ended() or scenario.over(run), OVER_SECONDS, "it to die, or be done")
            over = not victim.ended()
        if over and not self._dies_yet(victim, point):
            victim.kill()
            return False
        wait_until(victim.ended, OVER_SECONDS, "it to die")
        assert victim.status == -SIGKILL, f"it ended with {victim.status}: {victim.text()}"
        assert point is not None, f"it died by itself: {victim.text()}"
        return True

    def _dies_yet(self, victim: Child, point: Point | None) -> bool:
        """Wait a moment for the crash: the last point comes just after the rows that end a run."""
        if point is None or (point.kind, point.number) not in self.sites:
            return False
        with suppress(AssertionError):
            wait_until(victim.ended, LAST_SECONDS, "its last point")
        return victim.ended()

    def _restart(self, run: Run, point: Point | None) -> None:
        """Restart everything; what a receiver left is registered by the next one, or by the sweep."""
        scenario = self.scenario
        if scenario.pacs_is_away:
            run.pacs()
        if scenario.repair is not None:
            scenario.repair(run)
        first_the_scp = scenario.victim == "scp" and (point is None or point.number % 2 == 1)
        if run.senders.batches or scenario.repair is not None or first_the_scp:
            scp = run.serve()
            assert run.send(), f"the SCP does not take it after its restart: {scp.text()}"
            run.await_registered()
            wait_until(
                lambda: not left_receptions.refused(run), OVER_SECONDS, "what was refused to be registered"
            )
            scp.kill()
        settle(run, purged=scenario.purged(run))
