"""From what clients asked to what they get: many questions, few calls of the network, each answer its own. Floor 17."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from netwright.errors import NetwrightError, out_of_memory
from netwright.rows import new_rows
from netwright.serving.bodies import RefusedError, arrays_of, csv_of, images_of, only_value, read_json, steps_of, table_of
from netwright.serving.expectation import Expected
from netwright.sources import labels, opening
from netwright.sources.arrays import Arrays
from netwright.sources.sequences import Raw, Sequences
from netwright.sources.tables import Table
from netwright.trained.calibrating import checked_threshold
from netwright.trained.predicting import Wanted, columns_of

Floats = npt.NDArray[np.float64]
PROBABILITY = "probability_"


@dataclass(frozen=True)
class Question:
    """What one request asks.

    Args:
        body: As it came.
        content_type: Of the body; one that `Expected.content_types` holds.
        threshold: Of two classes: from which probability on the second is predicted.
        interval: Of numbers: whether ``low`` and ``high`` are asked for.
    """

    body: bytes
    content_type: str
    threshold: float | None = None
    interval: bool = False


@dataclass(frozen=True)
class Reply:
    """An answer: HTTP status, JSON, and the number of rows that it predicts."""

    status: int
    body: bytes
    rows: int = 0


@dataclass
class _Case:
    """A question whose rows were read."""

    place: int
    question: Question
    raw: Raw
    unread: Sequence[str]


def refusal(status: int, message: str) -> Reply:
    """Return an error as a reply: one line under the key ``error``."""
    return Reply(status, json.dumps({"error": " ".join(message.split())}).encode())


@final
class Answerer:
    """Answers questions with a run; one thread calls it at a time.

    Args:
        expected: The run, and what it reads.
        on_bug: Told the number and the error where something fails that should not.
    """

    def __init__(self, expected: Expected, on_bug: Callable[[str, BaseException], None]) -> None:
        self._expected, self._run, self._on_bug = expected, expected.run, on_bug
        self._hidden = expected.hidden

    def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Return the reply to each question, in their order; a bad one does not touch the others."""
        replies: list[Reply | None] = [None] * len(questions)
        cases = []
        for place, question in enumerate(questions):
            try:
                raw, unread = self._read(question)
                checked_threshold(self._run.program, question.threshold)
                cases.append(_Case(place, question, raw, unread))
            except Exception as error:  # told to its sender alone
                replies[place] = self._failed(error)
        for group in _groups(cases):
            for case, reply in zip(group, self._together(group), strict=True):
                replies[case.place] = reply
        return [reply if reply is not None else refusal(500, "no answer") for reply in replies]

    def _read(self, question: Question) -> tuple[Raw, Sequence[str]]:
        """Return the rows of a question and the names that the network does not read."""
        form, run = self._expected, self._run
        if form.kind == "images":
            return images_of(question.body, question.content_type, run), ()
        if question.content_type.startswith("text/csv"):
            table = csv_of(question.body, run)
            if form.kind == "steps":
                return new_rows.read(run.config, run.program, table.columns), ()
            known = [name for name in table.names if name in form.names]
            if len(known) < len(form.names):
                return table, ()  # the preparation tells which is missing
            unread = [name for name in table.names if name not in form.names and name not in run.program.outcome.names]
            return Table(table.columns.select(known), table.origins), unread
        tree = read_json(question.body)
        if form.kind == "table":
            return table_of(only_value(tree, "rows"), form.columns)
        if form.kind == "arrays":
            return arrays_of(only_value(tree, "inputs"), form.modules), ()
        return new_rows.read(run.config, run.program, steps_of(tree, form.columns)), ()

    def _together(self, group: Sequence[_Case]) -> list[Reply]:
        """Return the replies to questions whose rows are of one form: one call, or one each where that fails."""
        try:
            raw = _joined([case.raw for case in group])
            each = self._run.each(raw)
            unknown = any(self._unknown(raw))
        except Exception as error:  # one of them alone may be at fault
            if len(group) == 1:
                return [self._failed(error)]
            return [reply for case in group for reply in self._together([case])]
        replies, start = [], 0
        for case in group:
            count = self._outputs_of(case.raw)
            try:
                replies.append(self._reply(case, each[:, start : start + count], unknown))
            except Exception as error:
                replies.append(self._failed(error))
            start += count
        return replies

    def _outputs_of(self, raw: Raw) -> int:
        """Return the number of predictions of some rows: one each, or one for each step."""
        return int(raw.lengths.sum()) if self._run.program.per_step and isinstance(raw, Sequences) else raw.rows

    def _unknown(self, raw: Raw) -> list[str]:
        return new_rows.remarks(self._run.program, raw)

    def _reply(self, case: _Case, each: Floats, unknown: bool) -> Reply:
        """Return what a network gave as the reply to one question."""
        outcome = self._run.program.outcome
        columns = columns_of(self._run, each, Wanted(case.question.threshold, case.question.interval))
        finite = np.asarray(np.isfinite(each).all(axis=(0, *range(2, each.ndim))))
        notes = self._unknown(case.raw) if unknown else list(self._expected.notes(case.raw))
        notes += [f"columns not used: {', '.join(map(repr, case.unread))}"] if case.unread else []
        if not finite.all():
            notes.append(f"{int((~finite).sum())} prediction(s) are null: the network gives no finite number there")
        tree: dict[str, Any] = {"predictions": _values(columns, "prediction", finite)}
        if outcome.probabilities and outcome.classes:
            tree["classes"] = [plain(label) for label in outcome.classes]
            shares = [columns[name].tolist() for name in columns if name.startswith(PROBABILITY)]
            tree["probabilities"] = [
                list(row) if ok else None for row, ok in zip(zip(*shares, strict=True), finite, strict=True)
            ]
        if case.question.interval:
            tree |= {word: _values(columns, word, finite) for word in ("low", "high")}
        if self._run.program.per_step and isinstance(case.raw, Sequences):
            ends = np.cumsum(case.raw.lengths).tolist()
            cuts = list(zip([0, *ends[:-1]], ends, strict=True))
            tree = {
                name: value if name == "classes" else [value[start:end] for start, end in cuts]
                for name, value in tree.items()
            }
        if notes:
            tree["notes"] = [self._told(note) for note in notes]
        return Reply(200, json.dumps(tree, allow_nan=False, ensure_ascii=False).encode(), case.raw.rows)

    def _told(self, message: str) -> str:
        """Return a message without the paths that no message tells."""
        for path, name in self._hidden:
            message = message.replace(path, name)
        return message

    def _failed(self, error: Exception) -> Reply:
        """Return the reply to a question that cannot be answered."""
        if isinstance(error, RefusedError):
            return refusal(error.status, str(error))
        if isinstance(error, NetwrightError):
            return refusal(422, self._told(str(error)))
        if out_of_memory(error):
            return refusal(503, "out of memory; send fewer rows in one request, or ask again later")
        return bug(error, self._on_bug)


