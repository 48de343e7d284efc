"""The alias document as a value: what each change makes of it."""

import pytest
from pydantic import ValidationError

from models.aliases import CANDIDATE, PRODUCTION, Aliases, Canary, Target, Traffic
from models.errors import ConflictError

A, B, C = (Target(version=f"2026010{day}-000000-0000000{day}", digest=str(day) * 64) for day in (1, 2, 3))
CANARY = Traffic(canary=Canary(percent=10), shadow=True)


def document(**aliases: Target) -> Aliases:
    return Aliases(models={"cars": aliases}) if aliases else Aliases()


def test_production_remembers_where_it_came_from() -> None:
    changed = document(production=A).pointing("cars", PRODUCTION, B).pointing("cars", PRODUCTION, C)
    assert changed.target("cars") == C
    assert changed.previous == {"cars": (A, B)}
    assert changed.earlier("cars") == [B, A]


def test_a_first_production_version_and_the_same_again_leave_nothing_to_go_back_to() -> None:
    changed = document().pointing("cars", PRODUCTION, A).pointing("cars", PRODUCTION, A)
    assert changed.previous == {}


def test_production_remembers_ten_versions() -> None:
    changed = document(production=A)
    for count in range(25):
        changed = changed.pointing("cars", PRODUCTION, B if count % 2 else C)
    assert [target.version for target in changed.previous["cars"]] == [C.version, B.version] * 5
    assert Aliases.model_validate_json(changed.model_dump_json()) == changed


def test_other_aliases_remember_nothing() -> None:
    assert document(candidate=A).pointing("cars", CANDIDATE, B).previous == {}


def test_a_rollback_takes_what_it_goes_back_to_out_of_the_past() -> None:
    changed = document(production=A).pointing("cars", PRODUCTION, B).pointing("cars", PRODUCTION, C)
    back = changed.rolled_back("cars", B)
    assert (back.target("cars"), back.previous) == (B, {"cars": (A,)})
    assert changed.rolled_back("cars", A).previous == {}
    assert back.rolled_back("cars", A).previous == {}


def test_a_candidate_that_becomes_production_is_none_any_more_and_its_traffic_ends() -> None:
    before = document(production=A, candidate=B, blue=B).with_traffic("cars", CANARY)
    changed = before.pointing("cars", PRODUCTION, B)
    assert changed.models == {"cars": {"production": B, "blue": B}}
    assert changed.traffic == {}


@pytest.mark.parametrize(("alias", "target"), [(CANDIDATE, C), (CANDIDATE, None), (PRODUCTION, None)])
def test_traffic_ends_with_the_versions_that_it_is_about(alias: str, target: Target | None) -> None:
    before = document(production=A, candidate=B).with_traffic("cars", CANARY)
    assert before.pointing("cars", alias, target).traffic == {}


@pytest.mark.parametrize(("alias", "target"), [(PRODUCTION, C), ("blue", C), (CANDIDATE, B)])
def test_traffic_goes_on_while_the_candidate_stays(alias: str, target: Target) -> None:
    before = document(production=A, candidate=B).with_traffic("cars", CANARY)
    assert before.pointing("cars", alias, target).traffic == {"cars": CANARY}


def test_traffic_needs_a_candidate_beside_a_production_version() -> None:
    for one in (document(production=A), document(candidate=A), document()):
        with pytest.raises(ConflictError, match="models label cars VERSION candidate"):
            one.with_traffic("cars", CANARY)
        assert one.with_traffic("cars", Traffic()) == one


def test_one_models_change_leaves_the_others_alone() -> None:
    before = Aliases(models={"cars": {"production": A}, "boats": {"production": A, "candidate": B}})
    before = before.with_traffic("boats", CANARY)
    changed = before.pointing("cars", PRODUCTION, B).pointing("cars", PRODUCTION, None).without("cars", A.version)
    assert changed.models == {"boats": {"production": A, "candidate": B}}
    assert changed.traffic == {"boats": CANARY}


def test_what_holds_a_version_is_named() -> None:
    changed = document(production=A, blue=A).pointing("cars", PRODUCTION, B).pointing("cars", PRODUCTION, C)
    assert changed.holds("cars", A.version) == ["the alias blue"]
    assert changed.holds("cars", B.version) == ["rollback, which would go back to it"]
    assert changed.holds("cars", C.version) == ["the alias production"]
    assert changed.holds("boats", A.version) == []
    for version in (A.version, B.version, C.version):
        with pytest.raises(ConflictError, match="cannot be deleted"):
            changed.without("cars", version)


def test_a_deleted_version_is_gone_from_the_past_and_noted() -> None:
    changed = document(production=A).pointing("cars", PRODUCTION, B).pointing("cars", PRODUCTION, C)
    gone = changed.without("cars", A.version)
    assert (gone.previous, gone.deleted) == ({"cars": (B,)}, {"cars": (A.version,)})


@pytest.mark.parametrize(
    "canary",
    [
        {"percent": 0},
        {"percent": 50.1},
        {"percent": float("nan")},
        {},
        {"percent": 10, "requests": 49},
        {"percent": 10, "error_factor": 0.5},
        {"percent": 10, "p99_factor": float("inf")},
        {"percent": 10, "color": "yellow"},
    ],
)
def test_a_canary_that_makes_no_sense_is_refused(canary: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Canary.model_validate(canary)


def test_traffic_reads_as_a_sentence() -> None:
    assert str(CANARY) == "canary 10 % (judged each 500 requests, errors x2, p99 x2), shadow"
    assert str(Traffic()) == ""
    assert not Traffic()
    assert Traffic(shadow=True)


def test_a_document_of_an_earlier_release_is_read() -> None:
    old = '{"document_version": 1, "revision": 3, "models": {"cars": {"production": {"version": "v", "digest": "d"}}}}'
    found = Aliases.model_validate_json(old)
    assert (found.revision, found.traffic, found.previous, found.last) == (3, {}, {}, None)
