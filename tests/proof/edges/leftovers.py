"""Edges on which somebody left something: faults, rules, dead messages, an endpoint that hangs."""

import json
import sys
import time
import uuid
from collections.abc import Generator

from proof.edges import sender
from proof.edges.edge import broken
from proof.edges.lab import Lab, Setup
from proof.edges.machine import free_port, is_open, wait_for
from proof.edges.pacs import SILENT
from proof.edges.senders import part10

LEFT = Setup("leftovers")


def _enqueue(lab: Lab, queue: str, actor: str) -> None:
    """Write a message as an older version left it."""
    made = {
        "queue_name": queue,
        "actor_name": actor,
        "args": [],
        "kwargs": {},
        "options": {},
        "message_id": str(uuid.uuid4()),
        "message_timestamp": int(time.time() * 1000),
    }
    columns = "(message_id, queue_name, state, message, due)"
    columns += " VALUES (%s, %s, 'queued', %s, now() - interval '1 hour')"
    lab.server.sql(f"INSERT INTO dramatiq.queue {columns}", made["message_id"], queue, json.dumps(made))


@broken(LEFT, (r"fault", r"pacs_down"), (r"clear-faults",))
def fault_left_on(lab: Lab) -> Generator[None]:
    """Somebody exercised a failure of the PACS, and did not end it."""
    lab.mini_pacs("inject-fault", "pacs_down")
    lab.send(2)
    time.sleep(4)
    yield
    lab.mini_pacs("clear-faults")


@broken(LEFT, (r"fault", r"worker_hang"), (r"clear-faults",))
def silent_fault_left_on(lab: Lab) -> Generator[None]:
    """Somebody left a fault on that records Success, and sends nothing to the workers."""
    lab.mini_pacs("inject-fault", "worker_hang")
    lab.send(2)
    time.sleep(3)
    yield
    lab.mini_pacs("clear-faults")


@broken(
    LEFT,
    (r"rule|accepts", r"\bPACS\b", r"no archive|nothing|none|every|all|\b0 of\b|refus"),
    (r"rules (explain|test|check)|accepts",),
)
def rule_that_matches_nothing(lab: Lab) -> Generator[None]:
    """The rule of the PACS has a misspelled value, so images go to no archive."""
    lab.configure(
        {
            "forwarder": {
                "orthanc": {"accepts": {"attribute": "Modality", "equals": "ct"}},
                "mode": "pacs_only",
            }
        }
    )
    lab.send(6)
    time.sleep(4)
    yield
    lab.configure({})
    lab.send(2)


@broken(
    LEFT,
    (r"rule|accepts", r"decide", r"BodyPartExamined|Body Part Examined|0018,0015"),
    (r"rules (explain|test|check)|accepts|attribute",),
)
def rule_that_cannot_be_decided(lab: Lab) -> Generator[None]:
    """A rule asks for an attribute that the scanner writes in an undeclared character set."""
    workers = lab.base["forwarder"]["workers"]
    accepts = {"attribute": "BodyPartExamined", "equals": "CHEST"}
    lab.configure(
        {
            "forwarder": {
                "workers": None,
                "applications": {"default": {"accepts": accepts, "workers": workers}},
            }
        }
    )
    for _ in range(6):
        whole = part10(BodyPartExamined="THORAX")
        sender.send_bytes(lab.port, whole.replace(b"THORAX", b"TH\xd6RAX"))
    time.sleep(4)
    yield
    lab.configure({})
    lab.send(2)


@broken(LEFT, (r"message", r"dead"), (r"queue (requeue|discard|dead)",))
def dead_message(lab: Lab) -> Generator[None]:
    """A message names an actor that this version does not have."""
    _enqueue(lab, "sweep", "actor_of_another_version")
    time.sleep(6)
    yield
    lab.mini_pacs("queue", "discard", "--all-dead", "--yes")


@broken(
    LEFT,
    (r"queue", r"old-reports", r"no (actor )?process|nobody|no consumer|not served|consume"),
    (r"queue discard --queue|dramatiq actors",),
)
def queue_that_nobody_serves(lab: Lab) -> Generator[None]:
    """Messages wait in a queue that no process of this version consumes."""
    _enqueue(lab, "old-reports", "report")
    time.sleep(5)
    yield
    lab.mini_pacs("queue", "discard", "--queue", "old-reports", "--yes")


@broken(
    LEFT,
    (r"notify|webhook", r"not answer|no answer|timed? ?out|hang"),
    (r"notify\.webhook|notify test",),
    within=150,
    gone_within=150,
)
def notify_endpoint_hangs(lab: Lab) -> Generator[None]:
    """The webhook accepts connections and never answers, while there is something to tell."""
    port = free_port()
    silent = lab.helper(sys.executable, "-c", SILENT, str(port))
    wait_for("the endpoint", lambda: is_open(port))
    keys = {
        "webhook": {"url": f"http://127.0.0.1:{port}/"},
        "after_seconds": 1,
        "at_most_every_seconds": 10,
        "timeout_seconds": 3,
    }
    lab.configure({"notify": keys})
    lab.mini_pacs("inject-fault", "pacs_down")
    time.sleep(6)
    yield
    lab.mini_pacs("clear-faults")
    lab.end(silent)
    lab.configure({})


@broken(
    LEFT, (r"accepts|address|calling|rejects? everybody|allowed_calling_aets",), (r"allowed_calling_aets",)
)
def worker_not_let_in(lab: Lab) -> Generator[None]:
    """The list of callers has an old address of a worker, so its results are rejected."""
    allowed = [title for title in lab.base["edge"]["allowed_calling_aets"] if title != "APP02"]
    allowed.append("APP02@10.9.9.9")  # config.yaml must name each worker
    lab.configure({"edge": {"allowed_calling_aets": allowed}})
    lab.send(6)
    time.sleep(8)
    yield
    lab.configure({})
    lab.send(4)
