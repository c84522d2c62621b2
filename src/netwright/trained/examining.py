"""What a test tells beside its figures: calibration, threshold, intervals, parts of the rows, worst errors, importance.

What does not apply to a task is left out. Nothing here changes a weight, a mode or a generator. Floor 13.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from netwright.config.values import shortened
from netwright.data.splits import Split
from netwright.evaluation import balance, calibration, conformal, slices, thresholds
from netwright.evaluation.importance import MOST_ROWS, REPEATS, drawn_rows, main_figure, permutation_importance
from netwright.evaluation.testing import Verdict
from netwright.model.decisions import places_of
from netwright.pipeline.balancing import balance_told
from netwright.pipeline.bench import executing
from netwright.runfolder import folder as folders
from netwright.sources import labels
from netwright.sources.sequences import Sequences
from netwright.trained import looking, slicing
from netwright.trained.calibrating import deciding_rows, kept_errors
from netwright.trained.known import Known

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
TWICE = "valid also chose the epoch, so its errors are a little small"
ASIDE = "these rows neither trained nor chose anything"
ORDERED = "rows of a series are not exchangeable, so the coverage may drift"
STEPS = "steps of a row are alike, so new rows may be covered less"
MOST_NAMED = 5  # classes in one line
GROUPED = "rows of a group are alike, so new groups may be covered less"


@dataclass(frozen=True)
class Tested:
    """A network that was tested.

    Args:
        known: The network, its rows and the target.
        rows: The test rows.
        verdict: Their targets, and what it gives for them or for all their steps.
        split: Who trains and validates, where the rows are the run's own.
        errors: Of which rows absolute errors were kept, and they, ``(rows, outputs)``.
        fitted_on: Which rows the temperature was fitted on.
        threshold: That was chosen before, for rows of others.
        train_rows: Of each class, where that was written down.
    """

    known: Known
    rows: Rows
    verdict: Verdict
    split: Split | None = None
    errors: tuple[str, Floats] | None = None
    fitted_on: str = "valid"
    threshold: float | None = None
    train_rows: Sequence[int] | None = None

    @property
    def true(self) -> npt.NDArray[Any]:
        """The target of the test rows, or of all their steps."""
        return self.verdict.true

    @property
    def decoded(self) -> Floats:
        """Probabilities, scores or values of the test rows, or of all their steps."""
        return self.verdict.decoded

    @property
    def lengths(self) -> Rows | None:
        """The steps of each test row where each step has a prediction."""
        raw = self.known.raw
        return raw.lengths[self.rows] if self.known.target.per_step and isinstance(raw, Sequences) else None

    @property
    def classes(self) -> list[str]:
        """The classes or labels in words."""
        return [str(labels.shown(label)) for label in self.known.target.classes]

    @property
    def alike(self) -> Rows | None:
        """The number of the group of each row, or step, where such are alike in groups; else None."""
        return None if self.verdict.drawn is None else self.verdict.drawn.clusters


def examine(tested: Tested, folder: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what test.json holds beside the figures: the keys that apply to the task.

    Args:
        tested: The network and its test.
        folder: The run folder, where errors of valid rows are kept, and the threshold for rows of others.
        record: run.json.
    """
    kept = replace(tested, errors=kept_errors(folder, record), fitted_on=str(record.get("temperature_of") or "valid"))
    kept = replace(kept, train_rows=record["task"].get("train_rows"))
    path = folder / folders.TEST
    if tested.split is None and path.is_file():
        kept = replace(kept, threshold=(folders.read_json(path).get("threshold") or {}).get("value"))
    return examined(kept)


