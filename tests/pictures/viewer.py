"""OHIF in headless Chromium, in the lab in containers: a study with the results of the workers."""

import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from PIL import Image
from support.browser import Visit, chromium, visit
from support.compose_lab import ComposeLab

from gateway.dicom.association import PeerAddress
from gateway.sender.generate import Study, generate, write
from gateway.sender.send import SendOptions, send

WIDTH = 1100
"""Pixels; with COLOURS it keeps the file below 200 KB."""
COLOURS = 128
RESULT = "AI_RESULT"
PATIENT = "Demo^Edge"
PATIENT_ID = "EDGE000001"
INSTANCES = 3
RESULT_SECONDS = 120.0


def make(path: Path) -> str | None:
    """Write the picture to `path`; return why that is impossible on this machine, or None."""
    if shutil.which("chromium") is None:
        return "needs Chromium; type `apt-get install chromium`"
    if not _engine_answers():
        return "needs a Docker engine with Compose; type `tests/compose/engine/up` (as root on Debian)"
    lab = ComposeLab()
    try:
        lab.up()
        study = _send(lab)
        with chromium() as browser:
            visit(browser, lab.ohif_url, lambda here: _keep(here, study, path))
    finally:
        lab.remove()
    return None


def _engine_answers() -> bool:
    def answers(*words: str) -> bool:
        return subprocess.run(["docker", *words], capture_output=True, check=False).returncode == 0

    return shutil.which("docker") is not None and answers("info") and answers("compose", "version")


def _send(lab: ComposeLab) -> str:
    """Send one CT study and wait for its results; return its Study Instance UID."""
    study = Study(INSTANCES, datetime.now(UTC), "CT", patient_id=PATIENT_ID, patient_name=PATIENT)
    with tempfile.TemporaryDirectory() as folder:
        outgoing = [write(instance, Path(folder)) for instance in generate(study)]
        peer = PeerAddress("127.0.0.1", lab.edge_port, "MINI_EDGE", 30, 10)
        refused = [one for one in send(outgoing, peer, SendOptions("ORTHANC")) if not one.accepted]
    if refused:
        raise RuntimeError(f"the edge refused {len(refused)} of {INSTANCES} instances")
    lab.wait_results({one.sop_instance_uid for one in outgoing}, RESULT_SECONDS)
    return outgoing[0].study_instance_uid


def _keep(here: Visit, study_instance_uid: str, path: Path) -> None:
    """Open the study in the viewer with a result on the screen; write that as a small PNG."""
    here.open(here.find(study_instance_uid, PATIENT.replace("^", " ")), study_instance_uid)
    here.show(RESULT)
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "page.png"
        here.keep(shot)
        page = Image.open(BytesIO(shot.read_bytes())).convert("RGB")
    scaled = page.resize((WIDTH, page.height * WIDTH // page.width), Image.Resampling.LANCZOS)
    scaled.quantize(COLOURS, dither=Image.Dither.NONE).save(path, "PNG", optimize=True)
