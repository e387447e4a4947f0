"""Rules against a plain reference implementation, over generated rules and instances."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.rules.facts import Facts, Undecodable, Value
from gateway.rules.language import parse

TEXTS = ("CT", "MR", "SR", "CHEST", "THORAX", "CT1")
PATTERNS = ("C.*", "(CT|MR)", "[A-Z]+1", "(?i)chest", "T+.*X?")
TAGS = {"Modality": 0x00080060, "ImageType": 0x00080008, "BodyPartExamined": 0x00180015}
NUMBERS = {"Rows": 0x00280010, "SliceThickness": 0x00180050}
SCORES = {0.0: "does not hold", 0.5: "cannot be decided", 1.0: "holds"}

numbers = st.integers(-3, 3) | st.sampled_from((0.5, 1.5, -2.25))


def _range(limits: tuple[float, float]) -> dict[str, object]:
    return {"range": {"min": min(limits), "max": max(limits)}}


conditions = st.one_of(
    st.builds(
        lambda a, v: {"attribute": a, "equals": v}, st.sampled_from(list(TAGS)), st.sampled_from(TEXTS)
    ),
    st.builds(
        lambda a, v: {"attribute": a, "in": v},
        st.sampled_from(list(TAGS)),
        st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3),
    ),
    st.builds(
        lambda a, v: {"attribute": a, "matches": v}, st.sampled_from(list(TAGS)), st.sampled_from(PATTERNS)
    ),
    st.builds(lambda a, v: {"attribute": a, "exists": v}, st.sampled_from([*TAGS, *NUMBERS]), st.booleans()),
    st.builds(lambda a, v: {"attribute": a, "equals": v}, st.sampled_from(list(NUMBERS)), numbers),
    st.builds(
        lambda a, v: {"attribute": a, **_range(v)},
        st.sampled_from(list(NUMBERS)),
        st.tuples(numbers, numbers),
    ),
    st.builds(lambda v: {"calling_ae": v}, st.sampled_from(TEXTS)),
    st.builds(lambda v: {"called_ae": v}, st.lists(st.sampled_from(TEXTS), min_size=1, max_size=2)),
)
rules = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.builds(lambda r: {"all": r}, st.lists(inner, min_size=1, max_size=4)),
        st.builds(lambda r: {"any": r}, st.lists(inner, min_size=1, max_size=4)),
        st.builds(lambda r: {"not": r}, inner),
    ),
    max_leaves=10,
)
undecodable = st.just(Undecodable("no text"))
attributes = st.builds(
    lambda texts, figures: {**texts, **figures},
    st.dictionaries(
        st.sampled_from(list(TAGS.values())),
        st.lists(st.sampled_from(TEXTS) | undecodable, max_size=3).map(tuple),
    ),
    st.dictionaries(
        st.sampled_from(list(NUMBERS.values())), st.lists(numbers | undecodable, max_size=3).map(tuple)
    ),
)
instances = st.builds(
    Facts,
    st.sampled_from(TEXTS),
    st.sampled_from(TEXTS),
    st.just("1.2"),
    st.just("1.3"),
    attributes,
    st.sampled_from(("", "", "cut off")),
)


def reference(rule: dict[str, object], facts: Facts) -> float:  # noqa: PLR0911  one for each form
    """Score a rule: 1 holds, 0 does not hold, 0.5 cannot be decided."""
    match rule:
        case {"all": list(inner)}:
            return min(reference(one, facts) for one in inner)
        case {"any": list(inner)}:
            return max(reference(one, facts) for one in inner)
        case {"not": dict(inner)}:
            return 1 - reference(inner, facts)
        case {"calling_ae": allowed}:
            return float(facts.calling_ae in ([allowed] if isinstance(allowed, str) else allowed))  # type: ignore[operator]
        case {"called_ae": allowed}:
            return float(facts.called_ae in ([allowed] if isinstance(allowed, str) else allowed))  # type: ignore[operator]
        case {"attribute": str(name), **test}:
            tag = {**TAGS, **NUMBERS}[name]
            if tag not in facts.attributes and facts.defect:
                return 0.5
            values = facts.attributes.get(tag, ())
            if "exists" in test:
                return float((len(values) > 0) == test["exists"])
            return max((_score(value, test) for value in values), default=0.0)
    raise AssertionError(rule)


def _score(value: Value, test: dict[str, object]) -> float:
    if isinstance(value, Undecodable):
        return 0.5
    match test:
        case {"equals": wanted}:
            return float(value == wanted)
        case {"in": list(wanted)}:
            return float(value in wanted)
        case {"matches": str(pattern)}:
            return float(re.fullmatch(pattern, str(value)) is not None)
        case {"range": {"min": least, "max": most}}:
            return float(least <= value <= most)
    raise AssertionError(test)


@given(rules, instances)
@settings(max_examples=500, deadline=None)
def test_outcomes_equal_those_of_the_reference(rule: dict[str, object], facts: Facts) -> None:
    """Any rule, any instance: the outcome is the one of the reference."""
    assert parse(rule).decide(facts) == SCORES[reference(rule, facts)]


@given(rules)
@settings(deadline=None)
def test_the_canonical_form_parses_to_an_equal_rule(rule: dict[str, object]) -> None:
    """So the text of a version in the database is the rule that decided."""
    parsed = parse(rule)
    assert parse(parsed.canonical) == parsed
    assert parse(parsed.canonical).canonical == parsed.canonical
