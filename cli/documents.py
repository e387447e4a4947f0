"""The output with `--json`: one document, whose `schema` is its name and its version.

docs/json.md describes each schema. Increase the version when a field is removed or changes its meaning,
not when a field is added.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import orjson
import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


class Schema(StrEnum):
    """The name and version of each document."""

    ERROR = "mini-pacs/error/1"
    STATUS = "mini-pacs/status/1"
    DIAGNOSIS = "mini-pacs/diagnosis/1"
    NOTIFIED = "mini-pacs/notified/1"
    STUDY = "mini-pacs/study/1"
    STUDIES = "mini-pacs/studies/1"
    COMPLETED_UNITS = "mini-pacs/completed-units/1"
    DELIVERIES = "mini-pacs/deliveries/1"
    DELIVERY = "mini-pacs/delivery/1"
    CHANGED_DELIVERIES = "mini-pacs/changed-deliveries/1"
    DESTINATIONS = "mini-pacs/destinations/1"
    FLOW = "mini-pacs/flow/1"
    ECHOES = "mini-pacs/echoes/1"
    CHANGED_DESTINATION = "mini-pacs/changed-destination/1"
    REFUSALS = "mini-pacs/refusals/1"
    INSTANCES = "mini-pacs/instances/1"
    RESULTS = "mini-pacs/results/1"
    WHY = "mini-pacs/why/1"
    QUEUE = "mini-pacs/queue/1"
    DEAD_MESSAGES = "mini-pacs/dead-messages/1"
    CHANGED_MESSAGES = "mini-pacs/changed-messages/1"
    SWEEP = "mini-pacs/sweep/1"
    SEND = "mini-pacs/send/1"
    DEMO = "mini-pacs/demo/1"
    MIGRATED = "mini-pacs/migrated/1"
    REBUILT = "mini-pacs/rebuilt/1"
    GRANTED = "mini-pacs/granted/1"
    FAULT = "mini-pacs/fault/1"
    FAULTS = "mini-pacs/faults/1"
    CLEARED_FAULTS = "mini-pacs/cleared-faults/1"
    CONFIG = "mini-pacs/config/1"
    RULES = "mini-pacs/rules/1"
    RULE_TEST = "mini-pacs/rule-test/1"
    RULE_EXPLANATION = "mini-pacs/rule-explanation/1"
    RELOADED = "mini-pacs/reloaded/1"
    CONFIG_HISTORY = "mini-pacs/config-history/1"
    RESET = "mini-pacs/reset/1"
    ACTIVITY = "mini-pacs/activity/1"
    CONSOLE_USERS = "mini-pacs/console-users/1"
    CHANGED_CONSOLE_USER = "mini-pacs/changed-console-user/1"


def print_document(schema: Schema, content: Mapping[str, object]) -> None:
    """Print one JSON document on standard output; durations in seconds."""
    document = {"schema": schema.value, **content}
    option = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS  # routes and states are keys in some documents
    typer.echo(orjson.dumps(document, default=_plain, option=option).decode())


def print_page(schema: Schema, items: Sequence[object], after: str | None = None) -> None:
    """Print a list as a document. `next` is the `--after` of the next page; null on the last page."""
    print_document(schema, {"items": items, "next": after})


def _plain(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | memoryview):  # psycopg2 returns a bytea as a memoryview
        return bytes(value).hex()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):  # a named tuple
        return value._asdict()
    raise TypeError(type(value).__name__)
