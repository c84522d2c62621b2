"""What pydantic found wrong, in the words of a user: path, what came, what was expected, what to do. Floor 1."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from netwright.config.hints import advice, section_of
from netwright.config.schema import RunConfig
from netwright.config.values import shortened, shown
from netwright.errors import nearest

SECTION_EXAMPLES = {
    "DataConfig": '{ source = "file.csv", target = "price" }',
    "SplitConfig": "{ test = 0.2, valid = 0.2 }",
    "PreparationConfig": '{ numbers = "quantile" }',
    "ModelConfig": '{ layers = ["Linear(64)", "ReLU()", "Linear()"] }',
    "TrainingConfig": "{ epochs = 20 }",
    "EarlyStoppingConfig": "{ patience = 20 }",
    "TuneConfig": '{ trials = 20, space = { "training.optimizer.lr" = "log 1e-5..1e-1" } }',
    "UnfreezeConfig": '{ epoch = 3, parameters = ["4"] }',
}
WHOLE_NUMBERS = {
    "epochs": 20,
    "steps": 1000,
    "batch_size": 64,
    "seed": 0,
    "threads": 4,
    "patience": 20,
    "rare": 5,
    "trials": 20,
}
MOST_ITEMS = 3  # problems told of the entries of one list
TYPES = {  # pydantic's name of a problem -> what was expected, what to do
    "string_type": ("a text", "write it in quotes"),
    "bool_type": ("true or false", "write it without quotes"),
    "list_type": ("a list", 'write it in brackets, such as ["a", "b"]'),
    "dict_type": ("names with their values", 'write for instance { age = "number" }'),
    "float_type": ("a number", "write it without quotes, such as 0.2"),
}
BOUNDS = {
    "greater_than_equal": ("at least", "ge", "larger"),
    "greater_than": ("more than", "gt", "larger"),
    "less_than": ("less than", "lt", "smaller"),
    "less_than_equal": ("at most", "le", "smaller"),
}


@dataclass(frozen=True)
class _Finding:
    """One problem: what came, or the whole message where ``expected`` is empty."""

    came: str
    expected: str = ""
    todo: str = ""


def problems(error: ValidationError, tree: Any) -> list[str]:
    """Return one text per problem: path, what came, what was expected, what to do.

    Args:
        error: Of `RunConfig`.
        tree: The settings it was given.
    """
    found: dict[tuple[str, ...], list[_Finding]] = {}
    for problem in error.errors(include_url=False):
        path = tuple(_path(problem["loc"], tree))
        found.setdefault(path, []).append(_finding(problem, path))
    told, alike = [], dict.fromkeys(found, 0)
    for path, findings in found.items():
        deeper = any(other[: len(path)] == path and len(other) > len(path) for other in found)
        if deeper and all(finding.expected for finding in findings):
            continue  # another arm of a union: the problem inside says it better
        where = ".".join(shortened(key) for key in path) or "config"
        if path and path[-1].isdecimal():
            alike[path[:-1]] = alike.get(path[:-1], 0) + 1
            if alike[path[:-1]] > MOST_ITEMS:
                continue
        told.append(f"{where}: {_worded(findings)}")
    more = [(path, count - MOST_ITEMS) for path, count in alike.items() if count > MOST_ITEMS]
    return told + [f"{'.'.join(path)}: {count} more entries like these came" for path, count in more]


def _worded(findings: Sequence[_Finding]) -> str:
    """Return the problems of one setting as one message."""
    whole = [finding.came for finding in findings if not finding.expected]
    if whole:
        return " or ".join(dict.fromkeys(whole))
    sections = [finding for finding in findings if finding.expected.startswith("a section")]
    kept = sections or list(findings)
    expected = " or ".join(dict.fromkeys(finding.expected for finding in kept))
    return f"{kept[0].came} came; expected {expected}; {kept[0].todo}"


def _finding(problem: Mapping[str, Any], path: Sequence[str]) -> _Finding:
    kind, came = problem["type"], shown(problem["input"])
    context: Mapping[str, Any] = problem.get("ctx") or {}
    key = path[-1] if path else ""
    if kind == "extra_forbidden":
        return _Finding(f"unknown key; {advice(key, problem['input'], 'file', _known_keys(path[:-1]))}")
    if kind == "value_error":
        return _Finding(str(context["error"]))
    if kind in ("model_type", "model_attributes_type"):
        off = ' or "none"' if key in ("preparation", "early_stopping") else ""
        example = SECTION_EXAMPLES[context["class_name"]]
        return _Finding(came, f"a section of settings such as {example}{off}", "write names with their values")
    if kind == "literal_error":
        return _choice(problem["input"], context["expected"], came, path)
    if kind in BOUNDS:
        words, bound, change = BOUNDS[kind]
        return _Finding(came, f"{words} {context[bound]:g}", f"make it {change}")
    if kind.startswith("int_"):
        example = f"write for instance {key} = {WHOLE_NUMBERS[key]}" if key in WHOLE_NUMBERS else "write it as 20 is"
        return _Finding(came, "a whole number", example)
    if kind == "string_type" and path[0] == "data" and len(path) == 2 and key in ("train", "valid", "test"):
        return _Finding(came, "a file name", f"for a share or a number of rows write data.split.{key}")
    if tuple(path) == ("data", "split", "train") and isinstance(problem["input"], int | float):
        rest = "row numbers, or the name of an array or a column"
        return _Finding(came, rest, "leave train out: it is the rows that valid and test leave")
    if kind in ("list_type", "string_type") and tuple(path[:2]) == ("model", "layers"):
        return _Finding(
            came,
            "layers such as Linear(64)" if kind == "list_type" else "a layer such as Linear(64)",
            'write layers = ["Linear(64)", "ReLU()", "Linear()"]',
        )
    if kind == "list_type" and key == "image_size":
        return _Finding(came, "height and width", "write for instance [64, 64]")
    if kind in ("list_type", "string_type") and "metrics" in path and callable(problem["input"]):
        return _Finding(came, "functions by name", "write metrics={name: function}")
    if kind in TYPES:
        return _Finding(came, *TYPES[kind])
    return _Finding(f"{came} came; {problem['msg'][:1].lower()}{problem['msg'][1:]}")


def _choice(value: Any, expected: str, came: str, path: Sequence[str]) -> _Finding:
    """Return the problem of a text that is none of the known ones, with the nearest of them."""
    choices = re.findall(r"'([^']*)'", expected)
    text = value.strip().lower() if isinstance(value, str) else ""
    close = nearest(text, choices) or [choice for choice in choices if len(text) > 1 and choice.lower().startswith(text)]
    if path and path[-1] == "task" and text.startswith("class"):
        close = ["binary", "multiclass"]
    todo = f"did you mean {' or '.join(repr(choice) for choice in close)}?" if close else "write one of these"
    return _Finding(came, expected, todo)


def _path(location: Sequence[Any], tree: Any) -> list[str]:
    """Return the keys of a problem without the names pydantic adds for the arms of a union."""
    path: list[str] = []
    for part in location:
        if isinstance(tree, dict):
            if part not in tree:
                continue
            tree = tree[part]
        elif isinstance(tree, list) and isinstance(part, int):
            tree = tree[part]
        else:
            continue
        path.append(str(part))
    return path


def _known_keys(path: Sequence[str]) -> list[str]:
    model: type[BaseModel] = RunConfig
    for key in path:
        model = section_of(model, key) or model
    return list(model.model_fields)
