"""Moments of columns, block by block, against those of all rows at once."""

from __future__ import annotations

import numpy as np
import pytest

from netwright.data import moments
from netwright.data.moments import channel_moments, merged, moments_in_blocks, moments_of

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("shift", [0.0, 1e9])
def test_merged_blocks_agree_with_all_rows(shift: float) -> None:
    cells = GENERATOR.normal(shift, 3.0, (1000, 4))
    cells[GENERATOR.random(cells.shape) < 0.2] = np.nan
    cells[:300, 1] = np.nan  # empty at first
    cells[600:, 2] = np.nan  # empty at last
    cells[:, 3] = 7.1
    found = None
    for start in range(0, 1000, 130):
        found = merged(found, moments_of(cells[start : start + 130]))
    assert found is not None
    whole = moments_of(cells)
    assert found.rows == 1000
    np.testing.assert_array_equal(found.present, whole.present)
    np.testing.assert_allclose(found.fill, np.nanmean(cells, axis=0), rtol=1e-13)
    np.testing.assert_allclose(found.mean, whole.mean, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(found.deviation, whole.deviation, rtol=1e-7 if shift else 1e-13)
    assert found.deviation[3] == 0.0
    assert found.fill[3] == 7.1


def test_an_empty_column_and_an_empty_block_count_nothing() -> None:
    one = moments_of(np.full((3, 1), np.nan))
    assert (one.present[0], one.fill[0], one.deviation[0]) == (0, 0.0, 0.0)
    two = merged(one, moments_of(np.array([[5.0]])))
    assert (two.rows, two.fill[0], two.mean[0], two.squares[0]) == (4, 5.0, 5.0, 0.0)


def test_columns_measured_a_few_at_a_time_are_the_same_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = GENERATOR.normal(size=(500, 7))
    cells[GENERATOR.random(cells.shape) < 0.1] = np.nan
    whole = moments_of(cells)
    monkeypatch.setattr(moments, "BLOCK", 1000)
    parts = moments_of(cells)
    for name in ("present", "fill", "mean", "squares"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


@pytest.mark.parametrize("size", [1, 7, 130, 5000])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_rows_that_come_a_few_at_a_time_are_measured_to_the_bit(size: int, missing: float) -> None:
    cells = GENERATOR.normal(GENERATOR.normal(0, 100, 4), 3.0, (1000, 4)) * np.array([1e-13, 1.0, 1e9, 1.0])
    cells[GENERATOR.random(cells.shape) < missing] = np.nan
    if missing:
        cells[:300, 1] = np.nan  # empty at first
        cells[:, 3] = np.nan
    whole = moments_of(cells)
    for order in (np.ascontiguousarray, np.asfortranarray):
        parts = [order(cells[start : start + size]) for start in range(0, 1000, size)]
        found = moments_in_blocks(lambda given=parts: given)  # type: ignore[misc]
        for name in ("rows", "present", "fill", "mean", "squares", "scale"):
            np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_small_units_are_no_rounding() -> None:
    values = GENERATOR.normal(3e-13, 1e-13, (2, 400))
    values[1] = 5.0
    mean, scale = channel_moments([values[:, :250], values[:, 250:]])
    np.testing.assert_allclose(mean, values.mean(1), rtol=1e-9)
    np.testing.assert_allclose(scale, [values[0].std(), 1.0], rtol=1e-9)
