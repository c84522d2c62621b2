"""The estimators inside scikit-learn's tools, with frames, in other processes, as pickles and as files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
import torch
from safetensors import safe_open
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import BaggingRegressor, StackingRegressor, VotingClassifier
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold, cross_validate, learning_curve
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

import netwright as nw

SMALL = ("Linear(12)", "ReLU()", "Linear()")
IRIS = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[IRIS[1]]
CANCER = load_breast_cancer(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)


def classifier(**parameters: Any) -> nw.NetClassifier:
    given: dict[str, Any] = {"layers": SMALL, "epochs": 40, "optimizer": "Adam(lr=0.02)", "random_state": 0, **parameters}
    return nw.NetClassifier(**given)


def regressor(**parameters: Any) -> nw.NetRegressor:
    given: dict[str, Any] = {"layers": SMALL, "epochs": 40, "optimizer": "Adam(lr=0.02)", "random_state": 0, **parameters}
    return nw.NetRegressor(**given)


def test_a_grid_search_in_two_processes_finds_what_one_process_finds() -> None:
    grid = {
        "netclassifier__layers": [("Linear()",), SMALL],
        "netclassifier__optimizer": ["Adam(lr=0.02)", "SGD(lr=0.1, momentum=0.9)"],
        "netclassifier__batch_size": [16, "auto"],
    }
    found = [
        GridSearchCV(make_pipeline(StandardScaler(), classifier(epochs=10)), grid, cv=3, n_jobs=jobs).fit(IRIS[0], NAMES)
        for jobs in (1, 2)
    ]
    one, two = (search.cv_results_["mean_test_score"] for search in found)
    assert one.tolist() == two.tolist()
    assert len(set(one.tolist())) > 2
    assert found[0].best_score_ > 0.9
    assert np.array_equal(found[0].predict_proba(IRIS[0]), found[1].predict_proba(IRIS[0]))


def test_fits_in_threads_give_the_bits_of_fits_one_after_the_other() -> None:
    layers = ("Linear(12)", "ReLU()", "Dropout(0.3)", "Linear()")
    nets = [classifier(layers=layers, random_state=seed) for seed in range(6)]

    def proba(net: Any) -> Any:
        return clone(net).fit(*IRIS).predict_proba(IRIS[0])

    plain = [proba(net) for net in nets]
    beside = joblib.Parallel(n_jobs=3, prefer="threads")(joblib.delayed(proba)(net) for net in nets)
    assert all(np.array_equal(one, other) for one, other in zip(plain, beside, strict=True))


def test_cross_validation_calibration_and_importance() -> None:
    X, y = CANCER
    scores = cross_validate(
        classifier(), X, y, cv=KFold(3, shuffle=True, random_state=0), scoring=["roc_auc", "neg_log_loss"]
    )
    assert scores["test_roc_auc"].min() > 0.97
    calibrated = CalibratedClassifierCV(classifier(), cv=3).fit(X, y)
    assert calibrated.score(X, y) > 0.95
    net = classifier(epochs=80).fit(*IRIS)
    importance = permutation_importance(net, *IRIS, n_repeats=3, random_state=0, n_jobs=2)
    assert importance.importances_mean[2:].max() > importance.importances_mean[:2].max()
    sizes, _, valid = learning_curve(classifier(), *IRIS, cv=3, train_sizes=[0.5, 1.0], shuffle=True, random_state=0)
    assert valid.shape == (len(sizes), 3)
    assert partial_dependence(net, IRIS[0], [0])["average"].shape[0] == 3


def test_ensembles_of_nets() -> None:
    both = [("net", classifier()), ("linear", LogisticRegression(max_iter=1000))]
    for voting in ("soft", "hard"):
        assert VotingClassifier(both, voting=voting).fit(IRIS[0], NAMES).score(IRIS[0], NAMES) > 0.9
    X, y = DIABETES
    assert BaggingRegressor(regressor(), 3, random_state=0).fit(X, y).score(X, y) > 0.4
    assert StackingRegressor([("net", regressor())], RidgeCV(), cv=3).fit(X, y).score(X, y) > 0.4
    Y = np.column_stack([IRIS[1] == 0, IRIS[1] == 2])
    assert MultiOutputClassifier(classifier()).fit(IRIS[0], Y).predict(IRIS[0]).shape == (150, 2)


def test_weights_are_routed_to_fit_and_score() -> None:
    X, y = DIABETES
    weight = np.where(np.arange(len(y)) % 3, 1.0, 5.0)
    with sklearn.config_context(enable_metadata_routing=True):
        net = regressor().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), net)
        routed = clone(pipeline).fit(X, y, sample_weight=weight)
        scores = cross_validate(pipeline, X, y, cv=2, params={"sample_weight": weight})
        unrouted = make_pipeline(StandardScaler(), regressor().set_fit_request(sample_weight=False)).fit(X, y)
    scaled = StandardScaler().fit_transform(X)
    assert np.array_equal(routed[-1].predict(scaled), regressor().fit(scaled, y, sample_weight=weight).predict(scaled))
    assert not np.array_equal(routed[-1].predict(scaled), unrouted[-1].predict(scaled))
    assert len(scores["test_score"]) == 2


def test_frames_of_pandas_keep_their_names() -> None:
    frame, target = load_iris(return_X_y=True, as_frame=True)
    net = classifier().fit(frame, target)
    assert net.feature_names_in_.tolist() == list(frame.columns)
    assert np.array_equal(net.predict(frame), net.predict(frame.astype(float)))
    with pytest.raises(ValueError, match="feature names should match"):
        net.predict(frame.rename(columns={"petal width (cm)": "width"}))
    pipeline = make_pipeline(StandardScaler(), classifier()).set_output(transform="pandas").fit(frame, target)
    assert pipeline[-1].feature_names_in_.tolist() == list(frame.columns)
    mixed = frame.assign(colour=np.where(target == 0, "blue", "red"))
    encoded = make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough", sparse_threshold=0.0)
    assert make_pipeline(encoded, classifier()).fit(mixed, target.astype("category")).score(mixed, target) > 0.9


def test_frames_of_polars_keep_their_names() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(IRIS[0], schema=["a", "b", "c", "d"])
    labels = polars.Series("kind", NAMES.tolist())
    net = classifier().fit(frame, labels)
    assert net.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    assert np.array_equal(net.predict(frame), classifier().fit(IRIS[0], NAMES).predict(IRIS[0]))
    output = make_pipeline(StandardScaler(), classifier()).set_output(transform="polars").fit(frame, labels)
    assert output.score(frame, labels) > 0.9


def test_a_clone_is_equal_and_not_fitted() -> None:
    net = classifier(module_arguments={"hidden": 3}, observers=(print,)).set_params(observers=())
    net.fit(*IRIS)
    cloned = clone(net)
    assert cloned.get_params() == net.get_params()
    assert not hasattr(cloned, "model_")
    assert np.array_equal(cloned.fit(*IRIS).predict_proba(IRIS[0]), net.predict_proba(IRIS[0]))


class Twice(nn.Module):
    def __init__(self, hidden: int = 5) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, hidden), nn.Linear(hidden, 3)
        self.order = np.random.permutation(4).tolist()  # drawn again where a file is loaded

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.outer(torch.relu(self.inner(x[:, self.order])))
        return out


NETS: dict[str, tuple[Any, Any]] = {
    "names": (classifier(), (IRIS[0], NAMES)),
    "float32": (classifier(), (IRIS[0].astype(np.float32), IRIS[1] == 1)),
    "labels": (classifier(standardize=False), (IRIS[0], np.column_stack([IRIS[1] == 0, IRIS[1] == 1, IRIS[1] >= 0]).astype(int))),
    "values": (regressor(layers=["Linear(8)", "BatchNorm1d()", "Dropout(0.1)", "Linear()"]), DIABETES),
    "columns": (regressor(early_stopping=True), (DIABETES[0], DIABETES[0][:, :2])),
    "images": (classifier(layers=["Conv2d(3, 2)", "Flatten()", "Linear()"]), (IRIS[0].reshape(-1, 1, 2, 2), NAMES.astype(object))),
    "sequences": (regressor(layers=["LSTM(4)", "LastStep()", "Linear()"]), (DIABETES[0].reshape(-1, 5, 2), DIABETES[1])),
    "codes": (classifier(layers=["Embedding(3)", "Flatten()", "Linear()"]), (np.round(IRIS[0]), NAMES)),
    "own": (classifier(module=Twice, module_arguments={"hidden": 6}), IRIS),
}  # fmt: skip


def outputs(net: Any, X: Any) -> Any:
    return net.predict_proba(X) if hasattr(net, "predict_proba") else net.predict(X)


@pytest.mark.parametrize("name", list(NETS))
def test_a_pickle_and_a_file_predict_the_same_bits(name: str, tmp_path: Path) -> None:
    made, (X, y) = NETS[name]
    net = clone(made).fit(X, y)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    module = Twice if name == "own" else None
    net.save(tmp_path / "net.safetensors")
    for back in (pickle.loads(pickle.dumps(net)), type(net).load(tmp_path / "net.safetensors", module=module)):
        assert np.array_equal(outputs(back, X), outputs(net, X))
        assert np.array_equal(back.predict(X), net.predict(X))
        assert back.predict(X).dtype == net.predict(X).dtype
        assert back.history_ == net.history_
        assert not back.model_.training
        assert back.score(X, y) == net.score(X, y)
        assert repr(back) == repr(net)
        assert np.array_equal(outputs(back.fit(X, y), X), outputs(net, X))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert b"torch" not in pickle.dumps(net) or name == "own"


def test_a_model_that_was_changed_by_hand_is_pickled_as_it_is() -> None:
    net = classifier().fit(*IRIS)
    with torch.no_grad():
        net.model_[0].bias.add_(1.0)
    back = pickle.loads(pickle.dumps(net))
    assert np.array_equal(back.predict_proba(IRIS[0]), net.predict_proba(IRIS[0]))
    net.model_ = nn.Sequential(nn.Linear(4, 3).double())
    back = pickle.loads(pickle.dumps(net))
    assert np.array_equal(back.predict_proba(IRIS[0]), net.predict_proba(IRIS[0]))


def test_a_file_holds_numbers_and_texts_only(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    classifier(observers=(str,)).fit(IRIS[0], NAMES).save(path)
    with safe_open(path, framework="np") as opened:
        told = json.loads(opened.metadata()["netwright"])
        assert sorted(opened.keys())[:2] == ["_decoding.mean", "_decoding.scale"]
    assert told["classes"]["values"] == ["setosa", "versicolor", "virginica"]
    assert told["learned"]["layers_"][0] == "Linear(in_features=4, out_features=12)"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["net.safetensors"]


def test_files_that_do_not_fit_are_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    classifier(module=Twice).fit(*IRIS).save(path)
    with pytest.raises(
        ValueError, match=r"the network was a Twice, a Python object; hand it over again: load\(path, module=Twice\)"
    ):
        nw.NetClassifier.load(path)
    with pytest.raises(ValueError, match="has shape"):
        nw.NetClassifier.load(path, module=lambda: Twice(9))
    with pytest.raises(ValueError, match="a NetClassifier of version 1 came; expected a NetRegressor"):
        nw.NetRegressor.load(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="cannot be read"):
        nw.NetClassifier.load(path, module=Twice)
    with pytest.raises(ValueError, match="cannot be read"):
        nw.NetClassifier.load(tmp_path / "missing.safetensors")
    with pytest.raises(ValueError, match="not fitted yet"):
        classifier().save(path)


def test_skops_holds_an_estimator_without_code() -> None:
    skops = pytest.importorskip("skops.io")
    net = classifier().fit(IRIS[0], NAMES)
    packed = skops.dumps(net)
    unknown = skops.get_untrusted_types(data=packed)
    assert unknown == ["netwright.estimators.classifier.NetClassifier"]
    assert np.array_equal(skops.loads(packed, trusted=unknown).predict_proba(IRIS[0]), net.predict_proba(IRIS[0]))


def test_fitting_writes_no_folder_and_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    classifier().fit(*IRIS).predict(IRIS[0])
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


class Sized(nn.Module):
    def __init__(self, hidden: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


def test_a_search_reaches_into_texts_and_arguments() -> None:
    X, y = load_iris(return_X_y=True)
    grid = {"optimizer__lr": np.array([1e-9, 0.05]), "optimizer__weight_decay": [0.0], "module_arguments__hidden": [8]}
    search = GridSearchCV(nw.NetClassifier(module=Sized, epochs=30, random_state=0), grid, cv=2).fit(X, y)
    assert search.best_params_["optimizer__lr"] == 0.05
    assert search.best_estimator_.optimizer == "Adam(lr=0.05, weight_decay=0.0)"
    assert search.best_estimator_.model_.layers[0].out_features == 8
    assert nw.NetClassifier(optimizer="SGD(0.1)").set_params(optimizer__lr=0.5).optimizer == "SGD(lr=0.5)"
    net = nw.NetClassifier(loss="CrossEntropyLoss()").set_params(loss__weight="balanced", epochs=3)
    assert net.fit(X, y).loss == "CrossEntropyLoss(weight='balanced')"
    piped = make_pipeline(StandardScaler(), nw.NetRegressor()).set_params(netregressor__optimizer__lr=0.5)
    assert piped[-1].optimizer == "Adam(lr=0.5)"
    with pytest.raises(ValueError, match="loss__weight: 'balanced' came; expected loss to be a text, such as"):
        nw.NetClassifier().set_params(loss__weight="balanced")
    with pytest.raises(ValueError, match="rate"):
        nw.NetClassifier().set_params(optimizer__rate=0.5).fit(X, y)
