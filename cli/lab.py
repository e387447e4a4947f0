"""`mini-pacs lab`: run the whole edge on this machine, in the foreground."""

import re
import shlex
import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from cli.screen import console
from cli.stop_signals import on_stop
from gateway.errors import LabError
from gateway.lab.free_space import lack_of_space
from gateway.lab.lab import Lab

DEFAULT_FOLDER = Path("lab")


def lab(
    data: Annotated[
        Path,
        typer.Option(file_okay=False, help="Folder of the lab: configuration, data, logs."),
    ] = DEFAULT_FOLDER,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the earlier lab in that folder first, with its images.")
    ] = False,
    actor_processes: Annotated[
        int, typer.Option(min=1, max=64, help="Dramatiq processes for each of the queues pacs and workers.")
    ] = 1,
    metrics: Annotated[
        bool,
        typer.Option(
            "--metrics", help="Run `mini-pacs metrics`, Prometheus and Alertmanager too (Debian's packages)."
        ),
    ] = False,
    console_too: Annotated[
        bool, typer.Option("--console", help="Run `mini-pacs console` too, on port 8080 where it is free.")
    ] = False,
) -> None:
    """Run the edge with PostgreSQL, a PACS and five workers on this machine until Ctrl-C.

    A process that ends is restarted, so you can kill any of them. The usual ports are used where they are
    free. All ports are on 127.0.0.1 only; Orthanc listens on every address, and rejects other machines.
    """
    screen = console()
    if fresh:
        _delete(data)
    stopped = threading.Event()
    on_stop(signal.default_int_handler)  # during the start: it ends what it has started
    the_lab = Lab(
        data, well_known_ports=True, actor_processes=actor_processes, metrics=metrics, console=console_too
    )
    with screen.status("Starting PostgreSQL, a PACS, workers, actors and the Storage SCP…"):
        supervisor = the_lab.start()
    try:
        on_stop(lambda *_: stopped.set())
        edge = the_lab.configuration.edge
        lacks = lack_of_space(edge.data_root, edge.disk_reserve_mb)
        for notice in (*the_lab.notices, *([lacks] if lacks else [])):
            screen.print(notice, soft_wrap=True)
        screen.print(_welcome(the_lab), soft_wrap=True)
        while not stopped.wait(1.0):
            if not supervisor.has_folder():
                raise LabError(f"{data} was deleted while its lab ran, so the lab was stopped")
    finally:
        with screen.status("Stopping: the SCP first, PostgreSQL last…"):
            the_lab.stop()
    screen.print(
        f"Stopped. `mini-pacs lab --data {shlex.quote(str(data))}` goes on where this one ended.",
        soft_wrap=True,
    )


def _delete(folder: Path) -> None:
    """Delete an earlier lab; refuse a folder that is not one."""
    if not folder.exists():
        return
    if any(folder.iterdir()) and not (folder / "lab.lock").exists():
        raise typer.BadParameter(
            f"{folder} does not look like a lab: delete it yourself", param_hint="--data"
        )
    Lab(folder).remove()


def _welcome(the_lab: Lab) -> str:
    configuration = the_lab.configuration
    edge, orthanc = configuration.edge, configuration.forwarder.orthanc
    pacs = ", ".join(filter(None, (the_lab.pacs.title, getattr(the_lab.pacs, "url", None))))
    workers = "  ".join(f"{w.ae_title} {w.port}" for w in configuration.forwarder.all_workers)
    archives = "  ".join(f"{a.ae_title} {a.port}" for a in configuration.forwarder.archives)
    archives = f"\n  archives      {archives}" if archives else ""
    exports = "\n".join(
        f"  export {name}={shlex.quote(value)}" for name, value in the_lab.environment.items()
    )
    send = f"--port {edge.port} --calling-aet {edge.calling_ae_titles[0]} --called-aet {edge.ae_title}"
    watch = ""
    if (ports := the_lab.monitoring) is not None:
        watch = f"""
  figures       http://127.0.0.1:{ports.metrics}/metrics
  Prometheus    http://127.0.0.1:{ports.prometheus}
  Alertmanager  http://127.0.0.1:{ports.alertmanager}"""
    if the_lab.console_port is not None:
        watch += f"\n  console       http://127.0.0.1:{the_lab.console_port}"
        link = re.search(r"http\S+/first/\S+", the_lab.console_words)
        if link:
            watch += f"\n                make its first account, within 15 minutes: {link[0]}"
    return f"""
The lab is up; Ctrl-C stops it.

  Storage SCP   {edge.ae_title} on 127.0.0.1:{edge.port}, for {", ".join(edge.allowed_calling_aets)}
  PACS          {orthanc.ae_title} on 127.0.0.1:{orthanc.port} ({pacs}){archives}
  workers       {workers}{watch}
  log           {edge.log_path}
  output        {the_lab.folder / "logs"}/NAME.out, one for each process
  config        {the_lab.config_path}

In another terminal:

{exports}
  mini-pacs send --generate 3 --instances 20 {send}
  mini-pacs status
  mini-pacs inject-fault pacs_down --for 60s
  mini-pacs clear-faults
"""
