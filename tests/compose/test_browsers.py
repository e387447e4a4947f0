"""What a web page in a browser on this machine can do at the two ports without a password."""

import json
import urllib.error
import urllib.request

import pytest
from support.compose_lab import ComposeLab

FIND = {"Level": "Study", "Query": {}}
ELSEWHERE = "stranger.example"


def status(url: str, method: str = "GET", body: object = None, **headers: str) -> int:
    """Return the HTTP status of the answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310  http on loopback
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_request_with_another_host_name_is_refused(lab: ComposeLab) -> None:
    """A page whose own name resolves to this machine (DNS rebinding) reaches neither viewer nor Orthanc."""
    for path in ("/", "/dicom-web/studies"):
        assert status(lab.ohif_url + path) == 200
        assert status(lab.ohif_url + path, Host="localhost") == 200
        assert status(lab.ohif_url + path, Host=ELSEWHERE) == 421
    assert status(f"{lab.orthanc_url}/system", Host=f"localhost:{lab.orthanc_port}") == 200
    assert status(f"{lab.orthanc_url}/system", Host=f"{ELSEWHERE}:{lab.orthanc_port}") == 403


def test_a_page_of_another_origin_changes_nothing(lab: ComposeLab) -> None:
    """It could post to Orthanc without reading the answer.

    Orthanc accepts only its own pages, and clients that are no browsers.
    """
    find = f"{lab.orthanc_url}/tools/find"
    assert status(find, "POST", FIND) == 200
    assert status(find, "POST", FIND, Origin=lab.orthanc_url) == 200
    for origin in (f"http://{ELSEWHERE}", "null", lab.ohif_url):
        assert status(find, "POST", FIND, Origin=origin) == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_the_viewer_only_reads(lab: ComposeLab, method: str) -> None:
    """Images enter through the edge only: the viewer passes no changing request to Orthanc."""
    assert status(f"{lab.ohif_url}/dicom-web/studies", method, {}) == 403
