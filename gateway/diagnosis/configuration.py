"""The configuration: what would keep processes from starting, and certificates that end."""

import os
import re
from collections.abc import Iterator
from datetime import datetime

from gateway.config import Configuration
from gateway.diagnosis import certificates
from gateway.diagnosis.finding import Finding, Holds, note, problem
from gateway.diagnosis.peer import key_of
from gateway.diagnosis.startable import HANGS, refusals

_TLS = re.compile(r"tls of destination (.+?)\.(?:certificate|key) = ")
LOG_BYTES = 64 << 10
"""With less free space than this, the disk of the log counts as full: some hundred lines."""


def configuration(configuration: Configuration) -> Iterator[Finding]:
    """Yield what would keep the processes from starting, as the user who runs the command."""
    for sentence in refusals(configuration):
        key, _, _ = sentence.partition(" ")
        if sentence.endswith(HANGS):
            yield _hangs(sentence, of_spool="data_root" in key)
            continue
        yield problem(
            f"configuration.refused:{key}",
            f"A process would not start: {sentence}",
            "running processes continue; after a restart nothing is received or forwarded",
            _correct(configuration, sentence),
            holds=Holds.ALL if "data_root" in key else Holds.LATER,
        )


def _correct(configuration: Configuration, sentence: str) -> str:
    """Return where to correct what would keep a process from starting."""
    where = f"correct it in {configuration.source}, or on the disk; `mini-pacs config check`"
    found = _TLS.match(sentence)
    if found is None:
        return where
    tls = f"{key_of(configuration, found[1])}.tls"
    return f"let {tls}.certificate and {tls}.key name a certificate and its own key; {where}"


def _hangs(sentence: str, *, of_spool: bool) -> Finding:
    return problem(
        "spool.hangs" if of_spool else "configuration.log_hangs",
        f"The {'spool' if of_spool else 'log'} cannot be written: {sentence}",
        "nothing can be received or forwarded" if of_spool else "processes wait for the log",
        "look at that disk or its network mount: `dmesg`, `mount`; if somebody froze the file system: "
        "`fsfreeze -u`",
        holds=Holds.ALL,
    )


def log_disk(configuration: Configuration) -> Iterator[Finding]:
    """Yield a finding if the disk of the log is full: the processes go on, and their lines are lost."""
    folder = configuration.edge.log_path.parent
    try:
        status = os.statvfs(folder)
    except OSError:
        return  # `refusals` says what is wrong with the folder
    free = status.f_bavail * status.f_frsize
    if free < LOG_BYTES:
        yield problem(
            "configuration.log_disk",
            f"The disk of the log {configuration.edge.log_path} is full ({free >> 10:,} KiB are free)",
            "the edge goes on, and its log lines are lost: nobody can look up later what happened",
            "free space there (`df -h`), lower edge.log_max_mb and edge.log_backups, or change edge.log_path",
            holds=Holds.NOTHING,
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
        "running processes keep the configuration that they have read; no process starts with this file",
        "correct config.yaml; `mini-pacs config check`",
        holds=Holds.LATER,
    )
