"""Everything that can go wrong, as one tree; each class says transient, permanent, or about the peer.

Adapters translate the exceptions of their library into these at their edge, with `from`. Messages
carry the operation, its object and, where there is one, a hint; never a patient's attribute.
"""


class GatewayError(Exception):
    """The root; caught whole only at a process boundary."""


# ---- configuration -------------------------------------------------------------------------------


class ConfigurationError(GatewayError):
    """Permanent: the process refuses to start; names key, value and file."""


# ---- PostgreSQL ----------------------------------------------------------------------------------


class DatabaseError(GatewayError):
    """Something went wrong in or on the way to PostgreSQL."""


class DatabaseUnavailableError(DatabaseError):
    """Transient: no connection, or it was lost before anything was committed."""


class OutcomeUnknownError(DatabaseUnavailableError):
    """Transient: the connection was lost, or the deadline passed, while a commit may have happened."""


class DatabaseRefusedError(DatabaseError):
    """PostgreSQL answered with an error: nothing was committed. `sqlstate` is its code."""

    def __init__(self, message: str, sqlstate: str = "") -> None:
        super().__init__(message)
        self.sqlstate = sqlstate

    @property
    def is_collision(self) -> bool:
        """Tell whether the same transaction, tried again, may go through: deadlock, serialization."""
        return self.sqlstate in {"40001", "40P01"}


class SchemaError(DatabaseError):
    """Permanent: the schema is not the one this version works with; says which command mends it."""


# ---- the spool -----------------------------------------------------------------------------------


class SpoolError(GatewayError):
    """The file system refused an operation; carries operation, path and the system's reason."""


class SpoolFullError(SpoolError):
    """Transient: no space, or the reserve is reached."""


class FileMissingError(SpoolError):
    """Permanent for the delivery: no place holds the file of an instance."""


# ---- what was received ---------------------------------------------------------------------------


class DataSetError(GatewayError):
    """Permanent: the data set cannot be parsed as far as the needed UIDs (0xC000)."""


class ContradictionError(DataSetError):
    """Permanent: the data set contradicts the command set's SOP Class or Instance (0xA900)."""


# ---- peers ---------------------------------------------------------------------------------------


class PeerError(GatewayError):
    """About the peer of an association."""


class PeerAwayError(PeerError):
    """The peer cannot be associated with: refused, unreachable, rejected, or silent. Costs no attempt."""


# PS3.8 §9.3.4, Table 9-21: result 2; by source, the reasons that have nothing to do with what was proposed.
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
        """Tell whether the peer says that it will take an association later."""
        return self.result == _REJECTED_TRANSIENT

    @property
    def is_about_us(self) -> bool:
        """Tell whether the peer rejects us, whatever we propose: AE titles, protocol, application context."""
        return (self.source, self.reason) in _ABOUT_US


class AssociationAbortedError(PeerAwayError):
    """The peer aborted or closed the connection instead of answering A-ASSOCIATE-RQ."""


class AssociationsBusyError(PeerError):
    """Transient, and ours: every association that may be open to that peer stayed in use."""


class ClaimLostError(GatewayError):
    """Transient, and ours: the claim passed to somebody else during the attempt, which was broken off."""


class AssociationBrokenError(PeerError):
    """Abort, timeout, end of stream or an unexpected PDU; the association is not to be used again."""


class ContextNotProposedError(PeerError):
    """This association never proposed that SOP Class and transfer syntax: open another one."""


class ContextNotAcceptedError(PeerError):
    """Permanent: the peer does not take that SOP Class in that transfer syntax."""


class ContextRefusedError(PeerError):
    """The peer refuses each association that proposes that presentation context, and takes others."""


class StorageNotAcceptedError(PeerError):
    """The peer takes associations from us, but accepts none of many usual Storage SOP Classes."""


class ProtocolError(PeerError):
    """The peer sent what PS3.8 or PS3.7 forbids; the association is aborted."""


# ---- the lab -------------------------------------------------------------------------------------


class LabError(GatewayError):
    """The lab cannot be started or did not become ready; says what is missing or where to look."""
