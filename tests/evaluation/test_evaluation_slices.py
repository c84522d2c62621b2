"""Figures of each class and of parts of the rows, and the rows that are most wrong."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from netwright.evaluation.intervals import wilson
from netwright.evaluation.slices import Sliced, class_table, figures_of, of_numbers, of_values, slice_table
from netwright.evaluation.worst import scaled_error, told_of_row, told_of_steps, worst_rows


def test_the_class_table_is_that_of_scikit_learn_with_intervals_of_wilson() -> None:
    generator = np.random.default_rng(0)
    true, guess = generator.integers(0, 4, 300), generator.integers(0, 5, 300)
    found = class_table(true, guess, ["a", "b", "c", "d", "e"])
    precision, recall, f1, support = metrics.precision_recall_fscore_support(true, guess, labels=range(4), zero_division=0)
    assert [part["class"] for part in found] == ["a", "b", "c", "d"]  # no row is e
    assert [part["n"] for part in found] == support.tolist()
    assert [part["precision"] for part in found] == pytest.approx(precision.tolist())
    assert [part["recall"]["value"] for part in found] == pytest.approx(recall.tolist())
    assert [part["f1"] for part in found] == pytest.approx(f1.tolist())
    hits = int(((true == 2) & (guess == 2)).sum())
    assert (found[2]["recall"]["low"], found[2]["recall"]["high"]) == wilson(hits, int(support[2]))


def test_a_class_that_is_never_predicted_has_the_precision_zero() -> None:
    assert class_table(np.array([0, 1]), np.array([0, 0]), ["a", "b"])[1]["precision"] == 0.0


def test_slices_are_sorted_worst_first_and_small_ones_have_no_interval() -> None:
    true = np.zeros(45, dtype=np.int64)
    decoded = np.tile([0.9, 0.1, 0.0], (45, 1))
    decoded[20:30] = [0.1, 0.9, 0.0]
    column = of_values("place", ["a"] * 20 + ["b"] * 20 + ["c"] * 5)
    found, remarks = slice_table([column], figures_of("multiclass", true, decoded))
    assert [(part["slice"], part["n"]) for part in found] == [("b", 20), ("a", 20), ("c", 5)]
    assert found[0]["metrics"]["accuracy"] == {"value": 0.5, **dict(zip(("low", "high"), wilson(10, 20), strict=True))}
    assert found[2]["metrics"] == {"accuracy": {"value": 1.0}}
    assert remarks == []


def test_the_worst_of_a_regression_is_the_largest_error_and_slices_join_to_the_whole() -> None:
    generator = np.random.default_rng(1)
    true, guess = generator.normal(size=(90, 1)), generator.normal(size=(90, 1))
    column = Sliced("k", np.repeat([0, 1, 2], 30), ("x", "y", "z"))
    found, _ = slice_table([column], figures_of("regression", true, guess))
    values = [part["metrics"]["rmse"]["value"] for part in found]
    assert values == sorted(values, reverse=True)
    assert np.sqrt(np.mean(np.square(values))) == pytest.approx(metrics.root_mean_squared_error(true, guess))
    assert all(part["metrics"]["mae"]["low"] < part["metrics"]["mae"]["value"] for part in found)


def test_recall_and_precision_of_the_second_class_are_of_their_own_rows() -> None:
    generator = np.random.default_rng(2)
    true, said = generator.integers(0, 2, 400), generator.uniform(size=400)
    decoded = np.column_stack([1 - said, said])
    ((part,), _) = slice_table([of_values("all", ["one"] * 400)], figures_of("binary", true, decoded))
    guess = decoded.argmax(axis=1)
    assert part["metrics"]["recall"]["value"] == pytest.approx(metrics.recall_score(true, guess))
    assert part["metrics"]["precision"]["value"] == pytest.approx(metrics.precision_score(true, guess))
    ((labels,), _) = slice_table([of_values("all", ["one"] * 400)], figures_of("multilabel", decoded > 0.5, decoded))
    assert labels["metrics"]["subset_accuracy"]["value"] == 1.0


def test_at_most_ten_values_of_a_column_and_forty_slices() -> None:
    true, decoded = np.zeros(600, dtype=np.int64), np.tile([0.9, 0.1, 0.0], (600, 1))
    many = of_values("many", [str(min(place // 10, 20)) for place in range(600)])
    columns = [many] * 5
    found, remarks = slice_table(columns, figures_of("multiclass", true, decoded))
    assert len(found) == 40
    assert remarks[0] == "slices by 'many': the 10 values of the most rows, of 21"
    assert "left out" in remarks[-1]
    assert max(found[:10], key=lambda part: part["n"])["slice"] == "20"


def test_numbers_are_cut_at_the_quartiles_of_other_rows() -> None:
    column = of_numbers("age", np.array([0.0, 2.0, 2.1, 50.0, np.nan]), np.arange(9.0))
    assert [column.values[place] for place in column.places] == [
        "up to 2", "up to 2", "above 2, up to 4", "above 6", "(missing)",
    ]  # fmt: skip
    assert of_numbers("flat", np.ones(3), np.ones(9)).places.tolist() == [0, 0, 0]


def test_misclassified_rows_come_by_the_probability_of_the_true_class() -> None:
    true = np.array([0, 0, 1, 1])
    decoded = np.array([[0.4, 0.6], [0.9, 0.1], [0.99, 0.01], [0.7, 0.3]])
    assert worst_rows("binary", true, decoded).tolist() == [2, 3, 0]
    scores = np.array([[1.0, 5.0], [3.0, 1.0], [2.0, -9.0], [4.0, 1.0]])
    assert worst_rows("binary", true, scores).tolist() == [2, 0, 3]


def test_labels_come_by_wrong_ones_then_by_the_loss() -> None:
    true = np.array([[1, 0], [1, 1], [0, 0], [1, 0]])
    decoded = np.array([[0.1, 0.9], [0.9, 0.2], [0.1, 0.1], [0.01, 0.1]])
    assert worst_rows("multilabel", true, decoded).tolist() == [0, 3, 1]
    told = told_of_row("multilabel", true[0], decoded[0], ["t"], ["x", "y"])
    assert told == {"true": "x", "predicted": "y", "wrong_labels": 2}
    assert told_of_row("multilabel", true[2], decoded[2], ["t"], ["x", "y"])["true"] == "(none)"


def test_outputs_of_different_units_are_measured_by_their_spread() -> None:
    true = np.column_stack([np.arange(10.0) * 1000, np.arange(10.0)])
    guess = true.copy()
    guess[3, 0] += 500
    guess[7, 1] += 2
    assert worst_rows("regression", true, guess).tolist() == [7, 3]
    assert np.array_equal(scaled_error(true[:, :1], guess[:, :1]), guess[:, :1] - true[:, :1])
    assert told_of_row("regression", true[7], guess[7], ["big", "small"], [])["predicted"] == "big 7000, small 9"


def test_rows_of_steps_come_by_their_mean() -> None:
    true = np.array([0, 0, 1, 1, 1])
    decoded = np.array([[0.1, 0.9], [0.9, 0.1], [0.9, 0.1], [0.8, 0.2], [0.2, 0.8]])
    lengths = np.array([2, 0, 3])
    assert worst_rows("binary", true, decoded, lengths).tolist() == [2, 0]
    told = told_of_steps("binary", true[2:], decoded[2:], ["a", "b"])
    assert told == {"true": "bbb", "predicted": "aab", "wrong_steps": 2, "steps": 3}
    numbers = told_of_steps("regression", np.array([[1.0], [2.0]]), np.array([[2.0], [5.0]]), [])
    assert numbers["error"] == 2.0
