"""Read the value of a key `accepts` into a rule, or say what is wrong with it and what to write instead.

    accepts: {all: [{attribute: Modality, equals: CT}, {not: {calling_ae: CT9}}]}

The limits keep the time of one evaluation small whatever the file contains.
"""

import math
from collections.abc import Mapping
from typing import Annotated, TypeAlias

from pydantic import PlainSerializer, PlainValidator

from gateway.domain.identifiers import is_ae_title
from gateway.rules.comparisons import Comparison, Exists, Matches, OneOf, Range, age_in_years, is_date
from gateway.rules.dictionary import Attribute, ComparedAs, UidKind, attribute, name_of_uid, uid
from gateway.rules.errors import RuleError
from gateway.rules.tree import (
    AcceptRule,
    All,
    Any,
    AssociationCondition,
    AssociationPart,
    AttributeCondition,
    Not,
)

MAX_DEPTH = 10
MAX_CONDITIONS = 100
MAX_VALUES = 1000
MAX_TEXT = 256

_COMPARISONS = ("equals", "in", "matches", "range", "exists")
_FORMS = "all, any, not, attribute, calling_ae, called_ae, sop_class or transfer_syntax"


def parse(given: object) -> AcceptRule:
    """Return the rule that a value of YAML describes.

    Raises:
        RuleError: it describes none; the text begins with the place in the rule, such as `all[1]`.
    """
    return _Parser().rule(given, "", 1)


def _validated(given: object) -> AcceptRule:
    return (
        given
        if isinstance(given, All | Any | Not | AttributeCondition | AssociationCondition)
        else parse(given)
    )


Accepts: TypeAlias = Annotated[
    AcceptRule, PlainValidator(_validated), PlainSerializer(lambda rule: rule.canonical, return_type=dict)
]
"""The type of a key `accepts` in a model of the configuration."""


class _Parser:
    """Parses one rule and counts its conditions."""

    def __init__(self) -> None:
        self._conditions = 0

    def rule(self, given: object, where: str, depth: int) -> AcceptRule:
        """Return the node that `given` describes; `where` is its place in the rule."""
        if not isinstance(given, Mapping):
            raise RuleError(f"{where}a rule is a mapping with one of the keys {_FORMS}, not {_shown(given)}")
        if depth > MAX_DEPTH:
            raise RuleError(f"{where}a rule is at most {MAX_DEPTH} levels deep: split it")
        if "attribute" in given:
            self._count(where)
            return self._attribute_condition(given, where)
        if len(given) != 1:
            keys = ", ".join(map(str, given)) or "none"
            raise RuleError(
                f"{where}one key of {_FORMS} is expected, found {keys}; put several conditions into all: […]"
            )
        ((key, value),) = given.items()
        match key:
            case "all":
                return All(self._several(value, f"{where}all", depth))
            case "any":
                return Any(self._several(value, f"{where}any", depth))
            case "not":
                return Not(self.rule(value, f"{where}not: ", depth + 1))
            case "calling_ae" | "called_ae" | "sop_class" | "transfer_syntax":
                self._count(where)
                return _association_condition(AssociationPart(key), value, f"{where}{key}: ")
        if key in _COMPARISONS:
            raise RuleError(f"{where}{key} needs an attribute beside it: {{attribute: Modality, {key}: …}}")
        raise RuleError(f"{where}unknown key {_shown(key)}: one of {_FORMS} is expected")

    def _count(self, where: str) -> None:
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise RuleError(
                f"{where}a rule has at most {MAX_CONDITIONS} conditions: use in: […] for many values"
            )

    def _several(self, given: object, where: str, depth: int) -> tuple[AcceptRule, ...]:
        if not isinstance(given, list | tuple) or not given:
            raise RuleError(f"{where}: a list with at least one rule is expected, not {_shown(given)}")
        return tuple(self.rule(one, f"{where}[{n}]: ", depth + 1) for n, one in enumerate(given))

    def _attribute_condition(self, given: Mapping[object, object], where: str) -> AcceptRule:
        name = given["attribute"]
        if not isinstance(name, str):
            raise RuleError(
                f"{where}attribute {_shown(name)}: write a keyword, or the tag in quotes: '(0018,0015)'"
            )
        asked = attribute_at(name, where)
        keys = [key for key in given if key != "attribute"]
        if len(keys) != 1 or keys[0] not in _COMPARISONS:
            found = ", ".join(map(str, keys)) or "none"
            raise RuleError(
                f"{where}beside attribute: {name} exactly one of {', '.join(_COMPARISONS)} is expected, "
                f"found {found}"
            )
        key = str(keys[0])
        return AttributeCondition(asked, _comparison(asked, key, given[key], f"{where}{name} {key}: "))


def attribute_at(name: str, where: str) -> Attribute:
    """Look up the attribute; the error begins with `where`."""
    try:
        return attribute(name)
    except RuleError as error:
        raise RuleError(f"{where}{error}") from None


def _comparison(asked: Attribute, key: str, value: object, where: str) -> Comparison:
    match key:
        case "exists":
            if not isinstance(value, bool):
                raise RuleError(f"{where}true or false is expected, not {_shown(value)}")
            return Exists(value)
        case "equals":
            one = _operand(asked, value, where)
            return OneOf((one,), (_named(one),), "equals")
        case "in":
            if not isinstance(value, list | tuple) or not value or len(value) > MAX_VALUES:
                raise RuleError(f"{where}a list of 1 to {MAX_VALUES} values is expected, not {_shown(value)}")
            many = tuple(dict.fromkeys(_operand(asked, one, where) for one in value))
            return OneOf(many, tuple(map(_named, many)), "in")
        case "matches":
            if asked.compared_as is ComparedAs.NUMBER:
                raise RuleError(f"{where}{asked} is a number: use equals, in or range")
            return _matches(value, where)
        case _:
            return _range(asked, value, where)


