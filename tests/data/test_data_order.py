"""Orders worked out slice by slice: each row once, shuffled well, a new order each epoch, whole or in windows."""

from __future__ import annotations

import numpy as np
import pytest

from netwright.data.order import Bijection, Order, Windows, windows_for

KEY = tuple(range(1, 7))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 17, 1000, 65_537])
def test_a_bijection_gives_each_number_once(count: int) -> None:
    found = Bijection(count, KEY)(np.arange(count))
    np.testing.assert_array_equal(np.sort(found), np.arange(count))


@pytest.mark.parametrize("windows", [None, Windows(7, 3), Windows(100, 2), Windows(10_000, 5)])
@pytest.mark.parametrize("count", [1, 6, 7, 8, 999])
def test_an_epoch_holds_each_row_once_and_slices_are_parts_of_it(count: int, windows: Windows | None) -> None:
    rows = np.arange(count) * 3 + 1
    order = Order(rows, 5, 2, windows)
    whole = order[0:count]
    np.testing.assert_array_equal(np.sort(whole), rows)
    pieces = [order[start : start + 13] for start in range(0, count, 13)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert len(order[count : count + 9]) == 0


def test_equal_seeds_and_epochs_give_equal_orders_and_others_do_not() -> None:
    rows = np.arange(500)
    first = Order(rows, 1, 1)[0:500]
    np.testing.assert_array_equal(first, Order(rows, 1, 1)[0:500])
    for other in (Order(rows, 1, 2), Order(rows, 2, 1), Order(rows, 1, 1, Windows(10, 5))):
        assert (other[0:500] == first).mean() < 0.05


def test_every_row_comes_at_every_place_about_equally_often() -> None:
    count, epochs = 20, 8000
    times = np.zeros((count, count))
    for epoch in range(1, epochs + 1):
        times[np.arange(count), Order(np.arange(count), 0, epoch)[0:count]] += 1
    expected = epochs / count
    statistic = ((times - expected) ** 2 / expected).sum()
    freedom = (count - 1) ** 2
    assert abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)  # chi-square has variance 2 * freedom


def test_neighbours_in_an_order_are_unrelated_and_so_are_epochs() -> None:
    count = 100_000
    first, second = (Order(np.arange(count), 0, epoch)[0:count] for epoch in (1, 2))
    bound = 5 / np.sqrt(count)
    for one, other in ((first[:-1], first[1:]), (first, second), (first, np.arange(count)), (first[:-7], first[7:])):
        assert abs(np.corrcoef(one, other)[0, 1]) < bound
    steps = np.abs(np.diff(first))
    assert abs(steps.mean() / count - 1 / 3) < 0.01  # of two numbers drawn from 0..1 the mean distance is a third
    fixed = (first == np.arange(count)).sum()
    assert fixed < 10  # a random permutation has one on average


def test_a_window_holds_whole_blocks_and_mixes_them() -> None:
    order = Order(np.arange(1000), 3, 1, Windows(10, 20))
    window = order[0:200]
    blocks = np.unique(window // 10)
    assert len(blocks) == 20
    assert len(np.unique(window[:20] // 10)) > 8  # neighbours of the file stand apart
    assert blocks.tolist() != sorted(np.unique(Order(np.arange(1000), 3, 2, Windows(10, 20))[0:200] // 10).tolist())


def test_rows_are_shuffled_as_a_whole_while_the_map_fits_into_half_of_memory() -> None:
    assert windows_for(400, 1_000_000, 800_000_000) is None
    found = windows_for(400, 1_000_000, 799_999_999)
    assert found == Windows(2621, 95)
    assert found.block * found.blocks * 400 <= 0.125 * 800_000_000
