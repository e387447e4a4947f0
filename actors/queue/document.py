"""Reads the document of a queue row as a Dramatiq message, or says why it is none.

Dramatiq's own decoder takes what its worker then chokes on: one bad field restarts the consumer's thread for
ever, another ends an actor's thread. Everything that the worker and our middleware use is checked here,
before a message is handed out, and before one is enqueued. The reason names the field and the kind of its
value, never the value.
"""

import math
from collections.abc import Callable, Mapping

from dramatiq import Message, get_encoder

from gateway.database.tables.messages import Claimed

LAST_ETA = 253_402_300_799_000
"""In milliseconds since 1970: the end of the year 9999."""

LONGEST_LIMIT = 2**53
"""In milliseconds; infinity has no place in JSON."""

_KINDS = {
    type(None): "null",
    bool: "a boolean",
    str: "a string",
    list: "a list",
    tuple: "a list",
    dict: "an object",
}


class NoMessageError(Exception):
    """The row holds no message that Dramatiq can run; the text says why."""


def decode(claimed: Claimed, queue_name: str) -> tuple[Message[object], float | None]:
    """Return the message, and the time (seconds since 1970) before which its options say not to run it.

    Where the document names another id or queue than its row, the row is right: by it the message was claimed
    and will be settled, and Dramatiq's thread would look for a consumer of that other queue. `eta` is taken
    out of the options, because with it Dramatiq would hold the message in memory.

    Raises:
        NoMessageError: it is none.
    """
    if claimed.message is None:
        raise NoMessageError("its message is larger than 4 MiB")
    try:
        document = get_encoder().decode(claimed.message.encode())
        require_message(document)
        given = {**document, "message_id": claimed.message_id, "queue_name": queue_name}
        message: Message[object] = Message(**given)
    except NoMessageError:
        raise
    except Exception as error:
        # Whatever it is, it would be raised at each claim of this row.
        raise NoMessageError(f"its message cannot be read: {type(error).__name__}") from error
    eta = message.options.pop("eta", None)
    return message, None if eta is None else eta / 1000


def require_message(document: object) -> None:
    """Return if Dramatiq's worker can run what `document` describes.

    Raises:
        NoMessageError: it cannot.
    """
    if not isinstance(document, dict):
        raise NoMessageError(f"its message is {_kind(document)}, not an object")
    if missing := sorted(_FIELDS.keys() - document.keys()):
        raise NoMessageError(f"its message has no {', no '.join(missing)}")
    if document.keys() - _OPTIONAL - _FIELDS.keys():
        raise NoMessageError("its message has fields that Dramatiq does not know")
    _check(document, _FIELDS, "")
    _check(document, _OPTIONAL_FIELDS, "")
    _check(document["options"], _OPTIONS, "option ")


def _check(values: Mapping[str, object], checks: "_Checks", what: str) -> None:
    for name, (holds, expected) in checks.items():
        if name in values and not holds(values[name]):
            raise NoMessageError(f"{what}{name} of its message is {_kind(values[name])}, not {expected}")


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a number")


def _is(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kinds)


def _number(smallest: float, largest: float) -> Callable[[object], bool]:
    def holds(value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (isinstance(value, int) or math.isfinite(value)) and smallest <= value <= largest

    return holds


def _none_or(holds: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or holds(value)


_Checks = Mapping[str, tuple[Callable[[object], bool], str]]

_MOMENT = "a number of milliseconds before the year 10000"
_DURATION = "a number of milliseconds"

_FIELDS: _Checks = {
    "actor_name": (_is(str), "a string"),
    "args": (_is(list, tuple), "a list"),
    "kwargs": (_is(dict), "an object"),
    "options": (_is(dict), "an object"),
}
_OPTIONAL_FIELDS: _Checks = {"message_timestamp": (_number(-LAST_ETA, LAST_ETA), _MOMENT)}
_OPTIONAL = {"message_id", "queue_name", *_OPTIONAL_FIELDS}

_OPTIONS: _Checks = {
    "eta": (_number(-LAST_ETA, LAST_ETA), _MOMENT),
    "time_limit": (_none_or(_number(0, LONGEST_LIMIT)), _DURATION),
    "max_age": (_none_or(_number(0, LONGEST_LIMIT)), _DURATION),
    # JSON cannot hold exception classes: whatever stands here would end the thread when the actor raises.
    "throws": (lambda value: not value, "empty"),
}
