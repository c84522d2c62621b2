"""What a run reads and gives, told for clients: content types, JSON schemas, an example, the fields of a form. Floor 17."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from netwright.data.array_preparation import ArrayPreparation
from netwright.data.column import Column
from netwright.data.columns import MISSING_LEVEL
from netwright.data.preparation import TablePreparation
from netwright.serving.bodies import IMAGE_ENDINGS, MOST_IMAGES, MOST_ROWS
from netwright.sources.cells import LARGEST
from netwright.sources.sequences import Raw
from netwright.trained.predicting import Predictor

SHOWN_LEVELS = 200  # categories that a form offers
MOST_SHOWN = 1024  # numbers in an example
MOST_COUNTED = 16  # numbers in a row, of which a body of the usual size holds more than the most rows
DIGITS = 4  # of typical numbers
SPECIAL = frozenset(r"\^$.|?*+()[]{}/")  # letters of patterns
PLAIN_CELLS = {
    "number": r"-?[0-9]{1,6}(\.[0-9]{1,6})?",
    "boolean": "(true|false)",
    "date": "20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])",
    "category": "[A-Za-z][A-Za-z0-9]{0,20}",
}
DAY_DIGITS = 10  # characters of 2024-01-31


@dataclass(frozen=True)
class Expected:
    """A run and what its requests hold."""

    run: Predictor

    @cached_property
    def kind(self) -> str:
        """``table`` (rows of columns), ``arrays`` (nested lists), ``images``, or ``steps`` (sequences, windows, texts)."""
        data, preparation = self.run.config.data, self.run.program.preparation
        if data.image_mode is not None:
            return "images"
        wide = data.join is not None or data.text is not None or data.of_steps
        if preparation.steps is not None or wide:
            return "steps"
        return "arrays" if preparation.encoder is None else "table"

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns that the network reads; empty for arrays and images."""
        encoder = self.run.program.preparation.encoder
        return () if encoder is None else encoder.used

    @cached_property
    def names(self) -> frozenset[str]:
        """Their names."""
        return frozenset(column.name for column in self.columns)

    @cached_property
    def modules(self) -> Mapping[str, ArrayPreparation]:
        """How each array is prepared, by name."""
        found = self.run.program.preparation.modules.items()
        return {name: module for name, module in found if isinstance(module, ArrayPreparation)}

    @cached_property
    def content_types(self) -> tuple[str, ...]:
        """The content types of bodies, without parameters."""
        if self.kind == "images":
            return (*IMAGE_ENDINGS, "multipart/form-data")
        return ("application/json",) if self.kind == "arrays" else ("application/json", "text/csv")

    @cached_property
    def hidden(self) -> tuple[tuple[str, str], ...]:
        """Paths that no message tells, and what stands for them."""
        folder, data = self.run.folder, self.run.config.data
        paths = [(str(folder.resolve()), "the run"), (str(folder), "the run"), (str(data.join or ""), "data.join")]
        return tuple((path, name) for path, name in paths if len(path) > 1)

    def notes(self, raw: Raw) -> Sequence[str]:
        """Return what was lost of images when they were read."""
        return getattr(raw, "notes", ()) if self.kind == "images" else ()

    @property
    def thresholds(self) -> bool:
        """Whether a threshold may be asked for."""
        outcome = self.run.program.outcome
        return outcome.task == "binary" and len(outcome.classes) == 2 and outcome.probabilities

    @property
    def intervals(self) -> bool:
        """Whether the network predicts numbers, which intervals are for."""
        return self.run.program.outcome.task == "regression"

    @cached_property
    def typical(self) -> dict[str, Any]:
        """A value of each column: means of the train rows in four digits, a known category; it is no row of the data."""
        found: dict[str, Any] = {}
        module = self.run.program.preparation.modules["table"] if self.columns else None
        if not isinstance(module, TablePreparation):
            return found
        fills = dict(zip(module.plain + module.dates, module.fill.tolist(), strict=True))
        for place, column in enumerate(self.columns):
            if column.kind == "number":
                found[column.name] = rounded(fills[place])
            elif column.kind == "boolean":
                found[column.name] = fills[place] >= 0.5
            elif column.kind == "date":
                found[column.name] = str(np.datetime64(0, "D") + int(fills[place]))[:DAY_DIGITS]
            else:
                found[column.name] = next((level for level in column.levels if level != MISSING_LEVEL), None)
        return found

    @cached_property
    def example(self) -> Any:
        """A body that the network answers; None where none is known."""
        if self.kind == "table":
            return {"rows": [self.typical]}
        if self.kind == "arrays" and sum(int(np.prod(module.shape)) for module in self.modules.values()) <= MOST_SHOWN:
            rows = {name: [_typical_array(module)] for name, module in self.modules.items()}
            return {"inputs": rows if len(rows) > 1 else next(iter(rows.values()))}
        return None

    def request_content(self) -> dict[str, Any]:
        """Return the content of a request body as OpenAPI describes it."""
        if self.kind == "images":
            binary = {"type": "string", "format": "binary"}
            form = {"type": "object", "properties": {"file": {"type": "array", "items": binary, "maxItems": MOST_IMAGES}}}
            return {**{name: {"schema": binary} for name in IMAGE_ENDINGS}, "multipart/form-data": {"schema": form}}
        found: dict[str, Any] = {"application/json": {"schema": self._json_schema()}}
        if self.example is not None:
            found["application/json"]["example"] = self.example
        if "text/csv" in self.content_types:
            found["text/csv"] = {"schema": {"type": "string"}}
            if self.typical and self.kind == "table":
                found["text/csv"] = {"schema": self._csv_schema(), "example": _csv(self.typical)}
        return found

    def _csv_schema(self) -> dict[str, Any]:
        """Return the schema of the plainest CSV, which JSON Schema can tell."""
        names = _csv(self.typical).split("\n")[0]
        header = "".join(f"\\{letter}" if letter in SPECIAL else letter for letter in names)
        line = ",".join(PLAIN_CELLS[column.kind] for column in self.columns)
        about = "Columns in any order, more columns, quoted and empty cells are read too."
        return {"type": "string", "pattern": f"^{header}\\n({line}\\n){{1,100}}$", "description": about}

    def _json_schema(self) -> dict[str, Any]:
        many: dict[str, Any] = {"type": "array", "minItems": 1, "maxItems": MOST_ROWS}
        if self.kind == "table":
            row = {
                "type": "object",
                "required": [column.name for column in self.columns],
                "properties": {column.name: _cell_schema(column) for column in self.columns},
            }
            return _only("rows", {**many, "items": row})
        if self.kind == "arrays":
            if sum(int(np.prod(module.shape)) for module in self.modules.values()) > MOST_COUNTED:
                del many["maxItems"]  # the size of the body bounds them
            parts = {name: {**many, "items": _array_schema(module)} for name, module in self.modules.items()}
            several = {"type": "object", "required": list(parts), "properties": parts, "additionalProperties": False}
            return _only("inputs", several if len(parts) > 1 else next(iter(parts.values())))
        cell = {"type": ["string", "number", "boolean", "null"]}
        return {
            "oneOf": [
                _only("rows", {**many, "items": {"type": "object", "additionalProperties": cell}}),
                _only("inputs", {**many, "items": {"type": "array"}}),
            ]
        }

    def reply_schema(self) -> dict[str, Any]:
        """Return the JSON schema of an answer."""
        found: dict[str, Any] = {"predictions": {"type": "array", "items": {}}}
        required = ["predictions"]
        if self.run.program.outcome.probabilities and self.run.program.outcome.classes:
            found["classes"] = {"type": "array", "items": {}}
            found["probabilities"] = {"type": "array", "items": {"type": ["array", "null"], "items": {}}}
            required += ["classes", "probabilities"]
        if self.intervals:
            found |= {"low": {"type": "array", "items": {}}, "high": {"type": "array", "items": {}}}
        found["notes"] = {"type": "array", "items": {"type": "string"}}
        return {"type": "object", "required": required, "properties": found, "additionalProperties": False}

    def form(self) -> dict[str, Any]:
        """Return what the page makes its fields of."""
        run = self.run
        return {
            "name": str(run.record.get("name") or run.folder.name),
            "kind": self.kind,
            "task": run.program.outcome.task,
            "target": list(run.program.outcome.names),
            "columns": [
                {
                    "name": column.name,
                    "kind": column.kind,
                    "levels": _levels(column),
                    "typical": self.typical.get(column.name),
                }
                for column in (self.columns if self.kind == "table" else ())
            ],
            "example": self.example,
            "intervals": self.intervals,
            "content_types": list(self.content_types),
        }


