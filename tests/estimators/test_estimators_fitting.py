"""What a fit learns: labels, weights, dtypes, seeds, engines, images, sequences, own modules, early stopping, refusals."""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_iris, make_multilabel_classification
from sklearn.model_selection import GridSearchCV
from torch import nn

import netwright as nw
from netwright.estimators import learning
from netwright.estimators.scaling import fit_scaling
from netwright.estimators.settings import LAYERS
from netwright.seeding import drawn_from

SMALL = ["Linear(12)", "ReLU()", "Linear()"]
IRIS = load_iris(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)


def weights_of(net: Any) -> list[np.ndarray[Any, Any]]:
    return [value.detach().numpy() for value in net.model_.state_dict().values()]


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(weights_of(one), weights_of(other), strict=True))


@pytest.mark.parametrize(
    "names",
    [
        np.array(["setosa", "versicolor", "virginica"]),
        np.array(["setosa", "versicolor", "virginica"], dtype=object),
        np.array([7, -3, 0]),
        np.array([2.0, 5.0, 9.0]),
        np.array([7, 9, 11], dtype=np.uint8),
    ],
    ids=["text", "object", "whole", "float", "uint8"],
)
def test_labels_of_any_type_come_back_in_their_type(names: np.ndarray[Any, Any]) -> None:
    X, y = IRIS
    net = nw.NetClassifier(SMALL, epochs=150, optimizer="Adam(lr=0.02)", random_state=0).fit(X, names[y])
    assert net.classes_.tolist() == sorted(names.tolist())
    assert net.predict(X).dtype == names.dtype
    assert net.score(X, names[y]) > 0.9
    assert net.predict_proba(X).shape == (150, 3)
    assert net.predict_log_proba(X)[0, 0] == np.log(net.predict_proba(X)[0, 0])


def test_two_classes_may_be_booleans() -> None:
    X, y = IRIS
    net = nw.NetClassifier(SMALL, epochs=100, optimizer="Adam(lr=0.02)", random_state=0).fit(X, y == 0)
    assert net.classes_.tolist() == [False, True]
    assert net.predict(X).dtype == bool
    assert isinstance(net.model_, nn.Sequential)
    assert net.model_[-1].out_features == 1


@pytest.mark.parametrize(("dtype", "kind"), [(np.float64, torch.float64), (np.float32, torch.float32), (int, torch.float64)])
def test_everything_is_computed_in_the_dtype_of_the_rows(dtype: Any, kind: torch.dtype) -> None:
    X, y = DIABETES
    net = nw.NetRegressor(SMALL, epochs=40, random_state=0).fit((1000 * X).astype(dtype), y)
    assert {value.dtype for value in net.model_.state_dict().values()} == {kind}
    assert net.predict((1000 * X[:3]).astype(dtype)).dtype == net.predict((1000 * X[:3]).tolist()).dtype == np.float64
    assert "natively" in net.engine_ or "from Python" in net.engine_


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [40, 442, 13], ids=["ragged", "whole", "divides"])
def test_recorded_steps_give_the_bits_of_steps_as_written(dtype: Any, batch: int) -> None:
    X, y = DIABETES
    weight = np.random.default_rng(0).uniform(0.1, 2.0, len(y))
    given: dict[str, Any] = {"epochs": 30, "batch_size": batch, "random_state": 3, "threads": 1}
    for sample_weight in (None, weight):
        found = [
            nw.NetRegressor(["Linear(16)", "ReLU()", "Dropout(0.1)", "Linear()"], engine=engine, **given).fit(
                X.astype(dtype), y, sample_weight=sample_weight
            )
            for engine in ("captured", "eager")
        ]
        assert same(*found)
        assert found[0].loss_curve_ == found[1].loss_curve_
        assert found[0].engine_ != found[1].engine_


@pytest.mark.parametrize("batch", [50, 40])
def test_epochs_that_are_watched_give_the_same_bits(batch: int) -> None:
    X, y = IRIS
    told: list[Any] = []
    plain = nw.NetClassifier(SMALL, epochs=33, batch_size=batch, random_state=1).fit(X, y)
    watched = clone(plain).set_params(observers=(told.append,)).fit(X, y)
    assert same(plain, watched)
    assert plain.loss_curve_ == pytest.approx([record.train_loss for record in told], rel=1e-12)
    assert [record.epoch for record in told] == list(range(1, 34))
    assert plain.n_iter_ == 33


