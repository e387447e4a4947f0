"""config.yaml: a refused value is named with key and file; an accepted one has its type."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import config
from gateway.config.edge import Edge
from gateway.config.forwarder import Forwarder
from gateway.config.operation import Sweep
from gateway.errors import ConfigurationError

Content = dict[str, Any]


def content() -> Content:
    """Return the least that is enough."""
    peer = {"host": "127.0.0.1", "timeout_s": 10}
    return {
        "edge": {"ae_title": "MINI_EDGE", "allowed_calling_aets": ["ORTHANC", "APP01", "APP02"]},
        "forwarder": {
            "orthanc": {**peer, "port": 4242, "ae_title": "ORTHANC"},
            "workers": [{**peer, "port": 11200 + n, "ae_title": f"APP0{n}"} for n in (1, 2)],
        },
    }


def load(folder: Path, values: Content) -> config.Configuration:
    """Return the configuration of the file."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    return config.load(path)


def test_defaults_and_paths_are_those_of_the_file(tmp_path: Path) -> None:
    """Relative paths are relative to the file, from whichever directory it is read."""
    found = load(tmp_path, content())
    assert found.edge.data_root == tmp_path / "data"
    assert found.edge.log_path == tmp_path / "logs/edge.log"
    assert (found.edge.port, found.forwarder.max_retries) == (11112, 5)
    assert found.forwarder.worker_ae_titles == ("APP01", "APP02")
    assert found.destination("APP02").port == 11202
    with pytest.raises(KeyError):
        found.destination("APP03")


def test_the_file_of_the_project_is_accepted_and_shows_the_defaults() -> None:
    """Every value in config.yaml is the default, as its comment says."""
    path = Path(__file__).resolve().parents[2] / "config.yaml"
    shown = yaml.safe_load(path.read_text())
    assert config.load(path)
    for section, model in (("edge", Edge), ("forwarder", Forwarder), ("sweep", Sweep)):
        fields = model.model_fields
        # a section that is off by default stands there as a comment
        optional = {key for key, field in fields.items() if not field.is_required() and field.default is None}
        assert set(fields) - optional <= set(shown[section]) <= set(fields), section
        for key, value in shown[section].items():
            default = fields[key].get_default(call_default_factory=True)
            if fields[key].is_required() or isinstance(value, dict) or key == "workers":
                continue
            assert (list(default) if isinstance(default, tuple) else _plain(default)) == value, key


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


def put(section: str, **values: object) -> Callable[[Content], None]:
    """Set keys of a section."""
    return lambda all_: all_[section].update(values)


def worker(number: int, **values: object) -> Callable[[Content], None]:
    """Set keys of a worker."""
    return lambda all_: all_["forwarder"]["workers"][number].update(values)


