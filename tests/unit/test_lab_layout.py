"""The lab's configuration and ports."""

import random
from pathlib import Path

from gateway import config
from gateway.lab import layout


def test_the_written_configuration_is_accepted_and_keeps_its_changes(tmp_path: Path) -> None:
    """`config.load` accepts what `write` writes; changes replace values section by section."""
    ports = layout.Ports(15001, 15002, 15003, (15004, 15005, 15006, 15007, 15008))
    path = layout.write(tmp_path, layout.configuration(ports, {"forwarder": {"max_retries": 1}}))
    loaded = config.load(path)
    assert loaded.edge.port == 15001
    assert loaded.edge.bind_address == "127.0.0.1"
    assert loaded.forwarder.max_retries == 1
    assert loaded.forwarder.orthanc.port == 15002
    assert [worker.port for worker in loaded.forwarder.workers] == list(ports.workers)


def test_an_existing_configuration_is_never_overwritten(tmp_path: Path) -> None:
    """A user's changes survive the next start of the lab."""
    path = layout.write(tmp_path, {"edge": {}})
    path.write_text("mine", encoding="utf-8")
    assert layout.write(tmp_path, {"edge": {}}).read_text(encoding="utf-8") == "mine"


def test_free_ports_do_not_repeat_with_the_seed_of_a_test() -> None:
    """Two tests with the same seed of the shared generator get different ports."""
    random.seed(1)
    first = layout.free_ports(5)
    random.seed(1)
    assert len(set(first)) == 5
    assert layout.free_ports(5) != first


def test_wanted_ports_are_given_where_they_are_free() -> None:
    """A free well-known port is used; a taken one is replaced."""
    [port] = layout.free_ports(1)
    assert layout.free_ports(1, [port]) == [port]
