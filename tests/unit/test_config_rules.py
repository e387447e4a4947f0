"""The key `accepts` in the configuration: where it may stand, and what the model keeps."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import config
from gateway.config import Configuration
from gateway.domain.routing import Route, Target
from gateway.errors import ConfigurationError
from gateway.rules.ruleset import NO_RULES

IS_CT = {"attribute": "Modality", "equals": "CT"}


def loaded(folder: Path, **changes: Any) -> Configuration:
    """Return a configuration whose section forwarder has these keys."""
    worker = {"host": "app01", "port": 11201, "ae_title": "APP01"}
    forwarder = {
        "orthanc": {"host": "orthanc", "port": 4242, "ae_title": "ORTHANC"},
        "applications": {"chest-ct": {"workers": [worker]}},
        **changes,
    }
    edge = {"ae_title": "EDGE", "allowed_calling_aets": ["CT1", "APP01"]}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"edge": edge, "forwarder": forwarder}), encoding="utf-8")
    return config.load(path)


def test_pacs_archives_and_applications_may_have_a_rule(tmp_path: Path) -> None:
    """Each is a target of the version; what has none accepts everything."""
    peer = {"host": "h", "port": 104, "ae_title": "ORTHANC"}
    worker = {"host": "app01", "port": 11201, "ae_title": "APP01"}
    configuration = loaded(
        tmp_path,
        orthanc={**peer, "accepts": {"not": IS_CT}},
        archives=[{**peer, "ae_title": "VNA", "accepts": IS_CT}, {**peer, "ae_title": "RES", "port": 105}],
        applications={"chest-ct": {"accepts": IS_CT, "workers": [worker]}},
    )
    rules = configuration.forwarder.rules
    assert {str(target): rule and rule.canonical for target, rule in rules.rules.items()} == {
        "pacs:ORTHANC": {"not": IS_CT},
        "archives:VNA": IS_CT,
        "archives:RES": None,
        "workers:chest-ct": IS_CT,
    }
    assert rules.digest != NO_RULES
    assert set(rules.asked) == {0x00080060}


def test_without_accepts_there_are_no_rules(tmp_path: Path) -> None:
    """The list `workers` is the application `default`."""
    worker = {"host": "app01", "port": 11201, "ae_title": "APP01"}
    rules = loaded(tmp_path, workers=[worker], applications={}).forwarder.rules
    assert rules.digest == NO_RULES
    assert set(rules.rules) == {Target(Route.PACS, "ORTHANC"), Target(Route.WORKERS, "default")}


def test_a_model_is_dumped_with_its_rules_and_validated_again(tmp_path: Path) -> None:
    """`config check` prints them, and a changed configuration is compared by them."""
    peer = {"host": "h", "port": 104, "ae_title": "ORTHANC", "accepts": IS_CT}
    configuration = loaded(tmp_path, orthanc=peer)
    dumped = configuration.model_dump(mode="json")
    assert dumped["forwarder"]["orthanc"]["accepts"] == IS_CT
    again = Configuration.model_validate(dumped)
    assert again.forwarder.orthanc == configuration.forwarder.orthanc
    assert again.forwarder.rules.digest == configuration.forwarder.rules.digest


@pytest.mark.parametrize(
    ("accepts", "words"),
    [
        ({"attribute": "BodyPart", "equals": "CHEST"}, "orthanc.accepts: BodyPart: no attribute"),
        ([IS_CT], "orthanc.accepts = [{'attribute'"),
        ("CT", "orthanc.accepts = 'CT': a rule is a mapping"),
        (True, "accepts = true"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_key(tmp_path: Path, accepts: object, words: str) -> None:
    """Each process refuses to start on it."""
    with pytest.raises(ConfigurationError) as refused:
        loaded(tmp_path, orthanc={"host": "h", "port": 104, "ae_title": "ORTHANC", "accepts": accepts})
    assert words in str(refused.value)


def test_a_worker_has_no_rule(tmp_path: Path) -> None:
    """The application has it: its workers are replicas of each other."""
    worker = {"host": "app01", "port": 11201, "ae_title": "APP01", "accepts": IS_CT}
    with pytest.raises(ConfigurationError, match="unknown key"):
        loaded(tmp_path, applications={"chest-ct": {"workers": [worker]}})
