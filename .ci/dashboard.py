"""Write the dashboard of Grafana: one page that answers six questions from top to bottom.

    is it well, is it flowing, who is slow, what waits, what is refused, what does it cost

The panels are in `ROWS`. A test asks every query of a real Prometheus.
"""

from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders.common import ReduceDataOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard, Row, ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.timeseries import Panel as Timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode, BigValueGraphMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

TARGET = (
    Path(__file__).parents[1] / "gateway" / "monitoring" / "grafana" / "dashboards" / "mini-pacs-edge.json"
)
SOURCE = DataSourceRef(type_val="prometheus", uid="mini-pacs-prometheus")
"""As in gateway/monitoring/grafana/provisioning/datasources/mini-pacs-edge.yml."""
WIDTH = 24
STAT_HEIGHT, GRAPH_HEIGHT = 4, 8


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """A query, and the name of its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A single figure. It is red from `bad` on; below `bad` if `low_is_bad`."""

    title: str
    query: str
    unit: str = "short"
    bad: float | None = 1
    low_is_bad: bool = False


@dataclass(frozen=True, slots=True)
class Graph:
    """Figures over time; `description` says what to look for."""

    title: str
    description: str
    unit: str
    queries: tuple[PanelQuery, ...]


def _rate(counter: str, by: str = "") -> str:
    inner = f"rate(mini_pacs_{counter}[5m])"
    return f"sum by ({by}) ({inner})" if by else f"sum({inner})"


def _quantile(share: float, histogram: str, by: str = "") -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate(mini_pacs_{histogram}_bucket[5m])))"


FORWARDED = 'delivery_attempts_total{outcome=~"delivered|already_there"}'

ROWS: dict[str, tuple[Figure | Graph, ...]] = {
    "Is it well?": (
        Figure("Alerts that fire", 'count(ALERTS{alertstate="firing"}) or vector(0)'),
        Figure("Problems of `mini-pacs status`", 'sum(mini_pacs_findings{severity="problem"})'),
        Figure("PostgreSQL", "min(mini_pacs_postgres_up)", bad=1, low_is_bad=True),
        Figure("Destinations that are down", "count(mini_pacs_destination_up == 0) or vector(0)"),
        Figure("Dead deliveries", 'sum(mini_pacs_deliveries{state="dead"})'),
        Figure("Faults on purpose", "sum(mini_pacs_faults_active)"),
    ),
    "Is it flowing?": (
        Graph(
            "Instances per second",
            "What is received, and what the destinations take. If the second line stays below the first one, "
            "a backlog grows.",
            "ops",
            (
                PanelQuery(_rate("instances_received_total"), "received"),
                PanelQuery(_rate(FORWARDED, "destination"), "to {{destination}}"),
            ),
        ),
        Graph(
            "From the reception to the destination",
            "Half of the instances, and 95 of 100, were there within this time.",
            "s",
            (
                PanelQuery(_quantile(0.5, "end_to_end_seconds", "destination"), "{{destination}}, half"),
                PanelQuery(_quantile(0.95, "end_to_end_seconds", "destination"), "{{destination}}, 95 %"),
            ),
        ),
        Graph(
            "Received, by sender",
            "A sender whose line ends may be down, or refused.",
            "Bps",
            (PanelQuery(_rate("received_bytes_total", "calling_aet"), "{{calling_aet}}"),),
        ),
    ),
    "Who is slow?": (
        Graph(
            "The edge, to answer a C-STORE",
            "It grows if the disk is slow, or if registration is behind.",
            "s",
            (
                PanelQuery(_quantile(0.5, "store_duration_seconds"), "half"),
                PanelQuery(_quantile(0.95, "store_duration_seconds"), "95 %"),
            ),
        ),
        Graph(
            "A destination, to take an instance",
            "95 of 100 attempts took no longer.",
            "s",
            (PanelQuery(_quantile(0.95, "delivery_duration_seconds", "destination"), "{{destination}}"),),
        ),
        Graph(
            "A worker, to return a result",
            "95 of 100 results took no longer. Near forwarder.worker_timeout_seconds, results time out.",
            "s",
            (PanelQuery(_quantile(0.95, "result_duration_seconds", "destination"), "{{destination}}"),),
        ),
        Graph(
            "Time since the last success",
            "A line that rises: this destination takes nothing, or nothing is sent to it.",
            "s",
            (
                PanelQuery(
                    "time() - mini_pacs_destination_last_success_timestamp_seconds",
                    "{{destination}}",
                ),
            ),
        ),
    ),
    "What waits?": (
        Graph(
            "Deliveries",
            "Pending and in flight; dead ones wait for an operator.",
            "short",
            (PanelQuery("sum by (destination, state) (mini_pacs_deliveries)", "{{destination}} {{state}}"),),
        ),
        Graph(
            "The oldest delivery",
            "How long it has waited.",
            "s",
            (PanelQuery("max by (destination) (mini_pacs_oldest_pending_seconds)", "{{destination}}"),),
        ),
        Graph(
            "Received and not registered",
            "More than a few for longer than a minute: PostgreSQL is away or slow.",
            "short",
            (PanelQuery("sum(mini_pacs_unregistered_instances)", "instances"),),
        ),
        Graph(
            "The queue",
            "Messages that wait, and how long the oldest due one has waited.",
            "short",
            (
                PanelQuery(
                    'sum by (queue) (mini_pacs_queue_messages{state="queued"})', "{{queue}}, messages"
                ),
                PanelQuery("max by (queue) (mini_pacs_queue_latency_seconds)", "{{queue}}, seconds"),
            ),
        ),
        Graph(
            "Results that workers owe",
            "A line that stays at its maximum: this worker is the bottleneck.",
            "short",
            (PanelQuery("sum by (destination) (mini_pacs_results_owed)", "{{destination}}"),),
        ),
    ),
    "What is refused?": (
        Graph(
            "C-STOREs that the edge refused",
            "By status. 0xA700: the disk is full, or the database cannot be used.",
            "ops",
            (PanelQuery(_rate('store_responses_total{status!="0x0000"}', "status"), "{{status}}"),),
        ),
        Graph(
            "Associations that the edge rejected",
            "By reason.",
            "ops",
            (PanelQuery(_rate("associations_rejected_total", "reason"), "{{reason}}"),),
        ),
        Graph(
            "Attempts that failed",
            "What destinations refused, broke off, or did not answer.",
            "ops",
            (
                PanelQuery(
                    _rate(
                        'delivery_attempts_total{outcome!~"delivered|already_there"}', "destination, outcome"
                    ),
                    "{{destination}} {{outcome}}",
                ),
            ),
        ),
        Graph(
            "Results",
            "`timed_out` results did not come in time; `late` ones came after that.",
            "ops",
            (PanelQuery(_rate("results_total", "destination, outcome"), "{{destination}} {{outcome}}"),),
        ),
    ),
    "What does it cost?": (
        Graph(
            "Disk",
            "At its reserve the edge refuses images.",
            "bytes",
            (
                PanelQuery("min(mini_pacs_disk_free_bytes)", "free"),
                PanelQuery("max(mini_pacs_disk_reserve_bytes)", "reserve"),
            ),
        ),
        Graph(
            "Spool",
            "Bytes by folder.",
            "bytes",
            (PanelQuery("sum by (place) (mini_pacs_spool_bytes)", "{{place}}"),),
        ),
        Graph(
            "CPU",
            "Cores in use, by kind of process.",
            "short",
            (PanelQuery(_rate("process_cpu_seconds_total", "process"), "{{process}}"),),
        ),
        Graph(
            "Memory",
            "By kind of process.",
            "bytes",
            (PanelQuery("sum by (process) (mini_pacs_process_resident_memory_bytes)", "{{process}}"),),
        ),
        Graph(
            "Associations",
            "Open ones: in from senders, out to destinations.",
            "short",
            (PanelQuery("sum by (direction) (mini_pacs_associations)", "{{direction}}"),),
        ),
        Graph(
            "This exporter",
            "How long it takes to read the figures.",
            "s",
            (PanelQuery("max(mini_pacs_snapshot_seconds)", "snapshot"),),
        ),
    ),
}


