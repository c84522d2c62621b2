"""Rare classes: drawn or weighed in training, and told of in the test; the same bits wherever a run goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy import stats

import netwright as nw
from netwright.data import order
from netwright.data.batches import epoch_order
from netwright.data.sampling import class_chances, drawn
from netwright.errors import ConfigError, DataError
from netwright.evaluation.balance import class_shares, headline, is_imbalanced, without_factors
from netwright.proofs.ejecting import eject
from netwright.proofs.rerunning import verify_eject
from netwright.reporting.contents import read_run
from netwright.reporting.verdict import verdict_of
from netwright.seeding import stream
from netwright.terminal import print_test


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which one in sixteen is of the class b."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(480, 3))
    classes = np.where((np.arange(480) % 16 == 0), "b", "a")
    values[classes == "b"] += 1.5
    lines = [",".join([*(f"{value:.6f}" for value in row), name]) for row, name in zip(values, classes, strict=True)]
    path = tmp_path_factory.mktemp("rare") / "rare.csv"
    path.write_text("x,y,z,class\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def sampled(table: Path) -> nw.Run:
    return nw.train(table, target="class", sampling="balanced", epochs=3, baselines="none", run_dir=table.parent / "sampled")


@pytest.fixture(scope="module")
def weighed(table: Path) -> nw.Run:
    return nw.train(
        table, target="class", class_weight="balanced", epochs=3, baselines="none", run_dir=table.parent / "weighed"
    )


def test_each_class_is_drawn_as_often_as_any_other() -> None:
    classes = np.array([0] * 90 + [1] * 9 + [2])
    chances = class_chances(classes)
    weights = torch.as_tensor(1 / np.bincount(classes)[classes])  # what one hands to WeightedRandomSampler
    assert np.allclose(chances, weights / weights.sum())
    counts = np.bincount(classes[np.concatenate([drawn(chances, stream(0, "order", epoch)) for epoch in range(60)])])
    assert np.allclose(counts / counts.sum(), 1 / 3, atol=0.03)


def test_the_order_of_drawn_rows_hangs_on_seed_and_epoch_alone() -> None:
    rows, chances = np.arange(100, 150), class_chances(np.arange(50) % 7 // 6)
    one, again, other = (epoch_order(rows, 3, epoch, chances=chances) for epoch in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()
    assert len(one) == 50
    assert set(one) < set(rows)
    assert len(set(one)) < 50
    lengths = np.arange(50) % 5 + 1
    alike = epoch_order(rows, 3, 1, lengths, 10, chances)
    assert sorted(alike) == sorted(one)
    assert all(np.ptp(lengths[alike[start : start + 10] - 100]) <= 2 for start in range(0, 50, 10))


def test_captured_steps_on_drawn_rows_have_the_bits_of_eager_ones(sampled: nw.Run, table: Path, tmp_path: Path) -> None:
    eager = nw.train(sampled.folder / "config.toml", engine="eager", test=False, run_dir=tmp_path / "eager")
    assert sampled.config.training.engine == "captured"
    assert sampled.config.data.sampling == "balanced"
    for name, value in sampled.model.state_dict().items():
        assert torch.equal(value, eager.model.state_dict()[name])


def test_the_resolved_config_holds_the_weights_and_gives_the_same_bits(weighed: nw.Run, tmp_path: Path) -> None:
    assert weighed.config.training.class_weight is None
    assert weighed.config.training.loss == "BCEWithLogitsLoss(pos_weight=[15.0])"
    again = nw.train(weighed.folder / "config.toml", test=False, run_dir=tmp_path / "again")
    for name, value in weighed.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def test_a_run_that_stopped_goes_on_with_the_same_drawn_rows(table: Path, sampled: nw.Run, tmp_path: Path) -> None:
    short = nw.train(table, target="class", sampling="balanced", epochs=1, test=False, run_dir=tmp_path / "short")
    whole = nw.resume(short.folder, settings=["training.epochs=3"])
    assert whole.history[-1]["train_loss"] == sampled.history[-1]["train_loss"]


def test_the_ejected_script_draws_and_focuses_with_the_same_bits(sampled: nw.Run, table: Path, tmp_path: Path) -> None:
    focal = nw.train(
        table, target="class", loss='FocalLoss(pos_weight="balanced")', sampling="balanced", epochs=2, baselines="none",
        layers=["Linear(8)", "ReLU()", "Linear()"], run_dir=tmp_path / "focal",
    )  # fmt: skip
    text = eject(focal.folder)
    assert "class FocalLoss(nn.Module):" in text
    assert "chances = class_chances(truth[train_rows])" in text
    assert "netwright" not in text.partition('"""')[2].partition('"""')[2]
    assert "eject: exact" in str(verify_eject(focal.folder))


def test_the_test_tells_of_the_rarest_class(sampled: nw.Run, weighed: nw.Run, capsys: pytest.CaptureFixture[str]) -> None:
    for run, way in ((sampled, "sampling"), (weighed, "class_weight")):
        assert run.tested is not None
        told = run.tested["balance"]
        rare = told["classes"][0]
        assert told["by"] == [way]
        assert rare["class"] == "b"
        assert rare["train_share"] == pytest.approx(1 / 16, abs=0.01)
        assert rare["mean_probability"] > 2 * rare["share"]  # the odds were raised
        undone = told["undone"]
        assert undone["factors"] == pytest.approx({"a": 1.0, "b": 15.0}, rel=0.05)
        assert undone["log_loss"]["after"] < undone["log_loss"]["before"]
        assert undone["mean_probability"]["b"] < rare["mean_probability"]
        print_test(run.tested)
        printed = capsys.readouterr().out
        assert "rarest class           b: " in printed
        assert "prior undone" in printed
        page = (run.folder / "report.html").read_text(encoding="utf-8")
        assert "Rare classes" in page
        assert "weights undone" in page


def test_a_plain_run_tells_of_rare_classes_too_but_undoes_nothing(table: Path, tmp_path: Path) -> None:
    run = nw.train(table, target="class", epochs=1, baselines="none", run_dir=tmp_path / "plain")
    assert run.tested is not None
    assert run.tested["balance"]["by"] == []
    assert "undone" not in run.tested["balance"]
    assert "Nothing was done about them" in (run.folder / "report.html").read_text(encoding="utf-8")
    even = nw.train("sklearn:iris", epochs=1, baselines="none", run_dir=tmp_path / "even")
    assert even.tested is not None
    assert "balance" not in even.tested


def test_undone_odds_are_those_of_the_data() -> None:
    odds = np.array([0.2, 3.0, 40.0])
    raised = odds * 7.0
    found = without_factors(np.stack([1 / (1 + raised), raised / (1 + raised)], axis=1), np.array([1.0, 7.0]))
    assert np.allclose(found[:, 1], odds / (1 + odds))
    assert is_imbalanced([95, 5])
    assert not is_imbalanced([60, 40])


def test_shares_of_classes_are_counted() -> None:
    decoded = np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.3, 0.7]])
    rare, common = class_shares(np.array([0, 0, 0, 1]), decoded, ["no", "yes"], True)
    assert (rare["class"], rare["share"], rare["predicted"], rare["recall"]) == ("yes", 0.25, 0.5, 1.0)
    assert rare["mean_probability"] == pytest.approx(0.4)
    assert common["recall"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"config": "sklearn:diabetes", "sampling": "balanced"}, "the task is regression"),
        ({"config": "sklearn:diabetes", "class_weight": "balanced"}, "the task is regression"),
        ({"config": "sklearn:iris", "sampling": "weighted"}, "'weighted' came"),
        (
            {"config": "sklearn:iris", "class_weight": [1.0, 0.0, 2.0]},
            '[1.0, 0.0, 2.0] came; expected "balanced", or numbers',
        ),
        (
            {"config": "sklearn:iris", "class_weight": "balanced", "loss": torch.nn.CrossEntropyLoss()},
            "loss or step from Python",
        ),
    ],
)
def test_what_has_no_classes_is_refused(keywords: dict[str, object], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as problem:
        nw.train(**keywords, run_dir=tmp_path / "none")  # type: ignore[arg-type]
    assert words in str(problem.value)
    assert "\n" not in str(problem.value)
    assert not (tmp_path / "none").exists()


def test_rows_of_labels_and_of_maps_beyond_memory_are_not_drawn_by_class(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(order, "MAP_SHARE", 0.0)
        with pytest.raises(ConfigError, match="does not fit into half of the free memory"):
            nw.train(
                table, target="class", sampling="balanced", storage="map", cache=str(tmp_path), run_dir=tmp_path / "map"
            )
    rows = np.random.default_rng(0).normal(size=(60, 3))
    with pytest.raises(ConfigError, match="several labels"):
        nw.train(data=(rows, (rows[:, :2] > 0).astype(int)), sampling="balanced", run_dir=tmp_path / "labels")


def test_the_check_names_the_settings_and_warns_of_both(table: Path) -> None:
    found = {one.where: one for one in nw.check(table, target="class").findings if one.check == "class-imbalance"}
    advice = found["class 'b'"].advice
    assert 'training.class_weight = "balanced"' in advice
    assert 'data.sampling = "balanced"' in advice
    assert "FocalLoss()" in advice
    both = nw.check(table, target="class", class_weight="balanced", sampling="balanced").findings
    assert any(one.check == "class-imbalance" and one.severity == "warning" and "both even" in one.why for one in both)


def test_a_figure_that_speaks_is_read_where_most_rows_are_of_one_class() -> None:
    figures = ["accuracy", "balanced_accuracy", "roc_auc", "average_precision"]
    assert headline([79, 21], figures) is None
    assert headline([80, 20], figures) == "average_precision"
    assert headline([20, 80], figures) == "roc_auc"  # the first class is rare: the precision of the second says little
    assert headline([90, 5, 5], figures) == "balanced_accuracy"
    assert headline([80, 20], figures[:2]) == "balanced_accuracy"  # test rows of one class have no curves


def test_the_headline_and_the_baselines_of_rare_classes_are_not_accuracy(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = nw.train(
        table,
        target="class",
        epochs=3,
        baselines=["simple", "linear"],
        metrics=["roc_auc_score", "average_precision_score", "brier_score_loss"],
        run_dir=tmp_path / "run",
    )
    assert run.tested is not None
    assert run.tested["headline"] == {"metric": "average_precision", "class": "a", "train_share": pytest.approx(0.9375)}
    assert run.tested["importance"]["metric"] == "average_precision"
    verdict = verdict_of(read_run(run.folder))
    assert verdict.metric == "average_precision"
    assert "logistic regression" in verdict.words
    assert "94 % of the train rows are ‘a’, so average_precision is read here, not accuracy." in verdict.words
    print_test(run.tested)
    shown = capsys.readouterr().out
    assert "so average_precision is read here, not accuracy" in shown
    assert "beside, fitted on the same train rows (average_precision, and the network less it)" in shown
    assert "accuracy  " in shown
    (listed,) = nw.runs(tmp_path)
    assert listed["headline"] == "average_precision"
    metrics = run.tested["metrics"]  # one figure by two names has one interval
    assert metrics["roc_auc_score"] == metrics["roc_auc"]
    assert metrics["average_precision_score"] == metrics["average_precision"]
    assert metrics["brier_score_loss"]["low"] < metrics["brier_score_loss"]["value"]


def test_own_weights_by_class_are_those_of_the_loss_written_out(table: Path, tmp_path: Path) -> None:
    named, written = (
        nw.train(table, target="class", epochs=1, test=False, run_dir=tmp_path / str(place), **how)
        for place, how in enumerate(({"class_weight": {"b": 5}}, {"loss": "BCEWithLogitsLoss(pos_weight=[5.0])"}))
    )
    assert named.config.training.class_weight is None
    for name, value in written.model.state_dict().items():
        assert torch.equal(value, named.model.state_dict()[name])


def test_rows_of_a_map_are_drawn_by_class_whatever_slice_is_asked_for() -> None:
    rows, begins = np.arange(1000, 1100), (0, 90, 99, 100)
    one = order.Order(rows, 3, 1, None, begins)
    whole = one[0:100]
    assert (np.concatenate([one[0:33], one[33:100]]) == whole).all()
    assert (whole != order.Order(rows, 3, 2, None, begins)[0:100]).any()
    drawn_rows = np.concatenate([order.Order(rows, 0, epoch, None, begins)[0:100] for epoch in range(1, 201)]) - 1000
    counts = np.bincount(np.searchsorted(begins, drawn_rows, side="right") - 1)
    assert np.allclose(counts / counts.sum(), 1 / 3, atol=0.01)
    inside = np.bincount(drawn_rows[drawn_rows < 90], minlength=90)  # each of a class as often as any other
    assert stats.chisquare(inside).pvalue > 0.001


def test_a_map_is_drawn_from_with_the_same_bits_resumed_and_rerun(table: Path, tmp_path: Path) -> None:
    given = {
        "target": "class",
        "sampling": "balanced",
        "baselines": "none",
        "storage": "map",
        "cache": str(tmp_path / "maps"),
    }
    whole = nw.train(table, epochs=3, run_dir=tmp_path / "whole", **given)
    assert whole.config.data.storage == "map"
    again = nw.train(whole.folder / "config.toml", run_dir=tmp_path / "again")
    part = nw.train(table, epochs=2, run_dir=tmp_path / "part", **given)
    later = nw.resume(part.folder, settings=["training.epochs=3"])
    last = [safetensors.torch.load_file(run.folder / "model" / "last.safetensors") for run in (whole, later)]
    assert all(torch.equal(value, last[1][name]) for name, value in last[0].items())
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])
    shares = (whole.tested or {})["balance"]["classes"][0]
    assert shares["mean_probability"] > 2 * shares["share"]  # trained on even odds


def test_a_class_without_a_test_row_is_told_and_no_other_is_called_the_rarest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = np.random.default_rng(0)
    rows = (draw.normal(size=(60, 2)), np.array(["fast"] * 59 + ["mid"]))
    run = nw.train(data=rows, epochs=1, baselines="none", run_dir=tmp_path / "run")
    assert run.tested is not None
    assert [entry["class"] for entry in run.tested["balance"]["classes"]] == ["fast"]
    assert (
        "no test row is of mid: the test says nothing of them, and means over classes are of the others"
        in run.tested["notes"]
    )
    print_test(run.tested)
    printed = capsys.readouterr().out
    assert "no test row is of mid" in printed
    assert "rarest class" not in printed


def test_weights_of_rows_are_answered_with_what_has_them() -> None:
    rows = np.zeros((4, 2)), np.arange(4) % 2
    with pytest.raises(ConfigError, match="no known setting; class_weight weighs classes; rows weigh more in fit"):
        nw.train(data=rows, sample_weight=[1.0] * 4)
    with pytest.raises(DataError, match="a tuple of 3 came; .* NetClassifier and NetRegressor, fit.X, y, sample_weight"):
        nw.train(data=(*rows, np.ones(4)))
