"""DCMTK and Orthanc before and behind the edge. They re-encode data sets, so elements are compared."""

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from conftest import MakeEdge
from pydicom import Dataset
from pydicom.data import get_testdata_file
from support.dicom_peers import dcmtk, read_quietly
from support.edge_setup import EdgeSetup
from support.waiting import wait_until

from gateway.lab.layout import free_ports
from gateway.lab.pacs import Orthanc

pytestmark = pytest.mark.guarantee("G1")

FILES = [
    Path(str(get_testdata_file(name)))
    for name in ("CT_small.dcm", "MR_small_implicit.dcm", "SC_rgb_rle.dcm", "test-SR.dcm", "rtplan.dcm")
]
BOUNDARY = "mini-pacs"


def orthanc(edge: EdgeSetup, folder: Path, *, port: int | None = None) -> Orthanc:
    """Return a running Orthanc, as the PACS of `edge` or, with `port`, as a sender beside it."""
    executable = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if executable is None:
        assert "CI" not in os.environ, "Orthanc is missing: install orthanc"
        pytest.skip("Orthanc is not installed")
    configuration = edge.configuration
    if port is not None:
        pacs = configuration.forwarder.orthanc.model_copy(update={"port": port})
        forwarder = configuration.forwarder.model_copy(update={"orthanc": pacs})
        configuration = configuration.model_copy(update={"forwarder": forwarder})
    [http] = free_ports(1)
    it = Orthanc(executable, folder, configuration, http)
    program = it.program()
    edge.start(*program.command, name="orthanc")
    assert program.ready is not None
    wait_until(program.ready, 30, "Orthanc")
    return it


def ask(it: Orthanc, path: str, body: bytes | None = None) -> bytes:
    """Its REST API's answer."""
    with urllib.request.urlopen(urllib.request.Request(it.url + path, body), timeout=30) as answer:  # noqa: S310
        raw: bytes = answer.read()
        return raw


def run(program: str, *words: object) -> None:
    """Run one of DCMTK's programs; it must succeed."""
    done = subprocess.run(
        [dcmtk(program), *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def elements(data_set: Dataset) -> dict[str, object]:
    """Its elements with a value, without group lengths and private elements, which senders may leave out."""
    return {
        element.keyword: str(element.value)
        for element in data_set
        if not element.tag.is_private
        and element.tag.element
        and element.keyword != "PixelData"
        and element.value
    }


def check(arrived: Iterable[Dataset]) -> None:
    """Every file is there with its elements."""
    by_uid = {data_set.SOPInstanceUID: elements(data_set) for data_set in arrived}
    for path in FILES:
        sent = read_quietly(path)
        assert by_uid[sent.SOPInstanceUID] == elements(sent), path.name


def delivered(edge: EdgeSetup, count: int) -> bool:
    """Tell whether so many are at the PACS."""
    done = edge.one("SELECT count(*) FROM deliveries WHERE route = 'pacs' AND state = 'delivered'")
    return bool(done == count)


@pytest.mark.parametrize("sender", ["storescu", "dcmsend"])
def test_dcmtk_sends_and_orthanc_receives(make_edge: MakeEdge, tmp_path: Path, sender: str) -> None:
    """A C-ECHO is answered; Orthanc has what storescu and dcmsend send."""
    edge = make_edge({"forwarder": {"mode": "pacs_only"}})
    it = orthanc(edge, tmp_path / "pacs")
    edge.serve()
    edge.actors("pacs")
    to = ("-aet", "ORTHANC", "-aec", "MINI_EDGE", "127.0.0.1", edge.configuration.edge.port)
    run("echoscu", *to)
    if sender == "dcmsend":
        run("dcmsend", *to, *FILES)
    else:
        for path, syntax in zip(FILES, ("-xe", "-xi", "-xr", "-xe", "-xi"), strict=True):
            run("storescu", syntax, *to, path)
    wait_until(lambda: delivered(edge, len(FILES)), 20, "all to be delivered")
    found = json.loads(ask(it, "/instances"))
    assert len(found) == len(FILES)
    check(
        pydicom.dcmread(BytesIO(ask(it, f"/instances/{name}/file")), stop_before_pixels=True)
        for name in found
    )


def test_orthanc_sends_and_storescp_receives(make_edge: MakeEdge, tmp_path: Path) -> None:
    """Orthanc sends a C-STORE through the edge to DCMTK's storescp."""
    edge = make_edge({"forwarder": {"mode": "pacs_only"}})
    [port] = free_ports(1)
    it = orthanc(edge, tmp_path / "sender", port=port)
    folder = tmp_path / "received"
    folder.mkdir()
    pacs = edge.configuration.forwarder.orthanc
    scp = edge.start(dcmtk("storescp"), "-od", folder, "+xa", "-aet", "ORTHANC", str(pacs.port))
    scp.wait_for_port(pacs.port)
    edge.serve()
    edge.actors("pacs")
    names = [json.loads(ask(it, "/instances", path.read_bytes()))["ID"] for path in FILES]
    ask(it, "/modalities/edge/store", json.dumps(names).encode())
    wait_until(lambda: delivered(edge, len(FILES)), 20, "all to be delivered")
    check(read_quietly(path) for path in folder.iterdir())
