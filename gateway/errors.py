"""All exceptions of the edge, in one tree. Each class says whether a retry may help.

A module that uses a library translates the library's exceptions into these, with `from`. A message has the
operation, its object and, if there is one, a hint; it never has an attribute of a patient.
"""


class GatewayError(Exception):
    """The root. Only the boundary of a process or of a reception catches it as such."""


# ---- configuration -------------------------------------------------------------------------------


class ReloadRefusedError(GatewayError):
    """No process takes the configuration; each keeps its own. Says why."""


class StaleError(GatewayError):
    """Permanent: the rows changed after the operator looked; nothing was done. Says the new state."""


class ConfigurationError(GatewayError):
    """Permanent: the configuration is invalid, and the process does not start. Names file, key and value."""


# ---- PostgreSQL ----------------------------------------------------------------------------------


class DatabaseError(GatewayError):
    """PostgreSQL, or the connection to it, failed."""


class DatabaseUnavailableError(DatabaseError):
    """Transient: there is no connection, or it was lost before the commit."""


class DatabaseLoginError(DatabaseUnavailableError):
    """Permanent: PostgreSQL answered and refused the login: role, password, database or pg_hba.conf."""


class OutcomeUnknownError(DatabaseUnavailableError):
    """Transient: the connection was lost or the deadline passed during a commit, which may have succeeded."""


class DatabaseRefusedError(DatabaseError):
    """PostgreSQL answered with an error, and nothing was committed. `sqlstate` is its code."""

    def __init__(self, message: str, sqlstate: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate

    @property
    def is_collision(self) -> bool:
        """Tell whether the same transaction may succeed when repeated: deadlock or serialization failure."""
        return self.sqlstate in {"40001", "40P01"}

    @property
    def is_about_server(self) -> bool:
        """Tell whether the state of the server is the reason: read-only, a lock, a cancelled statement."""
        return self.sqlstate.startswith(("25", "55", "57", "58"))

    @property
    def may_pass(self) -> bool:
        """Tell whether the same statement may succeed later, without a change to its values."""
        return self.is_collision or self.is_about_server


class SchemaError(DatabaseError):
    """Permanent: the schema is not that of this version. Names the command to type."""


class UnknownSpoolError(DatabaseUnavailableError):
    """Transient: spool and database do not belong together, or it cannot be told. The text says what to do.

    It counts as a database that is away: code that waits for PostgreSQL also waits until the right disk or
    the right database is back.
    """


# ---- the spool -----------------------------------------------------------------------------------


class SpoolError(GatewayError):
    """The file system refused an operation. Names operation, path and the system's reason."""


class SpoolFullError(SpoolError):
    """Transient: the disk is full, or its free space is down to the reserve."""


class NotRegistrableError(GatewayError):
    """Transient: an instance could not be registered, for another reason than that PostgreSQL is away."""


class FileMissingError(SpoolError):
    """Permanent for the delivery: the file of an instance is in no folder of the spool."""


# ---- what was received ---------------------------------------------------------------------------


class DataSetError(GatewayError):
    """Permanent: the UIDs of the data set cannot be read (0xC000)."""


class ContradictionError(DataSetError):
    """Permanent: SOP Class or SOP Instance UID of data set and command set differ (0xA900)."""


# ---- peers ---------------------------------------------------------------------------------------


class PeerError(GatewayError):
    """The peer of an association failed or refused something."""


class PeerAwayError(PeerError):
    """No association with the peer: connection refused, unreachable, rejected or silent. Costs no attempt."""


# PS3.8 §9.3.4, Table 9-21: result 2; and (source, reason) that do not depend on the proposed contexts.
_REJECTED_TRANSIENT = 2
_ABOUT_US = frozenset({(1, 2), (1, 3), (1, 7), (2, 2)})


class AssociationRejectedError(PeerAwayError):
    """The peer answered A-ASSOCIATE-RJ: `result`, `source`, `reason` of PS3.8 §9.3.4, Table 9-21."""

    def __init__(self, message: str, result: int, source: int, reason: int) -> None:
        super().__init__(message)
        self.result = result
        self.source = source
        self.reason = reason

    @property
    def is_transient(self) -> bool:
        """Tell whether the peer may accept an association later (rejected-transient)."""
        return self.result == _REJECTED_TRANSIENT

    @property
    def is_about_us(self) -> bool:
        """Tell whether the peer rejects every proposal: AE titles, protocol version, application context."""
        return (self.source, self.reason) in _ABOUT_US


class AssociationAbortedError(PeerAwayError):
    """The peer aborted or closed the connection instead of answering the A-ASSOCIATE-RQ."""


class AssociationsBusyError(PeerError):
    """Transient, not the peer's fault: all associations that may be open to it stayed in use."""


class ClaimLostError(GatewayError):
    """Transient, not the peer's fault: its claim no longer holds; the attempt was broken off.

    Another process has the claim, or PostgreSQL lost it.
    """


class AssociationBrokenError(PeerError):
    """Abort, timeout, end of stream or an unexpected PDU. The association cannot be used again."""


class ContextNotProposedError(PeerError):
    """This association did not propose that SOP Class and transfer syntax; open another one."""


class ContextNotAcceptedError(PeerError):
    """Permanent: the peer does not accept that SOP Class in that transfer syntax."""


class ContextRefusedError(PeerError):
    """The peer rejects each association that proposes that presentation context, and accepts others."""


class StorageNotAcceptedError(PeerError):
    """The peer accepts associations, but none of many common Storage SOP Classes."""


class ProtocolError(PeerError):
    """The peer violated PS3.8 or PS3.7; the association is aborted."""


class NotifyError(GatewayError):
    """Transient: a webhook or a mail server did not take a message."""


# ---- the lab -------------------------------------------------------------------------------------


class LabError(GatewayError):
    """The lab cannot start or did not become ready. Says what is missing or where to look."""
