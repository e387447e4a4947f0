"""The objects that a receiver process gives to each reception."""

from dataclasses import dataclass

from gateway.config import Configuration
from gateway.domain.routing import Targets
from gateway.faults import Faults
from gateway.receive.answers import StoreAnswers
from gateway.receive.refusals import Refusals
from gateway.register.caller_origin import CallerOrigins
from gateway.register.registrar import Registrar
from gateway.rules.ruleset import RuleSet
from gateway.spool.identity import SpoolIdentity
from gateway.spool.spool import Spool


@dataclass(frozen=True, slots=True)
class ReceiverContext:
    """The objects of one receiver process that every C-STORE uses.

    A reload of the configuration makes another context. A reception keeps the context that it began with, so
    that its rules, targets and origins belong together.
    """

    configuration: Configuration
    targets: Targets
    rules: RuleSet
    spool: Spool
    registrar: Registrar
    faults: Faults
    origins: CallerOrigins
    identity: SpoolIdentity
    refusals: Refusals
    answers: StoreAnswers
