"""Decode the document of a queue row as a Dramatiq message, or say why it cannot be run.

Dramatiq's own decoder accepts documents with which its worker fails later. One bad field restarts the
consumer's thread at each claim, another one ends an actor's thread. So every field and option that the worker
and our middleware use is checked here, before a message is enqueued and before it is handed out. The reason
names the field and the type of its value, never the value (G8).
"""

import math
from collections.abc import Callable, Mapping

from dramatiq import Message, get_encoder

from gateway.database.tables.messages import Claimed

LAST_ETA = 253_402_300_799_000
"""In milliseconds since 1970: the end of the year 9999."""

LONGEST_LIMIT = 2**53
"""In milliseconds; JSON has no infinity."""

_KINDS = {
    type(None): "null",
    bool: "a boolean",
    str: "a string",
    list: "a list",
    tuple: "a list",
    dict: "an object",
}


class NoMessageError(Exception):
    """Permanent: Dramatiq cannot run the message of that row; the text says why."""


def decode(claimed: Claimed, queue_name: str) -> tuple[Message[object], float | None]:
    """Return the message, and the time (seconds since 1970) before which it must not run, or None.

    If the document names another id or queue than its row, the values of the row are used, because the
    message is claimed and settled by those. `eta` is removed from the options, because Dramatiq would hold a
    message with `eta` in memory.

    Raises:
        NoMessageError: Dramatiq cannot run it.
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
        # Any error would be raised again at each claim of this row.
        raise NoMessageError(f"its message cannot be read: {type(error).__name__}") from error
    eta = message.options.pop("eta", None)
    return message, None if eta is None else eta / 1000


def require_message(document: object) -> None:
    """Return if Dramatiq's worker can run what `document` describes.

    Raises:
        NoMessageError: it cannot; the text names the first field that is wrong.
    """
    if not isinstance(document, dict):
        raise NoMessageError(f"its message is {_kind(document)}, not an object")
    if not document.keys() >= _FIELDS.keys():
        missing = sorted(_FIELDS.keys() - document.keys())
        raise NoMessageError(f"its message has no {', no '.join(missing)}")
    if not document.keys() <= _KNOWN:
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
_KNOWN = {"message_id", "queue_name", *_FIELDS, *_OPTIONAL_FIELDS}

_OPTIONS: _Checks = {
    "eta": (_number(-LAST_ETA, LAST_ETA), _MOMENT),
    "time_limit": (_none_or(_number(0, LONGEST_LIMIT)), _DURATION),
    "max_age": (_none_or(_number(0, LONGEST_LIMIT)), _DURATION),
    # JSON cannot hold exception classes. Any other value would end the thread when the actor raises.
    "throws": (lambda value: not value, "empty"),
}
