"""Figures of several labels a row against scikit-learn's, and their intervals against a plain bootstrap."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from netwright.evaluation.multilabel import (
    epoch_figures,
    label_figures,
    label_intervals,
    label_table,
    left_out,
    paired_label_intervals,
)

NAMES = ["f1_micro", "f1_macro", "hamming_loss", "subset_accuracy", "roc_auc", "average_precision"]


def label_data(rows: int, labels: int = 4) -> tuple[Any, Any]:
    """Labels that hang together, and probabilities that know something of them; rounded, so that scores tie."""
    generator = np.random.default_rng(0)
    common = generator.normal(size=(rows, 1))
    true = (common + generator.normal(size=(rows, labels)) > np.linspace(-0.5, 1, labels)).astype(np.int64)
    scores = 1.5 * true - 0.8 + 0.7 * common + generator.normal(size=(rows, labels))
    return true, np.round(1 / (1 + np.exp(-scores)), 2)


def of_scikit_learn(true: Any, decoded: Any) -> dict[str, float]:
    guess = (decoded > 0.5).astype(int)
    return {
        "f1_micro": metrics.f1_score(true, guess, average="micro", zero_division=0.0),
        "f1_macro": metrics.f1_score(true, guess, average="macro", zero_division=0.0),
        "hamming_loss": metrics.hamming_loss(true, guess),
        "subset_accuracy": metrics.accuracy_score(true, guess),
        "roc_auc": metrics.roc_auc_score(true, decoded, average="macro"),
        "average_precision": metrics.average_precision_score(true, decoded, average="macro"),
    }


def test_the_figures_are_scikit_learns() -> None:
    true, decoded = label_data(200)
    assert label_figures(true, decoded) == pytest.approx(of_scikit_learn(true, decoded))
    assert {name: label_figures(true, decoded)[name] for name in epoch_figures(true, decoded)} == epoch_figures(
        true, decoded
    )


def test_a_label_that_all_rows_or_none_have_is_left_out_of_the_curves_and_said_so() -> None:
    true, decoded = label_data(100)
    true[:, 1], true[:, 3] = 1, 0
    found = label_figures(true, decoded)
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(true[:, [0, 2]], decoded[:, [0, 2]]))
    assert found["f1_macro"] == pytest.approx(metrics.f1_score(true, decoded > 0.5, average="macro", zero_division=0.0))
    assert left_out(true, ["a", "b", "c", "d"]) == [
        "roc_auc and average_precision are the means over 2 of 4 labels: all rows or none have b, d"
    ]
    assert left_out(label_data(100)[0], ["a", "b", "c", "d"]) == []
    assert "f1_macro" not in label_intervals(true, decoded, list(found))
    assert "roc_auc" not in label_figures(np.zeros((20, 4), np.int64), decoded[:20])


def test_the_table_of_labels_is_scikit_learns() -> None:
    true, decoded = label_data(100)
    expected = metrics.precision_recall_fscore_support(true, decoded > 0.5, zero_division=0.0)
    for place, entry in enumerate(label_table(true, decoded, list("abcd"))):
        figures = [entry[name] for name in ("precision", "recall", "f1", "support")]
        assert figures == pytest.approx([part[place] for part in expected])
        assert entry["label"] == "abcd"[place]


def test_the_intervals_agree_with_a_plain_bootstrap_of_rows() -> None:
    true, decoded = label_data(400)
    found = label_intervals(true, decoded, NAMES)
    assert set(found) == set(NAMES)
    generator = np.random.default_rng(1)
    drawn = [label_figures(true[rows], decoded[rows]) for rows in (generator.integers(0, 400, 400) for _ in range(400))]
    for name in NAMES:
        low, high = np.quantile([figures[name] for figures in drawn], (0.025, 0.975))
        assert found[name] == pytest.approx((low, high), abs=0.012), name


def test_few_rows_give_few_intervals() -> None:
    true, decoded = label_data(60)
    assert label_intervals(true[:9], decoded[:9], NAMES) == {}
    true[:, 0] = 0
    true[:4, 0] = 1
    assert set(label_intervals(true, decoded, NAMES)) == {"f1_micro", "hamming_loss", "subset_accuracy"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        perfect = label_intervals(true, true.astype(float), NAMES)
    assert set(perfect) == {"subset_accuracy"}


def test_differences_on_the_same_rows_agree_with_a_plain_bootstrap() -> None:
    true, decoded = label_data(400)
    other = np.clip(decoded + np.random.default_rng(2).normal(0, 0.25, decoded.shape), 0, 1).round(2)
    found = paired_label_intervals(true, decoded, [other])
    generator = np.random.default_rng(1)
    drawn = [generator.integers(0, 400, 400) for _ in range(200)]
    pairs = [(label_figures(true[rows], decoded[rows]), label_figures(true[rows], other[rows])) for rows in drawn]
    for name in NAMES:
        gaps = [one[name] - two[name] for one, two in pairs]
        assert found[name] == pytest.approx(tuple(np.quantile(gaps, (0.025, 0.975))), abs=0.012), name
    assert paired_label_intervals(true, decoded, [decoded]) == {}


def test_rows_of_a_group_widen_the_intervals() -> None:
    true, decoded = label_data(60)
    groups = np.repeat(np.arange(60), 10)
    many = np.repeat(true, 10, axis=0), np.repeat(decoded, 10, axis=0)
    together, alone = label_intervals(*many, NAMES, groups), label_intervals(*many, NAMES)
    plain = label_intervals(true, decoded, NAMES)
    assert together["hamming_loss"] == pytest.approx(plain["hamming_loss"])
    assert np.ptp(alone["hamming_loss"]) < np.ptp(together["hamming_loss"]) / 2
