"""Exports proven: a run's own rows predicted from the exported file in a new process, and by the run. Floor 16."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from netwright.config.calls import OBJECT
from netwright.config.schema import RunConfig
from netwright.errors import CheckpointError, ConfigError
from netwright.evaluation.prediction import table_bytes
from netwright.lifecycle.run import Run
from netwright.proofs.verifying import Verdict
from netwright.studies.ensembles import Ensemble
from netwright.studies.loading import load_folder
from netwright.trained.packaging import FORMATS, SOURCE, export_run
from netwright.trained.predicting import Predictor, predict_file

TOLERANCES = {"bundle": 0.0, "torch": 1e-6, "onnx": 1e-5}
NEEDED = ("onnxscript", "onnxruntime")  # packages of ONNX


@dataclass(frozen=True)
class Difference:
    """How far the predictions of an export are from those of its run.

    ``largest`` is the largest difference of a number, relative to it, to the deviation of the train rows' target, or to 1 for
    probabilities, whichever is largest; ``labels`` counts rows with another label whose numbers do not explain it.
    """

    rows: int
    largest: float
    labels: int


def verify_export(folder: Path, format: str | None, code: Sequence[Path]) -> Verdict:
    """Export a run into a temporary folder and compare what the file and the run predict for the run's own rows.

    Args:
        folder: A run that has ended.
        format: One format; None for all whose packages are here.
        code: Python files that may run.

    Raises:
        CheckpointError: The run's rows came from Python, or the new process fails.
        ConfigError: The network cannot be exported in this format.
    """
    run = load_folder(folder, code=code)
    source = _own_rows(run.config, folder)
    expected, _, rows = predict_file(run, source)
    whole = _in_float32(run)
    widened = expected if whole is run else predict_file(whole, source)[0]
    present = all(importlib.util.find_spec(name) is not None for name in NEEDED)
    chosen = [format] if format is not None else [name for name in FORMATS if name != "onnx" or present]
    held, told = True, []
    for name in chosen:
        with tempfile.TemporaryDirectory() as place:
            try:
                found = _predicted(run, name, Path(place), source)
            except ConfigError as error:  # this network has no such export; of one that was asked for that is an error
                if format is not None:
                    raise
                told.append(f"{name}: left out, {str(error).removeprefix('export: ')}")
                continue
            given = expected if name == "bundle" else widened
            apart = difference(given, found, TOLERANCES[name], _scales(run))
        fits = apart.largest <= TOLERANCES[name] and not apart.labels
        held = held and fits
        allowed = "the same bits" if name == "bundle" else f"at most {TOLERANCES[name]:g} allowed"
        labels = f", {apart.labels} labels differ" if apart.labels else ""
        short = given is not expected
        how = _short_told(run, difference(expected, found, math.inf, _scales(run)).largest) if short else ""
        told.append(f"{name}: {'' if fits else 'NOT '}as the run for {rows} rows{how}; "
                    f"largest difference {apart.largest:.1e}{labels} ({allowed})")  # fmt: skip
    if format is None and not present:
        told.append(f"onnx: left out, {' and '.join(NEEDED)} are not installed")
    return Verdict(held, "export: " + "; ".join(told))


def _in_float32(run: Predictor) -> Predictor:
    """Return a run, or the members of an ensemble, computing in float32 as programs do; the same where they do already."""
    if isinstance(run, Ensemble):
        members = tuple(_run_in_float32(member) for member in run.members)
        return run if members == run.members else replace(run, members=members)
    return _run_in_float32(run) if isinstance(run, Run) else run


def _run_in_float32(run: Run) -> Run:
    how = run.program.how
    if how.update.autocast is None:
        return run
    return replace(run, program=replace(run.program, how=replace(how, update=replace(how.update, autocast=None))))


def _short_told(run: Predictor, apart: float) -> str:
    """Return in words how far float32 is from the run's own precision."""
    return f" in float32, which is up to {apart:.1e} from the run's own {run.config.training.precision}"


