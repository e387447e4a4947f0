"""The thread that registers behind the answer: its order, its limits, PostgreSQL away, and its end."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from support.receptions import received
from support.waiting import wait_until

from gateway import log
from gateway.domain.routing import PRIORITY, Urgency
from gateway.errors import (
    DatabaseError,
    DatabaseLoginError,
    DatabaseRefusedError,
    DatabaseUnavailableError,
    SchemaError,
)
from gateway.register import registrar as module
from gateway.register import registration
from gateway.register import waiting as waiting_module
from gateway.register.recovery import Recovery
from gateway.register.registrar import BACKLOG_SHARE, Registrar
from gateway.register.registration import Registration
from gateway.register.unregistered import Unregistered
from gateway.spool.spool import Spool

URGENT = PRIORITY[Urgency.URGENT]
SECONDS = 30.0
MAX_IN_MEMORY = 60
MAX_BATCH = 25
"""Small limits, so that a test writes few files."""


class FakeRegistration(Registration):
    """Registers without a database: removes the link. It waits while it is `closed`."""

    def __init__(self) -> None:
        self.batches: list[list[Unregistered]] = []
        self.opened = threading.Event()
        self.opened.set()
        self.entered = threading.Semaphore(0)
        self.error: Exception | None = None
        self.refuses: Callable[[Unregistered], bool] = lambda _: False
        self.calls = 0

    def register(self, batch: Sequence[Unregistered]) -> list[Unregistered]:
        """Register a batch, or raise the error that is set."""
        self.calls += 1
        self.entered.release()
        assert self.opened.wait(SECONDS)
        if self.error is not None:
            raise self.error
        refused = [one for one in batch if self.refuses(one)]
        for one in refused:
            one.refusals += 1
        done = [one for one in batch if one not in refused]
        for one in done:
            assert one.link is not None
            one.link.unlink()
            one.is_done = True
        self.batches.append(done)
        return refused

    def close(self) -> None:
        """Make the next batches wait."""
        self.opened.clear()

    def open(self) -> None:
        """Let them go on."""
        self.opened.set()

    @property
    def registered(self) -> list[Unregistered]:
        """Return all that was registered, in that order."""
        return [one for batch in self.batches for one in batch]


class Setup:
    """One registrar on a spool of its own."""

    def __init__(self, root: Path) -> None:
        self.spool = Spool(root)
        self.spool.prepare()
        self.spool.open_receiver()
        self.registration = FakeRegistration()
        self.prepared: list[Exception] = []
        self.registrar = self.make()

    def make(self, max_hours: float = 24.0) -> Registrar:
        """Return another registrar on the same spool."""
        self.registrar = Registrar(
            self.registration,
            Recovery(self.spool, grace_seconds=0),
            self.spool,
            prepare=self._prepare,
            max_hours=max_hours,
        )
        return self.registrar

    def _prepare(self) -> None:
        if self.prepared:
            raise self.prepared[0]

    def submit(self, count: int = 1, **changes: Any) -> list[Unregistered]:
        """Receive that many instances."""
        found = [received(self.spool, **changes) for _ in range(count)]
        for one in found:
            self.registrar.submit(one)
        return found

    def hold(self) -> list[Unregistered]:
        """Bring the thread into a batch that waits; return the batch."""
        self.registration.close()
        first = self.submit()
        assert self.registration.entered.acquire(timeout=SECONDS)
        return first

    def wait_for(self, receptions: Sequence[Unregistered]) -> None:
        """Wait until all of them are registered."""
        wanted = {one.envelope.reception_id for one in receptions}
        wait_until(
            lambda: wanted <= {one.envelope.reception_id for one in self.registration.registered},
            SECONDS,
            "all to be registered",
        )


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    """Yield a registrar that is not started yet; stop it at the end."""
    monkeypatch.setattr(waiting_module, "MAX_IN_MEMORY", MAX_IN_MEMORY)
    for one in (module, waiting_module):
        monkeypatch.setattr(one, "MAX_BATCH", MAX_BATCH)
    setup = Setup(tmp_path / "data")
    log.configure(tmp_path / "log", "tests")
    yield setup
    setup.registration.error = None
    setup.registration.refuses = lambda _: False
    setup.registration.open()
    setup.prepared.clear()
    if setup.registrar._thread.ident is not None:
        setup.registrar.stop(SECONDS)
        assert not setup.registrar._thread.is_alive()
    log.configure(None, "tests")


def ids(receptions: Sequence[Unregistered]) -> list[object]:
    """Return their ids, in order."""
    return [one.envelope.reception_id for one in receptions]


def dead_receiver(spool: Spool, count: int) -> list[Unregistered]:
    """Leave receptions as a receiver that was killed."""
    other = Spool(spool.root)
    other.open_receiver()
    left = [received(other) for _ in range(count)]
    assert other._receiver_lock is not None
    os.close(other._receiver_lock)
    return left


# ---- order ---------------------------------------------------------------------------------------


def test_a_single_one_is_registered_without_another(setup: Setup) -> None:
    """The thread does not wait for a batch to fill."""
    setup.registrar.start()
    for _ in range(5):
        setup.wait_for(setup.submit())
    assert [len(batch) for batch in setup.registration.batches] == [1] * 5


def test_what_arrives_during_a_batch_is_one_batch(setup: Setup) -> None:
    """In the order of arrival."""
    setup.registrar.start()
    setup.hold()
    waiting = setup.submit(20)
    setup.registration.open()
    setup.wait_for(waiting)
    assert ids(setup.registration.batches[1]) == ids(waiting)


def test_the_urgent_come_first(setup: Setup) -> None:
    """Also before those that arrived earlier."""
    setup.registrar.start()
    setup.hold()
    usual = setup.submit(MAX_BATCH + 10)
    urgent = setup.submit(3, priority=URGENT)
    setup.registration.open()
    setup.wait_for(usual)
    assert ids(setup.registration.batches[1])[:3] == ids(urgent)


def test_the_backlog_has_a_bounded_share_beside_new_ones(setup: Setup) -> None:
    """Without new ones it has the whole batch."""
    left = dead_receiver(setup.spool, 3 * MAX_BATCH)
    setup.registration.close()
    setup.registrar.start()
    assert setup.registration.entered.acquire(timeout=SECONDS)
    new = setup.submit(10)
    setup.registration.open()
    setup.wait_for([*left, *new])
    backlog, mixed, *_ = setup.registration.batches
    assert len(backlog) == MAX_BATCH
    assert ids(mixed)[:10] == ids(new)
    assert len(mixed) == 10 + BACKLOG_SHARE


def test_versions_are_registered_in_the_order_of_reception(setup: Setup) -> None:
    """A later version waits for an older one, which another receiver has."""
    other = Spool(setup.spool.root)
    other.open_receiver()
    older = received(other, b"older", sop_instance_uid="1.2.3.9")
    setup.registrar.start()
    [newer] = setup.submit(data_set=b"newer", sop_instance_uid="1.2.3.9")
    setup.wait_for(setup.submit())
    setup.wait_for(setup.submit())
    assert not newer.is_done
    assert older.link is not None
    older.link.unlink()
    setup.wait_for([newer])
    other.close_receiver()


# ---- limits --------------------------------------------------------------------------------------


def test_beyond_the_limit_only_numbers_are_kept(setup: Setup) -> None:
    """All are registered once, and the urgent of them before the others."""
    setup.registrar.start()
    first = setup.hold()
    usual = setup.submit(MAX_IN_MEMORY + 150)
    urgent = setup.submit(20, priority=URGENT)
    registrar = setup.registrar
    assert registrar._waiting.in_memory == MAX_IN_MEMORY
    assert registrar._waiting.numbers == (20, 150)
    assert registrar.unregistered_bytes() == (MAX_IN_MEMORY + 170) * module.ROW_BYTES
    setup.registration.open()
    setup.wait_for([*first, *usual, *urgent])
    order = ids(setup.registration.registered)
    assert len(order) == len(set(order)) == MAX_IN_MEMORY + 171
    assert set(ids(urgent)) <= {*ids(setup.registration.batches[1])}
    assert registrar.unregistered_bytes() == 0


def test_what_the_sweep_registered_meanwhile_is_passed_over(setup: Setup) -> None:
    """The sweep takes links that are older than 10 s: they are gone when their number comes."""
    setup.registrar.start()
    setup.hold()
    setup.submit(MAX_IN_MEMORY)
    taken, kept = setup.submit(), setup.submit()
    assert taken[0].link is not None
    taken[0].link.unlink()
    setup.registration.open()
    setup.wait_for(kept)
    assert not set(ids(taken)) & set(ids(setup.registration.registered))
    assert not (setup.spool.root.parent / "log").exists(), "nothing to complain of"


def long_ago(one: Unregistered) -> Unregistered:
    """Make a reception old."""
    one.arrived = monotonic() - 60
    return one


def test_a_sender_waits_for_a_bounded_time_only(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """It returns though the registration is still behind."""
    monkeypatch.setattr(module, "MAX_WAIT_SECONDS", 0.1)
    setup.registrar._postgres.away = ""  # as after the first connection; the thread is not started
    setup.registrar.submit(long_ago(received(setup.spool)))
    assert setup.registrar._is_behind()
    setup.registrar.wait_if_behind()
    assert setup.registrar._is_behind()


def test_a_sender_goes_on_when_the_backlog_is_registered(setup: Setup) -> None:
    """Each registered batch wakes those who wait."""
    setup.registrar.start()
    setup.wait_for(setup.submit())
    setup.registrar.submit(long_ago(received(setup.spool)))
    waiting = threading.Thread(target=setup.registrar.wait_if_behind)
    waiting.start()
    waiting.join(SECONDS)
    assert not waiting.is_alive()
    wait_until(lambda: not setup.registrar._is_behind(), SECONDS, "it to be up to date")


def test_no_sender_waits_while_postgresql_is_away(setup: Setup) -> None:
    """Neither before it was reached, nor while it does not answer."""
    setup.registrar.submit(long_ago(received(setup.spool)))
    assert not setup.registrar._is_behind(), "not reached yet"
    setup.registrar._postgres.away = ""
    setup.registrar._batch_since = monotonic() - 60
    assert not setup.registrar._is_behind(), "it does not answer"


def test_no_sender_waits_for_a_deferred_one(setup: Setup) -> None:
    """A reception that is refused, or waits for a frozen receiver, holds nobody up."""
    setup.registration.refuses = lambda one: one.envelope.calling_ae_title == "POISON"
    setup.registrar.start()
    setup.registrar.submit(long_ago(received(setup.spool, calling_ae_title="POISON")))
    wait_until(lambda: setup.registration.calls > 3, SECONDS, "it to be refused several times")
    for _ in range(20):
        setup.registrar.submit(received(setup.spool))
        assert not setup.registrar._is_behind()


def test_no_sender_waits_for_the_backlog_of_the_dead(setup: Setup) -> None:
    """While it is registered, the lag of new ones counts only."""
    dead_receiver(setup.spool, 2 * MAX_BATCH)
    setup.registrar._oldest = monotonic() - 60
    setup.registration.close()
    setup.registrar.start()
    assert setup.registration.entered.acquire(timeout=SECONDS)
    setup.submit()
    assert not setup.registrar._is_behind()


# ---- PostgreSQL away -----------------------------------------------------------------------------

AWAY = [
    DatabaseUnavailableError("no connection"),
    DatabaseRefusedError("read-only", "25006"),
    DatabaseRefusedError("cancelled", "57014"),
    DatabaseRefusedError("deadlock", "40P01"),
]
REFUSED = [
    DatabaseLoginError("wrong password"),
    SchemaError("a newer schema"),
    DatabaseRefusedError("no privilege", "42501"),
]


@pytest.mark.parametrize("error", AWAY, ids=str)
@pytest.mark.parametrize("at_start", [True, False])
def test_away_is_no_reason_to_refuse(setup: Setup, error: DatabaseError, *, at_start: bool) -> None:
    """All is registered once it is back."""
    if at_start:
        setup.prepared.append(error)
    else:
        setup.registration.error = error
    setup.registrar.start()
    waiting = setup.submit(10)
    wait_until(lambda: str(error) in setup.registrar._postgres.away, SECONDS, "it to be away")
    assert setup.registrar.why_refused() == ""
    setup.prepared.clear()
    setup.registration.error = None
    setup.wait_for(waiting)
    wait_until(lambda: not setup.registrar._postgres.away, SECONDS, "it to be back")
    assert setup.registration.calls >= 1


@pytest.mark.parametrize("error", REFUSED, ids=str)
@pytest.mark.parametrize("at_start", [True, False])
def test_what_an_operator_must_mend_refuses_until_then(
    setup: Setup, error: DatabaseError, *, at_start: bool
) -> None:
    """The reason is given; afterwards it receives again."""
    if at_start:
        setup.prepared.append(error)
    else:
        setup.registration.error = error
    setup.registrar.start()
    waiting = setup.submit(10)
    wait_until(lambda: str(error) in setup.registrar.why_refused(), SECONDS, "the refusal")
    setup.prepared.clear()
    setup.registration.error = None
    setup.wait_for(waiting)
    wait_until(lambda: setup.registrar.why_refused() == "", SECONDS, "it to receive")


def test_the_limit_of_hours_counts_from_the_oldest_link(setup: Setup) -> None:
    """Also from that of a receiver before: a restart does not begin a new day."""
    hours_ago = datetime.now(UTC) - timedelta(hours=3)
    [one] = dead_receiver(setup.spool, 1)
    os.utime(one.path, (hours_ago.timestamp(), hours_ago.timestamp()))
    setup.prepared.append(DatabaseUnavailableError("no connection"))
    registrar = setup.make(max_hours=2)
    assert registrar.why_refused() == ""
    registrar.start()
    wait_until(registrar.why_refused, SECONDS, "the refusal")
    assert "edge.max_unregistered_hours (2)" in registrar.why_refused()
    assert "no connection" in registrar.why_refused()
    setup.prepared.clear()
    setup.wait_for([one])
    wait_until(lambda: registrar.why_refused() == "", SECONDS, "it to receive")


# ---- refused receptions --------------------------------------------------------------------------


def test_a_refused_one_is_tried_again_and_holds_no_other_up(setup: Setup) -> None:
    """Until the registration keeps it no longer."""
    setup.registration.refuses = lambda one: one.envelope.calling_ae_title == "POISON" and one.refusals < 2
    setup.registrar.start()
    setup.hold()
    [poison] = setup.submit(calling_ae_title="POISON")
    others = setup.submit(5)
    setup.registration.open()
    setup.wait_for([poison, *others])
    assert poison.refusals == 2


def test_nothing_is_lost_with_eight_submitting_threads(setup: Setup) -> None:
    """Each reception is registered once: no wake-up is lost."""
    setup.registrar.start()
    receptions = [[received(setup.spool) for _ in range(40)] for _ in range(8)]

    def submit(mine: list[Unregistered]) -> None:
        for one in mine:
            setup.registrar.submit(one)
            setup.registrar.wait_if_behind()

    threads = [threading.Thread(target=submit, args=(mine,)) for mine in receptions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    everything = [one for mine in receptions for one in mine]
    setup.wait_for(everything)
    assert sorted(map(str, ids(setup.registration.registered))) == sorted(map(str, ids(everything)))


# ---- the end -------------------------------------------------------------------------------------


def ended(registrar: Registrar) -> bool:
    """Tell whether the thread has ended."""
    return not registrar._thread.is_alive()


def test_stop_registers_what_waits(setup: Setup) -> None:
    """Also what is kept as numbers."""
    setup.registrar.start()
    first = setup.hold()
    waiting = setup.submit(MAX_IN_MEMORY + 100)
    stopper = threading.Thread(target=setup.registrar.stop, args=(SECONDS,))
    stopper.start()
    wait_until(lambda: setup.registrar._stopping, SECONDS, "the stop")
    setup.registration.open()
    stopper.join(SECONDS)
    assert ended(setup.registrar)
    assert len(setup.registration.registered) == len([*first, *waiting])


@pytest.mark.parametrize("at_start", [True, False])
def test_stop_does_not_wait_for_postgresql(setup: Setup, *, at_start: bool) -> None:
    """The links remain for the next process."""
    error = DatabaseUnavailableError("no connection")
    if at_start:
        setup.prepared.append(error)
    else:
        setup.registration.error = error
    setup.registrar.start()
    waiting = setup.submit(10)
    wait_until(lambda: "no connection" in setup.registrar._postgres.away, SECONDS, "it to be away")
    setup.registrar.stop(SECONDS)
    assert ended(setup.registrar)
    assert all(one.link is not None and one.link.exists() for one in waiting)


def test_stop_leaves_what_is_refused(setup: Setup) -> None:
    """It is not tried again without end."""
    setup.registration.refuses = lambda _: True
    setup.registrar.start()
    setup.submit(3)
    wait_until(lambda: setup.registration.calls > 1, SECONDS, "a second attempt")
    setup.registrar.stop(SECONDS)
    assert ended(setup.registrar)
    before = setup.registration.calls
    assert before < 1000


def test_stop_leaves_the_backlog_of_others(setup: Setup) -> None:
    """A long backlog must not use up the grace of the stop."""
    left = dead_receiver(setup.spool, 3 * MAX_BATCH)
    setup.registration.close()
    setup.registrar.start()
    assert setup.registration.entered.acquire(timeout=SECONDS)
    setup.registrar.stop(0)
    setup.registration.open()
    wait_until(lambda: ended(setup.registrar), SECONDS, "the thread to end")
    assert len(setup.registration.registered) == MAX_BATCH
    assert sum(one.link is not None and one.link.exists() for one in left) == 2 * MAX_BATCH


@pytest.mark.parametrize("log_fails", [True, False])
def test_the_end_of_the_thread_ends_the_process(
    setup: Setup, monkeypatch: pytest.MonkeyPatch, *, log_fails: bool
) -> None:
    """The parent then starts another receiver; also if the log cannot be written."""
    codes: list[int] = []
    exited = threading.Event()

    def leave(code: int) -> None:
        codes.append(code)
        exited.set()

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(os, "_exit", leave)
    if log_fails:
        monkeypatch.setattr(log, "write", fail)
        monkeypatch.setattr(threading, "excepthook", lambda _: None)
    setup.registration.error = ZeroDivisionError()
    setup.registrar.start()
    setup.submit()
    assert exited.wait(SECONDS)
    assert codes == [1]
    wait_until(lambda: ended(setup.registrar), SECONDS, "the thread to end")


@pytest.mark.parametrize(
    ("count", "took", "pause"),
    [
        (1, 0.002, 0.002),
        (3, 0.004, 0.004),
        (3, 0.0045, 0.0135),
        (3, 0.006, module.GATHER_SECONDS),
        (module.MANY, 0.001, module.GATHER_SECONDS),
        (module.VERY_MANY, 0.001, module.LONG_GATHER_SECONDS),
        (registration.MAX_BATCH, 0.1, 0.0),
    ],
)
def test_the_pause_grows_with_the_batch_and_on_a_busy_machine(count: int, took: float, pause: float) -> None:
    """A machine is busy if a small batch took more than SLOW_SECONDS; a full batch is followed at once."""
    assert module._gather_seconds(count, took=took) == pytest.approx(pause)
