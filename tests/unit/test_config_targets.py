"""`forwarder.archives` and `forwarder.applications`: what is accepted, and what a refusal says."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import config
from gateway.config import Configuration
from gateway.domain.routing import DEFAULT_APPLICATION, Route
from gateway.errors import ConfigurationError

Content = dict[str, Any]
HOST = {"host": "127.0.0.1", "timeout_s": 10}


def peer(title: str, port: int, **more: Any) -> Content:
    """Return an entry."""
    return {**HOST, "port": port, "ae_title": title, **more}


def content() -> Content:
    """Return a configuration with archives and applications."""
    titles = ["ORTHANC", "VNA", "APP01", "APP02", "APP03", "SCU2"]
    return {
        "edge": {"ae_title": "MINI_EDGE", "allowed_calling_aets": titles},
        "forwarder": {
            "orthanc": peer("ORTHANC", 4242),
            "archives": [peer("VNA", 104), peer("RES", 105, results=False)],
            "worker_timeout_seconds": 20,
            "max_redispatch": 3,
            "applications": {
                "chest-ct": {
                    "result_timeout_seconds": 600,
                    "max_outstanding": 2,
                    "affinity": "study",
                    "max_redispatch": 0,
                    "workers": [peer("APP01", 11201), peer("APP02", 11202)],
                },
                "any-mr": {"workers": [peer("APP02", 11202), peer("APP03", 11203)]},
            },
        },
    }


def load(folder: Path, values: Content) -> Configuration:
    """Return the configuration of the file."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return config.load(path)


def test_an_application_has_the_values_of_the_section_where_it_has_none(tmp_path: Path) -> None:
    """A 0 counts as given."""
    forwarder = load(tmp_path, content()).forwarder
    chest, any_mr = forwarder.applications_in_force["chest-ct"], forwarder.applications_in_force["any-mr"]
    assert (chest.result_timeout, chest.max_outstanding) == (timedelta(seconds=600), 2)
    assert (chest.affinity, chest.max_redispatch) == ("study", 0)
    assert (any_mr.result_timeout, any_mr.max_outstanding) == (timedelta(seconds=20), 8)
    assert (any_mr.affinity, any_mr.max_redispatch) == ("instance", 3)


def test_targets_and_destinations_of_the_configuration(tmp_path: Path) -> None:
    """A worker of two applications is one destination."""
    found = load(tmp_path, content())
    titles = [one.ae_title for one in found.destinations]
    assert titles == [
        "ORTHANC",
        "VNA",
        "RES",
        "APP01",
        "APP02",
        "APP03",
    ]
    assert [one.queue for one in found.forwarder.targets.all] == [
        "pacs", "archives.VNA", "archives.RES", "workers.chest-ct", "workers.any-mr",
    ]  # fmt: skip
    assert found.forwarder.targets.archives_without_results == {"RES"}
    routes = [found.forwarder.route_of(one.ae_title) for one in found.destinations]
    assert routes == [Route.PACS, *[Route.ARCHIVES] * 2, *[Route.WORKERS] * 3]


def test_the_list_of_workers_is_the_application_default(tmp_path: Path) -> None:
    """The seed's configuration."""
    values = content()
    del values["forwarder"]["applications"], values["forwarder"]["archives"]
    values["forwarder"]["workers"] = [peer("APP01", 11201), peer("APP02", 11202)]
    forwarder = load(tmp_path, values).forwarder
    [application] = forwarder.applications_in_force.values()
    assert (application.name, application.workers) == (DEFAULT_APPLICATION, forwarder.workers)
    assert [one.queue for one in forwarder.targets.all] == ["pacs", "workers"]


def test_paths_of_an_application_are_those_of_the_file(tmp_path: Path) -> None:
    """Also at this depth."""
    values = content()
    values["forwarder"]["archives"][0]["tls"] = {"ca": "vna.pem"}
    values["forwarder"]["applications"]["chest-ct"]["workers"][0]["tls"] = {"ca": "worker.pem"}
    forwarder = load(tmp_path, values).forwarder
    archive, worker = forwarder.archives[0], forwarder.applications["chest-ct"].workers[0]
    assert archive.tls is not None
    assert worker.tls is not None
    assert (archive.tls.ca, worker.tls.ca) == (tmp_path / "vna.pem", tmp_path / "worker.pem")


def application(name: str = "chest-ct", **values: Any) -> Callable[[Content], None]:
    """Set keys of an application, which is made if it is missing."""
    return lambda all_: all_["forwarder"]["applications"].setdefault(name, {}).update(values)


