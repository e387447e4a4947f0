"""Results that are registered in one transaction are correlated as if each were registered alone."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from conftest import MakeEdge
from support import statements
from support.forwarding import Forwarding, ask, forwarding, workers_of
from support.synthetic_instances import Instance, new_uid, result_of, study_of

from gateway.errors import SpoolError
from gateway.forward.deliver import forward_to_worker
from gateway.register import results
from gateway.spool.part10_file import References, read_references
from gateway.sweep.expire import expire_one

MOST_STATEMENTS = 6
"""The registration, the candidates, the record and COMMIT; the guard of the pool may ask twice."""

ASKED, TIMED_OUT, UNCHANGED = 0.75, 0.2, 0.5
"""How often a worker gets an instance, the deadlines pass after one, and an original comes back unchanged."""

Step = Callable[[Forwarding], None]


@pytest.fixture
def core(make_edge: MakeEdge) -> Iterator[Forwarding]:
    """Yield the core with all workers; only APP01 gets instances."""
    with forwarding(make_edge()) as core, workers_of(core):
        core.edge.run("UPDATE destinations SET paused = true WHERE ae_title <> 'APP01'")
        yield core


def register(core: Forwarding, results: Sequence[Instance]) -> None:
    """Register the results in one batch."""
    batch = [core.received(one, worker="APP01") for one in results]
    assert core.registration().register(batch) == []
    assert all(one.is_done for one in batch)


def outcome(core: Forwarding) -> list[object]:
    """Return everything that correlation writes, with UIDs instead of ids."""
    return [
        core.edge.rows(
            "SELECT i.sop_instance_uid, i.correlation::text, i.late FROM instances i WHERE i.kind = 'result'"
            " ORDER BY 1, 2, 3"
        ),
        core.edge.rows(
            "SELECT r.sop_instance_uid, encode(i.sha256, 'hex'), s.worker FROM result_sources s"
            " JOIN instances r ON r.id = s.result_instance_id JOIN instances i ON i.id = s.source_instance_id"
            " ORDER BY 1, 2"
        ),
        core.edge.rows(
            "SELECT encode(i.sha256, 'hex'), e.state::text, r.sop_instance_uid FROM expected_results e"
            " JOIN instances i ON i.id = e.instance_id LEFT JOIN instances r ON r.id = e.result_instance_id"
            " ORDER BY 1, e.id"
        ),
        core.edge.rows(
            "SELECT encode(i.sha256, 'hex'), d.state::text FROM deliveries d"
            " JOIN instances i ON i.id = d.instance_id WHERE d.route = 'workers' ORDER BY 1"
        ),
        core.edge.rows("SELECT uid FROM unmatched_references ORDER BY 1"),
        core.edge.one("SELECT count(*) FROM dramatiq.queue WHERE queue_name = 'sweep'"),
    ]


def scenario(chance: random.Random) -> tuple[list[Step], list[Instance]]:
    """Return what happens before the results, and the results, in the order in which they are registered."""
    sources = study_of(4)
    first = sources[0]
    second_version = Instance(first.sop_instance_uid, first.study_instance_uid, payload=b"\x07\x07" * 64)
    steps: list[Step] = []
    for source in [*sources, second_version]:
        steps.append(partial(_ask if chance.random() < ASKED else _receive, source))
        if chance.random() < TIMED_OUT:
            steps.append(_expire)
    results = [_result(chance, sources) for _ in range(8)]
    if chance.random() < UNCHANGED:
        results.append(chance.choice(sources))
    return steps, sorted(results, key=lambda one: one.sop_instance_uid)


def _result(chance: random.Random, sources: list[Instance]) -> Instance:
    study = sources[0].study_instance_uid
    plain = result_of(study=chance.choice([study, new_uid()]), number=chance.randrange(9))
    return chance.choice(
        [
            result_of(*chance.sample(sources, chance.randint(1, 2))),
            result_of(sources[0], study=new_uid()),
            replace(plain, referenced_series=sources[1].series_instance_uid),
            replace(plain, referenced_study=study),
            plain,
            result_of(Instance()),
        ]
    )


def _receive(instance: Instance, core: Forwarding) -> None:
    core.receive(instance)


def _ask(instance: Instance, core: Forwarding) -> None:
    core.receive(instance)
    delivery = core.edge.one(
        "SELECT d.id FROM deliveries d JOIN instances i ON i.id = d.instance_id"
        " WHERE d.route = 'workers' AND encode(i.sha256, 'hex') = %(digest)s",
        digest=instance.digest,
    )
    forward_to_worker(core.context, delivery)


def _expire(core: Forwarding) -> None:
    for expectation in core.overdue():
        expire_one(core.edge.configuration, core.edge.database, core.context.wakeup, expectation)


@pytest.mark.parametrize("seed", range(12))
def test_a_batch_is_correlated_as_its_results_one_by_one(core: Forwarding, seed: int) -> None:
    """Versions, shared sources, references to series and studies, late results, originals that come back."""
    steps, results = scenario(random.Random(seed))  # noqa: S311  a repeatable scenario
    found = []
    for batches in ([results], [[one] for one in results]):
        core.edge.run("TRUNCATE instances, dramatiq.queue CASCADE")
        for step in steps:
            step(core)
        for batch in batches:
            register(core, batch)
        found.append(outcome(core))
    for together, alone in zip(*found, strict=True):
        assert together == alone


def test_results_of_one_uid_answer_all_its_versions(core: Forwarding) -> None:
    """Each result meets what is expected after those before it."""
    source = Instance()
    versions = [replace(source, payload=bytes([number, number]) * 64) for number in (1, 2, 3)]
    for version in versions:
        _ask(version, core)
    register(core, [result_of(source, number=number) for number in (1, 2, 3)])
    assert core.edge.rows("SELECT state::text FROM expected_results") == [("arrived",)] * len(versions)
    assert core.edge.one("SELECT count(DISTINCT result_instance_id) FROM expected_results") == len(versions)


def test_a_batch_of_results_costs_one_transaction(core: Forwarding, monkeypatch: pytest.MonkeyPatch) -> None:
    """The statements do not grow with the results."""
    core.edge.run("UPDATE destinations SET max_outstanding = 100")
    core.edge.run("UPDATE application_workers SET max_outstanding = 100")
    sources = study_of(20)
    for source in sources:
        ask(core, source)
    batch = [core.received(result_of(source), worker="APP01") for source in sources]
    registration = core.registration()
    sent = statements.noted(monkeypatch)
    assert registration.register(batch) == []
    assert len(sent) <= MOST_STATEMENTS, sent
    assert sum("COMMIT" in one for one in sent) == 1
    assert core.edge.one("SELECT count(*) FROM expected_results WHERE state = 'arrived'") == len(sources)


def test_a_result_that_postgresql_refuses_refuses_no_other(core: Forwarding) -> None:
    """The batch is registered again, each result alone: one stays unmatched, the others are correlated."""
    sources = study_of(3)
    for source in sources:
        ask(core, source)
    refused = core.edge.one(
        "SELECT id FROM instances WHERE sop_instance_uid = %(uid)s", uid=sources[1].sop_instance_uid
    )
    core.edge.run(
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF NEW.source_instance_id = {refused} THEN"
        " RAISE EXCEPTION 'poison' USING ERRCODE = 'check_violation'; END IF; RETURN NEW; END $$"
    )
    core.edge.run(
        "CREATE TRIGGER poison BEFORE INSERT ON result_sources FOR EACH ROW EXECUTE FUNCTION poison()"
    )
    results = [result_of(source) for source in sources]
    register(core, results)
    found: dict[str, str] = dict(
        core.edge.rows("SELECT sop_instance_uid, correlation::text FROM instances WHERE kind = 'result'")
    )
    expected = ["references", "unmatched", "references"]
    assert [found[result.sop_instance_uid] for result in results] == expected
    assert all(core.edge.delivery(result)["state"] == "pending" for result in results)


def test_a_result_whose_file_cannot_be_read_refuses_no_other(
    core: Forwarding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again, and its link stays; the others of its batch are registered."""
    sources = study_of(3)
    for source in sources:
        ask(core, source)
    batch = [core.received(result_of(source), worker="APP01") for source in sources]

    def failing(path: Path, transfer_syntax_uid: str) -> References:
        if path == batch[1].path:
            raise SpoolError("cannot read it: Input/output error")
        return read_references(path, transfer_syntax_uid)

    monkeypatch.setattr(results, "read_references", failing)
    registering = core.registration()
    assert registering.register(batch) == [batch[1]]
    assert [one.is_done for one in batch] == [True, False, True]
    monkeypatch.setattr(results, "read_references", read_references)
    assert registering.register([batch[1]]) == []
    assert core.edge.rows("SELECT state::text FROM expected_results") == [("arrived",)] * 3


def test_a_batch_that_is_registered_again_changes_nothing(core: Forwarding) -> None:
    """A process died right behind its commit; the next one finds the links."""
    sources = study_of(3)
    for source in sources:
        ask(core, source)
    batch = [core.received(result_of(source), worker="APP01") for source in sources]
    again = [type(one)(one.envelope, one.file, one.part) for one in batch]
    assert core.registration().register(batch) == []
    before = outcome(core)
    assert core.registration().register(again) == []
    assert outcome(core) == before
    assert core.edge.one("SELECT count(*) FROM deliveries d JOIN instances i ON i.id = d.instance_id"
                         " WHERE i.kind = 'result'") == len(batch)  # fmt: skip
