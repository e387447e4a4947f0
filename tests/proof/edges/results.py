"""Edges whose workers return nothing, or the wrong thing."""

import time
from collections.abc import Generator

from proof.edges.edge import broken
from proof.edges.lab import Lab, Setup

RESULTS = Setup("results")


def healthy(lab: Lab) -> None:
    """Put healthy workers back, with the configuration that the lab began with."""
    for title in lab.worker_ports:
        lab.worker(title)
    if lab.config != lab.base:
        lab.configure({})
    for title in lab.worker_ports:
        lab.command("destinations", "resume", title)


@broken(RESULTS, (r"\bAPP01\b", r"result", r"\b(0|no|none|nothing)\b"), (r"worker|log|APP01|worker_timeout",))
def worker_answers_nothing(lab: Lab) -> Generator[None]:
    """Both workers accept images and never return a result."""
    for title in lab.worker_ports:
        lab.worker(title, "--store", "ok")
    lab.send(12)
    time.sleep(14)
    yield
    healthy(lab)
    lab.send(8)


@broken(RESULTS, (r"\bAISCU\b", r"\bAPP01\b"), (r"calling_ae_titles|allowed_calling_aets", r"AISCU"))
def worker_answers_under_another_title(lab: Lab) -> Generator[None]:
    """The worker APP01 returns its results as AISCU, which the edge rejects."""
    lab.worker("APP01", "--store", "result", "--result-title", "AISCU")
    lab.stop("APP02")
    lab.worker("APP02", "--store", "result")
    lab.send(8)
    time.sleep(10)
    yield
    titles = [*lab.base["edge"]["allowed_calling_aets"], "AISCU"]
    workers = [dict(one) for one in lab.base["forwarder"]["workers"]]
    workers[0]["calling_ae_titles"] = ["APP01", "AISCU"]
    lab.configure({"edge": {"allowed_calling_aets": titles}, "forwarder": {"workers": workers}})
    lab.send(6)
    time.sleep(8)
    healthy(lab)


@broken(
    RESULTS,
    (r"\bAPP0[12]\b|worker", r"result", r"unknown|unmatched|no source|not known|nobody"),
    (r"results list --unmatched",),
)
def worker_answers_to_unknown_studies(lab: Lab) -> Generator[None]:
    """The workers return results that name instances which nobody sent."""
    for title in lab.worker_ports:
        lab.worker(title, "--store", "result", "--result-unknown")
    lab.send(6)
    time.sleep(10)
    yield
    healthy(lab)
    lab.send(4)


@broken(
    RESULTS,
    (r"\bAPP01\b", r"\bAPP02\b|all|no worker|every", r"away|refused|no (worker|replica)"),
    (r"start|forwarder\.(workers|applications)",),
)
def application_without_a_replica(lab: Lab) -> Generator[None]:
    """All workers of the application are dead."""
    for title in lab.worker_ports:
        lab.stop(title)
    lab.send(6)
    time.sleep(6)
    yield
    healthy(lab)


@broken(RESULTS, (r"\bAPP0[12]\b|worker", r"cannot understand|0xC0|refus"), (r"deliveries retry|worker",))
def worker_refuses_images(lab: Lab) -> Generator[None]:
    """The workers answer each C-STORE with Cannot Understand."""
    for title in lab.worker_ports:
        lab.worker(title, "--store", "status", "--status", "C001")
    lab.send(3)
    time.sleep(9)
    yield
    healthy(lab)
    lab.mini_pacs("deliveries", "retry", "--state", "dead")


@broken(RESULTS, (r"\bAPP01\b", r"refused|away"), (r"start|forwarder\.(workers|applications)",))
def one_worker_dead(lab: Lab) -> Generator[None]:
    """One of two workers is dead; the other one does its work."""
    lab.stop("APP01")
    lab.send(6)
    time.sleep(6)
    yield
    healthy(lab)
