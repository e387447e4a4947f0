"""Register receptions: the transactions that write instances, deliveries and messages.

The file and its envelope are durable before, and Success may be answered already. One transaction registers
the originals of a batch, and another one the results, together with their correlation. A reception is
registered once, even if a process dies in between: the rows hold its id, and a second registration changes
nothing.

    error of a transaction      committed?   what follows
    DatabaseUnavailableError    no           the whole batch is registered again later
    OutcomeUnknownError         perhaps      the same; what was committed is found registered
    DatabaseRefusedError        no           the same if it is about the server (read-only, a cancelled
                                             statement); SchemaError if it is about the schema. Else each
                                             reception of the batch is registered alone. What is refused alone
                                             MAX_REFUSALS times goes to failed/, see gateway.register.refused

If the process dies
    before a commit             the `.part` links remain: the next process registers the batch
    after it, before a link     the next process finds it registered, finishes the file of a repeat, and
    is removed                  removes the link
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter

from gateway import log
from gateway.config import Configuration
from gateway.correlate import Correlated
from gateway.database.pool import Database
from gateway.database.session import Session
from gateway.database.tables import instances, messages, spools
from gateway.database.tables.instances import ReceptionVerdict, RegisteredInstance
from gateway.database.wakeup import Wakeup
from gateway.domain.matching import Correlation
from gateway.domain.routing import Route, Target
from gateway.errors import DatabaseRefusedError, GatewayError, SchemaError, SpoolError
from gateway.log import frames
from gateway.register import results
from gateway.register.caller_origin import CallerOrigins
from gateway.register.kept_decisions import keep_decisions
from gateway.register.known_spool import KnownSpool
from gateway.register.received_file import finish_file, remove_link, rename
from gateway.register.reception_row import lock_order, received_of, result_targets_of
from gateway.register.refused import refuse
from gateway.register.registration_log import log_registered
from gateway.register.siblings import waits_for_other_version
from gateway.register.unregistered import Unregistered
from gateway.rules.ruleset import NO_RULES
from gateway.spool.identity import SpoolIdentity
from gateway.spool.spool import Spool

MAX_BATCH = 128
"""The most receptions in one transaction; limits how many locks it holds."""

COLLISIONS = 3
"""PostgreSQL cancels one of two transactions in a deadlock; the cancelled one is tried again."""

_ABOUT_SCHEMA = ("0A", "26", "28", "3D", "3F", "42")
"""Classes of SQLSTATE that are about the schema: a table, function or privilege is missing."""


class Registration:
    """Registers batches for one process, which is a receiver, the sweep or a rebuild."""

    def __init__(
        self,
        configuration: Configuration,
        database: Database,
        spool: Spool,
        wakeup: Wakeup,
        origins: CallerOrigins,
        *,
        identity: SpoolIdentity | None = None,
    ) -> None:
        self._rule_texts: dict[bytes, str] = {}
        """The rules that this process has had, by their digests."""
        self.change(configuration, origins)
        self._database = database
        self._spool = spool
        self._wakeup = wakeup
        self._known = KnownSpool(identity, database)

    def change(self, configuration: Configuration, origins: CallerOrigins) -> None:
        """Register the next batches by another configuration."""
        self._targets = configuration.forwarder.targets
        rules = configuration.forwarder.rules
        # The old texts stay: what those rules decided may be unregistered.
        self._rule_texts[rules.digest] = rules.text
        self._window = configuration.edge.duplicate_window
        self._origins = origins

    def register(self, batch: Sequence[Unregistered]) -> list[Unregistered]:
        """Register `batch`, originals first; return those that were refused and are to be tried again.

        Raises:
            DatabaseUnavailableError: those that are not `is_done` are to be registered again.
        """
        self._known.leave_older_epochs(batch)
        left = sorted((one for one in batch if not one.is_done), key=lambda one: lock_order(one.envelope))
        refused: list[Unregistered] = []
        for group in self._groups(left):
            refused += self._together(group)
        return refused

    # ---- transactions ----------------------------------------------------------------------------

    def _groups(self, batch: Sequence[Unregistered]) -> list[list[Unregistered]]:
        """Return what may be registered together: the originals first, and the results.

        One statement names the archives of results once, so receptions that rules refused for some of these
        are in a group of their own.
        """
        groups: dict[tuple[bool, tuple[Target, ...]], list[Unregistered]] = {}
        for one in batch:
            group = not one.is_original, result_targets_of(one, self._targets)
            groups.setdefault(group, []).append(one)
        return [groups[group] for group in sorted(groups, key=itemgetter(0))]

    def _together(self, batch: list[Unregistered]) -> list[Unregistered]:
        """Register originals, or results, in one transaction."""
        if len(batch) <= 1:
            return self._each_alone(batch)
        try:
            received = [received_of(one, self._targets) for one in batch]
            with self._registering(batch) as session:
                found = instances.register_many(session, received, window=self._window)
                keep_decisions(session, batch, found, self._rule_texts)
                correlated = results.correlate_batch(session, batch, found, self._origins)
        except DatabaseRefusedError as error:
            _raise_unless_about_values(error)
            return self._each_alone(batch)
        except SpoolError:  # the file of a result cannot be read
            return self._each_alone(batch)
        except GatewayError:
            raise
        except Exception:  # noqa: BLE001  one reception may cause it
            return self._each_alone(batch)
        try:
            self._look_again(batch, found, correlated)
        except DatabaseRefusedError as error:
            _raise_unless_about_values(error)
            return batch  # it collided with another transaction; the batch is found registered
        with log.together():
            return self._finish_batch(batch, found, correlated)

    def _finish_batch(
        self,
        batch: Sequence[Unregistered],
        found: Sequence[RegisteredInstance],
        correlated: Sequence[Correlated | None],
    ) -> list[Unregistered]:
        left: list[Unregistered] = []
        for one, registered, match in zip(batch, found, correlated, strict=True):
            if registered.verdict is ReceptionVerdict.NAME_TAKEN:
                left += self._alone(one)
                continue
            try:
                self._finish(one, registered, match)
            except SpoolError as error:
                left += refuse(self._spool, one, error)
        return left

    def _each_alone(self, batch: Sequence[Unregistered]) -> list[Unregistered]:
        return [left for one in batch for left in self._alone(one)]

    def _alone(self, one: Unregistered) -> list[Unregistered]:
        """Register one reception; return it in a list if it is to be tried again."""
        try:
            registered = self._register_one(one, in_order=True)
        except DatabaseRefusedError as error:
            _raise_unless_about_values(error)
            return refuse(self._spool, one, error)
        except SpoolError as error:
            return refuse(self._spool, one, error)
        except GatewayError:
            raise
        except Exception as error:  # noqa: BLE001  else each process that registers it would end
            return refuse(
                self._spool, one, DatabaseRefusedError(f"unforeseen {type(error).__name__}: {frames(error)}")
            )
        return [one] if registered is None else []

    def register_one(self, one: Unregistered) -> tuple[RegisteredInstance, Correlated | None]:
        """Register one reception; return what the database holds, and the correlation of a result.

        Raises:
            DatabaseError, SpoolError: it is not registered, or its file is not finished.
        """
        registered = self._register_one(one, in_order=False)
        assert registered is not None, "only with in_order"
        return registered

    def _register_one(
        self, one: Unregistered, *, in_order: bool
    ) -> tuple[RegisteredInstance, Correlated | None] | None:
        """With `in_order` return None if another version must be registered before."""
        registered, correlated = self._commit(one)
        if registered.verdict is ReceptionVerdict.NAME_TAKEN:
            rename(self._spool, one)
            if in_order and waits_for_other_version(self._spool, one):
                return None
            registered, correlated = self._commit(one)
        self._look_again([one], [registered], [correlated])
        self._finish(one, registered, correlated)
        return registered, correlated

    def _commit(self, one: Unregistered) -> tuple[RegisteredInstance, Correlated | None]:
        for left in range(COLLISIONS - 1, -1, -1):
            try:
                with self._registering([one]) as session:
                    registered = instances.register(
                        session, received_of(one, self._targets), window=self._window
                    )
                    keep_decisions(session, [one], [registered], self._rule_texts)
                    return registered, results.correlate_one(session, one, registered, self._origins)
            except DatabaseRefusedError as error:
                if not error.is_collision or not left:
                    raise
        raise AssertionError("unreachable")

    def _finish(
        self, one: Unregistered, registered: RegisteredInstance, correlated: Correlated | None
    ) -> None:
        """Finish the file, write the log, remove the link."""
        finish_file(self._spool, self._database, one, registered)
        log_registered(one, registered, correlated, self._origins)
        remove_link(one)

    def _look_again(
        self,
        batch: Sequence[Unregistered],
        found: Sequence[RegisteredInstance],
        correlated: Sequence[Correlated | None],
    ) -> None:
        """Correlate again the results that may match an original of the batch, and its unmatched results."""
        may_match = [
            one
            for one, registered, match in zip(batch, found, correlated, strict=True)
            if _may_match(one, registered, match)
        ]
        if may_match and results.correlate_again(self._database, may_match, self._spool, self._origins):
            self._wake_after_result()

    @contextmanager
    def _registering(self, batch: Sequence[Unregistered]) -> Iterator[Session]:
        """Lend a session for one transaction that registers `batch`.

        With its first statement go the check that this database belongs to the spool, and the NOTIFY that
        wakes the consumers after the commit. Originals without decisions of rules need no other statement, so
        theirs is the transaction: one round trip.

        Raises:
            UnknownSpoolError: the database does not belong to the spool, or a new epoch began meanwhile.
        """
        before = messages.notification(self._queues(batch)) + self._known.requirement(batch)
        is_one_statement = all(one.is_original and one.envelope.rules == NO_RULES for one in batch)
        lend = self._database.statement if is_one_statement else self._database.transaction
        try:
            with lend(before=before) as session:
                yield session
        except DatabaseRefusedError as error:
            if error.sqlstate in spools.NOT_THIS_SPOOL:
                self._known.check()
            raise

    def _queues(self, batch: Sequence[Unregistered]) -> set[Route]:
        """Return the queues that may have a new message, or free capacity, after a registration."""
        routes: set[Route] = set()
        for one in batch:
            routes.update(target.route for target in one.envelope.targets)
            if not one.is_original:
                routes |= self._after_result()
        return routes

    def _after_result(self) -> set[Route]:
        # A result has arrived, so its worker may get its next instance. A source that a worker returned
        # unchanged goes to archives only.
        return {Route.WORKERS, *(target.route for target in self._targets.of_results)}

    def _wake_after_result(self) -> None:
        for route in self._after_result():
            self._wakeup.wake(route)


def _raise_unless_about_values(error: DatabaseRefusedError) -> None:
    """Return if PostgreSQL refused the values of a reception, or the transaction collided; else raise.

    Raises:
        SchemaError: a table, function or privilege is missing.
        DatabaseRefusedError: the server takes no transaction that writes, or cancelled it.
    """
    if error.is_about_server:
        raise error
    if error.sqlstate.startswith(_ABOUT_SCHEMA):
        raise SchemaError(f"{error}; `mini-pacs db migrate` brings the schema up to date") from error


def _may_match(one: Unregistered, registered: RegisteredInstance, correlated: Correlated | None) -> bool:
    if one.is_original:
        return True
    if correlated is None:
        return registered.verdict is ReceptionVerdict.REGISTERED
    return correlated.match.correlation is Correlation.UNMATCHED
