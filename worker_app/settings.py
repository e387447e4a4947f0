"""The settings of one worker application; they are read from its environment once, at the start."""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

_AE_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")
_STATUS = re.compile(r"(?:0[xX])?([0-9a-fA-F]{1,4})")

MAX_PORT = 65535
MAX_DELAY_SECONDS = 24 * 3600.0


class ResultUnit(StrEnum):
    """What one result is derived from."""

    INSTANCE = "instance"
    SERIES = "series"


class Complete(StrEnum):
    """When a series is complete."""

    QUIET = "quiet"  # when no further instance arrived for WORKER_QUIET_SECONDS
    ASSOCIATION = "association"  # when every association that brought an instance of it has ended


class Output(StrEnum):
    """What is returned for a series."""

    IMAGES = "images"  # as many slices as the series has
    SEG = "seg"  # one segmentation, by highdicom
    SR = "sr"  # one structured report, by highdicom


_Choice = TypeVar("_Choice", bound=StrEnum)


class SettingsError(Exception):
    """A variable is missing or invalid; the message names it and says which values are valid."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings; a `status` other than 0x0000 is the response to every C-STORE, to test failures."""

    ae_title: str
    bind_address: str
    port: int
    gateway_host: str
    gateway_port: int
    gateway_ae_title: str
    delay_seconds: float
    status: int
    returns_results: bool
    unit: ResultUnit = ResultUnit.INSTANCE
    complete: Complete = Complete.QUIET
    quiet_seconds: float = 2.0
    output: Output = Output.IMAGES


def read(environment: Mapping[str, str]) -> Settings:
    """Return the settings in `environment`.

    Raises:
        SettingsError: WORKER_AE_TITLE is missing, or a value is invalid.
    """
    return Settings(
        ae_title=_ae_title(environment, "WORKER_AE_TITLE", None),
        bind_address=environment.get("WORKER_BIND_ADDRESS") or "0.0.0.0",  # noqa: S104  peers are other hosts
        port=_port(environment, "WORKER_PORT", 11201),
        gateway_host=environment.get("GATEWAY_HOST") or "127.0.0.1",
        gateway_port=_port(environment, "GATEWAY_PORT", 11112),
        gateway_ae_title=_ae_title(environment, "GATEWAY_AE_TITLE", "MINI_EDGE"),
        delay_seconds=_delay(environment, "WORKER_DELAY_SECONDS"),
        status=_status(environment, "WORKER_STATUS"),
        returns_results=_switch(environment, "WORKER_RESULTS"),
        unit=_choice(environment, "WORKER_UNIT", ResultUnit.INSTANCE),
        complete=_choice(environment, "WORKER_COMPLETE", Complete.QUIET),
        quiet_seconds=_delay(environment, "WORKER_QUIET_SECONDS", 2.0),
        output=_output(environment),
    )


def _output(environment: Mapping[str, str]) -> Output:
    output = _choice(environment, "WORKER_OUTPUT", Output.IMAGES)
    if output is Output.IMAGES:
        return output
    if _choice(environment, "WORKER_UNIT", ResultUnit.INSTANCE) is not ResultUnit.SERIES:
        raise SettingsError(f"WORKER_OUTPUT={output.value!r} is made of a series: set WORKER_UNIT=series")
    if importlib.util.find_spec("highdicom") is None:
        raise SettingsError(
            f"WORKER_OUTPUT={output.value!r} needs highdicom: pip install 'mini-pacs-edge[highdicom]'"
        )
    return output


def _choice(environment: Mapping[str, str], name: str, default: _Choice) -> _Choice:
    value = environment.get(name) or default.value
    try:
        return type(default)(value)
    except ValueError:
        raise SettingsError(f"{name}={value!r}: choose {' or '.join(type(default))}") from None


def _ae_title(environment: Mapping[str, str], name: str, default: str | None) -> str:
    value = environment.get(name) or default
    if value is None:
        raise SettingsError(f"{name} is missing: set it to this worker's AE title, for example APP01")
    if _AE_TITLE.fullmatch(value) is None:
        raise SettingsError(f"{name}={value!r}: an AE title has 1 to 16 printable characters, no backslash")
    return value


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name) or str(default)
    if not (value.isascii() and value.isdecimal() and 1 <= int(value) <= MAX_PORT):
        raise SettingsError(f"{name}={value!r}: a TCP port is a number from 1 to {MAX_PORT}")
    return int(value)


def _delay(environment: Mapping[str, str], name: str, default: float = 0.0) -> float:
    value = environment.get(name) or str(default)
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_DELAY_SECONDS:
        raise SettingsError(f"{name}={value!r}: a delay is seconds from 0 to {MAX_DELAY_SECONDS:g}")
    return seconds


def _status(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name) or "0000"
    match = _STATUS.fullmatch(value)
    if match is None:
        raise SettingsError(f"{name}={value!r}: a DIMSE status is up to four hex digits, for example A700")
    return int(match[1], 16)


def _switch(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name) or "on"
    if value not in {"on", "off"}:
        raise SettingsError(f"{name}={value!r}: on (results are returned) or off (they never are)")
    return value == "on"
