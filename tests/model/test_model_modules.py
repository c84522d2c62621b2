"""Our own layers: torch's classes with the sequence alone, and the few torch.nn does not have."""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from netwright.model import modules


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("arguments", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}])
def test_a_recurrent_layer_is_torchs_own_but_returns_the_sequence_alone(name: str, arguments: dict) -> None:
    ours = getattr(modules, name)(4, 6, batch_first=True, **arguments)
    theirs = getattr(nn, name)(4, 6, batch_first=True, **arguments)
    assert isinstance(ours, getattr(nn, name))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    given = rows(3, 5, 4)
    assert torch.equal(ours(given), theirs(given)[0])


def test_attention_is_torchs_own_of_a_sequence_with_itself() -> None:
    ours, theirs = (kind(8, 2, batch_first=True) for kind in (modules.MultiheadAttention, nn.MultiheadAttention))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    given = rows(3, 5, 8)
    assert torch.equal(ours(given), theirs(given, given, given, need_weights=False)[0])


def test_a_step_a_mean_and_a_swap_of_axes_are_what_they_say() -> None:
    given = rows(3, 5, 4)
    assert torch.equal(modules.LastStep()(given), given[:, 4])
    torch.testing.assert_close(modules.MeanOverTime()(given), given.sum(dim=1) / 5, rtol=0, atol=1e-6)
    assert modules.Transpose()(given).shape == (3, 4, 5)
    assert torch.equal(modules.Transpose()(modules.Transpose()(given)), given)


def test_a_residual_adds_its_input_to_what_its_layers_make() -> None:
    inner = nn.Linear(4, 4)
    given = rows(3, 4)
    block = modules.Residual(inner, nn.ReLU())
    assert torch.equal(block(given), given + inner(given).relu())
    assert list(block.state_dict()) == ["0.weight", "0.bias"]


@pytest.mark.parametrize(("dim", "shape"), [(1, (2, 7, 5)), (2, (2, 4, 8))])
def test_parallel_branches_read_the_same_input_and_are_joined(dim: int, shape: tuple[int, ...]) -> None:
    branches = (nn.Conv1d(4, 3, 1), nn.Identity()) if dim == 1 else (nn.Linear(5, 3), nn.Identity())
    given = rows(2, 4, 5)
    joined = modules.Parallel(*branches, dim=dim)(given)
    assert joined.shape == shape
    assert torch.equal(joined, torch.cat([branches[0](given), given], dim=dim))


def test_embedded_columns_pass_the_numbers_and_look_the_codes_up() -> None:
    layer = modules.EmbedColumns([3, 5], [2, 4])
    given = torch.tensor([[0.5, -1.0, 2.0, 0.0], [1.5, 3.0, 0.0, 4.0]])
    found = layer(given)
    first, second = layer.embeddings
    assert torch.equal(found[:, :2], given[:, :2])
    assert torch.equal(found[:, 2:4], first.weight[torch.tensor([2, 0])])
    assert torch.equal(found[:, 4:], second.weight[torch.tensor([0, 4])])
    assert list(layer.state_dict()) == ["embeddings.0.weight", "embeddings.1.weight"]


def test_embedded_columns_want_one_length_per_column() -> None:
    with pytest.raises(ValueError, match="shorter"):
        modules.EmbedColumns([3, 5], [2])


@pytest.mark.parametrize("spatial", [(9,), (9, 7), (5, 6, 4)])
def test_a_random_shift_moves_whole_rows_and_fills_the_gap_with_the_edge(spatial: tuple[int, ...]) -> None:
    given = rows(64, 2, *spatial)
    layer = modules.RandomShift(2)
    torch.manual_seed(0)
    moved = layer(given)
    torch.manual_seed(0)
    assert torch.equal(layer(given), moved)  # by torch's generator alone
    for row, after in zip(given, moved, strict=True):
        matches = 0
        for by in itertools.product(range(-2, 3), repeat=len(spatial)):
            expected = row
            for axis, step in enumerate(by, start=1):
                places = [min(max(place - step, 0), row.shape[axis] - 1) for place in range(row.shape[axis])]
                expected = expected.index_select(axis, torch.tensor(places))
            matches += torch.equal(expected, after)
        assert matches == 1
    assert len({tuple(after[0].flatten().tolist()) for after in moved - given}) > 10  # not all by the same


def same(one: torch.Tensor, others: Sequence[torch.Tensor]) -> list[int]:
    """Return the places of the tensors that are equal to one."""
    return [place for place, other in enumerate(others) if torch.equal(one, other)]


