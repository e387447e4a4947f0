"""Errors of config.yaml: suggestions for keys and values, duplicate keys, and invalid YAML."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import config
from gateway.errors import ConfigurationError

EDGE = "edge: {ae_title: MINI_EDGE, allowed_calling_aets: [ORTHANC]"
ORTHANC = "orthanc: {host: pacs, port: 4242, ae_title: ORTHANC}"


def refusal(folder: Path, text: str | bytes) -> str:
    """Return the error for a file with that content."""
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError) as refused:
        config.load(path)
    assert str(path) in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("edge", "forwarder", "sentence"),
    [
        ("prot: 1", "", "unknown key edge.prot; did you mean port?"),
        ("Port: 1", "", "unknown key edge.Port; did you mean port?"),
        ("max-associations: 1", "", "unknown key edge.max-associations; did you mean max_associations?"),
        ("urgent: {modalitys: [CT]}", "", "unknown key edge.urgent.modalitys; did you mean modalities?"),
        ("tls: {certificat: a}", "", "unknown key edge.tls.certificat; did you mean certificate?"),
        ("mode: parallel", "", "unknown key edge.mode; did you mean forwarder.mode?"),
        ("retention_hours: 1", "", "did you mean sweep.retention_hours?"),
        ("colour: red", "", "unknown key edge.colour"),
        ("", "workers: [{hots: a, port: 1, ae_title: A}]", "forwarder.workers.0.hots; did you mean host?"),
        ("", "mode: paralel", "forwarder.mode = 'paralel': one of parallel, pacs_only, workers_only"),
        ("", "mode: paralel", "did you mean parallel?"),
        ("", "mode: PACS-only", "did you mean pacs_only?"),
        ("", "mode: everything", "one of parallel, pacs_only, workers_only is expected"),
        ("", "worker_affinity: studies", "did you mean study?"),
        ("tls: {certificate: a, key: b, client_certificate: require}", "", "did you mean required?"),
        ("tls: 5", "", "edge.tls: a section with keys of its own is expected, not 5"),
    ],
)
def test_a_wrong_key_or_value_comes_with_a_suggestion(
    tmp_path: Path, edge: str, forwarder: str, sentence: str
) -> None:
    """Of the same section, or of the section that has such a key."""
    text = f"{EDGE}, {edge}}}\nforwarder: {{{ORTHANC}, {forwarder}}}\n"
    assert sentence in refusal(tmp_path, text.replace(", }", "}"))


def test_nothing_similar_gives_no_suggestion(tmp_path: Path) -> None:
    """A guess would mislead."""
    text = f"{EDGE}, colour: red}}\nforwarder: {{{ORTHANC}, mode: everything, workers: []}}\n"
    assert "did you mean" not in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("edge:\n  port: 1\n  port: 2\n", "port", "2 and 3"),
        ("edge: {}\nforwarder: {}\nedge: {}\n", "edge", "1 and 3"),
        ("edge:\n  tls:\n    key: a\n    ca: b\n    'key': c\n", "key", "3 and 5"),
        ("forwarder:\n  workers:\n    - host: a\n      host: b\n", "host", "3 and 4"),
        ("a: &a\n  x: 1\nb:\n  <<: *a\n  y: 1\n  y: 2\n", "y", "5 and 6"),
    ],
)
def test_a_key_that_occurs_twice_is_refused_with_both_lines(
    tmp_path: Path, text: str, key: str, lines: str
) -> None:
    """Whoever changes the first one would see no effect."""
    assert f"duplicate key {key}, in lines {lines}: delete one of them" in refusal(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"# nothing\n",
        b"\xff\xfe\x00\x01",
        b"\x00",
        b"{",
        b"a: b: c",
        b"[edge, forwarder]",
        b"edge",
        b"1: 2",
        b"? [a]\n: b",
        b"a: 2020-13-45",
        b"a: " + b"9" * 5000,
        b"[" * 5000,
        b"a: &a [*a]",
        b"!!python/object/apply:os.system [id]",
        b"source: /etc/passwd",
        b'edge: {data_root: "a\\0b"}',
        b"edge: {data_root: ~nobody_of_that_name/data}",
        b"edge:\nforwarder:\n",
    ],
)
def test_a_file_that_is_no_configuration_is_one_sentence(tmp_path: Path, text: bytes) -> None:
    """Empty, binary, cut off, deeply nested, or unusual YAML."""
    assert refusal(tmp_path, text)


@pytest.mark.parametrize("path", ["a\\0b", "~nobody_of_that_name/data"])
def test_an_impossible_path_is_refused(tmp_path: Path, path: str) -> None:
    """In a file that is otherwise valid."""
    text = f'{EDGE}, data_root: "{path}"}}\nforwarder: {{{ORTHANC}, mode: pacs_only}}\n'
    path_of_file = tmp_path / "config.yaml"
    path_of_file.write_text(text)
    with pytest.raises(ConfigurationError):
        config.load(path_of_file)


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
def test_no_content_causes_an_unforeseen_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Any content gives a ConfigurationError or a configuration."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError):
        config.load(path)


@pytest.mark.parametrize("log_path", ["data/edge.log", "data/incoming/edge.log", "data", "other/edge.log"])
def test_a_log_inside_the_spool_is_refused(tmp_path: Path, log_path: str) -> None:
    """Also through a link: the sweep moves and deletes files there."""
    (tmp_path / "data").mkdir()
    (tmp_path / "other").symlink_to("data")
    text = f"{EDGE}, log_path: {log_path}}}\nforwarder: {{{ORTHANC}, mode: pacs_only}}\n"
    assert "edge.log_path" in refusal(tmp_path, text)


def test_a_folder_in_place_of_the_file_is_one_sentence(tmp_path: Path) -> None:
    """With the variable that names the file."""
    with pytest.raises(ConfigurationError, match=r"Is a directory; set MINI_PACS_CONFIG"):
        config.load(tmp_path)
