"""Every key of config.yaml is declared once: a running process takes it, or it waits for a restart."""

from gateway.config import Configuration
from gateway.config.section import Section
from gateway.processes.keys import AT_RESTART, LIVE


def keys() -> set[str]:
    """Return each key of each section of the model."""
    found = set()
    for name, field in Configuration.model_fields.items():
        section = field.annotation
        if name == "source":
            continue  # the path of the file
        if isinstance(section, type) and issubclass(section, Section):
            found |= {f"{name}.{key}" for key in section.model_fields}
        else:
            found.add(name)
    return found


def test_every_key_is_declared_once() -> None:
    """Add a new key to LIVE if each use asks for the current configuration, else to AT_RESTART."""
    assert set(AT_RESTART) | LIVE == keys()
    assert not set(AT_RESTART) & LIVE
