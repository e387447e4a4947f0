"""A worker that calls with another AE title than its own; its results never loop."""

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import MakeEdge
from support.edge_setup import EdgeSetup
from support.forwarding import Forwarding, ask, forwarding, workers_of
from support.synthetic_instances import EXPLICIT, Instance, result_of

from gateway.database.tables.timeline import of_study
from gateway.dicom.policy import Requestor, StoreRequest
from gateway.domain.timeline import StepName
from gateway.receive.c_store import CStoreHandler

AWAY = "192.0.2.11"
"""An address that no machine of the test has."""


def workers(edge: EdgeSetup, **of_each: object) -> dict[str, Any]:
    """Return the section `forwarder` with these values for APP01 and APP02, and no other workers."""
    pacs = edge.configuration.forwarder.orthanc.model_dump(exclude_none=True)
    first_two = edge.configuration.forwarder.workers[:2]
    return {
        "orthanc": pacs,
        "workers": [{**worker.model_dump(exclude_none=True), **of_each} for worker in first_two],
    }


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core: APP01 and APP02 are replicas that both call as AISCU, and the SCP runs."""
    titles = ["ORTHANC", "APP01", "APP02", "AISCU", "CT1"]
    forwarder = workers(make_edge(), calling_ae_titles=["AISCU"])
    edge = make_edge({"edge": {"allowed_calling_aets": titles}, "forwarder": forwarder})
    edge.serve()
    with forwarding(edge) as core, workers_of(core):
        yield core


@pytest.mark.guarantee("G4")
def test_a_result_under_another_title_belongs_to_its_worker(core: Forwarding) -> None:
    """It is delivered to the PACS and to no worker; the timeline names the worker, not the title."""
    for source in (Instance(), Instance()):
        worker = ask(core, source)
        result = result_of(source)
        result = Instance(
            study_instance_uid=result.study_instance_uid,
            series_description="CHEST FINDINGS",
            sources=result.sources,
        )
        assert core.edge.send(result, calling="AISCU") == [0]
        assert core.edge.rows(
            "SELECT e.state::text, e.worker FROM expected_results e JOIN instances i ON i.id = e.instance_id"
            " WHERE i.sop_instance_uid = %(uid)s",
            uid=source.sop_instance_uid,
        ) == [("arrived", worker)]
        routes = core.edge.rows(
            "SELECT d.route::text, i.kind::text FROM deliveries d JOIN instances i ON i.id = d.instance_id"
            " WHERE i.sop_instance_uid = %(uid)s",
            uid=result.sop_instance_uid,
        )
        assert routes == [("pacs", "result")]
        with core.edge.database.transaction() as session:
            [timeline] = of_study(session, source.study_instance_uid)
        [step] = [step for step in timeline.steps if step.name is StepName.RESULT]
        assert step.by == worker
        assert step.seconds is not None


def test_a_sender_beside_the_workers_reaches_them(core: Forwarding) -> None:
    """All are on 127.0.0.1, so an address of this machine cannot identify a worker."""
    instance = Instance()
    assert core.edge.send(instance, calling="CT1") == [0]
    assert core.edge.delivery(instance, "workers")["state"] == "pending"


def test_an_instance_from_the_host_of_a_worker_goes_to_no_worker(make_edge: MakeEdge) -> None:
    """Under any title it counts as that worker's result; the log says how to configure the title."""
    edge = make_edge({"forwarder": workers(make_edge(), host=AWAY)})
    with forwarding(edge) as core:
        source = Instance()
        core.receive(source)
        received = Instance(
            study_instance_uid=source.study_instance_uid,
            series_description="CHEST FINDINGS",
            sources=((source.sop_class_uid, source.sop_instance_uid),),
        )
        receiver = core.receiver_context()
        request = StoreRequest(1, received.sop_class_uid, received.sop_instance_uid, EXPLICIT, 0)
        reception = CStoreHandler(receiver, Requestor("OTHER", "MINI_EDGE", AWAY, 50_000), request)
        reception.write(memoryview(received.data_set()))
        assert reception.finish() == (0, "")
        reception.answered()
        assert edge.rows(
            "SELECT i.kind::text, d.route::text, i.correlation::text FROM deliveries d"
            " JOIN instances i ON i.id = d.instance_id WHERE i.sop_instance_uid = %(uid)s",
            uid=received.sop_instance_uid,
        ) == [("result", "pacs", "references")]
    [line] = edge.log(stage="ai_result", sop_instance_uid=received.sop_instance_uid)
    assert line["level"] == "warning"
    assert "came from the address of APP01, APP02" in line["detail"]
    assert "calling_ae_titles" in line["detail"]