def test_equal_seeds_give_equal_bits_and_move_no_global_generator() -> None:
    X, y = IRIS
    torch.manual_seed(5)
    before = drawn_from()
    layers = ["Linear(12)", "ReLU()", "Dropout(0.3)", "Linear()"]
    nets = [nw.NetClassifier(layers, epochs=40, random_state=seed).fit(X, y) for seed in (1, 1, 2)]
    assert drawn_from() == before
    random.seed(3)
    torch.manual_seed(6)
    again = nw.NetClassifier(layers, epochs=40, random_state=1).fit(X, y)
    assert same(nets[0], nets[1])
    assert same(nets[0], again)
    assert not same(nets[0], nets[2])


def test_a_random_state_object_is_drawn_from_as_elsewhere_in_scikit_learn() -> None:
    X, y = IRIS
    one, other = np.random.RandomState(4), np.random.RandomState(4)
    first = nw.NetClassifier(SMALL, epochs=5, random_state=one).fit(X, y)
    second = nw.NetClassifier(SMALL, epochs=5, random_state=other).fit(X, y)
    assert same(first, second)
    assert not same(first, first.__class__(SMALL, epochs=5, random_state=one).fit(X, y))
    state = np.random.get_state()
    try:
        np.random.seed(7)
        third = nw.NetClassifier(SMALL, epochs=5).fit(X, y)
        np.random.seed(7)
        assert same(third, nw.NetClassifier(SMALL, epochs=5).fit(X, y))
    finally:
        np.random.set_state(state)


