"""A reception as the columns of its row, and the order in which receptions lock rows."""

from gateway.database.tables.instances import ReceivedInstance
from gateway.domain.routing import Route, Target, Targets
from gateway.register.unregistered import Unregistered
from gateway.spool.envelope import Envelope


def lock_order(envelope: Envelope) -> tuple[object, ...]:
    """Return the order in which all processes lock rows, so that two batches cannot deadlock."""
    return envelope.sop_instance_uid, envelope.received_at


def result_targets_of(one: Unregistered, targets: Targets) -> tuple[Target, ...]:
    """Return the archives that get a reception if it is taken as a result."""
    return tuple(target for target in targets.of_results if target not in one.envelope.refused)


def received_of(one: Unregistered, targets: Targets) -> ReceivedInstance:
    """Return a reception as the columns of its row.

    The PACS may have got another AE title since the reception: its delivery goes to the present title.
    """
    envelope = one.envelope
    return ReceivedInstance(
        reception_id=envelope.reception_id,
        received_at=envelope.received_at,
        sop_instance_uid=envelope.sop_instance_uid,
        study_instance_uid=envelope.study_instance_uid,
        series_instance_uid=envelope.series_instance_uid,
        sop_class_uid=envelope.sop_class_uid,
        transfer_syntax_uid=envelope.transfer_syntax_uid,
        sha256=envelope.sha256,
        data_set_size=envelope.data_set_size,
        calling_ae_title=envelope.calling_ae_title,
        called_ae_title=envelope.called_ae_title,
        remote_address=envelope.remote_address,
        kind=envelope.kind,
        file_name=one.file_name,
        targets=tuple(
            Target(Route.PACS, targets.pacs) if target.route is Route.PACS else target
            for target in envelope.targets
        ),
        result_targets=result_targets_of(one, targets),
        priority=envelope.priority,
        origin=envelope.origin,
    )
