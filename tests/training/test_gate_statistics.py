"""The statistics of the gate against published values and against plain enumeration."""

import math

import numpy as np
import pytest

from training.gate_statistics import Z, largest_loss, lower, mcnemar, resampled, rows_for, upper


@pytest.mark.parametrize("counts", [(1, 7), (7, 1)])
def test_mcnemars_mid_p_value_is_the_published_one(counts: tuple[int, int]) -> None:
    # Airway hyper-responsiveness before and after transplantation, Fagerland et al. 2013, table 1 and results.
    assert mcnemar(*counts) == pytest.approx(0.039, abs=0.0005)


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (0, 1), (3, 3), (2, 9), (40, 61)])
def test_mcnemars_mid_p_value_counts_half_of_what_was_seen(lost: int, won: int) -> None:
    total = lost + won
    chances = [math.comb(total, count) / 2**total for count in range(total + 1)]
    one_side = sum(chances[: min(lost, won)]) + chances[min(lost, won)] / 2
    assert mcnemar(lost, won) == pytest.approx(min(1, 2 * one_side))


def test_the_interval_of_a_paired_difference_is_the_published_one() -> None:
    # The same data: Tango's 95 % interval of a difference of -0.286 is -0.517 to -0.026 (Fagerland et al. 2014).
    assert largest_loss(1, 7, 21, z=1.959964) == pytest.approx(-0.026, abs=0.0005)
    assert -largest_loss(7, 1, 21, z=1.959964) == pytest.approx(-0.517, abs=0.0005)


@pytest.mark.parametrize(("lost", "won", "rows"), [(0, 0, 50), (3, 0, 40), (0, 5, 60), (12, 9, 300)])
def test_the_interval_ends_where_the_best_fitting_model_is_one_in_twenty_off(lost: int, won: int, rows: int) -> None:
    loss = largest_loss(lost, won, rows)
    # The likelihood of the counts where `loss` is assumed, at its maximum over the share that is won.
    shares = np.linspace(max(0, -loss), (1 - loss) / 2, 200_001)[1:-1]
    agree = 1 - 2 * shares - loss
    fits = lost * np.log(shares + loss) + won * np.log(shares) + (rows - lost - won) * np.log(agree)
    share = shares[int(fits.argmax())]
    variance = rows * (2 * share + loss - loss**2)
    assert (lost - won - rows * loss) / math.sqrt(variance) == pytest.approx(-Z, abs=0.01)


def test_the_fewest_rows_are_those_that_could_show_the_margin_without_one_difference() -> None:
    for margin in (0.005, 0.02, 0.1):
        rows = rows_for(margin)
        assert largest_loss(0, 0, rows) <= margin
        assert largest_loss(0, 0, rows - 1) > margin
    assert rows_for(0.02) == 133


def test_a_version_that_is_worse_by_the_margin_passes_in_one_of_twenty_comparisons() -> None:
    rng = np.random.default_rng(0)
    margin, rows = 0.02, 2000
    counts = rng.multinomial(rows, [0.05 + margin, 0.05, 0.9 - margin], size=4000)
    passed = np.mean([largest_loss(int(lost), int(won), rows) <= margin for lost, won, _ in counts])
    assert 0.035 < passed < 0.065


def test_resampled_means_spread_as_means_do() -> None:
    values = np.random.default_rng(0).normal(5, 2, (400, 1))
    found = resampled(values)[:, 0]
    assert found.std() == pytest.approx(values.std() / 20, rel=0.05)
    assert upper(found) == pytest.approx(values.mean() + Z * values.std() / 20, rel=0.005)
    assert lower(found) == pytest.approx(values.mean() - Z * values.std() / 20, rel=0.005)


def test_each_draw_takes_the_same_rows_of_every_column() -> None:
    values = np.random.default_rng(0).normal(size=(50, 1))
    found = resampled(np.concatenate([values, values + 3], axis=1), draws=200)
    np.testing.assert_allclose(found[:, 1] - found[:, 0], 3)


def test_blocks_show_that_neighbours_are_alike() -> None:
    # Each value stands eight times in a row: as many independent values as blocks.
    values = np.repeat(np.random.default_rng(0).normal(size=100), 8)[:, None]
    alone, together = (resampled(values, block=block)[:, 0].std() for block in (1, 64))
    assert alone == pytest.approx(values.std() / math.sqrt(800), rel=0.1)
    assert together == pytest.approx(values.std() / math.sqrt(100), rel=0.25)


def test_a_block_of_everything_is_everything() -> None:
    values = np.arange(10.0)[:, None]
    np.testing.assert_allclose(resampled(values, block=10, draws=20), 4.5)


def test_the_same_seed_draws_the_same_rows_however_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(30.0)[:, None]
    whole = resampled(values, draws=50)
    np.testing.assert_array_equal(resampled(values, draws=50), whole)
    monkeypatch.setattr("training.gate_statistics._CHUNK", 300)
    np.testing.assert_array_equal(resampled(values, draws=50), whole)
