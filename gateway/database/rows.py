"""Build dataclasses and named tuples from rows, by the names of the columns.

A field takes the column of its name. Its type converts the value: an enum, or a tuple for an array. A field
whose type is a dataclass is built from the same row; its columns are named `<field>.<name>` or, where there
are none of those, as the fields of that dataclass. A field with a default may have no column.

What was found out about a statement is kept, so a row costs a few microseconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from types import NoneType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from gateway.database.queries import Query

T = TypeVar("T")
Maker = Callable[[tuple[Any, ...]], T]
_Part = Callable[[tuple[Any, ...]], Any]

_makers: dict[tuple[type, str], Maker[Any]] = {}


def known(into: type[T], query: Query) -> Maker[T] | None:
    """Return what `learn` found out before."""
    return _makers.get((into, query.sql))


def learn(into: type[T], query: Query, columns: Sequence[str]) -> Maker[T]:
    """Return a function that makes an `into` of a row with these columns, and keep it.

    Raises:
        TypeError: the columns are not those of the fields; names the statement and each of them.
    """
    if len(set(columns)) != len(columns):
        raise TypeError(f"statement {query.name}: two columns have one name: {', '.join(columns)}")
    place = {name: index for index, name in enumerate(columns)}
    used: set[str] = set()
    missing: list[str] = []
    make = _made(into, place, "", used, missing)
    unknown = [name for name in columns if name not in used]
    if missing or unknown:
        raise TypeError(
            f"statement {query.name} does not fit {into.__name__}: "
            f"fields without a column: {', '.join(missing) or 'none'}; "
            f"columns without a field: {', '.join(unknown) or 'none'}"
        )
    _makers[into, query.sql] = make
    return make


def _made(into: type[T], place: dict[str, int], prefix: str, used: set[str], missing: list[str]) -> Maker[T]:
    hints = get_type_hints(into)
    parts: dict[str, _Part] = {}
    for name, is_optional in _field_names(into).items():
        wanted, column = hints[name], prefix + name
        if is_dataclass(wanted):
            inner = f"{column}." if any(other.startswith(f"{column}.") for other in place) else prefix
            parts[name] = _made(cast("type[Any]", wanted), place, inner, used, missing)
        elif column in place:
            used.add(column)
            parts[name] = _value(place[column], wanted)
        elif not is_optional:
            missing.append(column)
    build = cast("Callable[..., T]", into)
    if list(parts) == list(_field_names(into)):
        in_order = tuple(parts.values())
        return lambda row: build(*[part(row) for part in in_order])
    return lambda row: build(**{name: part(row) for name, part in parts.items()})


def _field_names(into: type) -> dict[str, bool]:
    """Return the fields of a dataclass or named tuple, and whether each has a default."""
    if is_dataclass(into):
        return {
            field.name: field.default is not MISSING or field.default_factory is not MISSING
            for field in fields(into)
        }
    named = cast("Any", into)
    return {name: name in named._field_defaults for name in named._fields}


def _value(index: int, wanted: object) -> _Part:
    alternatives = [one for one in get_args(wanted) if one is not NoneType]
    plain = alternatives[0] if len(alternatives) == 1 and NoneType in get_args(wanted) else wanted
    if isinstance(plain, type) and issubclass(plain, Enum):
        return _converted(index, plain)
    if get_origin(plain) is tuple:
        return _converted(index, tuple)
    return lambda row: row[index]


def _converted(index: int, convert: Callable[[Any], Any]) -> _Part:
    def part(row: tuple[Any, ...]) -> object:
        value = row[index]
        return None if value is None else convert(value)

    return part
