"""TOML, dictionaries, keywords and --set: all problems at once, arguments inside call texts, and a sound round trip."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netwright.config.read import (
    LARGEST_FILE,
    absolute_paths,
    apply_setting,
    as_settings,
    build_config,
    from_keywords,
    merge,
    read_file,
)
from netwright.config.schema import RunConfig
from netwright.errors import ConfigError, NetwrightError


def problems(tree: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build_config(tree)
    assert "\n" not in str(caught.value)
    return str(caught.value).split("; ")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"trainig": {}}, "trainig: unknown key; did you mean training?"),
        ({"data": {"bath_size": 3}}, "data.bath_size: unknown key; did you mean batch_size or image_size?"),
        ({"data": {"split": {"sed": 1}}}, "data.split.sed: unknown key; did you mean seed?"),
        ({"data": {"preparation": {"number": "none"}}}, "data.preparation.number: unknown key; did you mean numbers?"),
        (
            {"training": {"early_stopping": {"patince": 3}}},
            "training.early_stopping.patince: unknown key; did you mean patience?",
        ),
        ({"training": {"learning_rate": 3}}, "training.learning_rate: unknown key; "),
        ({"model": {"layer": []}}, "model.layer: unknown key; did you mean layers?"),
        ({1: 2}, "1: unknown key; known: checkpoint, checks, data, evaluation, model, training"),
        ({"data": 5}, "data: 5 came; "),
        ({"data": {"split": [0.2]}}, "data.split: [0.2] came; "),
        ({"data": {"batch_size": 0}}, "data.batch_size: 0 came; expected at least 1; make it larger"),
        (
            {"data": {"batch_size": True}},
            "data.batch_size: True came; expected a whole number; write for instance batch_size = 64",
        ),
        ({"data": {"batch_size": "64"}}, "data.batch_size: '64' came; expected a whole number"),
        ({"data": {"batch_size": 6.5}}, "data.batch_size: 6.5 came; expected a whole number"),
        ({"data": {"layout": "nchw"}}, "data.layout: 'nchw' came; expected 'NC', 'NT'"),
        ({"data": {"kinds": {"age": "numbr"}}}, "data.kinds.age: 'numbr' came; expected 'number', 'category'"),
        ({"data": {"labels": {"a": 1}}}, "data.labels.a: 1 came; expected a text; write it in quotes"),
        ({"data": {"delimiter": ";;"}}, "data.delimiter: ';;' came; expected one character or 'whitespace'"),
        ({"data": {"columns": 5}}, "data.columns: 5 came; expected a list; write it in brackets"),
        ({"data": {"preparation": "non"}}, "data.preparation: "),
        ({"data": {"split": {"test": -0.1}}}, "data.split.test: -0.1 came; expected a share from 0 to below 1"),
        ({"data": {"source": "a.csv", "train": "b.csv"}}, "data: source and train came together"),
        ({"data": {"test": "b.csv"}}, "data: valid or test came without train"),
        ({"model": {"layers": [5]}}, "model.layers.0: 5 came; expected a layer such as Linear(64)"),
        ({"model": {"layers": []}}, "model: an empty list came; expected at least one layer, such as Linear()"),
        ({"model": {"layers": ["Linear()"], "module": "a.py:B"}}, "model: layers and module came together"),
        ({"model": {"module": "net.txt:B"}}, "model: module 'net.txt:B' came; expected FILE.py:ClassName"),
        ({"model": {"arguments": {"a": 1}}}, "model: arguments came without module"),
        ({"model": {"layers": ["Linaer(3)"]}}, "model.layers.0: 'Linaer' is no known layer; did you mean Linear?"),
        ({"model": {"layers": ["ReLU()", "Linear"]}}, "model.layers.1: 'Linear' came; expected a call with brackets"),
        ({"model": {"layers": "Linear"}}, "model.layers.0: 'Linear' came; expected a call with brackets; write Linear()"),
        ({"training": {"epochs": -1}}, "training.epochs: -1 came; expected at least 0"),
        (
            {"training": {"epochs": 1.5}},
            "training.epochs: 1.5 came; expected a whole number; write for instance epochs = 20",
        ),
        ({"training": {"device": "gpu"}}, "training.device: 'gpu' came; expected auto, cpu, cuda, cuda:N or mps"),
        ({"training": {"device": "cuda:x"}}, "training.device: 'cuda:x' came; expected auto"),
        ({"training": {"device": "cuda:²"}}, "training.device: 'cuda:²' came; expected auto"),
        ({"training": {"threads": 0}}, "training.threads: 0 came; expected at least 1"),
        ({"training": {"engine": "fast"}}, "training.engine: 'fast' came; expected 'auto'"),
        ({"training": {"optimizer": "Adm()"}}, "training.optimizer: 'Adm' is no known optimizer; did you mean Adam"),
        ({"training": {"optimizer": "SGD(lrr=1)"}}, "training.optimizer: SGD has no argument 'lrr'; did you mean lr?"),
        (
            {"training": {"loss": "MSELoss(reduction='sum')"}},
            "training.loss: MSELoss came with reduction; the mean is taken",
        ),
        ({"training": {"early_stopping": 5}}, "training.early_stopping: 5 came; expected a section of settings such as "),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_what_came(tree: dict[str, Any], message: str) -> None:
    assert "; ".join(problems(tree)).startswith(message)


def test_all_problems_come_at_once_each_with_its_path() -> None:
    tree = {
        "data": {"batch_size": 0, "bath_size": 3, "split": {"sed": 1}},
        "training": {"epochs": "five", "device": "gpu", "sed": 0},
        "modell": {},
    }
    text = "; ".join(problems(tree))
    for path in ("data.batch_size", "data.bath_size", "data.split.sed", "training.epochs", "training.device", "training.sed",
                 "modell"):  # fmt: skip
        assert f"{path}: " in text, path
    assert text.count(" came; ") == 3
    assert text.count("unknown key; ") == 4


def test_all_problems_of_call_texts_come_at_once() -> None:
    text = "; ".join(
        problems(
            {
                "model": {"layers": ["Linaer(3)", "Conv2d(3, kernel=2)", "Residual([LSTMCell(3)])", "Linear(3, dtype='x')"]},
                "training": {"optimizer": "Adm()", "loss": "CTCLoss()"},
            }
        )
    )
    for part in ("model.layers.0: 'Linaer'", "model.layers.1: Conv2d has no argument 'kernel'",
                 "model.layers.2.0: LSTMCell came", "model.layers.3: Linear came with dtype",
                 "training.optimizer: 'Adm'", "training.loss: CTCLoss came; it needs lengths"):  # fmt: skip
        assert part in text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("epochs = \nseed = 1", ["no TOML", "line 1"]),
        ("[data\n", ["no TOML"]),
        ("a = 1\na = 2\n", ["no TOML", "overwrite"]),
        ("epochs: 20", ["no TOML", "expected lines such as epochs = 20"]),
        ("a = " + "[" * 5000 + "]" * 5000, ["no TOML"]),
        ("x" * (LARGEST_FILE + 1), [f"{LARGEST_FILE + 1} bytes came; a config has at most {LARGEST_FILE}"]),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_file_that_is_no_toml_is_named_in_one_line(text: str, parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_file(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert [part for part in parts if part not in message] == [], message
    assert "\n" not in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="gone.toml: No such file or directory; expected a readable TOML file"):
        read_file(tmp_path / "gone.toml")
    with pytest.raises(ConfigError, match="Is a directory; expected a readable TOML file"):
        read_file(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="latin.toml: byte 5 is no UTF-8; expected a UTF-8 text; save it as UTF-8"):
        read_file(tmp_path / "latin.toml")


def test_relative_files_are_taken_from_the_folder_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        '[data]\ntrain = "a.csv"\nvalid = "../b.csv"\ntest = "/abs/c.csv"\nsplit = { file = "rows.npz", train = "first" }\n'
        '[model]\nmodule = "nets/my_net.py:Net"\n'
    )
    tree = read_file(tmp_path / "c.toml")
    assert tree == {
        "data": {
            "train": str(tmp_path / "a.csv"),
            "valid": str(tmp_path.parent / "b.csv"),
            "test": "/abs/c.csv",
            "split": {"file": str(tmp_path / "rows.npz"), "train": "first"},
        },
        "model": {"module": str(tmp_path / "nets" / "my_net.py:Net")},
    }


def test_names_of_bundled_data_and_the_tree_itself_stay_as_they_are() -> None:
    tree = {
        "data": {"source": "sklearn:digits", "target": "x.csv"},
        "model": {"layers": ["Linear()"]},
        "training": {"epochs": 3},
    }
    before = copy.deepcopy(tree)
    assert absolute_paths(tree, Path("/folder")) == before
    tree["data"]["source"] = "digits.csv"
    assert absolute_paths(tree, Path("/folder"))["data"]["source"] == "/folder/digits.csv"
    assert tree["data"]["source"] == "digits.csv"
    home = absolute_paths({"data": {"source": "~/digits.csv"}}, Path("/folder"))
    assert home["data"]["source"] == os.path.expanduser("~/digits.csv")


def test_keywords_find_their_sections() -> None:
    tree = from_keywords(
        {"epochs": 20, "target": "price", "layers": ["Linear()"], "split": {"test": 0.2}, "batch_size": 8, "seed": 3,
         "data": {"ignore": ["id"]}, "training": {"loss": "MSELoss()"}}
    )  # fmt: skip
    assert tree == {
        "training": {"epochs": 20, "seed": 3, "loss": "MSELoss()"},
        "data": {"target": "price", "split": {"test": 0.2}, "batch_size": 8, "ignore": ["id"]},
        "model": {"layers": ["Linear()"]},
    }


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("epoch", "did you mean epochs"),
        ("batchsize", "did you mean batch_size"),
        ("lr", 'write optimizer="Adam(lr=3)"'),
        ("modell", "did you mean model"),
        ("early_stoping", "did you mean early_stopping"),
    ],
)
def test_a_keyword_that_is_no_setting_is_named_with_the_nearest(name: str, advice: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_keywords({name: 3})
    assert str(caught.value).startswith(f"{name}=3: no known setting; {advice}")


def test_settings_are_written_over_others_section_by_section() -> None:
    tree = {"data": {"split": {"test": 0.2, "valid": 0.1}, "batch_size": 8}, "training": {"epochs": 3}}
    merge(tree, {"data": {"split": {"test": 0.4}}, "training": {"epochs": 5}, "model": {"layers": ["Linear()"]}})
    assert tree == {
        "data": {"split": {"test": 0.4, "valid": 0.1}, "batch_size": 8},
        "training": {"epochs": 5},
        "model": {"layers": ["Linear()"]},
    }
    merge(tree, {"data": {"split": "by hand"}})
    assert tree["data"] == {"split": "by hand", "batch_size": 8}


LAYERS = ["Conv2d(8, 3)", "ReLU()", "Residual([Linear(4), Residual([Dropout(0.1), ReLU()])])",
          "Parallel([Linear(4), Linear(5)], dim=2)"]  # fmt: skip


def a_tree() -> dict[str, Any]:
    return {"model": {"layers": list(LAYERS)}, "training": {"optimizer": "SGD(0.1, momentum=0.9)", "loss": "HuberLoss()"}}


@pytest.mark.parametrize(
    ("setting", "section", "key", "value"),
    [
        ("training.epochs=50", "training", "epochs", 50),
        ("training.epochs = 50", "training", "epochs", 50),
        ("training.optimizer=Adam()", "training", "optimizer", "Adam()"),
        ("training.optimizer='Adam()'", "training", "optimizer", "Adam()"),
        ("training.optimizer.lr=0.5", "training", "optimizer", "SGD(lr=0.5, momentum=0.9)"),
        ("training.optimizer.nesterov=true", "training", "optimizer", "SGD(lr=0.1, momentum=0.9, nesterov=True)"),
        ("training.loss.delta=2.5", "training", "loss", "HuberLoss(delta=2.5)"),
        ("data.target=price", "data", "target", "price"),
        ("data.target=[\"a\", \"b\"]", "data", "target", ["a", "b"]),
        ("data.source=a=b.csv", "data", "source", "a=b.csv"),
        ("data.split.test=0.3", "data", "split", {"test": 0.3}),
        ("data.split={ test = 0.3 }", "data", "split", {"test": 0.3}),
        ("data.kinds.age=number", "data", "kinds", {"age": "number"}),
        ("data.preparation=none", "data", "preparation", "none"),
        ("model.arguments.hidden_dim=64", "model", "arguments", {"hidden_dim": 64}),
        ("model.layers=[\"Linear()\"]", "model", "layers", ["Linear()"]),
        ("model.layers.1=Tanh()", "model", "layers", [LAYERS[0], "Tanh()", *LAYERS[2:]]),
        ("model.layers.1.inplace=true", "model", "layers", [LAYERS[0], "ReLU(inplace=True)", *LAYERS[2:]]),
        ("model.layers.0.kernel_size=5", "model", "layers", ["Conv2d(out_channels=8, kernel_size=5)", *LAYERS[1:]]),
        ("model.layers.0.kernel_size=[3, 5]", "model", "layers", ["Conv2d(out_channels=8, kernel_size=[3, 5])", *LAYERS[1:]]),
        ("model.layers.0.padding=same", "model", "layers",
         ["Conv2d(out_channels=8, kernel_size=3, padding='same')", *LAYERS[1:]]),
        ("model.layers.2.1.0.p=0.7", "model", "layers",
         [*LAYERS[:2], "Residual([Linear(4), Residual([Dropout(p=0.7), ReLU()])])", LAYERS[3]]),
        ("model.layers.3.0.out_features=9", "model", "layers",
         [*LAYERS[:3], "Parallel([Linear(out_features=9), Linear(5)], dim=2)"]),
        ("model.layers.3.dim=1", "model", "layers", [*LAYERS[:3], "Parallel([Linear(4), Linear(5)], dim=1)"]),
        ("model.layers.0.padding=\"x') + __import__('os')#\"", "model", "layers",
         ["Conv2d(out_channels=8, kernel_size=3, padding=\"x') + __import__('os')#\")", *LAYERS[1:]]),
    ],
)  # fmt: skip
def test_a_dotted_path_reaches_sections_and_arguments_of_call_texts(
    setting: str, section: str, key: str, value: Any
) -> None:
    tree = a_tree()
    apply_setting(tree, setting)
    expected = a_tree()
    expected.setdefault(section, {})[key] = value
    assert tree == expected


def test_the_default_optimizer_has_arguments_too() -> None:
    tree: dict[str, Any] = {}
    apply_setting(tree, "training.optimizer.lr=0.1")
    apply_setting(tree, "training.optimizer.weight_decay=0.01")
    assert tree == {"training": {"optimizer": "Default(lr=0.1, weight_decay=0.01)"}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (".3", 0.3),
        ("1.", 1.0),
        ("-.5e-2", -0.005),
        ("(3, 5)", (3, 5)),
        (" ", " "),
        (" a b ", "a b"),
        ("1.2.3", "1.2.3"),
        (".", "."),
        ("(3, x)", "(3, x)"),
    ],
)
def test_what_is_no_toml_is_read_as_python_or_a_text(text: str, value: Any) -> None:
    tree: dict[str, Any] = {}
    apply_setting(tree, f"data.cache={text}")
    assert tree == {"data": {"cache": value}}
    assert type(tree["data"]["cache"]) is type(value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs", "no setting; expected PATH=VALUE; write for instance training.epochs=50"),
        ("=3", "no setting; expected PATH=VALUE"),
        ("a..b=3", "no setting; expected PATH=VALUE"),
        ("training.optimizer.foo=1", "training.optimizer: SGD has no argument 'foo'; "),
        ("training.optimizer.momentun=1", "training.optimizer: SGD has no argument 'momentun'; did you mean momentum?"),
        ("training.optimizer.lr.x=1", "training.optimizer is SGD(0.1, momentum=0.9); expected one of its arguments"),
        ("training.loss.reduction=sum", "training.loss: HuberLoss came with reduction; the mean is taken exactly"),
        ("model.layers.0.kernel=5", "model.layers.0: Conv2d has no argument 'kernel'; did you mean kernel_size?"),
        ("model.layers.2.1.0.q=1", "model.layers.2.1.0: Dropout has no argument 'q'; "),
        ("model.layers.9.p=1", "model.layers has layers 0 to 3; '9' is none"),
        ("model.layers.9=ReLU()", "model.layers has layers 0 to 3; '9' is none"),
        ("model.layers.-1.p=1", "model.layers has layers 0 to 3; '-1' is none"),
        ("model.layers.x.p=1", "model.layers has layers 0 to 3; 'x' is none"),
        ("model.layers.².p=1", "model.layers has layers 0 to 3; '²' is none"),
        ("model.layers.2.5.p=1", "model.layers.2 holds layers 0 to 1"),
        ("training.epochs.x=1", "training.epochs is no section"),
    ],
)
def test_a_path_that_leads_nowhere_is_named_and_changes_nothing(setting: str, message: str) -> None:
    tree = {**a_tree(), "training": {**a_tree()["training"], "epochs": 3}}
    before = copy.deepcopy(tree)
    with pytest.raises(ConfigError) as caught:
        apply_setting(tree, setting)
    assert str(caught.value).startswith(f"--set {setting}: {message}")
    assert tree == before


@pytest.mark.parametrize("setting", ["model.layers.0.p=1", "training.loss.delta=1"])
def test_an_argument_of_a_text_that_is_not_written_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="write it first"):
        apply_setting({}, setting)


@pytest.mark.parametrize(
    "setting",
    [
        "training.optimizer.lr=nan", "training.optimizer.lr=1979-05-27", "training.optimizer.lr={a=1}",
        "training.optimizer.lr=" + "[" * 9000, "training.epochs=" + "[" * 9000, "model.layers.1.inplace=" + "[" * 9000 + "]" * 9000,
        "model.layers.0=__import__('os')", "training.optimizer=exec('1')",
    ],
    ids=lambda setting: setting[:40],
)  # fmt: skip
def test_a_value_that_no_text_can_hold_ends_as_an_error_of_ours(setting: str) -> None:
    def set_and_build(tree: dict[str, Any]) -> None:
        apply_setting(tree, setting)
        build_config(tree)

    with pytest.raises(NetwrightError) as caught:
        set_and_build(a_tree())
    assert caught.value.exit_code in (2, 8)


@pytest.mark.parametrize("name", ["exec", "eval", "open", "print", "os", "Module", "Optimizer", "load", "compile"])
@pytest.mark.parametrize(
    ("section", "key"),
    [("model", "layers"), ("training", "optimizer"), ("training", "loss")],
    ids=["layer", "optimizer", "loss"],
)
def test_a_name_outside_the_registries_is_refused_and_nothing_runs(
    name: str, section: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = f"{name}('CANARY', 'w')"
    (found,) = problems({section: {key: [text] if key == "layers" else text}})[:1]
    assert found.startswith(f"{section}.{key}{'.0' if key == 'layers' else ''}: ")
    assert name in found
    assert list(tmp_path.iterdir()) == []


def test_none_means_off_where_a_setting_may_be_off_and_automatic_elsewhere() -> None:
    config = build_config(
        {"data": {"preparation": None, "layout": None}, "training": {"early_stopping": None, "loss": None}}
    )
    assert config.data.preparation == "none"
    assert config.training.early_stopping == "none"
    assert config.data.layout is None
    assert config.training.loss is None
    assert build_config({"data": None}) == RunConfig()
    tree = absolute_paths(
        {"model": {"weights": "none"}, "tune": {"space": {"model.weights": ["none", "run"]}}}, Path("/folder")
    )
    assert tree["tune"]["space"] == {"model.weights": ["none", "/folder/run"]}
    assert build_config({"model": tree["model"]}).model.weights is None


def test_values_of_python_are_taken_as_toml_would_hold_them() -> None:
    config = build_config(
        {
            "data": {
                "source": Path("/a.csv"),
                "target": ("x", "y"),
                "batch_size": np.int64(8),
                "split": {"test": np.float64(0.25), "train": np.array([0, 2]), "valid": [1]},
            }
        }
    )
    assert (config.data.source, config.data.target, config.data.batch_size) == ("/a.csv", ["x", "y"], 8)
    assert (config.data.split.test, config.data.split.train, config.data.split.valid) == (0.25, [0, 2], [1])


def test_keywords_become_the_texts_of_set() -> None:
    made = as_settings(
        {"epochs": np.int64(5), "early_stopping": {"patience": 3}, "optimizer": "SGD(lr=0.1)", "every_steps": 10}
    )
    tree: dict[str, Any] = {"training": {"early_stopping": True}}
    for text in made:
        apply_setting(tree, text)
    assert tree == {
        "training": {"epochs": 5, "early_stopping": {"patience": 3}, "optimizer": "SGD(lr=0.1)"},
        "checkpoint": {"every_steps": 10},
    }
    with pytest.raises(ConfigError, match=r"training\.seconds: .* came; expected a number"):
        as_settings({"seconds": print})
    with pytest.raises(ConfigError, match="epoch=3: no known setting; did you mean epochs"):
        as_settings({"epoch": 3})
