"""`mini-pacs rules check` and `rules test`: what an operator sees, and what is refused with what to write."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.dicom_peers import EXPLICIT
from support.headers import encode, result
from support.targets import forwarder
from typer.testing import CliRunner

from cli.exit_codes import ExitCode
from cli.main import build
from gateway.dicom.dataset.part10 import preamble_and_file_meta
from gateway.lab import layout

CHEST = {"all": [{"attribute": "Modality", "equals": "CT"}, {"calling_ae": ["CT1", "CT9"]}]}
PATIENT = "Doe^Jane"


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the content of a config.yaml with two rules; `written` writes a changed one."""
    section = forwarder()
    section["archives"][0]["accepts"] = {"attribute": "PatientName", "matches": ".*Jane"}
    section["applications"]["chest-ct"]["accepts"] = CHEST
    edge = {"allowed_calling_aets": ["ORTHANC", "CT1", "APP01", "APP02", "APP03"]}
    content = layout.configuration(
        layout.choose_ports(well_known=False), {"edge": edge, "forwarder": section}
    )
    monkeypatch.setenv("MINI_PACS_CONFIG", str(layout.write(tmp_path / "lab", content)))
    return content


def run(*words: str | Path, code: ExitCode = ExitCode.OK) -> str:
    """Return the output of `mini-pacs rules …`."""
    done = CliRunner(env={"COLUMNS": "200"}).invoke(build("rules"), ["rules", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.output


def file_of(folder: Path, **attributes: object) -> Path:
    """Write a Part 10 file as CT1 may have sent it."""
    data_set = result()
    data_set.PatientName = PATIENT
    for keyword, value in attributes.items():
        setattr(data_set, keyword, value)
    meta = preamble_and_file_meta("1.5", "1.4", EXPLICIT, source_ae_title="CT1")
    path = folder / "image.dcm"
    path.write_bytes(meta + encode(data_set, EXPLICIT))
    return path


@pytest.mark.usefixtures("configured")
def test_check_says_each_rule_in_words_and_warns() -> None:
    """A title that may not call never satisfies its condition."""
    said = run("check")
    assert "archive VNA\n  PatientName (0010,0010) matches .*Jane as a whole" in said
    assert "application chest-ct\n  all of these hold:\n    Modality (0008,0060) is CT" in said
    assert "archive RES\n  accepts everything: it has no rule" in said
    assert "names calling_ae CT9, which edge.allowed_calling_aets does not allow" in said
    assert "The rules are valid." in said
    document = json.loads(run("check", "--json"))
    by_target = {one["target"]: one["accepts"] for one in document["targets"]}
    assert by_target["workers:chest-ct"] == CHEST
    assert by_target["pacs:ORTHANC"] is None


def test_check_refuses_a_rule_and_says_where(configured: dict[str, Any], tmp_path: Path) -> None:
    """The key, the place in the rule, and what was probably meant."""
    configured["forwarder"]["applications"]["chest-ct"]["accepts"] = {
        "any": [{"attribute": "Modality", "equals": "CT"}, {"attribute": "BodyPart", "equals": "CHEST"}]
    }
    (tmp_path / "lab" / "config.yaml").write_text(yaml.safe_dump(configured), encoding="utf-8")
    said = run("check", code=ExitCode.USAGE)
    assert (
        "forwarder.applications.chest-ct.accepts: any[1]: BodyPart: no attribute has this keyword; "
        "did you mean BodyPartExamined?"
    ) in said


@pytest.mark.usefixtures("configured")
def test_test_shows_each_condition_with_the_value_that_it_met(tmp_path: Path) -> None:
    """Values are shown, because the operator asked."""
    path = file_of(tmp_path, Modality="CT")
    said = run("test", path)
    assert PATIENT in said
    document = json.loads(run("test", path, "--calling-aet", "MR1", "--json"))
    [file] = document["files"]
    targets = {one["target"]: one for one in file["targets"]}
    assert targets["archives:VNA"]["accepted"] is True
    assert targets["archives:VNA"]["conditions"][0]["values"] == [PATIENT]
    assert targets["workers:chest-ct"]["accepted"] is False
    assert [one["outcome"] for one in targets["workers:chest-ct"]["conditions"]] == [
        "does not hold",
        "holds",
        "does not hold",
    ]
    played = json.loads(run("test", path, "--json"))["files"][0]
    assert played["calling_ae"] == "CT1"
    assert {one["target"]: one["accepted"] for one in played["targets"]}["workers:chest-ct"] is True


@pytest.mark.usefixtures("configured")
def test_test_says_what_cannot_be_decided_and_what_is_missing(tmp_path: Path) -> None:
    """A name beyond its character set, and an empty Modality; no control character reaches the screen."""
    path = file_of(tmp_path, Modality=None)
    raw = path.read_bytes().replace(PATIENT.encode(), b"Doe^J\xe4\x1b[")
    path.write_bytes(raw)
    said = run("test", path)
    assert "not decodable" in said
    assert "cannot be decided: gets it" in said
    assert "(empty)" in said
    assert "\x1b" not in said


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("test", "nowhere.dcm"), ExitCode.REFUSED, "cannot read nowhere.dcm: No such file or directory"),
        (("test", "."), ExitCode.REFUSED, "cannot read .: Is a directory"),
        (("test", "x", "--calling-aet", "A\\B"), ExitCode.USAGE, "no AE title"),
        (("explain", "abc"), ExitCode.USAGE, "a UID has at most 64 characters"),
    ],
)
def test_errors_are_sentences(words: tuple[str, ...], code: ExitCode, sentence: str) -> None:
    """Wrong words, and files that cannot be read."""
    assert sentence in run(*words, code=code)


@pytest.mark.usefixtures("configured")
def test_a_file_that_is_no_dicom_is_refused(tmp_path: Path) -> None:
    """The sentence names the file."""
    path = tmp_path / "text"
    path.write_text("no DICOM")
    assert f"{path}: no Part 10 file" in run("test", path, code=ExitCode.REFUSED)
