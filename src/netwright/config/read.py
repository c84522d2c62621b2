"""Reads TOML, a dictionary or keywords into `RunConfig`, and writes it back as text.

All problems come at once, each with its path and the nearest known key. ``--set a.b=c`` reaches into call texts,
such as ``training.optimizer.lr`` and ``model.layers.6.p``. Floor 1.
"""

from __future__ import annotations

import ast
import errno
import glob
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ValidationError

from netwright.config import signatures
from netwright.config.calls import CONTAINERS, OBJECT, Call, layer_texts
from netwright.config.data_schema import DataConfig
from netwright.config.hints import advice
from netwright.config.problems import problems
from netwright.config.schema import (
    CheckpointConfig,
    ChecksConfig,
    EvaluationConfig,
    ModelConfig,
    RunConfig,
    call_problems,
)
from netwright.config.spaces import flattened, settings_of
from netwright.config.training_schema import TrainingConfig
from netwright.config.tune_schema import TuneConfig
from netwright.config.values import is_address, refuse_objects, shortened, shown
from netwright.errors import ConfigError

LARGEST_FILE = 1_000_000  # bytes; a config is written by hand
LARGEST_RESOLVED = 64_000_000  # bytes; the config of a run folder may list row numbers
SECTIONS: dict[str, type[BaseModel]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "training": TrainingConfig,
    "checkpoint": CheckpointConfig,
    "checks": ChecksConfig,
    "evaluation": EvaluationConfig,
    "tune": TuneConfig,
}
PATH_KEYS = (
    *(("data", key) for key in ("source", "train", "valid", "test", "cache")),
    ("model", "module"),
    ("model", "weights"),
)


def read_file(path: Path) -> dict[str, Any]:
    """Read a TOML file into a dictionary whose file names are absolute.

    Raises:
        ConfigError: The file is missing, too large or no TOML.
    """
    try:
        if path.exists() and not path.is_dir() and not path.is_file():  # a pipe could wait for ever
            raise OSError(errno.EINVAL, "no plain file")
        ours = path.name == "config.toml" and (path.parent / "run.json").is_file()
        size, largest = path.stat().st_size, LARGEST_RESOLVED if ours else LARGEST_FILE
        if size > largest:
            raise ConfigError(f"{path}: {size} bytes came; a config has at most {largest}; shorten it")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; expected a readable TOML file; check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is no UTF-8; expected a UTF-8 text; save it as UTF-8") from error
    try:
        tree = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: no TOML ({error}); expected lines such as epochs = 20; mend that line") from None
    return absolute_paths(tree, path.parent)


