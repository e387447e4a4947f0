"""Each contract (name, queue, argument) has exactly one actor."""

import inspect
import json
import subprocess
import sys

from support.launcher import REPOSITORY

from gateway.domain import contract

LIST = """
import inspect, json, dramatiq, actors
broker = dramatiq.get_broker()
print(json.dumps({
    name: [actor.queue_name, [p.annotation.__name__ for p in inspect.signature(actor.fn).parameters.values()]]
    for name, actor in broker.actors.items()
}))
"""

ARGUMENTS = {
    contract.FORWARD_TO_PACS: ["int"],
    contract.FORWARD_TO_WORKER: ["int"],
    contract.FORWARD_TO_ARCHIVE: ["int"],
    contract.PROBE_ARCHIVE: ["str"],
    contract.PROBE_PACS: ["str"],
    contract.PROBE_WORKER: ["str"],
    contract.FORWARD_UNIT: ["int"],
    contract.EXPIRE_RESULT: ["int"],
    contract.EXPIRE_UNIT: ["int"],
    contract.END_PAUSE: ["str"],
    contract.SWEEP: [],
    contract.WATCH: [],
    contract.NOTIFY: [],
}


def test_each_contract_is_one_actor_on_its_queue(database_url: str) -> None:
    """Name, queue and argument type agree; no actor is without a contract."""
    assert database_url
    listed = subprocess.run(
        [sys.executable, "-c", LIST], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60
    )
    actors = json.loads(listed.stdout.splitlines()[-1])
    assert actors == {
        one.actor_name: [str(one.queue_name), arguments] for one, arguments in ARGUMENTS.items()
    }
    assert set(ARGUMENTS) == set(contract.ALL)


def test_every_contract_of_the_module_is_in_the_list() -> None:
    """`ALL` holds every contract."""
    found = {value for _, value in inspect.getmembers(contract) if isinstance(value, contract.Contract)}
    assert found == set(contract.ALL)
