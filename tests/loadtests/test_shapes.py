"""How many users there are when, and when they may be refused."""

import pytest

from loadtests.shapes import SHAPES, Run, may_refuse, users_at

RUN = Run(users=50, seconds=100)
EXPECTED = {
    "steady": {0: 50, 50: 50, 99: 50},
    "soak": {0: 50, 50: 50, 99: 50},
    "redeploy": {0: 50, 50: 50, 99: 50},
    "step": {0: 10, 19.9: 10, 20: 20, 40: 30, 60: 40, 80: 50, 99: 50},
    "spike": {0: 5, 39: 5, 40: 50, 59: 50, 60: 5, 99: 5},
    "overload": {0: 5, 19: 5, 20: 50, 69: 50, 70: 5, 99: 5},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_users_of_each_shape_over_time(shape: str) -> None:
    assert {now: users_at(shape, RUN, now) for now in EXPECTED[shape]} == EXPECTED[shape]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_ends_in_time_and_never_has_too_many_or_no_users(shape: str) -> None:
    assert users_at(shape, RUN, 100) is None
    for users in (1, 2, 7):
        found = [users_at(shape, Run(users, 10), now / 10) for now in range(100)]
        assert max(found) == users  # type: ignore[type-var]
        assert min(found) >= 1  # type: ignore[type-var,operator]


def test_refusals_are_allowed_during_an_overload_and_five_seconds_after_it() -> None:
    assert [now for now in range(100) if may_refuse("overload", RUN, now)] == list(range(18, 75))
    assert not any(may_refuse(shape, RUN, now) for shape in SHAPES if shape != "overload" for now in range(100))
