"""Fixtures of this folder."""

from collections.abc import Iterator

import pytest
from support.console_lab import ConsoleLab, console_lab
from support.synthetic_instances import Instance


@pytest.fixture(scope="module")
def console() -> Iterator[ConsoleLab]:
    """Yield one lab with a console for all tests of a file."""
    with console_lab() as console:
        yield console


@pytest.fixture(scope="module")
def delivered(console: ConsoleLab) -> list[Instance]:
    """Return the instances of a study that the PACS has."""
    return console.send_delivered(2)