@pytest.mark.parametrize(
    ("kind", "loss"),
    [
        ("classes", None),
        ("classes", "CrossEntropyLoss(weight=[1.0, 2.0, 0.5])"),
        ("classes", "MultiMarginLoss()"),
        ("two", "BCEWithLogitsLoss(pos_weight=[2.0])"),
        ("labels", None),
        ("values", None),
        ("values", "HuberLoss()"),
        ("columns", "L1Loss()"),
        ("counts", "PoissonNLLLoss()"),
    ],
)
def test_a_row_of_weight_two_is_two_rows_and_one_of_weight_zero_is_none(kind: str, loss: str | None) -> None:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(60, 4))
    y = {
        "classes": np.argmax(X[:, :3], axis=1),
        "two": (X[:, 0] > 0).astype(int),
        "labels": (X[:, :3] > 0).astype(int),
        "values": X @ [1.0, 2.0, 0.0, -1.0],
        "columns": X[:, :2] * 3 + 1,
        "counts": generator.poisson(np.exp(X[:, 0])).astype(float),
    }[kind]
    weight = generator.integers(0, 4, 60)
    kind_of: Any = nw.NetClassifier if kind in ("classes", "two", "labels") else nw.NetRegressor
    given: dict[str, Any] = {"loss": loss, "epochs": 60, "optimizer": "Adam(lr=0.01)", "batch_size": 1000, "random_state": 0}
    weighted = kind_of(SMALL, **given).fit(X, y, sample_weight=weight)
    repeated = kind_of(SMALL, **given).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight, axis=0))
    plain = kind_of(SMALL, **given).fit(X, y)
    np.testing.assert_allclose(weighted._decoded(X), repeated._decoded(X), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(weighted.loss_curve_, repeated.loss_curve_, rtol=1e-6)
    assert np.abs(weighted._decoded(X) - plain._decoded(X)).max() > 1e-3
    kept = kind_of(SMALL, **given).fit(X[weight > 0], y[weight > 0])
    assert same(kept, kind_of(SMALL, **given).fit(X, y, sample_weight=3.0 * (weight > 0)))


def test_scaling_is_that_of_standard_scaler() -> None:
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(1)
    rows = generator.normal(1e2, [1e-2, 1.0, 1e3], (500, 3))
    weight = generator.uniform(0.0, 3.0, 500)
    constant = np.full((500, 1), 0.1)
    for given in (None, weight):
        expected = StandardScaler().fit(rows, sample_weight=given)
        found = fit_scaling(rows, given, 1)
        np.testing.assert_allclose(found.mean, expected.mean_, rtol=1e-12)
        np.testing.assert_allclose(found.scale, expected.scale_, rtol=1e-6)
        assert fit_scaling(constant, given, 1).scale == 1.0


def test_several_labels_and_several_values() -> None:
    X, y = make_multilabel_classification(300, n_features=12, n_classes=4, random_state=0)
    net = nw.NetClassifier(SMALL, epochs=100, optimizer="Adam(lr=0.02)", random_state=0).fit(X, y)
    assert net.predict(X).shape == net.predict_proba(X).shape == (300, 4)
    assert set(np.unique(net.predict(X))) == {0, 1}
    assert (net.predict(X) == y).mean() > 0.8
    values = nw.NetRegressor(SMALL, epochs=150, optimizer="Adam(lr=0.02)", random_state=0)
    X = np.random.default_rng(0).normal(size=(200, 3))
    Y = np.column_stack([1e4 * X[:, 0], 1e-4 * X[:, 1] - 7])
    assert values.fit(X, Y).predict(X).shape == (200, 2)
    assert values.score(X, Y) > 0.9


def test_images_sequences_and_codes_keep_their_axes() -> None:
    digits = load_digits()
    layers = ["Conv2d(8, 3)", "ReLU()", "MaxPool2d(2)", "Flatten()", "Linear()"]
    images = digits.images[:400, None].astype(np.float32)
    net = nw.NetClassifier(layers, epochs=15, batch_size=50, optimizer="Adam(lr=0.01)", random_state=0)
    assert net.fit(images, digits.target[:400]).score(images, digits.target[:400]) > 0.9
    assert net._reading.scaling.mean.shape == (1, 1, 1)
    assert net.layers_[0].startswith("Conv2d(in_channels=1, out_channels=8, kernel_size=3")
    with pytest.raises(ValueError, match=r"rows of shape \(1, 8, 7\) came; expected \(1, 8, 8\)"):
        net.predict(images[..., :7])
    walks = np.cumsum(np.random.default_rng(0).normal(size=(200, 9, 2)), axis=1)
    recurrent = nw.NetRegressor(["GRU(8)", "LastStep()", "Linear()"], epochs=40, optimizer="Adam(lr=0.02)", random_state=0)
    assert recurrent.fit(walks, walks[:, -1, 0]).score(walks, walks[:, -1, 0]) > 0.8
    codes = np.random.default_rng(0).integers(0, 6, (200, 5))
    reading = nw.NetClassifier(
        ["Embedding(4)", "Flatten()", "Linear()"], epochs=60, optimizer="Adam(lr=0.05)", random_state=0
    )
    assert reading.fit(codes, codes[:, 0] > 2).score(codes, codes[:, 0] > 2) > 0.9
    with pytest.raises(ValueError, match="code 6 came; expected codes below 6"):
        reading.predict(codes + 1)


class Own(nn.Module):
    def __init__(self, hidden: int = 9) -> None:
        super().__init__()
        self.first, self.last = nn.LazyLinear(hidden), nn.Linear(hidden, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(torch.tanh(self.first(x)))
        return out


@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_an_own_module_comes_as_class_or_instance_and_stays_untouched() -> None:
    X, y = IRIS
    given: dict[str, Any] = {"epochs": 60, "optimizer": "Adam(lr=0.02)", "random_state": 0}
    by_class = nw.NetClassifier(module=Own, module_arguments={"hidden": 7}, **given).fit(X, y)
    assert by_class.model_.first.weight.shape == (7, 4)
    assert by_class.layers_ is None
    assert by_class.score(X, y) > 0.9
    mine = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    before = [value.clone() for value in mine.state_dict().values()]
    net = nw.NetClassifier(module=mine, **given).fit(X, y)
    assert all(torch.equal(a, b) for a, b in zip(before, mine.state_dict().values(), strict=True))
    assert net.model_ is not mine
    assert net.score(X, y) > 0.9
    assert same(net, clone(net).fit(X, y))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_fitted_network_trains_on_from_its_weights_in_the_dtype_of_x(kind: type) -> None:
    X, y = IRIS[0].astype(kind), IRIS[1]
    net = nw.NetClassifier(SMALL, epochs=2, standardize=False, random_state=0).fit(X, y)
    still = nw.NetClassifier(module=net.model_, optimizer="SGD(lr=0.0)", epochs=1, standardize=False).fit(X, y)
    assert same(net, still)
    for other in (np.float32, np.float64):
        more = nw.NetClassifier(module=net.model_, epochs=2, standardize=False).fit(X.astype(other), y)
        assert {value.dtype for value in weights_of(more)} == {np.dtype(other)}


def test_an_own_loss_and_a_loss_of_torch_are_taken() -> None:
    X, y = DIABETES

    def cubed(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return ((output - target).abs() ** 3).mean()

    net = nw.NetRegressor(SMALL, loss=cubed, epochs=80, optimizer="Adam(lr=0.01)", random_state=0).fit(X, y)
    assert net.score(X, y) > 0.3
    with pytest.raises(ValueError, match="sample_weight: the loss object:.*cubed.* gives one number for all rows"):
        net.fit(X, y, sample_weight=np.arange(len(y)))
    by_text = nw.NetRegressor(SMALL, loss="SmoothL1Loss(beta=0.5)", epochs=20, random_state=0).fit(X, y)
    assert same(by_text, nw.NetRegressor(SMALL, loss=nn.SmoothL1Loss(beta=0.5), epochs=20, random_state=0).fit(X, y))
    scores = nw.NetClassifier(SMALL, loss="MultiMarginLoss()", epochs=30, optimizer="Adam(lr=0.02)").fit(*IRIS)
    assert scores.score(*IRIS) > 0.8
    assert not hasattr(scores, "predict_proba")


def test_early_stopping_keeps_the_weights_of_the_best_epoch() -> None:
    X, y = DIABETES
    given: dict[str, Any] = {"optimizer": "Adam(lr=0.05)", "early_stopping": True, "n_iter_no_change": 6, "random_state": 0}
    net = nw.NetRegressor(["Linear(60)", "ReLU()", "Linear()"], validation_fraction=0.25, epochs=400, **given).fit(X, y)
    losses = net.history_["valid_loss"]
    assert net.n_iter_ == len(losses) < 400
    assert net.best_epoch_ == int(np.argmin(losses)) + 1 == net.n_iter_ - 6
    exactly = clone(net).set_params(epochs=net.best_epoch_).fit(X, y)
    assert same(net, exactly)
    with pytest.raises(ValueError, match="early_stopping: the rows cannot be divided"):
        nw.NetClassifier(early_stopping=True).fit([[0.0], [1.0]], ["a", "b"])


def test_the_last_single_row_is_left_out_where_batch_norm_cannot_train_on_it() -> None:
    X, y = DIABETES
    layers = ["Linear(8)", "BatchNorm1d()", "ReLU()", "Linear()"]
    net = nw.NetRegressor(layers, batch_size=63, epochs=3, random_state=0).fit(X[:127], y[:127])
    assert np.isfinite(net.predict(X)).all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"layers": ["Linaer(8)", "Linear()"]}, r"layers\.0: .*did you mean Linear"),
        ({"layers": ["Linear(8)", "Linear(5)"]}, r"model: the network gives \(N, 5\); multiclass with"),
        ({"layers": []}, r"layers: \[\] came; expected texts such as"),
        ({"layers": [nn.ReLU()]}, r"layers: \[ReLU\(\)\] came; expected texts"),
        ({"layers": ["Conv2d(3, 3)", "Flatten()", "Linear()"]}, r"layers\.0: layer 0 Conv2d\(3, 3\) reads \(N, channels"),
        ({"optimizer": "Adm(lr=1)"}, r"optimizer: .*did you mean Adam"),
        ({"optimizer": "adam"}, r"^optimizer: 'adam' came; expected a call with brackets; write Adam\(\)$"),
        ({"loss": "mse"}, r"^loss: 'mse' came; expected a call with brackets; write MSELoss\(\)$"),
        ({"optimizer": torch.optim.Adam}, "optimizer: <class .* came; expected a text such as"),
        ({"loss": "MSELoss()"}, "loss: MSELoss came; the task is multiclass"),
        ({"loss": 3}, "loss: 3 came; expected a text"),
        ({"epochs": 0}, "epochs: 0 came; expected a whole number from 1; change it"),
        ({"epochs": 2.5}, "epochs: 2.5 came"),
        ({"batch_size": "all"}, "batch_size: 'all' came; expected a whole number from 1"),
        ({"validation_fraction": 1.0}, "validation_fraction: 1.0 came; expected a number above 0 and below 1"),
        ({"engine": "fast"}, "engine: 'fast' came; expected one of auto, captured, compiled, eager"),
        ({"module": "file.py:Net"}, "module: 'file.py:Net' came; expected a torch.nn.Module"),
        ({"observers": [3]}, "observers: .3. came; expected a list of functions, such as .print."),
        ({"observers": print}, "observers: .* came; expected a list of functions"),
        ({"engine": "captured", "optimizer": "LBFGS()"}, "engine: captured came; the device is cpu, the optimizer LBFGS"),
        ({"optimizer": "SGD(lr=1e200)"}, r"fit: step \d+ of epoch \d+: the loss is (nan|inf); expected a finite number"),
        (
            {"optimizer": "SGD(lr=1e308, weight_decay=1e10)", "epochs": 1},
            "fit: weights that are no finite numbers came of the last",
        ),
        ({"random_state": -1}, "Seed must be between 0 and"),
    ],
)
def test_what_cannot_be_used_is_a_value_error_that_says_so(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nw.NetClassifier(**{"layers": SMALL, "epochs": 5, **parameters}).fit(*IRIS)


def test_errors_are_netwrights_too_and_missing_numbers_are_refused_in_scikit_learns_words() -> None:
    X, y = IRIS
    with pytest.raises(nw.NetwrightError, match="did you mean"):
        nw.NetClassifier(["Linaer()"]).fit(X, y)
    broken = X.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN.\nNetClassifier does not accept missing values"):
        nw.NetClassifier(SMALL).fit(broken, y)
    net = nw.NetClassifier(SMALL, epochs=2).fit(X, y)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        net.predict(broken)
    with pytest.raises(ValueError, match="X has 3 features, but NetClassifier is expecting 4 features as input"):
        net.predict(X[:, :3])


def test_a_short_fit_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nw.NetClassifier(SMALL, epochs=1).fit(*IRIS)


class Doubling(nn.Module):
    """Doubles its input, in place or not."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.inside, self.layer = inside, nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.mul_(2) if self.inside else x * 2)  # type: ignore[no-any-return]


@pytest.mark.parametrize("standardize", [True, False])
def test_a_network_that_writes_into_its_input_learns_the_same_and_leaves_rows_alone(standardize: bool) -> None:
    rows = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    before, nets = rows.copy(), []
    for inside in (True, False):
        net = nw.NetRegressor(
            module=Doubling, module_arguments={"inside": inside}, epochs=3, random_state=0, standardize=standardize
        )
        nets.append(net.fit(rows, rows[:, 0]))
        for count in (1, 100, 150, 300):
            assert net.predict(rows[:count]).tolist() == net.predict(rows[:count]).tolist()
    assert same(*nets)
    assert nets[0].predict(rows).tolist() == nets[1].predict(rows).tolist()
    layered = nw.NetRegressor(["SiLU(inplace=True)", "Linear()"], epochs=1, random_state=0, standardize=standardize)
    layered.fit(rows, rows[:, 0]).predict(rows)
    assert (rows == before).all()


@pytest.mark.parametrize(
    "loss", ["SoftMarginLoss()", nn.HingeEmbeddingLoss(), "KLDivLoss()", "CrossEntropyLoss(reduction='sum')"]
)
def test_losses_that_train_nonsense_are_refused(loss: Any) -> None:
    with pytest.raises(ValueError, match=r"^loss: \w+ came"):
        nw.NetClassifier(SMALL, loss=loss).fit(*IRIS)


TWO = (IRIS[0][:100], IRIS[1][:100])


@pytest.mark.parametrize(
    ("end", "rows", "told"),
    [("Softmax(dim=1)", IRIS, 1), ("LogSoftmax(dim=1)", IRIS, 0), ("Sigmoid()", IRIS, 1), ("Sigmoid()", TWO, 1)],
)
def test_an_activation_that_the_loss_applies_itself_is_told(end: str, rows: Any, told: int) -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        nw.NetClassifier(["Linear(8)", "ReLU()", "Linear()", end], epochs=2).fit(*rows)
    kept = [one for one in found if one.category is nw.FindingWarning]
    assert [one.filename for one in kept] == [__file__] * told


class Hidden(nn.Module):
    """Has a layer in a list, where torch does not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rest = nn.Linear(4, 3), [nn.Linear(4, 3)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what both give."""
        return self.first(x) + self.rest[0](x.float()).to(x.dtype)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"module": Hidden}, ["self.rest: a list holds 1 layer(s)"]),
        ({"layers": ["Linear(8)", "Linear()"]}, ["no activation stands between them"]),
        ({"layers": SMALL, "optimizer": "Adam(lr=50.0)"}, ["50 is far above what Adam usually works with"]),
        ({"layers": ["Linear(8)", "ReLU()", "Linear()", "Softmax(dim=1)"]}, ["CrossEntropyLoss applies softmax itself"]),
        ({"layers": ["Linear(8)", "ReLU()", "Dropout(0.1)", "Linear()"]}, []),
    ],
)
def test_findings_are_warnings_and_leave_the_fit_as_it_is(
    given: dict[str, Any], told: list[str], weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = {"sample_weight": np.linspace(0.5, 2.0, len(IRIS[0]))} if weighted else {}

    def fitted() -> Any:
        torch.manual_seed(3)
        return nw.NetClassifier(**given, epochs=2, random_state=0).fit(*IRIS, **weight), torch.rand(1)

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        net, after = fitted()
    kept = [str(one.message) for one in found if one.category is nw.FindingWarning]
    assert len(kept) == len(told), kept
    assert all(part in text for part, text in zip(told, kept, strict=True)), kept
    monkeypatch.setattr(learning, "warn_of_findings", lambda *given: None)
    plain, unchecked = fitted()
    assert net.history_ == plain.history_
    assert torch.equal(after, unchecked)
    assert all(torch.equal(one, two) for one, two in zip(net.model_.parameters(), plain.model_.parameters(), strict=True))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"module": nn.Linear(4, 3), "layers": SMALL},
            "^layers: .* came beside module, which is the network, and does nothing",
        ),
        (
            {"module": nn.Linear(4, 3), "module_arguments": {"bias": False}},
            "^module_arguments: .* a module that is made already",
        ),
        ({"module_arguments": {"bias": False}}, "^module_arguments: .* came beside no module, and does nothing"),
    ],
)
def test_parameters_that_do_nothing_are_told(given: dict[str, Any], told: str) -> None:
    with pytest.warns(nw.FindingWarning, match=told):
        nw.NetClassifier(**given, epochs=1).fit(*IRIS)


def test_a_search_is_warned_of_at_the_users_line() -> None:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        GridSearchCV(nw.NetClassifier(SMALL, epochs=1), {"optimizer": ["Adam(lr=50.0)"]}, cv=2).fit(*IRIS)
    kept = [one for one in found if one.category is nw.FindingWarning]
    assert {one.filename for one in kept} == {__file__}
    assert all(str(one.message).startswith("optimizer Adam(lr=50)") for one in kept)


@pytest.mark.parametrize(("inputs", "target"), [(1e4, 1.0), (1.0, 100.0), (1.0, -1.0)])
def test_a_network_that_was_clear_is_looked_at_again_with_numbers_of_another_size(inputs: float, target: float) -> None:
    rows = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    share = 1 / (1 + np.exp(-rows[:, 0]))
    asked: dict[str, Any] = {"layers": ["Linear(8)", "Tanh()", "Linear()", "Sigmoid()"], "epochs": 1, "standardize": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nw.NetRegressor(**asked).fit(rows, share)
    with pytest.warns(nw.FindingWarning):
        nw.NetRegressor(**asked).fit(rows * inputs, share * target)


@pytest.mark.parametrize("layers", [np.array(LAYERS), list(LAYERS), LAYERS, None])
def test_the_usual_layers_beside_a_module_say_nothing(layers: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nw.NetClassifier(layers, module=nn.Linear(4, 3), epochs=1).fit(*IRIS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_far_from_0_are_told_apart(dtype: Any) -> None:
    rows = np.random.default_rng(0).normal(size=(300, 3)).astype(dtype)
    times = 1.7e9 + 60 * rows[:, 0].astype(np.float64)
    fitted = nw.NetRegressor(["Linear()"], epochs=150, optimizer="Adam(lr=0.05)", random_state=0).fit(rows, times)
    assert fitted.predict(rows).dtype == np.float64
    assert fitted.score(rows, times) > 0.99
