"""Where a setting lives that was written in the wrong place: ``lr``, ``patience``, ``stratify`` and their like. Floor 1."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, get_origin

from pydantic import BaseModel

from netwright.config import signatures
from netwright.config.schema import RunConfig
from netwright.config.values import shortened, shown
from netwright.errors import did_you_mean, nearest

ALIASES = {
    "learning_rate": "lr", "dropout": "p", "batch": "batch_size", "batches": "batch_size", "early_stop": "early_stopping",
    "stratified": "stratify", "groups": "group", "random_state": "seed", "random_seed": "seed", "max_epochs": "epochs",
    **dict.fromkeys(("scheduler", "lr_scheduler", "lr_schedule"), "schedule"), "averaging": "average",
    "n_epochs": "epochs", "num_epochs": "epochs", "criterion": "loss", "features": "inputs", "label": "target",
    **dict.fromkeys(("gradient_clip_val", "gradient_clip", "grad_clip", "clip_norm", "clipnorm", "max_norm", "max_grad_norm"),
                    "clip_grad_norm"), "clipvalue": "clip_grad_value", "clip_value": "clip_grad_value", "sam": "sharpness",
    "l1_penalty": "l1", "l1_lambda": "l1", "l2": "weight_decay", "l2_penalty": "weight_decay", "param_groups": "parameter_groups",
    "amp": "precision", "mixed_precision": "precision", "fp16": "precision", "dtype": "precision",
    **dict.fromkeys(("test_size", "test_share", "test_split"), "split.test"),
    **dict.fromkeys(("val", "validation", "valid_size", "valid_share", "valid_split", "validation_split", "val_split",
                     "validation_size", "val_size"), "split.valid"),
}  # fmt: skip
PLACES = {"split.test": ["data.split.test"], "split.valid": ["data.split.valid"]}


def section_of(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the section under a key; None where the key holds a value."""
    field = model.model_fields.get(key)
    if field is None:
        return None
    arms = [field.annotation, *getattr(field.annotation, "__args__", ())]
    return next((arm for arm in arms if isinstance(arm, type) and issubclass(arm, BaseModel)), None)


@functools.cache
def _places() -> dict[str, list[str]]:
    """Return the dotted paths of every setting by its last key."""
    found: dict[str, list[str]] = {}

    def walk(model: type[BaseModel], path: str) -> None:
        for name in model.model_fields:
            if path:
                found.setdefault(name, []).append(f"{path}{name}")
            inner = section_of(model, name)
            if (
                inner is not None and get_origin(model.model_fields[name].annotation) is not list
            ):  # no path leads into a list
                walk(inner, f"{path}{name}.")

    walk(RunConfig, "")
    return found


def _optimizers_with(argument: str) -> list[str]:
    known = signatures.optimizers().known
    return [name for name, parameters in known.items() if argument in dict(parameters)]


def _raw(value: Any) -> str:
    """Return a value as it is written after --set."""
    if isinstance(value, bool):
        return str(value).lower()
    return shortened(value) if isinstance(value, str) else shown(value)


def _spelled(path: str, value: Any, style: str) -> str:
    """Return how a setting at a path is written: with --set, as a keyword of Python, or in a file."""
    if style == "set":
        return f"{path}={_raw(value)}"
    if style == "file":
        return path
    _, key, *deeper = path.split(".")
    return f'{key}={{"{deeper[0]}": {shown(value)}}}' if deeper else f"{key}={shown(value)}"


def advice(name: str, value: Any, style: str, known: Sequence[str] = (), rest: str = "") -> str:
    """Say where a setting of that name lives, or which known name resembles it.

    Args:
        name: The key that is not known where it was written.
        value: What was to be set.
        style: ``set`` for --set, ``keyword`` for Python, ``file`` for TOML and dictionaries.
        known: Keys that are known where it was written; they are suggested before others.
        rest: What follows the name in a dotted path, such as ``.patience``.

    Returns:
        What to do, such as ``write training.epochs``.
    """
    meant = ALIASES.get(name.lower(), name.lower())
    if meant in ("sample_weight", "sample_weights", "weight_column"):
        return "class_weight weighs classes; rows weigh more in fit(X, y, sample_weight) of NetClassifier and NetRegressor alone"
    if meant in known:
        return f"did you mean {meant}?"
    places = PLACES.get(meant) or _places().get(meant)
    if places:
        there = "write " + " or ".join(_spelled(place + rest, value, style) for place in places)
        parts = [key for key in known if meant in key.split("_")]  # such as every_seconds
        return f"did you mean {' or '.join(parts)}? Else {there}" if parts else there
    if meant == "p":
        text = '"Dropout(0.5)" in layers' if style != "set" else ""
        path = "model.layers.N.p, where N is the place of the Dropout layer"
        return f"write {text}, or --set {path}" if text else f"write {path}"
    takers = _optimizers_with(meant)
    if takers:
        if style == "set":
            return f"write training.optimizer.{meant}={_raw(value)}"
        text = f"{'Adam' if 'Adam' in takers else 'SGD' if 'SGD' in takers else takers[0]}({meant}={shown(value)})"
        if style == "keyword":
            return f'write optimizer="{text}"'
        return f'write optimizer = "{text}" under [training], or --set training.optimizer.{meant}={_raw(value)}'
    return _resembling(name, style, known)


def _resembling(name: str, style: str, known: Sequence[str]) -> str:
    """Name the nearest key, first of those known there, then of all settings."""
    if nearest(name, known):
        return did_you_mean(name, known)
    anywhere = nearest(name, _places(), 2) if len(name) > 1 else []
    if anywhere:
        paths = [_places()[key][0] if style != "keyword" else _places()[key][0].split(".")[1] for key in anywhere]
        return f"did you mean {' or '.join(dict.fromkeys(paths))}?"
    return did_you_mean(name, known)
