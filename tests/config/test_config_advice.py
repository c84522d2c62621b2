"""What a mistake in the settings is answered with: the call to write, where a setting lives, and never a dumped value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from netwright.config.read import LARGEST_FILE, apply_setting, build_config, from_keywords, read_file
from netwright.config.values import LONGEST_SHOWN, shown
from netwright.errors import ConfigError, NetwrightError, SafetyError


def problem(tree: dict[str, Any]) -> str:
    with pytest.raises(NetwrightError) as caught:
        build_config(tree)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("section", "key", "written", "advice"),
    [
        ("training", "optimizer", "adam", "write Adam()"),
        ("training", "optimizer", "ADAMW", "write AdamW()"),
        ("training", "optimizer", "Default", "'Default' came; expected a call with brackets; write Default()"),
        ("training", "optimizer", "optim.sgd", "write SGD()"),
        ("training", "optimizer", "foo", "'foo' is no known optimizer; known: "),
        ("training", "optimizer", "adam(lr=1)", "'adam' is no known optimizer; did you mean Adam?"),
        ("training", "loss", "mse", "write MSELoss()"),
        ("training", "loss", "mae", "write L1Loss()"),
        ("training", "loss", "crossentropy", "write CrossEntropyLoss()"),
        ("training", "loss", "cross_entropy", "write CrossEntropyLoss()"),
        ("training", "loss", "cross entropy", "write CrossEntropyLoss()"),
        ("training", "loss", "bce", "write BCELoss() or BCEWithLogitsLoss()"),
        ("training", "loss", "huber", "write HuberLoss()"),
        ("training", "loss", "CTCLoss", "it needs lengths"),
        ("model", "layers", ["relu"], "model.layers.0: 'relu' came; expected a call with brackets; write ReLU()"),
        ("model", "layers", "relu", "write ReLU()"),
        ("model", "layers", ["Linear()", "conv2d"], "model.layers.1: 'conv2d' came; expected a call with brackets; "
         "write Conv2d(out_channels=..., kernel_size=...)"),
        ("model", "layers", "Linear(8), lstm", "model.layers.1: 'lstm' came; "),
    ],
)  # fmt: skip
def test_a_bare_or_misspelled_name_is_answered_with_the_call_to_write(
    section: str, key: str, written: Any, advice: str
) -> None:
    assert advice in problem({section: {key: written}})


def test_a_bare_name_is_answered_where_an_argument_of_it_is_set_too() -> None:
    with pytest.raises(ConfigError, match=r"training.optimizer: 'adam' came; .*; write Adam\(\)"):
        apply_setting({"training": {"optimizer": "adam"}}, "training.optimizer.lr=0.1")


@pytest.mark.parametrize(
    ("written", "layers"),
    [
        ("Flatten(), Linear()", ["Flatten()", "Linear()"]),
        ("[Linear(8), ReLU(), Linear()]", ["Linear(8)", "ReLU()", "Linear()"]),
        ("(Linear(8), Linear())", ["Linear(8)", "Linear()"]),
        ("nn.Sequential(nn.Linear(8), nn.ReLU())", ["Linear(8)", "ReLU()"]),
        ("Linear(8),\nReLU(),  # a remark\nLinear(),", ["Linear(8)", "ReLU()", "Linear()"]),
        ("'Linear(8)', 'Linear()'", ["Linear(8)", "Linear()"]),
        ("Sequential(Linear(8)), Linear()", ["Sequential(Linear(8))", "Linear()"]),
    ],
)
def test_layers_written_as_one_text_are_a_list_of_texts(written: str, layers: list[str]) -> None:
    assert build_config({"model": {"layers": written}}).model.layers == layers
    tree: dict[str, Any] = {}
    apply_setting(tree, f"model.layers={written}")
    assert build_config(tree).model.layers == layers


def test_an_argument_inside_layers_written_as_one_text_can_be_set() -> None:
    tree: dict[str, Any] = {"model": {"layers": "Dropout(0.1), Linear()"}}
    apply_setting(tree, "model.layers.0.p=0.5")
    assert tree["model"]["layers"] == ["Dropout(p=0.5)", "Linear()"]


@pytest.mark.parametrize(
    "text",
    [
        "Linear(8), __import__('os').system('true')", "os.system('true'), Linear()", "[x for x in (1,)]", "*a, Linear()",
        "[Linear(8), (lambda: 1)()]", "Linear(8), {1: 2}", "Linear(8)] + [exec('1')", "(y := Linear(8)),", "x.__class__, Linear()",
    ],
)  # fmt: skip
def test_hidden_code_in_layers_written_as_one_text_is_refused(text: str) -> None:
    with pytest.raises(SafetyError):
        build_config({"model": {"layers": text}})


@pytest.mark.parametrize("layers", [
    nn.Linear(3, 4), nn.Sequential(nn.ReLU()), [nn.Linear(3, 4)], ["Linear()", nn.ReLU()], [nn.ReLU], (nn.ReLU(),),
])  # fmt: skip
def test_modules_among_the_layers_are_pointed_to_the_keyword_model(layers: Any) -> None:
    message = problem({"model": {"layers": layers}})
    assert message.endswith("or hand the module over with model=nn.Sequential(...)")
    assert len(message) < 200


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD([torch.zeros(1, requires_grad=True)])])
def test_an_optimizer_object_or_class_is_answered_with_the_text(optimizer: Any) -> None:
    assert problem({"training": {"optimizer": optimizer}}).endswith('expected a text; write the text "Adam(lr=0.001)"')


TABLE = pd.DataFrame(np.random.default_rng(0).random((50, 3)), columns=list("abc"))


@pytest.mark.parametrize(
    "tree",
    [
        {"data": TABLE}, {"data": {"source": TABLE}}, {"data": {"source": np.zeros((99, 99))}}, {"data": {"target": TABLE["a"]}},
        {"data": {"batch_size": torch.zeros(1000)}}, {"data": {"kinds": TABLE}}, {"data": {"split": np.zeros(500)}},
        {"data": {"split": {"test": [0.5] * 999}}}, {"training": {"device": "x" * 999}}, {"data": {"delimiter": "\n" * 999}},
        {"training": {"epochs": {str(number): number for number in range(999)}}}, {"data": {"a\nb" * 99: 1}},
        {"model": {"module": "a.py:B", "arguments": {"act": nn.ReLU, "table": TABLE}}}, {"model": {"module": "y" * 999}},
    ],
    ids=lambda tree: str(tree)[:30],
)  # fmt: skip
def test_no_value_is_ever_dumped(tree: dict[str, Any]) -> None:
    assert len(problem(tree)) < 420


@pytest.mark.parametrize("value", [TABLE, np.zeros((9, 9)), "a\nb" * 99, [[1] * 99] * 99, {"a": TABLE}, nn.ReLU(), nn.ReLU])
def test_a_shown_value_is_one_short_line(value: Any) -> None:
    assert len(shown(value)) <= LONGEST_SHOWN
    assert "\n" not in shown(value)
    assert shown(TABLE) == "<DataFrame of shape (50, 3)>"


def test_no_argument_of_an_own_class_may_be_what_a_file_cannot_hold() -> None:
    message = problem({"model": {"module": "a.py:B", "arguments": {"sizes": [1, {"act": nn.ReLU}]}}})
    assert message.startswith("model.arguments.sizes.1.act: <class ReLU> came; expected a number")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"data": {"split": 0.3}}, "data.split: 0.3 came; expected a section of settings such as { test = 0.2, valid = 0.2 }"),
        ({"data": {"split": {"test": 1.5}}}, "data.split.test: 1.5 came; expected a share from 0 to below 1, a whole number"),
        ({"data": {"split": {"valid": 1.0}}}, "data.split.valid: 1.0 came; expected a share from 0 to below 1"),
        ({"data": {"split": {"test": True}}}, "data.split.test: True came; expected a share"),
        ({"data": {"task": "classification"}}, "data.task: 'classification' came; expected 'binary', 'multiclass', "
         "'multilabel' or 'regression'; did you mean 'binary' or 'multiclass'?"),
        ({"data": {"test": 0.2}}, "data.test: 0.2 came; expected a file name; for a share or a number of rows write "
         "data.split.test"),
        ({"data": {"target": 5}}, "data.target: 5 came; expected a text or a list; write it in quotes"),
        ({"training": {"early_stopping": 5}}, 'training.early_stopping: 5 came; expected a section of settings such as '
         '{ patience = 20 } or "none"; '),
        ({"epochs": 3}, "epochs: unknown key; write training.epochs"),
        ({"training": {"lr": 0.1}}, 'training.lr: unknown key; write optimizer = "Adam(lr=0.1)" under [training], or --set '
         "training.optimizer.lr=0.1"),
        ({"training": {"patience": 3}}, "training.patience: unknown key; write training.early_stopping.patience"),
        ({"data": {"stratify": True}}, "data.stratify: unknown key; write data.split.stratify"),
        ({"data": {"valid_size": 0.1}}, "data.valid_size: unknown key; write data.split.valid"),
        ({"checkpoint": {"seconds": 1}}, "checkpoint.seconds: unknown key; did you mean every_seconds? Else write "
         "training.seconds"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_plain_words(tree: dict[str, Any], message: str) -> None:
    found = problem(tree)
    assert found.startswith(message)
    assert "instance of" not in found
    assert "dictionary" not in found


def test_many_wrong_entries_of_a_list_are_told_three_times_and_counted() -> None:
    assert problem({"data": {"ignore": list(range(50))}}).endswith("; data.ignore: 47 more entries like these came")


def test_one_text_is_a_list_of_one_where_a_list_is_meant() -> None:
    data = build_config({"data": {"ignore": "Name", "columns": "a", "missing_values": "-"}}).data
    assert (data.ignore, data.columns, data.missing_values) == (["Name"], ["a"], ["-"])


def test_early_stopping_is_switched_with_true_and_false() -> None:
    on = build_config({"training": {"early_stopping": True}}).training.early_stopping
    assert on == build_config({"training": {"early_stopping": {}}}).training.early_stopping
    assert build_config({"training": {"early_stopping": False}}).training.early_stopping == "none"
    tree: dict[str, Any] = {"training": {"early_stopping": True}}
    apply_setting(tree, "training.early_stopping.patience=3")
    assert tree["training"]["early_stopping"] == {"patience": 3}


def test_a_share_below_one_and_a_whole_number_of_rows_are_taken() -> None:
    split = build_config({"data": {"split": {"test": 0.999, "valid": 1}}}).data.split
    assert (split.test, split.valid) == (0.999, 1)
    assert build_config({"data": {"split": {"test": 0, "valid": 0.0}}}).data.split.test == 0


@pytest.mark.parametrize(
    ("setting", "advice"),
    [
        ("epochs=3", "write training.epochs=3"),
        ("lr=0.1", "write training.optimizer.lr=0.1"),
        ("optimizer.lr=0.1", "write training.optimizer.lr=0.1"),
        ("patience=3", "write training.early_stopping.patience=3"),
        ("monitor=valid_loss", "write training.early_stopping.monitor=valid_loss"),
        ("stratify=true", "write data.split.stratify=true"),
        ("test_size=0.2", "write data.split.test=0.2"),
        ("p=0.5", "write model.layers.N.p, where N is the place of the Dropout layer"),
        ("seed=3", "write data.split.seed=3 or training.seed=3"),
        ("epoch=3", "did you mean training.epochs?"),
        ("trainig.epochs=3", "did you mean training?"),
    ],
)
def test_a_path_without_its_section_is_answered_with_the_whole_path(setting: str, advice: str) -> None:
    tree: dict[str, Any] = {}
    with pytest.raises(ConfigError) as caught:
        apply_setting(tree, setting)
    assert str(caught.value).startswith(f"--set {setting}: ")
    assert str(caught.value).endswith(f"; {advice}")
    assert tree == {}


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("lr", 0.1, 'write optimizer="Adam(lr=0.1)"'),
        ("learning_rate", 0.1, 'write optimizer="Adam(lr=0.1)"'),
        ("momentum", 0.9, 'write optimizer="SGD(momentum=0.9)"'),
        ("patience", 3, 'write early_stopping={"patience": 3}'),
        ("group", "site", "write split={\"group\": 'site'}"),
        ("test_size", 0.2, 'write split={"test": 0.2}'),
        ("p", 0.5, 'write "Dropout(0.5)" in layers, or --set model.layers.N.p, where N is the place of the Dropout layer'),
        ("criterion", "mse", "did you mean loss?"),
    ],
)
def test_a_keyword_that_lives_deeper_is_answered_with_the_keyword_to_write(name: str, value: Any, advice: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_keywords({name: value})
    assert str(caught.value).endswith(f": no known setting; {advice}")


def test_the_config_of_a_run_folder_may_be_long_and_others_not(tmp_path: Path) -> None:
    text = f"[data]\nsplit = {{ test = [{', '.join(map(str, range(200_000)))}] }}\n"
    assert len(text) > LARGEST_FILE
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"a config has at most {LARGEST_FILE}; shorten it"):
        read_file(path)
    (tmp_path / "run.json").write_text("{}")
    assert len(read_file(path)["data"]["split"]["test"]) == 200_000
    (tmp_path / "other.toml").write_text(text)
    with pytest.raises(ConfigError, match="shorten it"):
        read_file(tmp_path / "other.toml")


def test_problems_of_settings_and_of_call_texts_come_together() -> None:
    tree = {
        "model": {"layers": ["Conv2dd(3)", "Linar()", "ReLU(x=1)", "Linear("]},
        "training": {"epochs": "ten", "optimizer": "Adm(lr=1e-3)", "loss": "CrosEntropyLoss()"},
    }
    with pytest.raises(ConfigError) as caught:
        build_config(tree)
    told = str(caught.value)
    for word in ("training.epochs", "Conv2dd", "Linar", "'x'", "'Linear('", "Adm", "CrosEntropyLoss"):
        assert word in told, word


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"model": {"layers": ["MSELoss()"]}}, "MSELoss came, which is a loss; write it in training.loss"),
        ({"model": {"layers": ["CTCLoss()"]}}, "CTCLoss came, which is a loss; write it in training.loss"),
        ({"model": {"layers": ["Adam()"]}}, "Adam came, which is an optimizer; write it in training.optimizer"),
        ({"training": {"loss": "Linear(3)"}}, "Linear came, which is a layer; write it in model.layers"),
        ({"training": {"optimizer": "MSELoss()"}}, "MSELoss came, which is a loss; write it in training.loss"),
    ],
)
def test_a_name_of_another_kind_is_sent_to_its_place(tree: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_config(tree)


def test_a_tuple_is_set_as_a_tuple() -> None:
    tree: dict[str, object] = {"model": {"layers": ["Conv2d(8, 3)"]}}
    apply_setting(tree, "model.layers.0.kernel_size=(3, 5)")
    assert tree["model"] == {"layers": ["Conv2d(out_channels=8, kernel_size=(3, 5))"]}
    apply_setting(tree, "data.target=(a)")
    assert tree["data"] == {"target": "(a)"}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"model": {"layers": [64, 32]}}, "model.layers.0: 64 came; expected a layer such as Linear(64); write layers = ["),
        ({"data": {"image_size": 64}}, "data.image_size: 64 came; expected height and width; write for instance [64, 64]"),
        (
            {"training": {"metrics": lambda true, predicted: 0.0}},
            "training.metrics: <function> came; expected functions by name; write metrics={name:",
        ),
        (
            {"training": {"metrics": [lambda true, predicted: 0.0]}},
            "training.metrics.0: <function> came; expected functions by name; write metrics={name: function}",
        ),
        (
            {"model": {"layers": 64}},
            'model.layers: 64 came; expected layers such as Linear(64); write layers = ["Linear(64)"',
        ),
        ({"training": {"metrics": ["f1"]}}, "training.metrics: 'f1' came; did you mean f1_score?"),
    ],
)
def test_what_others_write_is_answered_with_what_to_write(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(tree)
    assert message in str(caught.value)


@pytest.mark.parametrize("share", [0.8, 100])
def test_a_share_of_train_rows_is_answered_with_what_they_are(share: float) -> None:
    found = problem({"data": {"split": {"train": share, "test": 0.2}}})
    assert found.startswith(f"data.split.train: {share} came; expected row numbers, or the name of an array or a column; ")
    assert found.endswith("leave train out: it is the rows that valid and test leave")
