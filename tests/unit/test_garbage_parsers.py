"""G7: a parser answers any bytes or refuses them with its own error; they become no path or log line."""

import random
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proof.fuzz.hostile import nested_within
from proof.fuzz.mutation import mutated
from proof.fuzz.seeds import SEEDS
from proof.fuzz.targets import TARGETS
from support.synthetic_instances import EXPLICIT, Instance

from gateway.dicom.dataset.header import read_header
from gateway.errors import DataSetError

ROUNDS = 400


def test_every_target_has_seeds() -> None:
    """A fuzzer that starts without seeds finds little."""
    assert set(SEEDS) == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_a_valid_seed_is_read(name: str) -> None:
    """The seeds are valid, or all mutations would be refused at once."""
    for seed in SEEDS[name]:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
@settings(deadline=None)
@given(raw=st.binary(max_size=600))
def test_noise_violates_no_guarantee(name: str, raw: bytes) -> None:
    """Random bytes."""
    TARGETS[name](raw)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_violate_no_guarantee(name: str) -> None:
    """Valid bytes, slightly changed: lengths up to 4 GiB, cuts, repeats, flipped bits."""
    rng = random.Random(name)  # noqa: S311  the same wrongs in each run
    for number in range(ROUNDS):
        seed = SEEDS[name][number % len(SEEDS[name])]
        TARGETS[name](mutated(rng, seed))


@given(st.text(max_size=80))
def test_texts_violate_no_guarantee(text: str) -> None:
    """Texts of every script, for parsers that read text."""
    for name in ("identifiers", "allowlist"):
        TARGETS[name](text.encode("utf-8", "surrogatepass"))


def test_a_data_set_is_refused_for_its_depth_alone() -> None:
    """Sequences 1,000 deep that all end, in a data set that is otherwise valid, as in `make fuzz`."""
    honest = Instance().data_set()
    deep = nested_within(random.Random(1), honest)  # noqa: S311  not used
    for raw, refused in ((honest, False), (deep, True)):
        with tempfile.TemporaryFile() as file:
            file.write(raw)
            file.flush()
            try:
                read_header(file.fileno(), 0, EXPLICIT, with_references=False)
            except DataSetError:
                assert refused
            else:
                assert not refused