@pytest.mark.parametrize("spatial", [(8,), (8, 7), (5, 6, 4)])
def test_a_random_mirror_flips_about_half_of_the_rows_along_each_axis(spatial: tuple[int, ...]) -> None:
    given, last = rows(400, 2, *spatial), len(spatial) + 1
    changed = modules.RandomMirror([2, last] if last > 2 else [2])(given)
    counts = collections.Counter()
    for row, after in zip(given, changed, strict=True):
        ways = [row, row.flip(1), row.flip(last - 1), row.flip(1, last - 1)] if last > 2 else [row, row.flip(1)]
        (way,) = same(after, ways)
        counts[way] += 1
    assert sorted(counts) == list(range(4 if last > 2 else 2))
    assert min(counts.values()) > 0.7 * 400 / len(counts)


def test_a_random_turn_turns_by_each_number_of_quarters() -> None:
    given = rows(400, 2, 5, 5, 4)
    changed = modules.RandomTurn([2, 3])(given)
    turns = [same(after, [row.rot90(by, (1, 2)) for by in range(4)]) for row, after in zip(given, changed, strict=True)]
    counts = collections.Counter(by for (by,) in turns)
    assert sorted(counts) == [0, 1, 2, 3]
    assert min(counts.values()) > 70


def test_a_random_stretch_takes_the_nearest_places_about_the_middle() -> None:
    places = torch.arange(21.0).expand(300, 1, 21)
    changed = modules.RandomStretch(1.5)(places)[:, 0]
    assert torch.equal(changed[:, 10], torch.full((300,), 10.0))  # the middle stays
    assert bool((changed.diff(dim=1) >= 0).all())  # in order
    ends = changed[:, 20] - changed[:, 10], changed[:, 10] - changed[:, 0]
    assert torch.equal(*ends)  # alike on both sides
    assert int(ends[0].min()) == 7  # 10 places of a row that is 1.5 times as long
    inner = changed[:, 13] - changed[:, 10]  # of one that is narrowed the edge fills the gap, so look inside
    assert (int(inner.min()), int(inner.max())) == (2, 4)  # 3 / 1.5 and 3 * 1.5, to the nearest place
    square = modules.RandomStretch(1.5)(rows(64, 2, 9, 9))
    assert square.shape == (64, 2, 9, 9)
    assert not torch.equal(square, rows(64, 2, 9, 9))


@pytest.mark.parametrize(
    ("layer", "shown"),
    [
        (modules.RandomStretch(1.5), "RandomStretch(factor=1.5)"),
        (modules.RandomMirror([2, 3]), "RandomMirror(dims=(2, 3))"),
        (modules.RandomTurn((2, 3)), "RandomTurn(dims=(2, 3))"),
    ],
)
def test_what_moves_rows_draws_from_torchs_generator_and_rests_in_use(layer: torch.nn.Module, shown: str) -> None:
    given = rows(16, 1, 6, 6)
    torch.manual_seed(0)
    moved = layer(given)
    torch.manual_seed(0)
    assert torch.equal(layer(given), moved)
    assert not torch.equal(moved, given)
    assert layer.eval()(given) is given
    assert list(layer.state_dict()) == []
    assert repr(layer) == shown


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: modules.RandomStretch(0.9), "factor=0.9 came; expected a number above 1"),
        (lambda: modules.RandomStretch(True), "factor=True came"),
        (lambda: modules.RandomMirror([]), "dims=[] came; expected axes of space"),
        (lambda: modules.RandomMirror([1]), "dims=[1] came; expected axes of space"),
        (lambda: modules.RandomMirror([2, 2]), "dims=[2, 2] came"),
        (lambda: modules.RandomTurn([2]), "dims=[2] came; expected two axes of space"),
        (lambda: modules.RandomMirror([4]).eval()(rows(2, 1, 3, 3)), "axis 4 came; expected one of 2 to 3"),
        (
            lambda: modules.RandomTurn([2, 3]).eval()(rows(2, 1, 3, 4)),
            "axes (2, 3) of (2, 1, 3, 4) came; expected two axes of one",
        ),
    ],
)
def test_arguments_that_move_nothing_are_refused(make: Callable[[], object], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        make()


def test_a_random_shift_leaves_rows_as_they_are_when_a_network_is_used() -> None:
    layer = modules.RandomShift(2).eval()
    given = rows(3, 1, 4, 4)
    assert layer(given) is given
    assert list(layer.state_dict()) == []
    assert repr(layer) == "RandomShift(most=2)"