REFUSALS: list[tuple[Callable[[Content], None], tuple[str, ...]]] = [
    (put("edge", prot=1), ("unknown key edge.prot",)),
    (lambda all_: all_.update(edgy={}), ("unknown key edgy",)),
    (lambda all_: all_["edge"].pop("ae_title"), ("key edge.ae_title is missing",)),
    (lambda all_: all_.pop("forwarder"), ("key forwarder is missing",)),
    (put("edge", port="eleven"), ("edge.port", "'eleven'")),
    (put("edge", port=70_000), ("edge.port", "70000")),
    (put("edge", port=True), ("port = true",)),
    (put("edge", ae_title="SEVENTEEN_LETTERS"), ("edge.ae_title", "'SEVENTEEN_LETTERS'")),
    (put("edge", ae_title="A\\B"), ("edge.ae_title", "backslash")),
    (put("edge", accepted_sop_classes=["../x"]), ("edge.accepted_sop_classes.0", "'../x'")),
    (put("edge", additional_sop_classes=["1.2.x"]), ("edge.additional_sop_classes.0", "'1.2.x'")),
    (put("edge", accepted_transfer_syntaxes=["jpeg"]), ("edge.accepted_transfer_syntaxes.0", "'jpeg'")),
    (
        put("edge", accepted_transfer_syntaxes=["1.2", "1.2"]),
        ("edge.accepted_transfer_syntaxes", "duplicate entry 1.2"),
    ),
    (put("edge", allowed_calling_aets=["ORTHANC", "APP01"]), ("APP02", "edge.allowed_calling_aets")),
    (
        put("edge", allowed_calling_aets=["APP01", "APP01", "APP02"]),
        ("duplicate entry APP01", "edge.allowed_calling_aets"),
    ),
    (put("edge", allowed_calling_aets=["APP01", "APP01@10.0.0.1", "APP02"]), ("10.0.0.1", "has no effect")),
    (
        put("edge", allowed_calling_aets=["APP01@10.0.0.1/8", "APP02"]),
        ("host bits", "edge.allowed_calling_aets.0"),
    ),
    (put("edge", commit_timeout_seconds=0), ("edge.commit_timeout_seconds", "0")),
    (put("edge", urgent={"modalities": ["ct"]}), ("edge.urgent.modalities.0", "'ct'")),
    (put("forwarder", mode="serial"), ("forwarder.mode", "'serial'")),
    (put("forwarder", lease_seconds=14), ("lease_seconds (14)", "timeout_s")),
    (put("forwarder", workers=[]), ("forwarder.mode", "forwarder.workers is empty")),
    (put("forwarder", worker_affinity="patient"), ("forwarder.worker_affinity", "'patient'")),
    (worker(0, ae_title="APP02"), ("APP02 is used twice",)),
    (worker(0, ae_title="ORTHANC"), ("ORTHANC is used twice",)),
    (worker(0, calling_ae_titles=["AISCU"]), ("APP01 calls as AISCU", "edge.allowed_calling_aets")),
    (worker(0, calling_ae_titles=["ORTHANC"]), ("APP01 calls as ORTHANC", "of the PACS")),
    (worker(0, calling_ae_titles=["MINI_EDGE"]), ("APP01 calls as MINI_EDGE", "of the edge")),
    (worker(0, calling_ae_titles=[]), ("forwarder.workers.0.calling_ae_titles",)),
    (worker(0, calling_ae_titles=["A\\B"]), ("forwarder.workers.0.calling_ae_titles.0", "backslash")),
    (worker(1, port=0), ("forwarder.workers.1.port", "0")),
    (worker(1, host="ai..hospital"), ("forwarder.workers.1.host", "empty or too long")),
    (worker(1, host="ai.hospital:104"), ("forwarder.workers.1.host", "a port has its own key")),
    (worker(1, host="http://ai"), ("forwarder.workers.1.host", "'http://ai'")),
    (worker(1, host="[::1]"), ("forwarder.workers.1.host", "'[::1]'")),
    (worker(1, host="ai hospital"), ("forwarder.workers.1.host", "'ai hospital'")),
    (worker(1, host=f"{'a' * 64}.hospital"), ("forwarder.workers.1.host", "empty or too long")),
    (worker(1, host=".".join(["hospital"] * 30)), ("forwarder.workers.1.host", "253 characters")),
    (put("edge", bind_address="a..b"), ("edge.bind_address", "'a..b'")),
    (put("edge", result_series_description=" "), ("edge.result_series_description", "printable")),
    (lambda all_: all_.update(metrics={"bind_address": "a\0b"}), ("metrics.bind_address",)),
    (lambda all_: all_.update(console={"bind": "a..b"}), ("console.bind", "'a..b'")),
    (
        lambda all_: all_.update(console={"viewer_url": "http://[::1/{study}"}),
        ("console.viewer_url", "no URL"),
    ),
    (
        lambda all_: all_.update(notify={"webhook": {"url": "http://a:99999/"}}),
        ("notify.webhook.url", "no URL"),
    ),
    (
        lambda all_: all_.update(notify={"webhook": {"url": "http:///a"}}),
        ("notify.webhook.url", "is missing"),
    ),
    (lambda all_: all_.update(sweep={"retention_hours": float("inf")}), ("sweep.retention_hours", "inf")),
    (lambda all_: all_.update(sweep={"retention_hours": -1}), ("sweep.retention_hours", "-1")),
]


@pytest.mark.parametrize(
    "host", ["pacs", "pacs.hospital.", "10.1.2.3", "::1", "fe80::1%eth0", "röntgen.hospital", "my_pacs-1"]
)
def test_a_host_is_a_name_or_an_address(tmp_path: Path, host: str) -> None:
    """Whatever the resolver can be asked for."""
    values = content()
    worker(0, host=host)(values)
    assert load(tmp_path, values).forwarder.workers[0].host == host


def test_padding_of_the_result_series_description_does_not_count(tmp_path: Path) -> None:
    """Series Description is compared without its padding."""
    values = content()
    put("edge", result_series_description=" MY_RESULT ")(values)
    assert load(tmp_path, values).edge.result_series_description == "MY_RESULT"


@pytest.mark.parametrize(("change", "words"), REFUSALS)
def test_a_refusal_names_key_value_and_file(
    tmp_path: Path, change: Callable[[Content], None], words: tuple[str, ...]
) -> None:
    """So that a user can correct it without reading the source."""
    values = content()
    change(values)
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, values)
    for word in (*words, str(tmp_path / "config.yaml")):
        assert word in str(caught.value)


def test_every_error_is_reported_at_once(tmp_path: Path) -> None:
    """One line for each."""
    values = content()
    values["edge"].update(port=0, prot=1)
    values["forwarder"].update(max_retries=-1)
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, values)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("text", ["- 1", "", "a: [", "\x00"])
def test_a_file_without_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    """With the path of the file."""
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"config\.yaml"):
        config.load(path)


def test_a_missing_file_says_which_variable_names_it(tmp_path: Path) -> None:
    """A new user needs that hint."""
    with pytest.raises(ConfigurationError, match=config.PATH_VARIABLE):
        config.load(tmp_path / "none.yaml")


def test_the_configuration_is_frozen(tmp_path: Path) -> None:
    """No code can change it."""
    found = load(tmp_path, content())
    with pytest.raises(ValueError, match="frozen"):
        found.edge.port = 1
