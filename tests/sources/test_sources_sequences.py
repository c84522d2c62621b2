"""Rows of steps: where they start, what they are padded to, windows that stay in their part, symbols of texts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch

from netwright.data.batches import PADDED_CLASS, Examples, Spans, epoch_order
from netwright.errors import DataError
from netwright.sources.arrays import Arrays
from netwright.sources.sequence_parts import concatenate
from netwright.sources.sequences import (
    EMPTY,
    Sequences,
    StepForm,
    by_column,
    from_dense,
    from_list,
    learn_vocabulary,
    rungs_of,
    symbols_of,
    windows,
)
from netwright.sources.tables import Origin, Table


def ragged(seed: int = 0, rows: int = 40) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(int(length), 3)) for length in generator.integers(1, 30, rows)]


def test_at_most_eight_rungs_reach_the_longest_row() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 1000)
    rungs = rungs_of(lengths)
    assert len(rungs) == 8
    assert rungs[-1] == lengths.max()
    assert list(rungs) == sorted(set(rungs))
    assert rungs_of(np.array([7, 7])) == (7,)


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("horizon", [1, 4])
def test_no_window_leaves_the_part_in_which_it_starts(stride: int, horizon: int) -> None:
    generator = np.random.default_rng(stride * 10 + horizon)
    parts = np.repeat(generator.integers(-1, 3, 30), generator.integers(1, 25, 30))
    starts, targets = windows(parts, 5, horizon, stride)
    assert len(starts)
    np.testing.assert_array_equal(targets, starts + 5 - 1 + horizon)
    for start, target in zip(starts, targets, strict=True):
        assert len(set(parts[start : target + 1])) == 1
        assert parts[start] >= 0
    if stride == 1:  # and none is left out
        whole = [s for s in range(len(parts) - 4 - horizon) if len(set(parts[s : s + 5 + horizon])) == 1 and parts[s] >= 0]
        np.testing.assert_array_equal(starts, whole)


def test_a_series_shorter_than_a_window_has_none() -> None:
    assert len(windows(np.zeros(5, np.int64), 5, 1, 1)[0]) == 0


def test_steps_of_overlapping_rows_are_counted_once() -> None:
    steps = Arrays({"X": np.arange(10.0).reshape(-1, 1)}, None, (Origin("t", 10),))
    rows = Sequences(steps, np.array([0, 1, 6]), np.array([3, 3, 2]))
    assert rows.steps_of(np.array([0, 1])).tolist() == [0, 1, 2, 1, 2, 3]
    assert rows.steps_in(np.array([0, 1, 2])).tolist() == [0, 1, 2, 3, 6, 7]


def test_a_list_of_arrays_becomes_rows_of_steps() -> None:
    items = ragged()
    rows = from_list(items, "data", np.arange(40) % 2)
    assert rows.lengths.tolist() == [len(item) for item in items]
    assert isinstance(rows.steps, Arrays)
    for row in (0, 7, 39):
        np.testing.assert_array_equal(rows.steps.inputs["X"][rows.steps_of(np.array([row]))], items[row])
    assert rows.place(7) == "data: sequence 8"
    assert not rows.per_step


def test_labels_per_step_stand_among_the_steps() -> None:
    items = ragged()
    rows = from_list(items, "data", [np.arange(len(item)) for item in items])
    assert rows.per_step
    assert isinstance(rows.steps, Arrays)
    assert rows.steps.target is not None
    assert rows.steps.target[rows.steps_of(np.array([3]))].tolist() == list(range(len(items[3])))


@pytest.mark.parametrize(
    ("items", "labels", "words"),
    [
        ([np.zeros((2, 3)), np.zeros((2, 4))], None, r"sequence 2 has shape \(2, 4\)"),
        ([np.zeros((2, 3)), np.zeros((0, 3))], None, r"sequence 2 has shape \(0, 3\)"),
        ([np.zeros((2, 3)), np.array([["a"] * 3])], None, "dtype <U1"),
        ([np.zeros((2, 3)), np.zeros((1, 3))], [1, 2, 3], "2 sequences and 3 labels came"),
        ([np.zeros((2, 3)), np.zeros((1, 3))], [[1, 2], [1, 2]], r"sequence 2 has 1 steps and labels of shape \(2,\)"),
    ],
)
def test_lists_that_are_no_sequences_are_told(items: list[np.ndarray], labels: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        from_list(items, "data", labels)


def test_one_array_of_equal_lengths_is_read_as_steps() -> None:
    values = np.arange(24.0).reshape(2, 4, 3)
    rows = from_dense(Arrays({"X": values}, np.array([0, 1]), (Origin("t", 2),)))
    assert rows.lengths.tolist() == [4, 4]
    assert isinstance(rows.steps, Arrays)
    np.testing.assert_array_equal(rows.steps.inputs["X"], values.reshape(8, 3))


def long_table() -> Table:
    columns = {"who": ["a", "a", "b", "b", "b"], "x": [1, 2, 3, 4, 5], "y": ["u", "u", "v", "v", "v"], "z": [0, 1, 1, 0, 1]}
    return Table(pa.table(columns), (Origin("t.csv", 5),))


def test_rows_of_one_value_are_a_sequence_and_a_constant_target_is_its_label() -> None:
    rows = by_column(long_table(), "who", ["y"])
    assert rows.lengths.tolist() == [2, 3]
    assert not rows.per_step
    assert isinstance(rows.steps, Table)
    assert rows.steps.names == ["x", "z"]
    assert isinstance(rows.about, Table)
    assert rows.about.columns["y"].to_pylist() == ["u", "v"]
    assert rows.place(1) == "t.csv: who b"


def test_a_target_that_changes_inside_a_sequence_is_one_per_step() -> None:
    rows = by_column(long_table(), "who", ["z"])
    assert rows.per_step
    assert isinstance(rows.steps, Table)
    assert "z" in rows.steps.names


def test_a_sequence_that_is_torn_apart_is_refused_with_its_row() -> None:
    table = Table(pa.table({"who": ["a", "b", "a"], "y": [1, 2, 3]}), (Origin("t.csv", 3),))
    with pytest.raises(DataError, match=r"t.csv: row 3: data.sequences: 'who' = 'a' came before and again here"):
        by_column(table, "who", ["y"])


def test_sequences_of_two_sources_are_put_one_below_the_other() -> None:
    first, second = from_list(ragged(0, 4), "a", [0, 1, 0, 1]), from_list(ragged(1, 3), "b", [1, 1, 0])
    both = concatenate([first, second])
    assert both.rows == 7
    assert both.place(5) == "b: sequence 2"
    assert isinstance(both.steps, Arrays)
    np.testing.assert_array_equal(both.steps.inputs["X"][both.steps_of(np.array([6]))], ragged(1, 3)[2])


@pytest.mark.parametrize("kind", ["characters", "words"])
def test_texts_are_the_symbols_they_were(kind: str) -> None:
    texts = ["to be, or not", "", "naïve 🙂 \n\t x"]
    numbers, lengths, symbols = symbols_of(texts, kind)
    found = [[symbols[number] for number in part] for part in np.split(numbers, np.cumsum(lengths)[:-1])]
    if kind == "characters":
        assert ["".join(part) for part in found] == ["to be, or not", EMPTY, "naïve 🙂 \n\t x"]
    else:
        assert found == [["to", "be,", "or", "not"], [EMPTY], ["naïve", "🙂", "x"]]


def test_symbols_that_only_others_hold_are_unknown() -> None:
    numbers, lengths, symbols = symbols_of(["ab", "bz"], "characters")
    steps = Arrays({"text": numbers}, None, (Origin("t", 4),))
    rows = Sequences(steps, np.array([0, 2]), lengths, symbols=symbols)
    vocabulary = learn_vocabulary(rows, np.array([0]))
    assert vocabulary == ("a", "b")
    coded = StepForm(False, (2,), vocabulary=vocabulary).coded(rows)
    assert isinstance(coded, Arrays)
    assert coded.inputs["text"].tolist() == [1, 2, 2, 0]


def spans(lengths: list[int], rungs: tuple[int, ...], channels_first: bool = False) -> Spans:
    count = torch.tensor(lengths)
    return Spans(torch.cumsum(count, 0) - count, count, rungs, channels_first)


@pytest.mark.parametrize("channels_first", [False, True])
def test_a_batch_holds_its_rows_padded_with_zeros_to_a_rung(channels_first: bool) -> None:
    values = torch.arange(1.0, 13.0).reshape(6, 2)
    examples = Examples({"X": values}, torch.tensor([7, 8, 9]), spans=spans([1, 3, 2], (2, 4), channels_first))
    batch = examples.batch(torch.tensor([2, 0]))
    found = batch.inputs["X"].transpose(1, 2) if channels_first else batch.inputs["X"]
    assert found.tolist() == [[[9.0, 10.0], [11.0, 12.0]], [[1.0, 2.0], [0.0, 0.0]]]
    assert batch.lengths is not None
    assert batch.lengths.tolist() == [2, 1]
    assert batch.target.tolist() == [9, 7]
    assert examples.batch(torch.tensor([1])).inputs["X"].shape[2 if channels_first else 1] == 4


def test_steps_that_are_not_there_have_no_target() -> None:
    values = torch.zeros(3, 1)
    classes = Examples({"X": values}, torch.tensor([5, 6, 7]), spans=spans([1, 2], (2,)), per_step=True)
    assert classes.batch(torch.tensor([0, 1])).target.tolist() == [[5, PADDED_CLASS], [6, 7]]
    numbers = Examples({"X": values}, torch.ones(3, 1), spans=spans([1, 2], (2,)), per_step=True)
    assert torch.isnan(numbers.batch(torch.tensor([0, 1])).target[:, :, 0]).tolist() == [[False, True], [False, False]]


def test_rows_of_one_length_are_stacked_once_and_nothing_is_masked() -> None:
    values = torch.arange(12.0).reshape(6, 2)
    examples = Examples({"X": values}, torch.arange(3), spans=spans([2, 2, 2], (2,), True)).stacked()
    assert examples.spans is None
    assert examples.inputs["X"].shape == (3, 2, 2)
    batch = examples.batch(torch.tensor([1]))
    assert batch.lengths is None
    assert batch.inputs["X"].tolist() == [[[4.0, 6.0], [5.0, 7.0]]]


def test_rows_of_about_equal_length_meet_and_each_row_comes_once() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 1003)
    rows = np.arange(5000, 6003)
    order = epoch_order(rows, 3, 1, lengths, 10)
    assert sorted(order.tolist()) == rows.tolist()
    spread = [np.ptp(lengths[order[start : start + 10] - 5000]) for start in range(0, 1000, 10)]
    assert np.mean(spread) < 10
    np.testing.assert_array_equal(order, epoch_order(rows, 3, 1, lengths, 10))
    assert (order != epoch_order(rows, 3, 2, lengths, 10)).any()


@pytest.mark.parametrize("kind", ["characters", "words"])
def test_texts_of_several_files_are_numbered_by_one_table_of_symbols(kind: str) -> None:
    texts = (["b a b", "c"], ["d a", "", "b"], ["e c"])
    parts = []
    for number, values in enumerate(texts):
        codes, lengths, symbols = symbols_of(values, kind)
        steps = Arrays({"text": codes}, None, (Origin(f"{number}.csv", len(codes)),))
        about = Arrays({"row": np.zeros((len(values), 1))}, None, (Origin(f"{number}.csv", len(values)),))
        parts.append(Sequences(steps, np.cumsum(lengths) - lengths, lengths, about, symbols=symbols))
    joined = concatenate(parts)
    between = "" if kind == "characters" else " "
    assert isinstance(joined.steps, Arrays)
    codes = joined.steps.inputs["text"]
    read = [between.join(joined.symbols[code] for code in codes[joined.steps_of(np.array([row]))]) for row in range(6)]
    assert read == ["b a b", "c", "d a", EMPTY, "b", "e c"]
    assert len(set(joined.symbols)) == len(joined.symbols)
    assert joined.symbols[: len(parts[0].symbols)] == parts[0].symbols
    assert learn_vocabulary(joined, np.arange(2)) == tuple(sorted(parts[0].symbols))


def steps_of_file(name: str, labels: list[str]) -> Sequences:
    columns = {"x": [0.0, 1.0, 2.0, 3.0], "id": ["p", "p", "q", "q"], "y": labels}
    return by_column(Table(pa.table(columns), (Origin(name, 4),)), "id", ["y"])


@pytest.mark.parametrize("changes", ["train", "test"])
def test_labels_that_change_inside_a_sequence_of_one_file_are_per_step_in_all(changes: str) -> None:
    labels = {"constant": ["u", "u", "v", "v"], "changing": ["u", "v", "v", "u"]}
    order = ["changing", "constant"] if changes == "train" else ["constant", "changing"]
    joined = concatenate([steps_of_file(f"{name}.csv", labels[name]) for name in order])
    assert joined.per_step
    assert isinstance(joined.labelled, Table)
    assert joined.labelled.columns["y"].to_pylist() == labels[order[0]] + labels[order[1]]
    constant = concatenate([steps_of_file(f"{place}.csv", labels["constant"]) for place in range(2)])
    assert not constant.per_step
    assert isinstance(constant.labelled, Table)
    assert constant.labelled.columns["y"].to_pylist() == ["u", "v", "u", "v"]


def test_arrays_with_a_label_per_row_beside_labels_per_step_are_refused() -> None:
    items = [np.zeros((2, 1)), np.zeros((3, 1))]
    rows, steps = from_list(items, "data", [0, 1]), from_list(items, "data", [np.array([0, 1]), np.array([0, 1, 1])])
    for parts in ([rows, steps], [steps, rows]):
        with pytest.raises(DataError, match="one label per row came; expected one per step, as the other rows have"):
            concatenate(parts)
