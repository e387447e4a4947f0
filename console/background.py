"""Actions that take long: they run in slices, and their progress is a row that every page can show.

    await parts(request).background.start(operator, "retry", "dead deliveries to PACS", total, step)

`step(database, record)` does the next slice and returns how many it did, 0 at the end. It calls
`record(session, count)` in the transaction that does them, so the figure is right after a crash. One action
runs after the other.

If the process dies
    in a slice           its transaction is undone, or committed with its count
    between two slices   `resume` of the next console ends the row: stopped, with how many were done
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import anyio.to_thread

from gateway import log
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import activity, console_actions
from gateway.database.tables.activity import Operator, Via
from gateway.database.tables.console_actions import ActionState, LongAction
from gateway.errors import GatewayError
from gateway.log import Stage
from gateway.operate.record import Record

SLICE = 200
"""A good number of rows for one slice: a fraction of a second."""
PAUSE_SECONDS = 0.05
"""Between two slices, so that the actors get their turn."""
STOPPED = "the console ended before it was complete"

Step = Callable[[Database, Record], int]


@dataclass(frozen=True, slots=True)
class _WaitingAction:
    id: int
    operator: Operator
    verb: str
    target: str
    total: int
    step: Step


class Background:
    """Runs the long actions of one console, one after the other."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: asyncio.Queue[_WaitingAction] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def start(self, operator: Operator, verb: str, target: str, total: int, step: Step) -> int:
        """Begin an action; return its id. It runs after this returns."""
        action_id = await anyio.to_thread.run_sync(lambda: self._begin(operator, verb, target, total))
        self._queue.put_nowait(_WaitingAction(action_id, operator, verb, target, total, step))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return action_id

    def resume(self) -> list[LongAction]:
        """End the actions of a console that died; record how many were done."""
        with self._database.transaction() as session:
            stopped = console_actions.stop_running(session, STOPPED)
            for one in stopped:
                operator = Operator(one.who, Via.CONSOLE, one.address)
                outcome = _told(one.done, one.total, STOPPED)
                activity.record(session, operator, one.verb, one.target, count=one.done, outcome=outcome)
        return stopped

    async def finished(self) -> None:
        """Wait until every action has ended."""
        await self._queue.join()

    async def stop(self) -> None:
        """End after the slice that runs; `resume` of the next console says what was done."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            waiting = await self._queue.get()
            await self._perform(waiting)
            self._queue.task_done()

    async def _perform(self, waiting: _WaitingAction) -> None:
        done = 0

        def record(session: Session, count: int) -> None:
            console_actions.add(session, waiting.id, count)

        try:
            while count := await anyio.to_thread.run_sync(lambda: waiting.step(self._database, record)):
                done += count
                await asyncio.sleep(PAUSE_SECONDS)
            state, note = ActionState.DONE, ""
        except GatewayError as error:
            state, note = ActionState.FAILED, str(error)
        except Exception as error:  # noqa: BLE001  the boundary of the task: the next action runs
            state, note = ActionState.FAILED, f"unforeseen {type(error).__name__}"
            log.write(Stage.CONSOLE, "console_failed", level="error", error=note, detail=log.frames(error))
        try:
            await anyio.to_thread.run_sync(lambda: self._end(waiting, done, state, note))
        except GatewayError as error:  # the row stays `running`; the next console ends it
            log.write(Stage.CONSOLE, "console_failed", level="error", error=str(error))

    def _begin(self, operator: Operator, verb: str, target: str, total: int) -> int:
        with self._database.transaction() as session:
            return console_actions.begin(session, operator, verb, target, total)

    def _end(self, waiting: _WaitingAction, done: int, state: ActionState, note: str) -> None:
        with self._database.transaction() as session:
            console_actions.end(session, waiting.id, state, note)
            outcome = _told(done, waiting.total, note)
            operator, verb, target = waiting.operator, waiting.verb, waiting.target
            activity.record(session, operator, verb, target, count=done, outcome=outcome)


def _told(done: int, total: int, note: str) -> str:
    return f"{done:,} of {total:,}" + (f": {note}" if note else "")
