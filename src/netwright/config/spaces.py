"""What a hyperparameter may be, as text: ``log 1e-5..1e-1``, ``8..256``, ``0..1 step 0.1``, or a list of choices. Floor 1."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netwright.config.values import shown

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"(?P<log>log\s+)?(?P<low>{_NUMBER})\s*\.\.\s*(?P<high>{_NUMBER})(?:\s+step\s+(?P<step>{_NUMBER}))?")
_WHOLE = re.compile(r"[-+]?\d+")
WRITTEN = 'write for instance "log 1e-5..1e-1", "8..256", "0..1 step 0.1" or [32, 64, 128]'


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; whole ones where both ends are written so."""

    low: float
    high: float
    whole: bool = False
    log: bool = False
    step: float | None = None

    def ends(self) -> tuple[Any, ...]:
        """Return the least, a middle and the largest value."""
        if self.log:
            middle = math.sqrt(self.low * self.high)
        elif self.step is not None:
            middle = self.low + self.step * (round((self.high - self.low) / self.step) // 2)
        else:
            middle = (self.low + self.high) / 2
        found = (self.low, min(max(middle, self.low), self.high), self.high)
        return tuple(round(value) for value in found) if self.whole else found

    def size(self) -> float:
        """Return how many values there are, infinity where there is no grid."""
        if self.low == self.high:
            return 1
        if self.step is None:
            return self.high - self.low + 1 if self.whole else math.inf
        return round((self.high - self.low) / self.step) + 1

    def __str__(self) -> str:
        ends = f"{self._text(self.low)}..{self._text(self.high)}"
        return f"{'log ' if self.log else ''}{ends}{'' if self.step is None else f' step {self._text(self.step)}'}"

    def _text(self, value: float) -> str:
        return str(int(value)) if self.whole else str(value)


@dataclass(frozen=True)
class Choices:
    """One of several values: numbers, texts, truth values, or whole lists."""

    values: tuple[Any, ...]

    def ends(self) -> tuple[Any, ...]:
        """Return all values."""
        return self.values

    def size(self) -> float:
        """Return how many values there are."""
        return len(self.values)

    def labels(self) -> tuple[str | int | float | bool, ...]:
        """Return the values as scalars: a list as its JSON text."""
        return tuple(json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value for value in self.values)

    def __str__(self) -> str:
        return shown(list(self.values))


Parameter = Range | Choices


def read_parameter(value: Any) -> Parameter:
    """Read what one hyperparameter may be.

    Args:
        value: A text of a range, or a list of choices.

    Raises:
        ValueError: It cannot be sampled.

    Example:
        >>> read_parameter("log 1e-5..1e-1"), read_parameter("8..256").whole
        (Range(low=1e-05, high=0.1, whole=False, log=True, step=None), True)
    """
    if isinstance(value, list):
        return _choices(value)
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} came; expected a range or a list of choices; {WRITTEN}")
    found = _RANGE.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"{shown(value)} came; expected a range or a list of choices; {WRITTEN}")
    texts = [found[name] for name in ("low", "high", "step") if found[name] is not None]
    low, high, *rest = map(float, texts)
    whole, log, step = all(_WHOLE.fullmatch(text) for text in texts), found["log"] is not None, rest[0] if rest else None
    _refuse_empty(value, low, high, log, step)
    if step is not None:
        high = low + step * math.floor((high - low) / step + 1e-9)
        high = high if whole else float(f"{high:.12g}")
    return Range(low, high, whole, log, step)


def _refuse_empty(text: str, low: float, high: float, log: bool, step: float | None) -> None:
    """Refuse a range without a value.

    Raises:
        ValueError: What is wrong with it.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"{shown(text)} came; expected numbers a float can hold; make them smaller")
    if low > high:
        raise ValueError(f"{shown(text)} came; {low:g} is more than {high:g}; expected the smaller first; swap them")
    if log and low <= 0:
        raise ValueError(
            f"{shown(text)} came; log begins above 0; expected for instance log 1e-5..{high:g}; raise the first number"
        )
    if log and step is not None:
        raise ValueError(f"{shown(text)} came; log and step do not go together; expected one of them; leave one out")
    if step is not None and not 0 < step:
        raise ValueError(f"{shown(text)} came; expected a step above 0; make it larger")
    if step is not None and step > high - low:
        raise ValueError(
            f"{shown(text)} came; a step of {step:g} leaves one value; expected at most {high - low:g}; make it smaller"
        )


def _choices(values: list[Any]) -> Choices:
    """Read a list of choices.

    Raises:
        ValueError: An empty one, one value twice, or a value that no setting takes.
    """
    if not values:
        raise ValueError("an empty list came; expected choices such as [32, 64, 128]; write some")
    for value in values:
        if not isinstance(value, str | int | float | list) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{shown(value)} came among choices; expected numbers, texts, truth values or lists; mend it")
    told = [json.dumps(value) for value in values]
    if len(set(told)) < len(told):
        twice = next(value for value, text in zip(values, told, strict=True) if told.count(text) > 1)
        raise ValueError(f"{shown(twice)} came twice among choices; expected each once; leave one out")
    return Choices(tuple(values))


def flattened(space: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return a space by dotted paths; TOML reads dotted names without quotes as tables in tables.

    Example:
        >>> flattened({"training": {"optimizer": {"lr": "log 1e-4..1"}}, "data.batch_size": [32, 64]})
        {'training.optimizer.lr': 'log 1e-4..1', 'data.batch_size': [32, 64]}
    """
    found: dict[str, Any] = {}
    for name, value in space.items():
        where = f"{path}.{name}" if path else str(name)
        found |= flattened(value, where) if isinstance(value, Mapping) else {where: value}
    return found


def settings_of(point: Mapping[str, Any]) -> list[str]:
    """Return a point as texts of settings, those of whole lists before those inside them.

    Example:
        >>> settings_of({"model.layers.1.p": 0.5, "model.layers": ["Linear(8)", "Dropout()"]})
        ['model.layers=["Linear(8)", "Dropout()"]', 'model.layers.1.p=0.5']
    """
    return [f"{path}={_written(point[path])}" for path in sorted(point, key=lambda path: path.count("."))]


def _written(value: Any) -> str:
    """Return a value as TOML writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(name)} = {_written(held)}' for name, held in value.items())}}}"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def points(parameters: Sequence[Parameter]) -> float:
    """Return how many points a space has, infinity where a range has no grid.

    Example:
        >>> points([read_parameter("8..10"), read_parameter(["Adam()", "SGD(lr=0.1)"])])
        6.0
    """
    return math.prod(parameter.size() for parameter in parameters)
