"""Which keys of config.yaml a running process takes, and which wait for its next start.

Each key of a section is declared here once; a test fails when a new key is not. What lies below a key, as in
`forwarder.workers`, has the declaration of the key.
"""

import re

from gateway.database.tables.processes import ProcessKind

_SCP = frozenset({ProcessKind.SERVE, ProcessKind.RECEIVER})
_ALL = frozenset({*_SCP, ProcessKind.ACTORS})
_WITHOUT_A_ROW: frozenset[ProcessKind] = frozenset()
"""`mini-pacs metrics` and `mini-pacs console` have no row in the table of processes."""

AT_RESTART: dict[str, frozenset[ProcessKind]] = {
    "edge.ae_title": _ALL,
    "edge.bind_address": _SCP,
    "edge.port": _SCP,
    "edge.tls": _SCP,
    "edge.data_root": _ALL,
    "edge.log_path": _ALL,
    "edge.receivers": _SCP,
    "edge.stop_grace_seconds": _SCP,
    "metrics.bind_address": _WITHOUT_A_ROW,
    "metrics.port": _WITHOUT_A_ROW,
    "console.bind": _WITHOUT_A_ROW,
    "console.port": _WITHOUT_A_ROW,
    "console.tls": _WITHOUT_A_ROW,
    "console.idle_minutes": _WITHOUT_A_ROW,
}
"""Keys that a process takes at its start only, and the processes that they concern."""

LIVE = frozenset(
    {
        "edge.allowed_calling_aets",
        "edge.accepted_sop_classes",
        "edge.additional_sop_classes",
        "edge.accepted_transfer_syntaxes",
        "edge.max_associations",
        "edge.max_associations_per_peer",
        "edge.max_pdu_bytes",
        "edge.artim_timeout_seconds",
        "edge.network_timeout_seconds",
        "edge.idle_timeout_seconds",
        "edge.commit_timeout_seconds",
        "edge.duplicate_window_seconds",
        "edge.disk_reserve_mb",
        "edge.max_unregistered_hours",
        "edge.result_series_description",
        "edge.urgent",
        "edge.search_key",
        "edge.log_max_mb",
        "edge.log_backups",
        "forwarder.mode",
        "forwarder.max_retries",
        "forwarder.backoff_base_seconds",
        "forwarder.backoff_max_seconds",
        "forwarder.give_up_after_hours",
        "forwarder.lease_seconds",
        "forwarder.connect_timeout_seconds",
        "forwarder.breaker_failures",
        "forwarder.probe_interval_seconds",
        "forwarder.max_associations_per_peer",
        "forwarder.association_idle_seconds",
        "forwarder.worker_timeout_seconds",
        "forwarder.worker_max_outstanding",
        "forwarder.worker_affinity",
        "forwarder.max_redispatch",
        "forwarder.orthanc",
        "forwarder.archives",
        "forwarder.workers",
        "forwarder.applications",
        "console.hosts",
        "console.trusted_header",
        "console.trusted_proxy",
        "console.viewer_url",
        "console.allow_faults",
        "notify",
        "sweep.retention_hours",
        "sweep.history_days",
        "sweep.orphan_grace_seconds",
        "sweep.reconcile_grace_seconds",
    }
)
"""Keys that a running process takes; each piece of work in progress keeps the values that it began with."""

_SECRET = re.compile(r"password|secret|token|webhook|url$", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Tell whether the value of a key of that name must not be stored in the history."""
    return _SECRET.search(name) is not None


def restarts(key: str) -> str | None:
    """Return what must be restarted before a changed key counts, in words; None if it is live."""
    kinds = AT_RESTART.get(key)
    if kinds is None:
        return None
    if not kinds:
        return f"`mini-pacs {key.partition('.')[0]}`"
    return "every process" if ProcessKind.ACTORS in kinds else "`mini-pacs serve`"
