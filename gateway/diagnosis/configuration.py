"""The configuration: what would keep processes from starting, and certificates that end."""

from collections.abc import Iterator
from datetime import datetime

from gateway.config import Configuration
from gateway.diagnosis import certificates
from gateway.diagnosis.finding import Finding, Holds, note, problem
from gateway.diagnosis.startable import refusals


def configuration(configuration: Configuration) -> Iterator[Finding]:
    """Yield what would keep the processes from starting, as the user who runs the command."""
    for sentence in refusals(configuration):
        key, _, _ = sentence.partition(" ")
        yield problem(
            f"configuration.refused:{key}",
            f"A process would not start: {sentence}",
            "what runs goes on; after a restart nothing is received or forwarded",
            f"correct it in {configuration.source}, or on the disk; `mini-pacs config check`",
            holds=Holds.ALL if "data_root" in key else Holds.LATER,
        )


def certificates_of(configuration: Configuration, now: datetime) -> Iterator[Finding]:
    """Yield the certificates that have ended, end soon, or are not valid yet."""
    for sentence in certificates.warnings(configuration, now):
        is_over = (
            " ended at " in sentence or "not valid before" in sentence or "certificate ended" in sentence
        )
        what, _, means = sentence.rpartition(": ")
        make = problem if is_over else note
        yield make(
            f"certificate:{sentence.partition(' is ')[0].partition(' end')[0]}",
            what,
            means.removesuffix("; renew it"),
            "renew it, and restart the processes",
            holds=Holds.RECEPTION if sentence.startswith("edge.") else Holds.PACS,
        )


def unreadable(error: Exception) -> Finding:
    """Return the finding for a config.yaml that cannot be used."""
    return problem(
        "configuration.invalid",
        str(error).replace("\n", "; "),
        "what runs goes on with what it has read; no process starts with this file",
        "correct config.yaml; `mini-pacs config check`",
        holds=Holds.LATER,
    )
