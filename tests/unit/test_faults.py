"""What each injected fault does at its seam, and at no other."""

from random import Random

import pytest

from gateway.domain.routing import Route
from gateway.faults import EFFECTS, Active, Faults, Name
from gateway.log import Stage


def answers(faults: Faults) -> dict[Name, bool]:
    """Return the answer of every seam."""
    return {
        Name.REJECT_ALL: faults.reject_all(),
        Name.DISK_FULL: faults.disk_full(),
        Name.IO_DELAY_MS: faults.io_delay(Stage.STORE) > 0,
        Name.RANDOM_FAIL_RATE: faults.fails_at_random(Stage.RECEIVE),
        Name.PACS_DOWN: faults.peer_is_down(Route.PACS),
        Name.ARCHIVE_DOWN: faults.peer_is_down(Route.ARCHIVES),
        Name.WORKER_DOWN: faults.peer_is_down(Route.WORKERS),
        Name.WORKER_HANG: faults.worker_hangs(),
        Name.DROP_ASSOCIATION: faults.drops_association(Stage.FORWARD_PACS),
    }


@pytest.mark.parametrize("name", Name)
def test_a_fault_acts_at_its_own_seam_only(name: Name) -> None:
    """Without it nothing happens."""
    assert not any(answers(Faults()).values())
    told = answers(Faults((Active(name, 1.0),)))
    assert [fault for fault, active in told.items() if active] == [name]


def test_a_stage_narrows_a_fault() -> None:
    """`--stage forward_pacs` does not affect the other stages."""
    faults = Faults((Active(Name.IO_DELAY_MS, 250, Stage.FORWARD_PACS),))
    assert faults.io_delay(Stage.FORWARD_PACS) == 0.25
    assert faults.io_delay(Stage.STORE) == 0


def test_a_rate_is_a_share() -> None:
    """Thirty per cent of many, none of none."""
    faults = Faults((Active(Name.RANDOM_FAIL_RATE, 0.3),), Random(7))  # noqa: S311  dice
    failed = sum(faults.fails_at_random(Stage.RECEIVE) for _ in range(10_000))
    assert 2_700 < failed < 3_300
    assert not Faults((Active(Name.RANDOM_FAIL_RATE, 0.0),)).fails_at_random(Stage.RECEIVE)


def test_every_fault_is_explained() -> None:
    """Each has a description of its effect, and a default within its bounds."""
    assert set(EFFECTS) == set(Name)
    for effect in EFFECTS.values():
        assert effect.text
        assert effect.default is None or effect.maximum is None or effect.default <= effect.maximum