def bug(error: BaseException, on_bug: Callable[[str, BaseException], None]) -> Reply:
    """Return the reply that tells a bug by a number alone, under which the server tells what it is."""
    number = secrets.token_hex(4)
    on_bug(number, error)
    return refusal(500, f"a bug of netwright, number {number}; the server tells more under that number")


def _groups(cases: Sequence[_Case]) -> list[list[_Case]]:
    """Return cases whose rows can be put one below the other, as they came."""
    found: dict[Any, list[_Case]] = {}
    for case in cases:
        found.setdefault(_form(case.raw), []).append(case)
    return list(found.values())


def _form(raw: Raw) -> Any:
    """Return what rows must agree in to be predicted together; windows and texts, which hold more, stand alone."""
    if isinstance(raw, Table):
        return tuple(raw.columns.schema.names), tuple(map(str, raw.columns.schema.types))
    if isinstance(raw, Arrays):
        return tuple((name, part.dtype.str, part.shape[1:]) for name, part in raw.inputs.items()), raw.layout
    dense = isinstance(raw.steps, Arrays) and not raw.symbols and isinstance(raw.about, Arrays)
    return ("steps", _form(raw.steps)) if dense else id(raw)


def _joined(parts: Sequence[Raw]) -> Raw:
    """Return rows of one form one below the other."""
    tables = [part for part in parts if isinstance(part, Table)]
    if len(tables) < len(parts) or len(parts) == 1:
        return opening.combine(parts)
    return Table(pa.concat_tables([table.columns for table in tables]), tuple(table.origins[0] for table in tables))


def _values(columns: dict[str, Any], word: str, finite: npt.NDArray[np.bool_]) -> list[Any]:
    """Return the columns of a word as a value for each row, or an object of names where there are several."""
    if word in columns:
        return [plain(value) if ok else None for value, ok in zip(columns[word], finite, strict=True)]
    names = [name for name in columns if name.startswith(f"{word}_")]
    rows = zip(*(columns[name] for name in names), strict=True)
    keys = [name.removeprefix(f"{word}_") for name in names]
    return [dict(zip(keys, map(plain, row), strict=True)) if ok else None for row, ok in zip(rows, finite, strict=True)]


def plain(value: Any) -> Any:
    """Return a label or a number as JSON holds it; dates and bytes as texts.

    Example:
        >>> plain(np.float64(1.5)), plain(["a", "b"])
        (1.5, ['a', 'b'])
    """
    value = labels.plain(value)
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float) else str(value)