def examined(tested: Tested) -> dict[str, Any]:
    """Return what a test tells beside its figures."""
    found: dict[str, Any] = {}
    notes: list[str] = []
    seconds: dict[str, float] = {}
    settings, task = tested.known.config.evaluation, tested.known.target.task
    if not len(tested.rows) or not len(tested.decoded):
        return found
    with executing(tested.known.config, tested.known.program.device):
        if task in ("binary", "multiclass"):
            found["classes"] = slices.class_table(tested.true, places_of(tested.decoded), tested.classes)
            decoding = tested.known.program.outcome.decoding
            notes += _absent(tested)
            found["balance"] = balance_told(tested.known.config, tested.verdict, decoding, tested.classes, tested.train_rows)
        if tested.known.program.outcome.probabilities:
            found["calibration"] = _calibration(tested)
        deciding = _Deciding(tested, notes)
        found |= deciding.threshold() | deciding.conformal()
        notes += _temperature_notes(tested)
        found["slices"], more = slicing.sliced(tested.known, tested.rows, tested.decoded, tested.split, tested.alike)
        copied = looking.copy_of(tested.known.program, notes)
        if settings.importance and copied is not None:
            found |= _timed(seconds, "importance", lambda: _importance(tested, copied, notes))
        if settings.worst:
            order = [entry["column"] for entry in (found.get("importance") or {}).get("columns", [])]
            worst = looking.Looking(tested.known, tested.rows, tested.decoded, copied, tuple(order))
            found |= _timed(seconds, "worst", lambda: {"worst": worst.entries(tested.true, tested.classes, tested.lengths)})
    found = {name: value for name, value in found.items() if value}
    return {**found, "notes": [*notes, *more], "seconds": seconds}


