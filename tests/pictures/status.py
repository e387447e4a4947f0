"""`mini-pacs status`, and `--study`, in a lab whose PACS is away: as they look on a terminal."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

from rich import _export_format
from rich.console import Console
from rich.text import Text
from support.launcher import command
from support.waiting import wait_until

from gateway.dicom.association import PeerAddress
from gateway.lab.lab import Lab
from gateway.sender.generate import Study, generate, write
from gateway.sender.send import SendOptions, send

COLUMNS = 116
INSTANCES = 3
SECONDS = 60.0
FONTS = re.compile(r"\s*@font-face \{\{.*?\n    \}\}", re.DOTALL)
"""Rich's template fetches a font from the network; any font of fixed width does."""


def make(path: Path) -> str | None:
    """Write the picture to `path`; return None: this needs nothing that may be missing."""
    folder = Path(tempfile.mkdtemp(prefix="mini-pacs-pictures-"))
    folder.chmod(0o711)  # as root, PostgreSQL's user must pass through
    lab = Lab(folder / "lab")
    try:
        supervisor = lab.start()
        delivered = _send(lab, folder)
        wait_until(lambda: _done(lab, delivered, "result at PACS"), SECONDS, "results at the PACS")
        supervisor.take_down("pacs")
        waiting = _send(lab, folder)
        wait_until(lambda: _done(lab, waiting, "result") and _is_away(lab), SECONDS, "an edge without a PACS")
        screens = [("status",), ("status", "--study", waiting, "--limit", "1")]
        path.write_text(_picture(lab, screens), encoding="utf-8")
    finally:
        lab.stop()
        lab.remove()
        shutil.rmtree(folder, ignore_errors=True)
    return None


def _send(lab: Lab, folder: Path) -> str:
    """Send one CT study; return its Study Instance UID."""
    edge = lab.configuration.edge
    peer = PeerAddress("127.0.0.1", edge.port, edge.ae_title, 30, 30)
    options = SendOptions(lab.configuration.forwarder.orthanc.ae_title)
    outgoing = [write(instance, folder) for instance in generate(Study(INSTANCES, datetime.now(UTC), "CT"))]
    refused = [one for one in send(outgoing, peer, options) if not one.accepted]
    if refused:
        raise RuntimeError(f"the edge refused {len(refused)} of {INSTANCES} instances")
    return outgoing[0].study_instance_uid


def _done(lab: Lab, study_instance_uid: str, step: str) -> bool:
    """Tell whether every instance of the study has done that step."""
    document = json.loads(_mini_pacs(lab, "status", "--study", study_instance_uid, "--json"))
    steps: list[dict[str, Any]] = document["steps"]
    return any(one["name"] == step and one["done"] == INSTANCES for one in steps)


def _is_away(lab: Lab) -> bool:
    """Tell whether `status` says that the PACS is away."""
    destinations = json.loads(_mini_pacs(lab, "status", "--json"))["overview"]["destinations"]
    return any(one["route"] == "pacs" and one["breaker"] == "open" for one in destinations)


def _mini_pacs(lab: Lab, *words: str) -> str:
    """Return what a command prints on a terminal with colours."""
    terminal = {"FORCE_COLOR": "1", "COLUMNS": str(COLUMNS), "TERM": "xterm-256color", "TZ": "UTC"}
    return subprocess.run(
        command("mini-pacs", *words),
        env={**os.environ, **lab.environment, **terminal},
        capture_output=True,
        text=True,
        check=True,
        timeout=SECONDS,
    ).stdout


def _picture(lab: Lab, screens: list[tuple[str, ...]]) -> str:
    """Return the commands and what they print, as one SVG."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    for words in screens:
        console.print(Text(f"$ mini-pacs {' '.join(words)}", style="bold"))
        console.print(Text.from_ansi(_mini_pacs(lab, *words)))
    template = FONTS.sub("", _export_format.CONSOLE_SVG_FORMAT).replace("Fira Code, monospace", "monospace")
    return console.export_svg(title="mini-pacs", code_format=template, unique_id="status")
