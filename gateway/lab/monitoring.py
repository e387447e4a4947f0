"""The monitoring of a lab: `mini-pacs metrics`, Prometheus and Alertmanager.

Prometheus and Alertmanager are Debian's packages. Their configuration is that of gateway/monitoring, with the
ports of the lab; it is written at each start. Their data is in the folder of the lab.
"""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import gateway
from gateway.errors import LabError
from gateway.lab.layout import LOOPBACK
from gateway.lab.program import Program

FILES = Path(gateway.__file__).parent / "monitoring"
WELL_KNOWN = (9112, 9090, 9093)
"""In the order of the fields of MonitoringPorts."""


@dataclass(frozen=True, slots=True)
class MonitoringPorts:
    """TCP ports on 127.0.0.1."""

    metrics: int
    prometheus: int
    alertmanager: int


def require_programs() -> None:
    """Return if Prometheus and Alertmanager are installed.

    Raises:
        LabError: one of them is not.
    """
    missing = [name for name in ("prometheus", "prometheus-alertmanager") if shutil.which(name) is None]
    if missing:
        raise LabError(
            f"{' and '.join(missing)} cannot be found: apt-get install {' '.join(missing)}, "
            "or leave out --metrics"
        )


def programs(folder: Path, ports: MonitoringPorts, environment: Mapping[str, str]) -> list[Program]:
    """Write the configuration of all three into `folder`; return them."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(FILES / "prometheus" / "alerts.yml", folder)
    shutil.copy(FILES / "alertmanager" / "alertmanager.yml", folder)
    text = yaml.safe_dump(prometheus_configuration(ports), sort_keys=False)
    (folder / "prometheus.yml").write_text(text, encoding="utf-8")
    return [
        exporter(environment, ports.metrics),
        Program(
            "prometheus",
            (
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'prometheus'}",
                f"--web.listen-address={LOOPBACK}:{ports.prometheus}",
            ),
            ports=(ports.prometheus,),
        ),
        Program(
            "alertmanager",
            (
                "prometheus-alertmanager",
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'alertmanager'}",
                f"--web.listen-address={LOOPBACK}:{ports.alertmanager}",
                "--cluster.listen-address=",  # it is alone
            ),
            ports=(ports.alertmanager,),
        ),
    ]


def exporter(environment: Mapping[str, str], port: int) -> Program:
    """Return `mini-pacs metrics` on that port."""
    words = ("metrics", "--bind-address", LOOPBACK, "--port", str(port))
    return Program("metrics", (sys.executable, "-m", "cli", *words), environment, ports=(port,))


def prometheus_configuration(ports: MonitoringPorts) -> dict[str, Any]:
    """Return prometheus.yml of gateway/monitoring with these ports."""
    content: dict[str, Any] = yaml.safe_load((FILES / "prometheus" / "prometheus.yml").read_text("utf-8"))
    content["global"]["external_labels"]["runbook"] = f"http://{LOOPBACK}:{ports.metrics}/runbook"
    [alertmanagers] = content["alerting"]["alertmanagers"]
    alertmanagers["static_configs"] = [{"targets": [f"{LOOPBACK}:{ports.alertmanager}"]}]
    [job] = content["scrape_configs"]
    job["static_configs"] = [{"targets": [f"{LOOPBACK}:{ports.metrics}"]}]
    return content