def _named(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def _matches(value: object, where: str) -> Matches:
    if not isinstance(value, str) or not value:
        raise RuleError(f"{where}a regular expression in quotes is expected, not {_shown(value)}")
    try:
        return Matches(value)
    except RuleError as error:
        raise RuleError(f"{where}{error}") from None


def _operand(asked: Attribute, value: object, where: str) -> str | int | float:
    """Return a value with which values of the attribute are compared."""
    if asked.compared_as is ComparedAs.NUMBER:
        return _number(value, where, f"{asked} is a number")
    text = _text(value, where)
    if "\\" in text and not asked.is_whole:
        raise RuleError(
            f"{where}{text} has a backslash, which separates the values of {asked.keyword}: each of them is "
            "compared alone. Ask for one of them"
        )
    return text


def _text(value: object, where: str) -> str:
    if isinstance(value, bool):
        words = "YES, ON or TRUE" if value else "NO, OFF or FALSE"
        raise RuleError(
            f"{where}YAML reads {words} as {str(value).lower()}: write the text in quotes, as in 'YES'"
        )
    if not isinstance(value, str):
        raise RuleError(f"{where}{_shown(value)} is no text: write it in quotes")
    if not value or value.strip(" ") != value or "\0" in value:
        raise RuleError(
            f"{where}{_shown(value)} is empty or has blanks around it: values are compared without their "
            "padding. For an empty value use exists: false"
        )
    if len(value) > MAX_TEXT:
        raise RuleError(f"{where}a text has at most {MAX_TEXT} characters, this one {len(value)}")
    return value


def _number(value: object, where: str, what: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RuleError(f"{where}{what}: a number without quotes is expected, not {_shown(value)}")
    return int(value) if value == int(value) and abs(value) < 1 << 53 else value


def _range(asked: Attribute, value: object, where: str) -> Range:
    if asked.compared_as is ComparedAs.TEXT:
        raise RuleError(
            f"{where}{asked} is text: range compares numbers, dates (VR DA) and ages (VR AS); use in or "
            "matches"
        )
    if not isinstance(value, Mapping) or not value or set(value) - {"min", "max"}:
        raise RuleError(f"{where}{{min: …, max: …}} is expected, or one of the two; both belong to the range")
    least, most = (_limit(asked, value.get(key), f"{where}{key}: ") for key in ("min", "max"))
    if least is None and most is None:
        raise RuleError(f"{where}min or max must have a value")
    if _exceeds(least, most):
        raise RuleError(f"{where}min ({least}) is greater than max ({most}): nothing would be in the range")
    return Range(least, most, asked.compared_as)


def _exceeds(least: str | float | None, most: str | float | None) -> bool:
    if isinstance(least, str) and isinstance(most, str):
        return least > most
    return isinstance(least, int | float) and isinstance(most, int | float) and least > most


def _limit(asked: Attribute, value: object, where: str) -> str | int | float | None:
    if value is None:
        return None
    match asked.compared_as:
        case ComparedAs.DATE:
            if not isinstance(value, str) or not is_date(value):
                raise RuleError(f"{where}a date with eight digits in quotes is expected, as in '20250131'")
            return value
        case ComparedAs.AGE:
            years = age_in_years(value) if isinstance(value, str) else value
            return _number(years, where, f"{asked} is compared in years")
        case _:
            return _number(value, where, f"{asked} is a number")


def _association_condition(part: AssociationPart, value: object, where: str) -> AssociationCondition:
    if isinstance(value, Mapping):
        if set(value) != {"matches"}:
            raise RuleError(f"{where}a text, a list, or {{matches: …}} is expected, not {_shown(value)}")
        return AssociationCondition(part, _matches(value["matches"], where))
    values = value if isinstance(value, list | tuple) else [value]
    if not values or len(values) > MAX_VALUES:
        raise RuleError(
            f"{where}a text, or a list of 1 to {MAX_VALUES} texts, is expected, not {_shown(value)}"
        )
    found = tuple(dict.fromkeys(_of_association(part, one, where) for one in values))
    is_uid = part in {AssociationPart.SOP_CLASS, AssociationPart.TRANSFER_SYNTAX}
    names = tuple(map(name_of_uid, found)) if is_uid else found
    return AssociationCondition(part, OneOf(found, names, "equals" if len(found) == 1 else "in"))


def _of_association(part: AssociationPart, value: object, where: str) -> str:
    text = _text(value, where)
    if part in {AssociationPart.SOP_CLASS, AssociationPart.TRANSFER_SYNTAX}:
        kind = UidKind.SOP_CLASS if part is AssociationPart.SOP_CLASS else UidKind.TRANSFER_SYNTAX
        try:
            return uid(text, kind)
        except RuleError as error:
            raise RuleError(f"{where}{error}") from None
    if not is_ae_title(text):
        raise RuleError(f"{where}{_shown(text)} is no AE title: 1 to 16 printable characters, no backslash")
    return text


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_TEXT // 4 else f"{text[: MAX_TEXT // 4]}…"