def text() -> str:
    """Return the dashboard as JSON."""
    builder = (
        Dashboard("mini_pacs_edge")
        .uid("mini-pacs-edge")
        .description("Made by `make dashboard` from .ci/dashboard.py: do not edit it here.")
        .tags(["dicom", "mini-pacs"])
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
    )
    for question, panels in ROWS.items():
        builder.with_row(Row(question))
        for panel in panels:
            if isinstance(panel, Figure):
                builder.with_panel(_stat(panel, WIDTH // len(panels)))
            else:
                builder.with_panel(_timeseries(panel, WIDTH // min(len(panels), 3)))
    encoded: str = JSONEncoder(sort_keys=True, indent=2).encode(builder.build())
    return encoded + "\n"


def _stat(figure: Figure, span: int) -> Stat:
    good, bad = ("red", "green") if figure.low_is_bad else ("green", "red")
    steps = [Threshold(value=None, color=good)]
    if figure.bad is not None:
        steps.append(Threshold(value=figure.bad, color=bad))
    return (
        Stat()
        .title(figure.title)
        .datasource(SOURCE)
        .unit(figure.unit)
        .span(span)
        .height(STAT_HEIGHT)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(BigValueColorMode.BACKGROUND)
        .graph_mode(BigValueGraphMode.NONE)
        .thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
        .with_target(Dataquery().expr(figure.query).ref_id("A").instant())
    )


def _timeseries(graph: Graph, span: int) -> Timeseries:
    panel = (
        Timeseries()
        .title(graph.title)
        .description(graph.description)
        .datasource(SOURCE)
        .unit(graph.unit)
        .min(0)
        .span(span)
        .height(GRAPH_HEIGHT)
        .fill_opacity(10)
    )
    for letter, query in zip("ABCDEF", graph.queries, strict=False):
        panel.with_target(Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).range())
    return panel


def main() -> None:
    """Write the file, and nothing else."""
    TARGET.write_text(text(), encoding="utf-8")
    print(f"wrote {TARGET}")


if __name__ == "__main__":
    main()