def _own_rows(config: RunConfig, folder: Path) -> str:
    """Return the file that holds the run's test rows.

    Raises:
        CheckpointError: They came from Python.
    """
    source = config.data.test or config.data.source
    if source is None or source.startswith(OBJECT):
        raise CheckpointError(
            f"{folder}: made from Python objects, which a new process does not have; expected a run of a data file; compare "
            "run.predict(rows) with that of the export"
        )
    return source


def _predicted(run: Predictor, format: str, place: Path, source: str) -> dict[str, Any]:
    """Return what a new process predicts from a new export."""
    target = export_run(run, format, place / "export")
    output = place / "predictions.parquet"
    own = sorted(target.rglob(f"{SOURCE}/*.py")) if target.is_dir() else []
    words = ["predict", str(target), source, "-o", str(output), *(["--trust"] if format == "torch" else [])]
    words += [word for file in own for word in ("--code", str(file))]
    done = subprocess.run([sys.executable, "-m", "netwright", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1].removeprefix("netwright: error: ")
        raise CheckpointError(f"{run.folder}: the exported {format} fails in a new process: exit {done.returncode}: {said}")
    table = pyarrow.parquet.read_table(output)
    return {name: table[name].to_pylist() for name in table.column_names}


def _scales(run: Predictor) -> dict[str, float]:
    """Return the deviation of the target behind each column of values."""
    outcome = run.program.outcome
    if outcome.classes:
        return {}
    scales = [float(value) for value in outcome.decoding.scale]
    names = ["prediction"] if len(scales) == 1 else [f"prediction_{name}" for name in outcome.names]
    return dict(zip(names, scales, strict=True))


def difference(
    expected: Mapping[str, Any], found: Mapping[str, Any], tolerance: float, scales: Mapping[str, float]
) -> Difference:
    """Compare two tables of predictions.

    Args:
        expected: Columns by name, as `netwright.lifecycle.run.Run.predict_file` gives them.
        found: The same from another program.
        tolerance: How far probabilities may be apart; a label may differ where two are so near to each other.
        scales: The deviation of the target behind a column of values.

    Raises:
        CheckpointError: Other columns, or another number of rows.
    """
    expected = _as_written(expected)
    rows = len(next(iter(expected.values())))
    if list(expected) != list(found) or any(len(values) != rows for values in found.values()):
        raise CheckpointError(
            f"the columns {', '.join(found)} of {len(next(iter(found.values()), []))} rows came; expected "
            f"{', '.join(expected)} of {rows}; export the run again"
        )
    largest, other = 0.0, np.zeros(rows, dtype=bool)
    for name, values in expected.items():
        if values and all(isinstance(value, float) for value in values) and (scales or name.startswith("probability_")):
            left, right = np.asarray(values), np.asarray(found[name], dtype=np.float64)
            apart = np.abs(left - right) / np.maximum(np.abs(left), scales.get(name, 1.0))
            same = (left == right) | (np.isnan(left) & np.isnan(right))
            largest = max(largest, float(np.where(same, 0.0, np.where(np.isfinite(apart), apart, math.inf)).max()))
        else:
            other |= np.asarray([one != two for one, two in zip(values, found[name], strict=True)])
    return Difference(rows, largest, int((other & ~_tied(expected, tolerance)).sum()))


def _as_written(columns: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return columns as they come back from a file."""
    table = pyarrow.parquet.read_table(pyarrow.BufferReader(table_bytes(dict(columns), ".parquet")))
    return {name: table[name].to_pylist() for name in table.column_names}


def _tied(expected: Mapping[str, list[Any]], tolerance: float) -> Any:
    """Return the rows in which two classes, or a label and its half, are too near to each other to tell them apart."""
    names = [name for name in expected if name.startswith("probability_")]
    if not names:
        return False
    values = np.stack([np.asarray(expected[name], dtype=np.float64) for name in names], axis=1)
    ordered = np.sort(values, axis=1)
    near = np.abs(values - 0.5).min(axis=1) <= tolerance
    return near | ((ordered[:, -1] - ordered[:, -2] <= 2 * tolerance) if len(names) > 1 else near)
