"""Where the settings of several runs part: leaf by leaf, not section by section. Floor 15."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from netwright.config.calls import Call, parse_call
from netwright.config.schema import RunConfig
from netwright.errors import ConfigError

Difference = tuple[str, ...]  # the dotted path of a setting, and the text of each side


def settings_apart(configs: Sequence[RunConfig]) -> Iterator[Difference]:
    """Yield the settings that differ, each by the path that --set knows, with the text of each side."""
    yield from _apart("", [config.model_dump() for config in configs])


def _apart(path: str, values: Sequence[Any]) -> Iterator[Difference]:
    """Yield the leaves that differ below a path.

    Example:
        >>> list(_apart("training", [{"optimizer": "Adam(lr=0.1)", "epochs": 2}, {"optimizer": "Adam(lr=0.2)", "epochs": 2}]))
        [('training.optimizer.lr', '0.1', '0.2')]
        >>> list(_apart("model.layers", [["Linear(2)", "ReLU()"], ["Linear(2)"]]))
        [('model.layers', "['Linear(2)', 'ReLU()']", "['Linear(2)']")]
    """
    if all(value == values[0] for value in values):
        return
    parts = [_parts(value) for value in values]
    if any(part is None or part[0] != (parts[0] or ("",))[0] for part in parts):
        yield (path, *map(str, values))
        return
    inside = [part[1] for part in parts if part is not None]
    for name in dict.fromkeys(name for one in inside for name in one):
        yield from _apart(f"{path}.{name}".lstrip("."), [one.get(name) for one in inside])


def _parts(value: Any) -> tuple[Any, Mapping[str, Any]] | None:
    """Return what a value is, as far as it must be alike to be taken apart, and its parts by name; None for a leaf."""
    if isinstance(value, Mapping):
        return "section", {str(name): inner for name, inner in value.items()}
    if isinstance(value, list):
        return len(value), {str(place): inner for place, inner in enumerate(value)}
    call = _call(value) if isinstance(value, str) and value.endswith(")") else None
    return None if call is None or call.args else (call.name, call.keywords)


def _call(text: str) -> Call | None:
    """Return a text such as ``Adam(lr=0.1)`` taken apart; None where it is none."""
    try:
        return parse_call(text, "")
    except ConfigError:
        return None
