"""Ask all peers at the same time, and say what is wrong with each."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta

from gateway.config import Configuration
from gateway.config.destination import Destination
from gateway.database.tables.overview import Overview
from gateway.diagnosis import peer
from gateway.diagnosis.bounded import HangsError, RunningCheck
from gateway.diagnosis.destinations import holds_of
from gateway.diagnosis.finding import Finding, note, problem
from gateway.diagnosis.peer_answer import PeerAnswer
from gateway.diagnosis.words import in_words

ALL_SECONDS = 7.0
"""The limit for all peers together, where there is as much time; must exceed the steps of a peer that hangs:
2 s for its name, 2 s for an association, 3 s to learn what it speaks."""
FLOWS = timedelta(seconds=60)
"""A peer that took an instance within this time is not away, whatever the answer to this command."""


def start(configuration: Configuration, seconds: float = ALL_SECONDS) -> dict[str, RunningCheck[PeerAnswer]]:
    """Begin to ask every destination at the same time, by AE title; all end within `seconds`."""
    limit = min(seconds, ALL_SECONDS)

    def asking(destination: Destination) -> RunningCheck[PeerAnswer]:
        return RunningCheck(limit, lambda: peer.ask(configuration, destination))

    return {destination.ae_title: asking(destination) for destination in configuration.destinations}


def answers_of(
    configuration: Configuration, asked: Mapping[str, RunningCheck[PeerAnswer]]
) -> dict[str, PeerAnswer]:
    """Return the answers by AE title, when all have come or their time is over."""
    answers = {}
    for title, running in asked.items():
        try:
            answers[title] = running.result()
        except HangsError:
            address = configuration.destination(title)
            answers[title] = PeerAnswer(
                wrong=f"did not answer in time: the check of {address.host}:{address.port} did not end "
                f"within {running.seconds:.1f} s",
                remedy=f"`mini-pacs destinations echo {title}`; is this host overloaded (`uptime`)?",
            )
    return answers


def findings_of(
    configuration: Configuration, answers: Mapping[str, PeerAnswer], view: Overview | None
) -> Iterator[Finding]:
    """Yield a finding for each peer that did not answer well."""
    for title, answer in answers.items():
        if not answer.wrong:
            continue
        holds = holds_of(configuration.forwarder.route_of(title))
        what = in_words(f"{title} {answer.wrong}")
        means = answer.means or "its deliveries wait; nothing is lost"
        last = took_lately(view, title)
        if last is not None:
            yield note(
                f"peer:{title}",
                f"{what}; but it took an instance {last} s ago",
                "the actors reach it, this command does not",
                answer.remedy,
            )
        else:
            yield problem(f"peer:{title}", what, means, answer.remedy, holds=holds)


def took_lately(view: Overview | None, title: str) -> int | None:
    """Return how many seconds ago an open peer took an instance, if that is not long ago."""
    if view is None:
        return None
    if not any(d.ae_title == title and d.is_open_for_work and not d.is_tried for d in view.destinations):
        return None
    for one in view.answers:
        if one.ae_title == title and view.now - one.last_at < FLOWS:
            return round((view.now - one.last_at).total_seconds())
    return None


def merged(found: list[Finding], answers: Mapping[str, PeerAnswer]) -> list[Finding]:
    """Return one finding where a destination is away and its peer says why.

    The finding keeps how long the destination is away and how many instances wait, and gets the cause and
    remedy of the peer's answer. If the peer answers well meanwhile, the finding says so.
    """
    causes = {one.key.removeprefix("peer:"): one for one in found if one.key.startswith("peer:")}
    result = []
    for one in found:
        kind, _, title = one.key.partition(":")
        if kind == "destination.away" and title in causes and causes[title].problem:
            cause = causes.pop(title)
            remedy = f"{cause.remedy}; then it is probed by itself, or {one.remedy}"
            result.append(replace(one, what=_with_cause(one.what, cause.what, title), remedy=remedy))
        elif kind == "destination.away" and title in answers and not answers[title].wrong:
            result.append(_answers_now(one, answers[title], title))
        else:
            result.append(one)
    gone = {one.key for one in found if one.key.startswith("peer:")} - {f"peer:{title}" for title in causes}
    return [one for one in result if one.key not in gone]


def _answers_now(away: Finding, answer: PeerAnswer, title: str) -> Finding:
    if " answers " in away.what:
        return away
    return replace(
        away,
        what=f"{away.what}; it answers {answer.reached} now",
        remedy=f"{away.remedy}; look into the log of {title} for why it took no C-STORE",
    )


def _with_cause(what: str, cause: str, title: str) -> str:
    short = cause.removeprefix(f"{title} ")
    return what if short in what else f"{what}; now it {short}"
