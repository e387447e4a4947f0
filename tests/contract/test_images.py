"""docker-compose.yml and the Dockerfiles, checked as files: no engine is needed."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.compose_lab import BASES, GATEWAY, HOSPITAL, MONITORING, SERVICES, WORKERS
from support.launcher import REPOSITORY

from gateway import config

IMAGES = REPOSITORY / "images"
DOCKERFILES = sorted(IMAGES.glob("*/Dockerfile"))
LOCKS = sorted(IMAGES.glob("*/*.lock"))
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))
ONE_SHOTS = {"init", "migrate", "worker-image"}
INDEXES = re.compile(
    r"https?://[^\s\"']*(?:simple|npm|registry|index)|pypi\.org|pythonhosted|npmjs|registry\.|mirror|--index|"
    r"(?:INDEX_URL|TRUSTED_HOST|REGISTRY|PROXY)\s*[=:]\s*\S*\w",
    re.IGNORECASE,
)


def service(name: str) -> dict[str, Any]:
    """Return a service with what it inherits."""
    found: dict[str, Any] = COMPOSE["services"][name]
    return found


def named(path: Path) -> str:
    """Return a file as a test's name."""
    return str(path.relative_to(REPOSITORY))


def pins(path: Path) -> set[str]:
    """Each requirement of a lock with its version, its marker and its hashes, as one text."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line[:1].isalnum()]
    assert lines
    return {" ".join(line.split()) for line in lines}


def test_every_service_is_known_to_the_tests() -> None:
    """A new service is validated, restarted and killed like the others."""
    assert set(COMPOSE["services"]) == {*SERVICES, *HOSPITAL, *MONITORING, *ONE_SHOTS}
    with_profile = {name: one["profiles"] for name, one in COMPOSE["services"].items() if "profiles" in one}
    wanted = {name: ["hospital"] for name in HOSPITAL} | {name: ["monitoring"] for name in MONITORING}
    assert with_profile == wanted, "`docker compose up` starts none of these"


def test_the_configuration_of_the_hospital_is_valid() -> None:
    """Its file and its variables are those that docs/operate/containers.md names."""
    found = config.load(REPOSITORY / "config-hospital.yaml")
    assert [one.queue for one in found.forwarder.targets.all] == [
        "pacs",
        "archives.VNA",
        "workers.chest-ct",
        "workers.any-mr",
    ]
    lines = (REPOSITORY / "hospital.env").read_text(encoding="utf-8").splitlines()
    assert {line for line in lines if not line.startswith("#")} == {
        "COMPOSE_PROFILES=hospital",
        "EDGE_CONFIG=./config-hospital.yaml",
        "WORKER_UNIT=series",
        "WORKER_COMPLETE=association",
    }
    units = {name: one.unit for name, one in found.forwarder.applications_in_force.items()}
    assert units == {"chest-ct": "series", "any-mr": "study"}
    assert COMPOSE["name"] == "mini_pacs_edge"
    assert service("edge")["container_name"] == "mini_pacs_edge"


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_an_image_begins_with_one_of_the_bases_and_names_no_frontend(path: Path) -> None:
    """FROM names a base or a stage of the same file. A `# syntax=` line would be downloaded."""
    text = path.read_text(encoding="utf-8")
    begins = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", text, re.MULTILINE)
    assert begins
    assert {base for base, _ in begins} <= set(BASES)
    stages = {stage for _, stage in begins if stage}
    assert set(re.findall(r"(?:--from=|,from=)([^\s,]+)", text)) <= stages
    assert re.search(r"^#\s*syntax\s*=", text, re.MULTILINE | re.IGNORECASE) is None


def test_compose_uses_only_its_own_images_and_a_base() -> None:
    """Our images are built from images/, and never pulled by name."""
    built = {one["image"] for one in COMPOSE["services"].values() if "build" in one}
    for name, one in COMPOSE["services"].items():
        if one["image"] not in built:
            assert one["image"] in BASES, name


def test_each_image_is_built_once_before_it_is_used() -> None:
    """`up --build` of any service builds its image.

    The service or one that it waits for has the build section.
    """
    builders: dict[str, str] = {}
    for name, one in COMPOSE["services"].items():
        if "build" in one:
            assert builders.setdefault(one["image"], name) == name
    for name, one in COMPOSE["services"].items():
        if one["image"] not in BASES:
            assert builders[one["image"]] in waited_for(name), name


def waited_for(name: str) -> set[str]:
    """Return the service, and all that it depends on."""
    return {name}.union(*(waited_for(one) for one in service(name).get("depends_on", {})))


def test_the_edge_does_not_wait_for_postgresql() -> None:
    """It receives while PostgreSQL is away, also at its start; what works on rows waits for the schema."""
    assert waited_for("edge") == {"edge", "init"}
    for name in set(GATEWAY) - {"edge"}:
        assert {"migrate", "postgres"} <= waited_for(name), name


def test_no_package_index_and_no_proxy_is_named() -> None:
    """They are build arguments from the environment, each in the spellings that programs use."""
    for path in (*IMAGES.rglob("*"), REPOSITORY / "docker-compose.yml", REPOSITORY / ".dockerignore"):
        if path.is_file() and "__pycache__" not in path.parts:
            found = INDEXES.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{named(path)} names {found[0] if found else ''}"
    proxies = ("http_proxy", "https_proxy", "no_proxy")
    for name, one in COMPOSE["services"].items():
        if "build" in one:
            wanted = {*proxies, *map(str.upper, proxies), "PIP_INDEX_URL", "NPM_CONFIG_REGISTRY"}
            assert wanted <= set(one["build"]["args"]), name


@pytest.mark.parametrize("name", [*SERVICES, *MONITORING, *sorted(ONE_SHOTS)])
def test_a_service_is_restarted_and_its_log_and_tmp_are_limited(name: str) -> None:
    """It is restarted by the engine, unless it is expected to end; its log and its /tmp have a size."""
    one = service(name)
    assert one.get("restart", "no") == ("no" if name in ONE_SHOTS else "unless-stopped")
    assert one["logging"] == {"driver": "json-file", "options": {"max-size": "20m", "max-file": "3"}}
    if "tmpfs" in one:
        assert re.fullmatch(r"/tmp:size=\d+[mg]", one["tmpfs"])  # noqa: S108  a mount of the container
    if name in WORKERS:
        assert {"mem_limit", "pids_limit"} <= set(one)


@pytest.mark.parametrize("name", [*SERVICES, *MONITORING])
def test_a_service_has_a_sufficient_stop_grace_period(name: str) -> None:
    """The edge gets longer than its drain time: an instance in flight, or a peer's answer."""
    seconds = int(service(name)["stop_grace_period"].removesuffix("s"))
    if name in GATEWAY:
        written = yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8"))
        forwarder = written["forwarder"]
        slowest = max(peer["timeout_s"] for peer in (forwarder["orthanc"], *forwarder["workers"]))
        assert seconds > written["edge"]["stop_grace_seconds"] + 1
        assert seconds > forwarder["connect_timeout_seconds"] + slowest
    else:
        assert seconds >= 10


