"""The actor that sends whole series and studies to the workers of an application."""

import dramatiq

from actors import process
from gateway.domain.contract import FORWARD_UNIT
from gateway.forward import unit
from gateway.register.unregistered import backlog

LOOKED_AT = 1000
"""How many unregistered receptions are looked at to find the oldest one."""


@dramatiq.actor(actor_name=FORWARD_UNIT.actor_name, queue_name=FORWARD_UNIT.queue_name)
def forward_unit(unit_id: int) -> None:
    """Send a unit if it is complete; do nothing if it is settled or claimed by another process."""
    context = process.context()
    unit.forward_unit(context, unit_id, unregistered_since=lambda: backlog(context.spool, LOOKED_AT).oldest)