def absolute_paths(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the tree with relative file names taken from ``folder``; other values are untouched."""
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in tree.items()}
    for section, key in PATH_KEYS:
        inner = result.get(section)
        if isinstance(inner, dict) and isinstance(inner.get(key), str):
            inner[key] = _absolute(inner[key], folder)
    data = result.get("data")
    split = data.get("split") if isinstance(data, dict) else None
    if isinstance(data, dict) and isinstance(split, dict) and isinstance(split.get("file"), str):
        data["split"] = {**split, "file": _absolute(split["file"], folder)}
    tune = result.get("tune")
    if isinstance(tune, dict) and isinstance(tune.get("space"), dict):
        tune["space"] = {path: _absolute_choices(path, found, folder) for path, found in flattened(tune["space"]).items()}
    return result


def _absolute_choices(path: str, found: Any, folder: Path) -> Any:
    """Return choices for a setting that names a file, taken from a folder; others are untouched."""
    if not isinstance(found, list) or tuple(path.split(".")) not in PATH_KEYS:
        return found
    return [_absolute(value, folder) if isinstance(value, str) else value for value in found]


def _absolute(name: str, folder: Path) -> str:
    """Return a file name or pattern taken from a folder; names of sets and objects, addresses and "none" are untouched."""
    if name == "none" or name.startswith(("sklearn:", OBJECT)) or is_address(name):
        return name
    if glob.has_magic(name) and not (folder / name).exists():
        folder = Path(glob.escape(str(folder.absolute())))
    return os.path.abspath(folder / os.path.expanduser(name))


def from_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Sort keywords such as ``epochs=20`` and ``target="price"`` into their sections.

    A keyword that names a section (``data={...}``) is that section.

    Raises:
        ConfigError: A keyword is no setting.
    """
    tree: dict[str, Any] = {}
    for name, value in keywords.items():
        owner = [section for section, model in SECTIONS.items() if name in model.model_fields]
        if name in SECTIONS:
            merge(tree, {name: value})
        elif owner:
            merge(tree, {owner[0]: {name: value}})
        else:
            known = [*SECTIONS, *(field for model in SECTIONS.values() for field in model.model_fields)]
            raise ConfigError(f"{name}={shown(value)}: no known setting; {advice(name, value, 'keyword', known)}")
    return tree


def as_settings(keywords: Mapping[str, Any]) -> list[str]:
    """Return keywords as the texts of ``--set``.

    Raises:
        ConfigError: See `from_keywords`; a value that no text can hold.

    Example:
        >>> as_settings({"epochs": 50, "checkpoint": {"every_steps": 100}})
        ['training.epochs=50', 'checkpoint.every_steps=100']
    """
    found = []
    for path, value in flattened(_plain(from_keywords(keywords))).items():
        try:
            found += settings_of({path: "none" if value is None else value})
        except (TypeError, ValueError):
            raise ConfigError(
                f"{path}: {shown(value)} came; expected a number, a text, true, false or a list; write one"
            ) from None
    return found


def merge(tree: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Write ``changes`` over ``tree`` in place, section by section."""
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            merge(tree[key], value)
        else:
            tree[key] = dict(value) if isinstance(value, Mapping) else value


def _as_python(text: str) -> Any:
    """Return what Python reads and TOML does not, numbers such as ``.5`` and tuples such as ``(3, 5)``; else the text."""
    text = text.strip() or text
    if not re.fullmatch(r"\([-+0-9.eE, ]+\)|[-+]?(\.\d+|\d+\.)([eE][-+]?\d+)?", text):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def apply_setting(tree: dict[str, Any], text: str) -> None:
    """Apply one ``a.b=c`` in place; ``c`` is read as TOML, else as a plain text.

    Raises:
        ConfigError: The text has no ``=`` or its path leads nowhere.
    """
    path, equals, raw = text.partition("=")
    keys = [key.strip() for key in path.split(".")]
    text = shortened(text)
    if not equals or not all(keys):
        raise ConfigError(f"--set {text}: no setting; expected PATH=VALUE; write for instance training.epochs=50")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = _as_python(raw)
    except RecursionError:
        raise ConfigError(
            f"--set {shortened(path)}: a value nested too deeply came; expected a number, a text or a flat list"
        ) from None
    if keys[0] not in SECTIONS:
        hint = advice(keys[0], value, "set", list(SECTIONS), "".join(f".{key}" for key in keys[1:]))
        raise ConfigError(f"--set {text}: {keys[0]} is no section; expected a whole path such as training.epochs; {hint}")
    _set_at(tree, keys, value, text)


def _set_at(tree: dict[str, Any], keys: list[str], value: Any, text: str) -> None:
    where: Any = tree
    for depth, key in enumerate(keys[:-1]):
        if depth == 1 and key == "optimizer" and keys[0] == "training":
            where.setdefault("optimizer", f"{signatures.USUAL}()")
        if depth == 1 and key in ("layers", "augmentation") and key not in where:
            path = ".".join(keys[:2])
            raise ConfigError(f"--set {text}: the config has no {path}; expected a list to change; write it first")
        if depth == 1 and key in ("optimizer", "loss", "layers", "augmentation", "schedule", "average"):
            written = where.get(key)
            if key in ("layers", "augmentation") and isinstance(written, str):
                written = layer_texts(written, ".".join(keys[:2]))
            where[key] = _set_in_call(written, keys[2:], value, ".".join(keys[:2]), text)
            return
        if key == "early_stopping" and where.get(key) in (True, "none", None):
            where[key] = {}
        held = where.get(key)
        if isinstance(held, list) and all(isinstance(one, dict) for one in held):
            where[key] = _set_in_tables(held, keys[depth + 1 :], value, ".".join(keys[: depth + 1]), text)
            return
        if not isinstance(where.get(key, {}), dict):
            raise ConfigError(f"--set {text}: {'.'.join(keys[: depth + 1])} is no section; check the path")
        where = where.setdefault(key, {})
    where[keys[-1]] = value


def _set_in_tables(tables: list[Any], keys: list[str], value: Any, where: str, setting: str) -> list[Any]:
    """Return a list of tables with one value of one of them changed."""
    if len(keys) != 2 or not keys[0].isdecimal() or int(keys[0]) >= len(tables):
        there = f"tables 0 to {len(tables) - 1}" if tables else "no table"
        raise ConfigError(f"--set {setting}: {where} has {there}; expected {where}.0.NAME; check the path")
    place = int(keys[0])
    return [*tables[:place], {**tables[place], keys[1]: value}, *tables[place + 1 :]]


def _set_in_call(text: Any, keys: list[str], value: Any, where: str, setting: str) -> Any:
    """Return a call text, or a list of them, with one argument changed."""
    if isinstance(text, list):
        if not keys[0].isdecimal() or int(keys[0]) >= len(text):
            held = "layers" if where == "model.layers" else "transforms"
            raise ConfigError(f"--set {setting}: {where} has {held} 0 to {len(text) - 1}; {keys[0]!r} is none; check it")
        place = int(keys[0])
        changed: Any = value
        if len(keys) > 1:
            changed = _set_in_call(text[place], keys[1:], value, f"{where}.{place}", setting)
        return [*text[:place], changed, *text[place + 1 :]]
    if not isinstance(text, str):
        raise ConfigError(f"--set {setting}: {where} is not written in the config; write it first")
    call = signatures.read_call(text, _registry(where), where)
    return str(_set_argument(call, keys, value, where, setting))


def _registry(where: str) -> signatures.Registry:
    kinds = {
        "training.optimizer": signatures.optimizers,
        "training.loss": signatures.losses,
        "training.schedule": signatures.schedulers,
        "training.average": signatures.averages,
    }
    return signatures.transforms() if where.startswith("data.augmentation.") else kinds.get(where, signatures.layers)()


def _set_argument(call: Call, keys: list[str], value: Any, where: str, setting: str) -> Call:
    if call.name in CONTAINERS:
        children = call.children()
        if keys == ["dim"] and call.name == "Parallel":
            return call.with_keyword("dim", value)
        if not keys[0].isdecimal() or int(keys[0]) >= len(children) or len(keys) < 2:
            raise ConfigError(f"--set {setting}: {where} holds layers 0 to {len(children) - 1}; check the path")
        place = int(keys[0])
        children[place] = _set_argument(children[place], keys[1:], value, f"{where}.{place}", setting)
        return Call(call.name, (children,), call.kwargs)
    torchs = (signatures.layers, signatures.optimizers, signatures.losses, signatures.schedulers)
    kinds = (*torchs, signatures.transforms, signatures.averages)
    registry = next((kind() for kind in kinds if kind().parameters_of(call.name)), None)
    if registry is None or len(keys) != 1:
        raise ConfigError(f"--set {setting}: {where} is {call}; expected one of its arguments; check the path")
    changed = signatures.named(call, registry, where).with_keyword(keys[0], value)
    problem = registry.problem(changed, where)
    if problem:
        raise ConfigError(f"--set {setting}: {problem}")
    return changed


def build_config(tree: Mapping[str, Any]) -> RunConfig:
    """Check a dictionary of settings and freeze it.

    Args:
        tree: Sections with their settings; None means "none" where a setting may be off.

    Raises:
        ConfigError: All problems in one line, each with its path.
    """
    refuse_objects(tree)
    plain = _plain(tree)
    try:
        config = RunConfig.model_validate(plain)
    except ValidationError as error:
        sections = map(plain.get, ("model", "training", "data"))
        model, training, data = (part if isinstance(part, dict) else {} for part in sections)
        texts = call_problems(model.get("layers"), training, data.get("augmentation"))
        found = problems(error, plain)
        raise ConfigError("; ".join([*found, *(text for text in texts if text not in found)])) from None
    found = config.call_problems()
    if found:
        raise ConfigError("; ".join(found))
    return config


def _plain(value: Any) -> Any:
    """Return Python values as TOML would hold them: tuples as lists, paths and NumPy numbers as plain ones."""
    if isinstance(value, Mapping):
        result = {str(key): _plain(item) for key, item in value.items()}
        return {
            key: item for key, item in result.items() if item is not None or key in ("preparation", "early_stopping")
        } | {key: "none" for key in ("preparation", "early_stopping") if key in result and result[key] is None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def to_toml(config: RunConfig) -> str:
    """Return the settings as TOML; reading the text gives an equal config."""
    return tomli_w.dumps(config.model_dump(exclude_none=True), multiline_strings=False)


def written_toml(config: RunConfig) -> str:
    """Return the settings that were written as TOML; what was left out stays automatic where the text is read."""
    return tomli_w.dumps(config.model_dump(exclude_unset=True, exclude_none=True), multiline_strings=False)


def json_schema() -> str:
    """Return the JSON Schema of the settings, for editors."""
    return json.dumps(RunConfig.model_json_schema(), indent=1)