def test_ports_without_a_password_are_published_on_localhost_only() -> None:
    """11112 for everybody; 8042, 3000, 8080 and the monitoring on 127.0.0.1.

    Nothing else, and no service outside of the networks.
    """
    ports = {name: one["ports"] for name, one in COMPOSE["services"].items() if "ports" in one}
    assert ports == {
        "edge": ["${EDGE_PORT:-11112}:11112"],
        "orthanc": ["127.0.0.1:${ORTHANC_PORT:-8042}:8042"],
        "ohif": ["127.0.0.1:${OHIF_PORT:-3000}:3000"],
        "console": ["127.0.0.1:${CONSOLE_PORT:-8080}:8080"],
        "metrics": ["127.0.0.1:${METRICS_PORT:-9112}:9112"],
        "prometheus": ["127.0.0.1:${PROMETHEUS_PORT:-9090}:9090"],
        "alertmanager": ["127.0.0.1:${ALERTMANAGER_PORT:-9093}:9093"],
    }
    modes = {name: one["network_mode"] for name, one in COMPOSE["services"].items() if "network_mode" in one}
    assert modes == {"init": "none", "worker-image": "none"}


def test_the_networks_have_the_expected_members() -> None:
    """workers_net is internal: edge, actors-workers and workers only.

    A member of both networks does not route.
    """
    both = {"edge", "actors-workers"}
    wanted = {
        "pacs_net": both
        | {
            "actors-pacs",
            "actors-sweep",
            "scheduler",
            "console",
            "orthanc",
            "ohif",
            "postgres",
            "migrate",
            *HOSPITAL,
            *MONITORING,
        },
        "workers_net": both | set(WORKERS),
    }
    found = {
        network: {name for name, one in COMPOSE["services"].items() if network in one.get("networks", [])}
        for network in COMPOSE["networks"]
    }
    assert found == wanted
    assert COMPOSE["networks"] == {"pacs_net": None, "workers_net": {"internal": True}}
    for name in both:
        assert service(name)["sysctls"] == {"net.ipv4.ip_forward": 0}


def test_edge_database_url_reaches_every_process_of_the_edge() -> None:
    """EDGE_DATABASE_URL is their DATABASE_URL; where it is not set, that is empty."""
    for name in (*GATEWAY, "migrate", "metrics"):
        assert service(name)["environment"]["DATABASE_URL"] == "${EDGE_DATABASE_URL:-}"


def test_no_image_contains_a_password() -> None:
    """Passwords come from the environment of the container."""
    for path in DOCKERFILES:
        assert re.search(r"password\S*\s*=", path.read_text(encoding="utf-8"), re.IGNORECASE) is None, named(
            path
        )


@pytest.mark.parametrize("path", LOCKS, ids=named)
def test_an_image_installs_the_versions_of_the_lock(path: Path) -> None:
    """The same versions with the same hashes; the build tools of the wheel have a lock of their own."""
    project, image = pins(REPOSITORY / "requirements.lock"), pins(path)
    assert all("--hash=sha256:" in pin for pin in image)
    if path.name == "build.lock":
        names = {pin.partition("==")[0] for pin in project}
        image = {pin for pin in image if pin.partition("==")[0] in names}
    assert image <= project


@pytest.mark.parametrize("path", DOCKERFILES, ids=named)
def test_every_installed_package_has_a_hash(path: Path) -> None:
    """Every `pip install` uses a lock with hashes, or the wheel that was just built."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"^.*\bpip\b.* install .*$", text, re.MULTILINE):
        assert "--require-hashes --no-deps -r /build/" in line or "--no-index" in line


def test_the_build_tools_of_the_wheel_are_those_of_pyproject() -> None:
    """images/edge/build.in, from which the lock is made, equals `[build-system]` of pyproject.toml."""
    wanted = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["build-system"][
        "requires"
    ]
    lines = (IMAGES / "edge" / "build.in").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == wanted
    assert set(wanted) <= {pin.split()[0] for pin in pins(IMAGES / "edge" / "build.lock")}


def test_audit_checks_every_installed_package() -> None:
    """It reads requirements.lock, which contains the images' locks, and the lock of the build tools."""
    asked = re.findall(r"--requirement (\S+)", (REPOSITORY / ".ci" / "audit").read_text(encoding="utf-8"))
    assert set(asked) == {"requirements.lock", "images/edge/build.lock"}