def joined(test: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of test.json with what was examined; remarks and seconds of both are kept."""
    notes = [*test.get("notes", []), *more.get("notes", [])]
    seconds = {**test.get("seconds", {}), **more.get("seconds", {})}
    both = {name: value for name, value in (("notes", notes), ("seconds", seconds)) if value or name in test}
    return {**test, **{name: value for name, value in more.items() if name not in ("notes", "seconds")}, **both}


def _timed(seconds: dict[str, float], name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    begun = time.perf_counter()
    found = work()
    if any(found.values()):
        seconds[name] = round(time.perf_counter() - begun, 3)
    return found


def _calibration(tested: Tested) -> dict[str, Any]:
    """Return the calibration of the test rows, and what it was before a temperature."""
    decoding, true = tested.known.program.outcome.decoding, tested.true
    told: dict[str, Any] = calibration.calibration_table(true, tested.decoded, tested.classes)
    told["temperature"] = None
    if decoding.temperature != 1.0:
        scaled = calibration.logits_of(tested.decoded, decoding.form) * decoding.temperature
        plain = _probabilities(scaled, decoding.form)
        before = calibration.calibration_table(true, plain, tested.classes)
        told["temperature"] = {
            "value": decoding.temperature,
            "fitted_on": tested.fitted_on,
            "ece_before": before["ece"],
            "loss_before": calibration.log_loss(true, scaled),
            "loss_after": calibration.log_loss(true, scaled, decoding.temperature),
        }
    return told


def _probabilities(logits: Floats, form: str) -> Floats:
    """Return the probabilities of logits without a temperature."""
    import torch

    from netwright.model.task import Decoding

    return np.asarray(Decoding(form, logits.shape[1]).forward(torch.from_numpy(logits)))


def _temperature_notes(tested: Tested) -> list[str]:
    decoding = tested.known.program.outcome.decoding
    if not tested.known.config.evaluation.temperature or decoding.temperature != 1.0:
        return []
    if not decoding.reads_logits:
        return [f"evaluation.temperature: the outputs ({decoding.form}) are no logits; nothing is divided"]
    none = tested.split is not None and not len(tested.split.calibrating[1])
    return ["evaluation.temperature: no valid rows came to fit it on; nothing is divided"] if none else []


class _Deciding:
    """What valid rows decide: threshold and intervals; the rows are run through the network once, if at all."""

    def __init__(self, tested: Tested, notes: list[str]) -> None:
        self._tested, self._notes = tested, notes

    def _valid(self) -> tuple[npt.NDArray[Any], Floats] | None:
        """Return target and decoded outputs of the valid rows; None without any."""
        split, known = self._tested.split, self._tested.known
        if split is None or not len(split.valid):
            return None
        rows = deciding_rows(split.valid)
        return known.target.of(rows), known.decoded(known.scores(rows).outputs)

    def threshold(self) -> dict[str, Any]:
        """Return the threshold of two classes and the test figures at it; nothing for other tasks."""
        tested, outcome = self._tested, self._tested.known.program.outcome
        if outcome.task != "binary" or not outcome.probabilities or tested.decoded.shape[1] != 2:
            return {}
        wanted = tested.known.config.evaluation.threshold
        told: dict[str, Any] = {"value": tested.threshold, "chosen_on": "valid", "for": wanted}
        if tested.split is not None:
            valid = self._valid()
            if valid is None or len(np.unique(valid[0])) < 2:
                self._notes.append("threshold: no valid rows of both classes came to choose it on; it is left out")
                return {}
            told["value"] = thresholds.choose_threshold(valid[0] == 1, valid[1][:, 1], wanted)
            told["n_valid"] = len(valid[0])
        if told["value"] is None:
            return {}
        positive = tested.true == 1
        for name, threshold in (("metrics", told["value"]), ("at_half", None)):
            told[name] = thresholds.decision_figures(positive, places_of(tested.decoded, threshold) == 1)
        return {"threshold": told}

    def conformal(self) -> dict[str, Any]:
        """Return the intervals of a regression and how many test values they hold; nothing for other tasks."""
        tested, known = self._tested, self._tested.known
        if known.target.task != "regression":
            return {}
        kept = tested.errors
        if kept is None and (valid := self._valid()) is not None:
            kept = "valid", np.abs(valid[1] - valid[0])
        if kept is None:
            self._notes.append("intervals: no valid rows came to calibrate them on; they are left out")
            return {}
        (word, errors), level = kept, known.config.evaluation.coverage
        widths = conformal.half_widths(errors, level)
        if widths is None:
            least = conformal.fewest_rows(level)
            self._notes.append(f"intervals: {len(errors)} {word} rows came, a coverage of {level:g} takes {least}")
            return {}
        covered, each = conformal.coverage(tested.decoded - tested.true, widths, tested.alike)
        outputs = [
            {"name": name, "half_width": float(width), "coverage": share}
            for name, width, share in zip(_output_names(known, len(widths)), widths, each, strict=True)
        ]
        told = {"level": level, "calibrated_on": word, "n": len(errors), "outputs": outputs, "coverage": covered}
        return {"conformal": {**told, "remark": _remark(known, word)}}


def _output_names(known: Known, count: int) -> list[str]:
    names = [str(name) for name in known.target.names]
    return names if len(names) == count else [f"output {place + 1}" for place in range(count)]


def _remark(known: Known, word: str) -> str:
    """Say what the promise of coverage hangs on; ``word`` are the rows that calibrated."""
    split = known.config.data.split
    ordered = known.config.data.window is not None or split.time is not None or split.in_order
    told = [TWICE if word == "valid" else ASIDE]
    told += [ORDERED] if ordered else []
    told += [GROUPED] if split.group is not None else []
    told += [STEPS] if known.target.per_step else []
    return "; ".join(told)


def _absent(tested: Tested) -> list[str]:
    """Return which classes have no test row, of which a test says nothing."""
    there = set(np.unique(tested.true).tolist())
    absent = [shortened(str(name)) for place, name in enumerate(tested.classes) if place not in there]
    if not absent:
        return []
    some = ", ".join(absent[:MOST_NAMED]) + (f" and {len(absent) - MOST_NAMED} more" if len(absent) > MOST_NAMED else "")
    return [f"no test row is of {some}: the test says nothing of them, and means over classes are of the others"]


def _importance(tested: Tested, copied: looking.Copied, notes: list[str]) -> dict[str, Any]:
    """Return how much worse the main figure gets with each column of the test rows shuffled; nothing without columns."""
    rows = tested.rows[drawn_rows(len(tested.rows), MOST_ROWS)]
    found = looking.shuffled_columns(tested.known, rows)
    if found is None:
        return {}
    inputs, columns = found
    true, per_step = tested.known.target.of(rows), tested.known.target.per_step

    def decode(values: dict[str, Tensor]) -> Floats:
        return tested.known.decoded(copied.outputs(values, per_step))

    try:
        first = balance.headline(tested.train_rows, tested.verdict.own) if tested.train_rows else None
        name, figure = main_figure(tested.known.target.task, true, decode(inputs), first)
        told, more = permutation_importance(inputs, columns, decode, figure)
    except Exception as error:  # an own module may refuse rows that it has not seen so
        notes.append(f"importance: the network fails on shuffled rows ({type(error).__name__}); it is left out")
        return {}
    notes += more
    return {"importance": {"metric": name, "repeats": REPEATS, "n": len(rows), "columns": told}}
