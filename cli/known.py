"""Refuse a selection of deliveries that names something unknown, so that a typing error is noticed."""

from cli.advice import RefusedError
from cli.study import not_kept
from gateway.database.session import Session
from gateway.database.tables import selected_deliveries, studies
from gateway.database.tables.selected_deliveries import Selection
from gateway.domain.routing import DEFAULT_APPLICATION, Target
from gateway.errors import ConfigurationError


def check_known(session: Session, selection: Selection) -> None:
    """Check what is selected; call it where no delivery was found.

    Raises:
        RefusedError: the delivery does not exist, the study has no instance here, or nothing is ever sent to
            that target.
    """
    wanted = selection.delivery_id
    if wanted is not None and not selected_deliveries.find(session, Selection(delivery_id=wanted)):
        raise RefusedError(
            f"there is no delivery {wanted}: it never existed, or was purged with its instance after "
            "sweep.retention_hours; `mini-pacs deliveries list` lists those that exist"
        )
    if selection.study is not None and not studies.is_kept(session, selection.study):
        raise RefusedError(not_kept(selection.study))
    if selection.target is not None:
        _check_target(session, selection.target)


def _check_target(session: Session, name: str) -> None:
    targets = _configured()
    if not targets or name in {target.name for target in targets}:
        return
    # An archive that was removed from the configuration may still have deliveries.
    if name.isprintable() and selected_deliveries.find(session, Selection(target=name), limit=1):
        return
    known = ", ".join(_option(target) for target in targets)
    raise RefusedError(f"nothing is sent to a target {name!r}; config.yaml has: {known}")


def _configured() -> tuple[Target, ...]:
    """Return the targets of the configuration; none where it cannot be read."""
    from gateway import config  # noqa: PLC0415  importing its model takes long, and is rarely needed

    try:
        return config.load().forwarder.targets.all
    except ConfigurationError:
        return ()


def _option(target: Target) -> str:
    if target.name == DEFAULT_APPLICATION:
        return f"--target {target.name} (forwarder.workers)"
    return f"--target {target.name}"
