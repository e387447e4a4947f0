"""What a receiver that died while PostgreSQL was away leaves, and a reception that PostgreSQL refuses.

Another process registers what was left: the next receiver at its start, or the sweep. Beside complete
receptions there are a `.part` file without a finished envelope, a file with other bytes than its envelope
says, a complete one without its final name, and one whose `.part` link is lost.
"""

from dataclasses import replace
from pathlib import Path

from support.synthetic_instances import Instance, result_of, study_of

from gateway.register.unregistered import REFUSED
from gateway.spool.partial import PARTIAL, SUFFIX
from gateway.spool.places import DAMAGED
from proof.crash_points.environment import Batch, Run, Senders

_NO_NAME, _NO_LINK, _TORN = "without its name", "without its link", "with other bytes"

_REFUSE = """
CREATE FUNCTION refuse_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.sop_instance_uid = '{uid}' THEN RAISE EXCEPTION 'refused by the scenario'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_one BEFORE INSERT ON instances FOR EACH ROW EXECUTE FUNCTION refuse_one()
"""


def senders(received: list[Instance], worker: str) -> Senders:
    """Return what is received while PostgreSQL is away.

    `received` is the return value of `rare_receptions.known`; these instances are acknowledged already.
    """
    stands, lost, rivalled = received
    study = study_of(2)
    second = replace(study[1], payload=b"\x03\x04" * 512)
    results = [result_of(study[0], number=number) for number in (1, 2)]  # they are registered together
    words = [Instance(series_description=word) for word in (_NO_NAME, _NO_LINK, _TORN)]
    rival = replace(rivalled, payload=b"\x07\x08" * 512)
    batches: list[Batch] = [
        (worker, results),
        ("ORTHANC", [*study, second, *words]),
        ("ORTHANC", [stands, lost, rival]),
    ]
    return Senders(batches, list(received))


def leave(run: Run) -> None:
    """Receive everything while PostgreSQL is away, kill the receiver, and harm some of its files."""
    scp = run.serve(away=True)
    assert run.send(steadily=False), scp.text()
    scp.kill()
    assert len(run.unregistered()) == len(run.senders.acknowledged) - _known(run)
    _final(run, _NO_NAME).unlink()
    _link(run, _NO_LINK).unlink()
    path = _final(run, _TORN)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    run.senders.acknowledged.remove(_instance(run, _TORN))
    folder = run.unregistered()[0].parent
    (folder / f"ffffffff{SUFFIX}").write_bytes(b"\0" * 2000)


def _known(run: Run) -> int:
    return int(run.one("SELECT count(*) FROM instances"))


def _instance(run: Run, word: str) -> Instance:
    [instance] = [one for one in run.senders.acknowledged if one.series_description == word]
    return instance


def _final(run: Run, word: str) -> Path:
    instance = _instance(run, word)
    return run.root / "incoming" / instance.study_instance_uid / f"{instance.sop_instance_uid}.dcm"


def _link(run: Run, word: str) -> Path:
    path = _final(run, word)
    [link] = [link for link in run.unregistered() if link.samefile(path)]
    return link


def set_aside(run: Run) -> list[str]:
    """Check that the file with other bytes is kept, and is the only one."""
    kept = len(list((run.root / DAMAGED).rglob("*.dcm")))
    return [] if kept == 1 else [f"{kept} files are in {DAMAGED}/, not 1"]


def all_registered(run: Run) -> bool:
    """Wait until the receiver has registered every link; tell whether it lives."""
    run.await_registered()
    return not run.died()


# ---- what PostgreSQL refuses -----------------------------------------------------------------------


def refuse_second(run: Run) -> None:
    """Let PostgreSQL refuse the instance of the second sender."""
    run.run(_REFUSE.format(uid=run.senders.batches[1][1][0].sop_instance_uid))


def refuses_no_more(run: Run) -> None:
    """Let PostgreSQL take it again, as after an operator's repair."""
    run.run("DROP FUNCTION IF EXISTS refuse_one() CASCADE")


def refused(run: Run) -> list[Path]:
    """Return the links of the receptions that were given up."""
    return list((run.root / PARTIAL / REFUSED).glob(f"*{SUFFIX}"))
