"""Build dataclasses and named tuples from rows, by the names of the columns.

A field gets the value of the column with its name. If the type of the field is an enum or a tuple, the value
is converted to it. A field whose type is a dataclass or a named tuple is built from the same row. Its columns
are named `<field>.<name>`; if there are none of those, they are named like the fields of that class. A field
with a default may have no column.

The function that builds the rows of a statement is made once and kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import NoneType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from gateway.database.queries import Query

T = TypeVar("T")
Maker = Callable[[tuple[Any, ...]], T]

_makers: dict[tuple[type, str], Maker[Any]] = {}


def known(into: type[T], query: Query) -> Maker[T] | None:
    """Return the function that `learn` made before, or None."""
    return _makers.get((into, query.sql))


def learn(into: type[T], query: Query, columns: Sequence[str]) -> Maker[T]:
    """Return a function that makes an `into` of a row with these columns, and keep it.

    Raises:
        TypeError: the columns do not match the fields; the text names the statement, and the columns.
    """
    if len(set(columns)) != len(columns):
        raise TypeError(f"statement {query.name}: two columns have one name: {', '.join(columns)}")
    plan = _Plan({name: index for index, name in enumerate(columns)})
    expression = plan.build(into, prefix="")
    unknown = [name for name in columns if name not in plan.used]
    if plan.missing or unknown:
        raise TypeError(
            f"statement {query.name} does not fit {into.__name__}: "
            f"fields without a column: {', '.join(plan.missing) or 'none'}; "
            f"columns without a field: {', '.join(unknown) or 'none'}"
        )
    # One compiled expression, as `Claim(row[0], Inner(row[1], row[2]))`: a third of the time of nested calls.
    make: Maker[T] = eval(f"lambda row: {expression}", plan.names)  # noqa: S307  made of field names only
    _makers[into, query.sql] = make
    return make


class _Plan:
    """The expression that builds a class from `row`, and the columns that it uses."""

    def __init__(self, place: dict[str, int]) -> None:
        self._place = place
        self.names: dict[str, Any] = {}
        self.used: set[str] = set()
        self.missing: list[str] = []

    def build(self, into: type, *, prefix: str) -> str:
        hints = get_type_hints(into)
        names = _field_names(into)
        arguments: dict[str, str] = {}
        for name, is_optional in names.items():
            wanted, column = hints[name], prefix + name
            if is_dataclass(wanted) or hasattr(wanted, "_fields"):
                inner = (
                    f"{column}." if any(other.startswith(f"{column}.") for other in self._place) else prefix
                )
                arguments[name] = self.build(cast("type", wanted), prefix=inner)
            elif column in self._place:
                self.used.add(column)
                arguments[name] = self._value(self._place[column], wanted)
            elif not is_optional:
                self.missing.append(column)
        by_place = list(arguments) == list(names)  # faster than by keyword, where no field is left out
        given = [text if by_place else f"{name}={text}" for name, text in arguments.items()]
        return f"{self._named(into)}({', '.join(given)})"

    def _named(self, thing: object) -> str:
        name = f"_{len(self.names)}"
        self.names[name] = thing
        return name

    def _value(self, index: int, wanted: object) -> str:
        alternatives = [one for one in get_args(wanted) if one is not NoneType]
        is_optional = NoneType in get_args(wanted)
        plain = alternatives[0] if is_optional and len(alternatives) == 1 else wanted
        if isinstance(plain, type) and issubclass(plain, Enum):
            convert = self._named(plain)
        elif get_origin(plain) is tuple:
            convert = self._named(tuple)
        else:
            return f"row[{index}]"
        converted = f"{convert}(row[{index}])"
        return f"(None if row[{index}] is None else {converted})" if is_optional else converted


def _field_names(into: type) -> dict[str, bool]:
    """Return the fields of a dataclass or named tuple, and whether each has a default."""
    if is_dataclass(into):
        return {
            field.name: field.default is not MISSING or field.default_factory is not MISSING
            for field in fields(into)
        }
    named = cast("Any", into)
    return {name: name in named._field_defaults for name in named._fields}
