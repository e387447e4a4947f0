"""The rules of all targets: what archives and applications get, and what a version is."""

from gateway.domain.routing import Route, Target
from gateway.rules.facts import Facts, Truth, Undecodable
from gateway.rules.language import parse
from gateway.rules.ruleset import NO_RULES, RuleSet, text_of_rules

PACS = Target(Route.PACS, "ORTHANC")
VNA = Target(Route.ARCHIVES, "VNA")
CHEST = Target(Route.WORKERS, "chest-ct")
ANY = Target(Route.WORKERS, "any-mr")
MODALITY = 0x00080060
IS_CT = parse({"attribute": "Modality", "equals": "CT"})
RULES = RuleSet({PACS: None, VNA: IS_CT, CHEST: IS_CT, ANY: None})


def facts(*modality: str | Undecodable) -> Facts:
    """Return an instance with that Modality."""
    return Facts("CT1", "EDGE", "1.2", "1.3", {MODALITY: modality})


def test_a_target_gets_what_its_rule_accepts() -> None:
    """A target without a rule gets everything; a candidate that is not asked gets nothing."""
    decision = RULES.decide((PACS, VNA, CHEST), facts("CT"))
    assert decision.accepted == (PACS, VNA, CHEST)
    decision = RULES.decide((PACS, VNA, CHEST, ANY), facts("MG"))
    assert decision.accepted == (PACS, ANY)
    assert decision.refused == (VNA, CHEST)
    assert decision.undecided == ()


def test_archives_get_what_cannot_be_decided_and_applications_do_not() -> None:
    """So nothing is missing in an archive, and an application gets nothing that it was not made for."""
    reason = Undecodable("has characters that its VR does not allow")
    decision = RULES.decide((PACS, VNA, CHEST), facts(reason))
    assert decision.accepted == (PACS, VNA)
    assert decision.refused == (CHEST,)
    assert decision.undecided == (VNA, CHEST)
    assert RULES.why_undecided(VNA, facts(reason)) == (
        "Modality (0008,0060) has characters that its VR does not allow"
    )


def test_an_error_in_a_rule_refuses_no_instance() -> None:
    """A defect of the program is an undecided rule."""

    class Broken:
        """A rule with a defect."""

        words = "broken"
        canonical: dict[str, object] = {}  # noqa: RUF012

        def decide(self, _: Facts) -> Truth:
            """Fail."""
            raise ZeroDivisionError

        def nodes(self, depth: int = 0) -> object:
            """Yield this node."""
            yield depth, self

    rules = RuleSet({VNA: Broken(), CHEST: Broken()})  # type: ignore[dict-item]
    decision = rules.decide((VNA, CHEST), facts("CT"))
    assert decision.accepted == (VNA,)
    assert decision.undecided == (VNA, CHEST)


def test_without_rules_there_is_no_version_and_nothing_is_asked() -> None:
    """The seed's configuration costs nothing."""
    rules = RuleSet({PACS: None, CHEST: None})
    assert rules.digest == NO_RULES
    assert rules.asked == {}
    assert rules.decide((PACS, CHEST), facts()).accepted == (PACS, CHEST)


def test_a_version_is_the_same_for_the_same_rules() -> None:
    """The order of the targets does not count; a rule that changed does."""
    again = RuleSet({ANY: None, CHEST: IS_CT, VNA: IS_CT, PACS: None})
    assert again.digest == RULES.digest
    other = RuleSet({PACS: None, VNA: IS_CT, CHEST: parse({"not": IS_CT.canonical}), ANY: None})
    assert other.digest != RULES.digest
    assert text_of_rules(RULES.rules) == (
        '{"archives:VNA":{"attribute":"Modality","equals":"CT"},"pacs:ORTHANC":null,'
        '"workers:any-mr":null,"workers:chest-ct":{"attribute":"Modality","equals":"CT"}}'
    )


def test_targets_are_read_back_from_their_text() -> None:
    """An AE title may have a colon."""
    for target in (PACS, VNA, CHEST, Target(Route.ARCHIVES, "A:B")):
        assert Target.of(str(target)) == target
