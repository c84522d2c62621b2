"""The order of rows is a permutation that depends on seed and epoch only; batches cover it exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from netwright.data.batches import Examples, batches, epoch_order, steps_per_epoch

ROWS = np.array([3, 1, 4, 15, 9, 26, 5, 35, 8, 97])


def examples(count: int) -> Examples:
    values = torch.arange(count)
    return Examples({"table": torch.stack([values, -values], dim=1).float(), "codes": values * 2}, values * 10)


def test_an_order_is_a_permutation_of_the_rows() -> None:
    for count in range(1, 60):
        rows = np.arange(count) * 7
        for epoch in (1, 2, 1000):
            order = epoch_order(rows, count, epoch)
            assert sorted(order.tolist()) == rows.tolist()
            assert order.dtype == np.int64


def test_an_order_depends_on_seed_and_epoch_only() -> None:
    first = epoch_order(ROWS, 1, 1).tolist()
    np.random.default_rng(0).normal(size=3)
    torch.manual_seed(9)
    assert epoch_order(ROWS, 1, 1).tolist() == first
    orders = {tuple(epoch_order(ROWS, seed, epoch)) for seed in range(10) for epoch in range(1, 11)}
    assert len(orders) == 100


def test_the_order_of_a_seed_is_the_same_for_ever() -> None:
    assert epoch_order(np.arange(8), 0, 1).tolist() == [0, 7, 1, 4, 6, 3, 5, 2]
    assert epoch_order(np.arange(8), 0, 2).tolist() == [7, 5, 1, 4, 0, 3, 6, 2]


def test_ordering_leaves_the_rows_alone() -> None:
    rows = np.arange(20)
    epoch_order(rows, 3, 1)
    assert rows.tolist() == list(range(20))


# rows, batch size, batches with the last kept, batches with the last dropped
STEPS = [(10, 3, 4, 3), (9, 3, 3, 3), (1, 1, 1, 1), (1, 64, 1, 1), (64, 64, 1, 1), (65, 64, 2, 1), (2, 3, 1, 1)]


@pytest.mark.parametrize(("rows", "size", "keep", "drop"), STEPS)
def test_the_number_of_steps_is_exact(rows: int, size: int, keep: int, drop: int) -> None:
    assert steps_per_epoch(rows, size, "keep") == keep
    assert steps_per_epoch(rows, size, "drop") == drop
    order = np.arange(rows)
    assert len(list(batches(examples(rows), order, size, "keep"))) == keep
    assert len(list(batches(examples(rows), order, size, "drop"))) == drop


def test_kept_batches_cover_the_rows_in_their_order() -> None:
    for size in range(1, 13):
        found = list(batches(examples(100), ROWS, size))
        assert torch.cat([batch.rows for batch in found]).tolist() == ROWS.tolist()
        assert {len(batch) for batch in found[:-1]} <= {size}
        assert 1 <= len(found[-1]) <= size


def test_dropped_last_batches_leave_whole_ones() -> None:
    found = list(batches(examples(100), ROWS, 4, "drop"))
    assert [len(batch) for batch in found] == [4, 4]
    assert torch.cat([batch.rows for batch in found]).tolist() == ROWS[:8].tolist()
    assert [len(batch) for batch in batches(examples(100), ROWS[:3], 4, "drop")] == [3]  # a short epoch is not empty


def test_a_batch_holds_its_rows_of_every_input_and_the_target() -> None:
    batch = next(batches(examples(100), ROWS, 3))
    assert batch.rows.tolist() == [3, 1, 4]
    assert batch.rows.dtype == torch.int64
    assert batch.inputs["table"].tolist() == [[3, -3], [1, -1], [4, -4]]
    assert batch.inputs["codes"].tolist() == [6, 2, 8]
    assert batch.target.tolist() == [30, 10, 40]
    assert len(batch) == 3


def test_batches_of_reversed_views_are_gathered_rightly() -> None:
    found = list(batches(examples(10), np.arange(10)[::-1], 4))
    assert [batch.rows.tolist() for batch in found] == [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0]]


def test_a_batch_is_a_copy_of_the_examples() -> None:
    rows = examples(10)
    next(batches(rows, np.arange(10), 4)).inputs["table"].zero_()
    assert rows.inputs["table"][1].tolist() == [1, -1]
