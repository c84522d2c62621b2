"""The tree of settings: frozen, closed, described, and with leaf names that are unique."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from netwright.config.data_schema import DataConfig, PreparationConfig, SplitConfig
from netwright.config.read import SECTIONS, build_config, json_schema
from netwright.config.schema import ModelConfig, RunConfig
from netwright.config.training_schema import EarlyStoppingConfig, TrainingConfig

ALL = (RunConfig, DataConfig, SplitConfig, PreparationConfig, ModelConfig, TrainingConfig, EarlyStoppingConfig)


def settings(model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str]]:
    for name in model.model_fields:
        yield model, name


def test_leaf_names_are_unique_across_the_sections_and_no_section_is_a_leaf() -> None:
    names = [name for section in SECTIONS.values() for name in section.model_fields]
    assert sorted(names) == sorted(set(names))
    assert set(SECTIONS).isdisjoint(names)
    assert list(SECTIONS) == list(RunConfig.model_fields)


@pytest.mark.parametrize("model", ALL, ids=lambda model: model.__name__)
def test_no_setting_can_be_changed_and_no_unknown_one_is_taken(model: type[BaseModel]) -> None:
    made = model()
    for _, name in settings(model):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(made, name, None)
    with pytest.raises(ValidationError, match="extra_forbidden"):
        model(no_such_setting=1)


def test_the_json_schema_is_sound_and_names_and_describes_every_setting() -> None:
    schema: dict[str, Any] = json.loads(json_schema())
    definitions = {**schema["$defs"], "RunConfig": schema}
    for model in ALL:
        described = definitions[model.__name__]
        assert described["additionalProperties"] is False
        assert set(described["properties"]) == set(model.model_fields)
    for model in (SplitConfig, PreparationConfig):
        assert [
            name for _, name in settings(model) if "description" not in definitions[model.__name__]["properties"][name]
        ] == []


def test_the_defaults_are_those_the_documents_name() -> None:
    config = build_config({})
    assert config == RunConfig()
    assert (config.data.batch_size, config.data.split.seed, config.data.missing) == (64, 0, "fill")
    assert (config.training.optimizer, config.training.loss, config.training.epochs) == ("Adam(lr=0.001)", None, None)
    assert (config.training.seed, config.training.engine, config.training.early_stopping) == (0, "auto", None)
    assert EarlyStoppingConfig() == EarlyStoppingConfig(monitor="valid_loss", mode=None, patience=20)
    assert config.layer_calls() is None


def test_the_layer_texts_are_read_with_their_places() -> None:
    config = build_config({"model": {"layers": ["Linear(3)", "nn.ReLU()"]}})
    assert [str(call) for call in config.layer_calls() or []] == ["Linear(3)", "ReLU()"]


@pytest.mark.parametrize(
    ("written", "layers"),
    [
        (
            "nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))",
            ["Linear(784, 128)", "ReLU()", "Linear(128, 10)"],
        ),
        ("Sequential([Linear(3), Residual([ReLU()])])", ["Linear(3)", "Residual([ReLU()])"]),
        ("Linear()", ["Linear()"]),
        (["Sequential([Linear(3)])"], ["Sequential([Linear(3)])"]),
    ],
)
def test_one_text_of_a_sequential_is_the_list_of_its_layers(written: Any, layers: list[str]) -> None:
    assert build_config({"model": {"layers": written}}).model.layers == layers


def test_reading_settings_imports_no_torch_and_touches_nothing() -> None:
    code = (
        "import sys; import netwright.config.read as read; from netwright.config.schema import RunConfig;"
        "read.build_config({'model': {'layers': ['Linear(3)', 'Residual([ReLU()])']}, 'training': {'loss': 'MSELoss()'}});"
        "read.json_schema(); print(sorted({'torch', 'numpy', 'sklearn', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
