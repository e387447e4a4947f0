"""OHIF in a browser, at the origin that users open: the study is listed, and its images are shown."""

import secrets
from datetime import UTC, datetime
from pathlib import Path

from support.browser import Visit, chromium, coloured, visit
from support.compose_lab import ComposeLab

from gateway.dicom.association import PeerAddress
from gateway.sender.generate import Study, generate, write
from gateway.sender.send import SendOptions, send


def sent(lab: ComposeLab, given_name: str, folder: Path) -> tuple[str, set[str]]:
    """Return a CT study of that patient that the edge accepted: its UID, and the UIDs of its instances."""
    # no ^ in the ID: the viewer queries the studies of that ID, and Orthanc does not decode the query
    study = Study(3, datetime.now(UTC), "CT", patient_id=given_name, patient_name=f"Viewer^{given_name}")
    outgoing = [write(instance, folder) for instance in generate(study)]
    done = list(
        send(outgoing, PeerAddress("127.0.0.1", lab.edge_port, "MINI_EDGE", 30, 10), SendOptions("ORTHANC"))
    )
    assert all(one.accepted for one in done)
    [study_instance_uid] = {one.study_instance_uid for one in outgoing}
    return study_instance_uid, {one.sop_instance_uid for one in outgoing}


def test_the_viewer_lists_the_study_and_shows_original_and_result(
    lab: ComposeLab, artefacts: Path, tmp_path: Path
) -> None:
    """The study is found by the patient's name; the original is grey, the result has the worker's colour."""
    given = secrets.token_hex(4)
    study, originals = sent(lab, given, tmp_path)
    lab.wait_results(originals)

    def look(here: Visit) -> None:
        row = here.find(study, f"viewer {given}")
        assert "Simulated CT" in row.inner_text()
        here.keep(artefacts / "viewer-study-list.png")
        here.open(row, study)
        original = here.show("Chest phantom")
        here.keep(artefacts / "viewer-original.png")
        result = here.show("AI_RESULT")
        here.keep(artefacts / "viewer-ai-result.png")
        assert coloured(original) < 100
        assert coloured(result) > 2000
        assert not here.strangers, "the page asked somebody else than the lab"

    with chromium() as browser:
        visit(browser, lab.ohif_url, look)