def rounded(value: float) -> float:
    """Return a number in four digits, so that it tells no single row.

    Example:
        >>> rounded(1234.567), rounded(0.012345), rounded(3.0)
        (1235.0, 0.01235, 3.0)
    """
    return float(f"{value:.{DIGITS}g}")


def _levels(column: Column) -> list[str]:
    return [level for level in column.levels if level != MISSING_LEVEL][:SHOWN_LEVELS]


def _only(key: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [key], "properties": {key: schema}, "additionalProperties": False}


def _number() -> dict[str, Any]:
    return {"type": ["number", "null"], "minimum": -LARGEST, "maximum": LARGEST}


def _cell_schema(column: Column) -> dict[str, Any]:
    """Return the schema of a cell; null is a missing value."""
    if column.kind == "number":
        return _number()
    if column.kind == "boolean":
        return {"type": ["boolean", "null"]}
    if column.kind == "date":
        return {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}], "description": "T12:00:00 may follow"}
    known = ", ".join(_levels(column)[:12])
    return {"type": ["string", "number", "boolean", "null"], "description": f"seen in training: {known}; others are told"}


def _array_schema(module: ArrayPreparation) -> dict[str, Any]:
    """Return the schema of one row of an array."""
    found: dict[str, Any] = _number()
    if module.mode == "codes":
        found = {"type": "integer", "minimum": 0, **({} if module.limit is None else {"maximum": module.limit - 1})}
    for size in reversed(module.shape):
        found = {"type": "array", "minItems": size, "maxItems": size, "items": found}
    return found


def _typical_array(module: ArrayPreparation) -> Any:
    """Return a row of means, in the shape of raw rows."""
    if module.mode == "codes":
        return np.zeros(module.shape, dtype=np.int64).tolist()
    mean = np.broadcast_to(module.mean.numpy(), module.output_shape)
    if module.moved(module.mean.new_zeros(1, *module.shape)).ndim > len(module.shape) + 1:
        mean = mean[0]
    elif tuple(mean.shape) != tuple(module.shape):
        mean = np.moveaxis(mean, 0, -1)
    return np.vectorize(rounded, otypes=[float])(mean).tolist()


def _csv(row: Mapping[str, Any]) -> str:
    """Return a row as CSV with its header."""
    import csv
    import io

    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(row)
    writer.writerow(
        ["" if value is None else str(value).lower() if isinstance(value, bool) else value for value in row.values()]
    )
    return sink.getvalue()
