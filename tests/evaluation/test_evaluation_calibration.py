"""Reliability, calibration error, Brier score, temperature and threshold against scikit-learn, SciPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import calibration as sklearn_calibration
from sklearn import metrics

from netwright.evaluation import calibration, thresholds
from netwright.model.decisions import decide, decided, places_of
from netwright.model.task import Decoding


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def test_the_bins_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    said = generator.uniform(size=3000)
    came = generator.uniform(size=3000) < said**2
    bins = calibration.reliability(said, came)
    observed, mean = sklearn_calibration.calibration_curve(came, said, n_bins=10, strategy="uniform")
    assert [part["observed"] for part in bins] == pytest.approx(observed.tolist())
    assert [part["mean"] for part in bins] == pytest.approx(mean.tolist())
    assert sum(part["n"] for part in bins) == 3000


def test_edges_count_below_and_empty_bins_are_left_out() -> None:
    bins = calibration.reliability(np.array([0.0, 0.1, 1.0]), np.array([False, True, True]))
    assert [(part["low"], part["high"], part["n"]) for part in bins] == [(0.0, 0.1, 2), (0.9, 1.0, 1)]


def test_the_calibration_error_of_true_probabilities_vanishes_and_of_too_sure_ones_is_their_excess() -> None:
    generator = np.random.default_rng(1)
    said = generator.uniform(size=200_000)
    came = generator.uniform(size=200_000) < said
    assert calibration.calibration_error(calibration.reliability(said, came)) < 0.005
    sure = np.full(10_000, 0.95)
    hits = np.arange(10_000) < 7000
    assert calibration.calibration_error(calibration.reliability(sure, hits)) == pytest.approx(0.25)


def test_brier_scores_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(2)
    two, true = generator.uniform(size=500), generator.integers(0, 2, 500)
    both = np.column_stack([1 - two, two])
    assert calibration.brier_score(true, both) == pytest.approx(metrics.brier_score_loss(true, two))
    several = generator.dirichlet(np.ones(4), size=500)
    classes = generator.integers(0, 4, 500)
    expected = metrics.brier_score_loss(classes, several, labels=[0, 1, 2, 3], scale_by_half=False)
    assert calibration.brier_score(classes, several) == pytest.approx(expected)
    labels = generator.integers(0, 2, (500, 3))
    each = [metrics.brier_score_loss(labels[:, place], several[:, place]) for place in range(3)]
    assert calibration.brier_score(labels, several[:, :3]) == pytest.approx(np.mean(each))


def test_log_loss_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    logits, true = generator.normal(size=(400, 3)) * 5, generator.integers(0, 3, 400)
    probabilities = torch.from_numpy(logits / 2.0).softmax(1).numpy()
    assert calibration.log_loss(true, logits, 2.0) == pytest.approx(metrics.log_loss(true, probabilities))
    one, yes = generator.normal(size=(400, 1)), generator.integers(0, 2, 400)
    assert calibration.log_loss(yes, one) == pytest.approx(metrics.log_loss(yes, sigmoid(one[:, 0])))


@pytest.mark.parametrize("factor", [0.25, 1.0, 4.0])
@pytest.mark.parametrize("form", ["softmax", "sigmoid", "sigmoids"])
def test_the_temperature_by_which_logits_were_multiplied_is_found_again(form: str, factor: float) -> None:
    generator = np.random.default_rng(4)
    logits = generator.normal(size=(60_000, {"softmax": 4, "sigmoid": 1, "sigmoids": 2}[form])) * 2
    if form == "softmax":
        true = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)
    else:
        true = (generator.uniform(size=logits.shape) < sigmoid(logits)).astype(np.int64)
        true = true[:, 0] if form == "sigmoid" else true
    found = calibration.fit_temperature(true, logits * factor)
    assert found == pytest.approx(factor, rel=0.03)
    around = [calibration.log_loss(true, logits * factor, found * step) for step in (0.99, 1.0, 1.01)]
    assert around[1] == min(around)


@pytest.mark.parametrize("form", ["softmax", "sigmoid", "sigmoids"])
def test_logits_from_probabilities_give_the_same_probabilities_at_any_temperature(form: str) -> None:
    outputs = torch.randn(50, 1 if form == "sigmoid" else 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hot = np.asarray(Decoding(form, outputs.shape[1], 3.0)(outputs))
    back = torch.from_numpy(calibration.logits_of(hot, form) * 3.0)
    np.testing.assert_allclose(
        np.asarray(Decoding(form, outputs.shape[1])(back)), Decoding(form, 3)(outputs).numpy(), atol=1e-12
    )


def test_a_temperature_divides_logits_and_nothing_else() -> None:
    outputs = torch.tensor([[1.0, 3.0], [0.0, -2.0]])
    np.testing.assert_allclose(Decoding("softmax", 2, 2.0)(outputs).numpy(), (outputs.double() / 2).softmax(1).numpy())
    for form in ("exp", "score", "value", "count", "probabilities"):
        assert torch.equal(Decoding(form, 2, 2.0)(outputs), Decoding(form, 2)(outputs))
    assert torch.equal(Decoding("softmax", 2, 1.0)(outputs), outputs.double().softmax(dim=1))


def test_the_table_says_of_what_it_is() -> None:
    true, said = np.array([0, 1, 2]), np.eye(3)
    assert calibration.calibration_table(true, said, ["a", "b", "c"])["of"] == "the predicted class"
    assert calibration.calibration_table(true % 2, said[:, :2], ["a", "b"])["of"] == "class 'b'"
    assert calibration.calibration_table(np.eye(3, dtype=int), said, ["a", "b", "c"])["brier"] == 0.0


@pytest.mark.parametrize(
    ("name", "reference"),
    [("f1", metrics.f1_score), ("balanced_accuracy", metrics.balanced_accuracy_score), ("accuracy", metrics.accuracy_score)],
)
@pytest.mark.parametrize("seed", range(3))
def test_no_threshold_is_better_than_the_chosen_one(name: str, reference: object, seed: int) -> None:
    generator = np.random.default_rng(seed)
    positive = generator.uniform(size=120) < 0.3
    probability = np.round(np.clip(generator.normal(0.3 + 0.25 * positive, 0.2), 0, 1), 2)
    chosen = thresholds.choose_threshold(positive, probability, name)
    grid = np.unique(np.concatenate([probability, np.linspace(0, 1, 60)]))
    best = max(reference(positive, probability >= cut) for cut in grid)  # type: ignore[operator]
    assert reference(positive, probability >= chosen) == pytest.approx(best)  # type: ignore[operator]
    assert chosen not in probability


def test_decision_figures_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(7)
    true, said = generator.uniform(size=200) < 0.4, generator.uniform(size=200) < 0.5
    found = thresholds.decision_figures(true, said)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(true, said, average="binary")
    assert found == pytest.approx(
        {
            "accuracy": metrics.accuracy_score(true, said),
            "balanced_accuracy": metrics.balanced_accuracy_score(true, said),
            "f1": f1,
            "precision": precision,
            "recall": recall,
        }
    )


def test_thresholds_of_certain_and_neighbouring_probabilities() -> None:
    assert thresholds.choose_threshold(np.array([True, False]), np.array([1.0, 1.0]), "f1") == 0.5
    low = 0.3
    high = float(np.nextafter(low, 1))
    chosen = thresholds.choose_threshold(np.array([False, True]), np.array([low, high]), "accuracy")
    assert chosen == high


def test_deciding_at_a_threshold() -> None:
    decoded = np.array([[0.7, 0.3], [0.6, 0.4], [0.2, 0.8]])
    assert places_of(decoded, 0.4).tolist() == [0, 1, 1]
    assert decide(decoded, ["no", "yes"], 0.4) == ["no", "yes", "yes"]
    assert decided(decoded, [0, 1], 0.9).tolist() == [0, 0, 0]
    assert decided(decoded, [0, 1]).tolist() == [0, 0, 1]