def whole(**values: Any) -> Callable[[Content], None]:
    """Let an application get whole series, with these keys."""
    return application(unit="series", affinity=None, **values)


def forwarder(**values: Any) -> Callable[[Content], None]:
    """Set keys of the section."""
    return lambda all_: all_["forwarder"].update(values)


REFUSALS: list[tuple[Callable[[Content], None], tuple[str, ...]]] = [
    (forwarder(workers=[peer("APP01", 11201)]), ("workers and applications are both given", "move the list")),
    (forwarder(applications={}), ("there are no forwarder.applications", "set mode: pacs_only")),
    (forwarder(archives=[peer("MINI_EDGE", 1)]), ("MINI_EDGE is used twice", "title of its own")),
    (forwarder(archives=[peer("ORTHANC", 1)]), ("ORTHANC is used twice",)),
    (forwarder(archives=[peer("APP01", 1)]), ("APP01 is used twice",)),
    (forwarder(archives=[peer("V", 1), peer("V", 2)]), ("V is used twice",)),
    (forwarder(archives=[peer("V", 1, results="maybe")]), ("forwarder.archives.0.results", "'maybe'")),
    (forwarder(archives=[peer("V", 1, resluts=True)]), ("unknown key", "did you mean results?")),
    (forwarder(archives=[peer(f"V{n}", 1) for n in range(17)]), ("forwarder.archives", "16")),
    (forwarder(archives=[peer("V", 1, timeout_s=300)]), ("lease_seconds (120)", "timeout_s")),
    (application("Chest CT", workers=[peer("APP03", 11203)]), ("Chest CT", "lower-case letters")),
    (application(workers=[]), ("forwarder.applications.chest-ct.workers",)),
    (application(workers=[peer("APP01", 11201)] * 2), ("APP01 is listed twice",)),
    (application("new", workers=[peer("APP01", 9)]), ("APP01 has other keys in application new",)),
    (application("new", workers=[peer("APP09", 9)]), ("APP09 is not in edge.allowed_calling_aets",)),
    (application("new", workers=[peer("VNA", 9)]), ("VNA is used twice",)),
    (
        application("new", workers=[peer("X", 9, calling_ae_titles=["VNA"])]),
        ("calls as VNA", "of an archive"),
    ),
    (application(max_outstanding=0), ("forwarder.applications.chest-ct.max_outstanding", "0")),
    (application(max_outstanding=True), ("max_outstanding = true",)),
    (application(max_redispach=1), ("unknown key", "did you mean max_redispatch?")),
    (application(unit="patient"), ("chest-ct.unit", "'patient'")),
    (application(complete_after_seconds=5), ("complete_after_seconds is for unit: series or study",)),
    (application(max_wait_seconds=5), ("max_wait_seconds is for unit: series or study",)),
    (application(late="ignore"), ("late is for unit: series or study", "here unit is instance")),
    (application(unit="series"), ("affinity is for unit: instance", "the whole series anyway")),
    (whole(late="sometimes"), ("chest-ct.late", "'sometimes'")),
    (whole(complete_after_seconds=0), ("chest-ct.complete_after_seconds", "0")),
    (whole(max_wait_seconds=8 * 24 * 3600), ("chest-ct.max_wait_seconds",)),
    (
        whole(complete_after_seconds=60, max_wait_seconds=30),
        ("max_wait_seconds (30) must not be less than complete_after_seconds (60)",),
    ),
    (whole(complete_after_second=5), ("unknown key", "did you mean complete_after_seconds?")),
    (forwarder(archives=[peer("V", 1, max_instances_per_second=0.5)]), ("archives.0.max_instances",)),
]


@pytest.mark.parametrize(("change", "words"), REFUSALS)
def test_a_refusal_says_what_to_do(
    tmp_path: Path, change: Callable[[Content], None], words: tuple[str, ...]
) -> None:
    """With key, value and file."""
    values = content()
    change(values)
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, values)
    for word in (*words, str(tmp_path / "config.yaml")):
        assert word in str(caught.value)


def test_a_syntax_that_is_no_list_is_refused(tmp_path: Path) -> None:
    """The word is `as_archives`."""
    values = content()
    values["edge"]["accepted_transfer_syntaxes"] = "as_archives"
    assert load(tmp_path, values).edge.accepts_as_archives
    values["edge"]["accepted_transfer_syntaxes"] = "as_archive"
    with pytest.raises(ConfigurationError, match="a list of UIDs, or as_archives, is expected"):
        load(tmp_path, values)
