"""The resolved config as text: reading it gives an equal config, and building one changes nothing it was given."""

from __future__ import annotations

import copy
import datetime
import tomllib
from typing import Any

import pytest

from netwright.config.read import build_config, to_toml

CONFIGS: list[dict[str, Any]] = [
    {},
    {"data": {"source": "sklearn:iris", "target": "species", "split": {"test": 0.2, "valid": 0, "stratify": False}}},
    {
        "data": {
            "source": "/a.csv",
            "target": ["a", "b"],
            "ignore": ["id"],
            "kinds": {"zip code": "category", "a.b": "number"},
        }
    },
    {"data": {"labels": {">50K.": ">50K", "": "none", 'q"uote': "back\\slash", "neu\nzeile": "é"}, "delimiter": "\t"}},
    {"data": {"preparation": None, "layout": "NCHW", "batch_size": 7, "last_batch": "drop", "header": False}},
    {"data": {"preparation": {"numbers": "quantile", "rare": 5, "target_scaling": "none"}, "missing_values": ["", "-999"]}},
    {"data": {"train": "/a", "valid": "/b", "test": "/c", "columns": ["x", "y"], "decimal": ",", "encoding": "latin-1"}},
    {"data": {"split": {"test": [0, 5, 7], "valid": "valid_rows", "file": "/rows.npz"}}},
    {"data": {"split": {"group": "patient", "seed": 9, "test": 30}}},
    {"data": {"split": {"time": "when", "valid": 1e-3}}},
    {"model": {"layers": ["Conv2d(32, kernel_size=(3, 5))", "ReLU()", "Residual([Linear(4)])", "Linear()"]}},
    {"model": {"layers": "Sequential(Linear(3), ReLU())"}},
    {"model": {"module": "/my_net.py:Net", "arguments": {"hidden": 64, "p": 0.5, "sizes": [1, 2], "deep": {"a": True}}}},
    {"model": {"module": "/my_net.py:Net", "arguments": {"limit": float("inf"), "low": -1e300}}},
    {"model": {"module": "/my_net.py:Net", "arguments": {"since": datetime.date(2020, 1, 2)}}},
    {"model": {"object": "my.Net"}, "training": {"loss": "object:my_loss"}},
    {"training": {"epochs": 0, "steps": 5, "optimizer": "SGD(lr=0.1, momentum=0.9)", "loss": "CrossEntropyLoss()"}},
    {"training": {"loss": "CrossEntropyLoss(weight=[1.0, 2.5])", "seed": 2**63, "device": "cuda:1", "threads": 2}},
    {"training": {"early_stopping": None}},
    {"training": {"early_stopping": {"monitor": "valid_accuracy", "mode": "max", "patience": 3}, "engine": "eager"}},
]


@pytest.mark.parametrize("tree", CONFIGS, ids=lambda tree: str(tree)[:60])
def test_the_resolved_text_gives_an_equal_config(tree: dict[str, Any]) -> None:
    config = build_config(tree)
    text = to_toml(config)
    again = build_config(tomllib.loads(text))
    assert again == config
    assert to_toml(again) == text


def test_the_same_tree_builds_twice_and_is_not_changed() -> None:
    tree = CONFIGS[12]
    before = copy.deepcopy(tree)
    assert build_config(tree) == build_config(tree)
    assert tree == before
