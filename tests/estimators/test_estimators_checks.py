"""The whole of scikit-learn's own checks, without one that is expected to fail."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from netwright.estimators.classifier import NetClassifier
from netwright.estimators.regressor import NetRegressor

FAST = {"epochs": 60, "optimizer": "Adam(lr=0.01)"}
ESTIMATORS = [
    NetClassifier(),
    NetRegressor(),
    NetClassifier(["Linear(20)", "Tanh()", "Linear(20)", "LayerNorm()", "SiLU()", "Linear()"], **FAST),
    NetRegressor("Linear(30), GELU(), Linear(20), ReLU(), Linear()", loss="HuberLoss()", **FAST),
    NetClassifier(loss="CrossEntropyLoss(label_smoothing=0.1)", engine="eager", threads=1, epochs=60, optimizer="NAdam(lr=0.01)"),
    NetRegressor(["Linear(30)", "ReLU()", "Linear()"], engine="captured", batch_size=500, **FAST),
    NetClassifier(["Linear()"], optimizer="SGD(lr=0.5, momentum=0.9)", epochs=60),
    NetRegressor(["Linear()"], optimizer="LBFGS(max_iter=5)", epochs=8),
]  # fmt: skip


@parametrize_with_checks(ESTIMATORS)  # type: ignore[untyped-decorator]
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_no_check_is_marked_as_failing() -> None:
    marks = [mark for mark in test_scikit_learns_own_checks.pytestmark if mark.name == "parametrize"]
    cases = list(marks[0].args[1])
    assert len(cases) > 60 * len(ESTIMATORS)
    assert not any(getattr(case, "marks", ()) for case in cases)
    assert all(isinstance(case, tuple) or not case.marks for case in cases)


@pytest.mark.parametrize("estimator", ESTIMATORS[:2], ids=["classifier", "regressor"])
def test_every_parameter_is_told_by_get_params_and_taken_by_set_params(estimator: Any) -> None:
    values = estimator.get_params()
    assert len(values) == 16
    made = type(estimator)().set_params(**{**values, "epochs": 3})
    assert made.get_params() == {**values, "epochs": 3}
