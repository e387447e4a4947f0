"""A question before a change: only yes goes on, and what follows the answer is left unread."""

import os
import sys
from collections.abc import Iterator
from io import StringIO
from typing import TextIO

import pytest
import typer

from cli.question import confirm


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """Give the write end of a pipe that is standard input."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield pipe


@pytest.mark.parametrize("answer", ["y\n", "YES\n", "what\ny\n", "y"])
def test_yes_goes_on(answers: TextIO, answer: str) -> None:
    """In capitals too, after another word, and without an end of line."""
    answers.write(answer)
    answers.close()
    confirm("Forget?")


@pytest.mark.parametrize(
    ("answer", "cause"), [("n\n", None), ("\n", None), ("", EOFError), ("x\n", EOFError)]
)
def test_all_else_is_a_no(answers: TextIO, answer: str, cause: type[Exception] | None) -> None:
    """Nobody there is told apart, so that the message can name --yes."""
    answers.write(answer)
    answers.close()
    with pytest.raises(typer.Abort) as raised:
        confirm("Forget?")
    assert type(raised.value.__cause__) is (cause or type(None))


def test_what_follows_the_answer_is_left_for_the_next_question(answers: TextIO) -> None:
    """Two questions, two lines."""
    answers.write("y\nn\n")
    answers.flush()
    confirm("Forget?")
    with pytest.raises(typer.Abort):
        confirm("Again?")


def test_a_text_without_a_descriptor_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """As tests of commands give it."""
    monkeypatch.setattr(sys, "stdin", StringIO("y\n"))
    confirm("Forget?")
