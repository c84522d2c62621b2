"""What is kept of the valid rows once a network is trained: a temperature, and the errors that intervals are made of.

Nothing here changes a weight or moves a generator. Floor 13.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from netwright import files
from netwright.config.schema import RunConfig
from netwright.data.splits import Split
from netwright.errors import CheckpointError, ConfigError, NetwrightError
from netwright.evaluation import conformal
from netwright.evaluation.calibration import fit_temperature
from netwright.evaluation.importance import drawn_rows
from netwright.exporting.bundle import Form, Program
from netwright.model.decisions import refuse_threshold
from netwright.model.task import Decoding
from netwright.runfolder import folder as folders
from netwright.sources import arrays
from netwright.sources.places import place_of
from netwright.trained.known import Known

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
ERRORS = "errors.npz"
MOST_ROWS = 100_000  # that decide; of more so many are drawn


def deciding_rows(valid: Rows) -> Rows:
    """Return the rows by which something is chosen: all, of very many some of them."""
    return valid[drawn_rows(len(valid), MOST_ROWS)]


def calibrate(folder: Path, known: Known, split: Split) -> float | None:
    """Keep in the run folder what valid rows say of a network that has just been trained, and return the temperature.

    Args:
        folder: The run folder; run.json gets ``temperature`` where that is asked for, errors.npz the sorted absolute errors
            of a regression.
        known: The network, its rows and the target.
        split: Whose calibration rows are taken, without such its valid rows.
    """
    forget(folder)
    word, chosen = split.calibrating
    wanted = known.config.evaluation.temperature and known.program.outcome.decoding.reads_logits
    if not len(chosen) or not (wanted or known.target.task == "regression"):
        return None
    rows = deciding_rows(chosen)
    outputs, true = known.scores(rows).outputs, known.target.of(rows)
    if wanted:
        temperature = fit_temperature(true, logits_from(known.program.outcome.decoding, outputs))
        folders.update_record(folder, {"temperature": temperature, "temperature_of": word})
        return temperature
    errors = np.sort(np.abs(known.decoded(outputs) - true), axis=0)
    if np.isfinite(errors).all():
        files.write_arrays(folder / ERRORS, {word: errors})
        written = dict(folders.read_record(folder).get("files") or {})
        folders.update_record(folder, {"files": {**written, ERRORS: files.digest_file(folder / ERRORS)}})
    return None


def forget(folder: Path) -> None:
    """Take out of run.json what was kept of other weights."""
    record = folders.read_record(folder)
    known = dict(record.get("files") or {})
    if record.get("temperature") is None and ERRORS not in known:
        return
    written = {name: digest for name, digest in known.items() if name != ERRORS}
    folders.update_record(folder, {"temperature": None, "temperature_of": None, "files": written})


def logits_from(decoding: Decoding, outputs: Tensor) -> Floats:
    """Return outputs as the logits that `netwright.evaluation.calibration.log_loss` reads, float64."""
    values = outputs.double().numpy()
    return values.reshape(len(values), -1) if decoding.form == "sigmoid" else values


def with_temperature(program: Program, temperature: Any) -> Program:
    """Return a program whose logits are divided by a temperature before they become probabilities.

    Raises:
        CheckpointError: The temperature is no number above 0.
    """
    if temperature is None:
        return program
    if not isinstance(temperature, int | float) or isinstance(temperature, bool) or not 0 < temperature < float("inf"):
        raise CheckpointError(f"run.json: temperature {temperature!r} came; expected a number above 0; check the run")
    before = program.outcome.decoding
    decoding = Decoding(before.form, before.outputs, float(temperature))
    decoding.load_state_dict(before.state_dict())
    return replace(program, outcome=replace(program.outcome, decoding=decoding))


def kept_errors(folder: Path, record: Mapping[str, Any]) -> tuple[str, Floats] | None:
    """Return of which rows errors are kept, and the absolute ones ``(rows, outputs)``, each output sorted; None without.

    Raises:
        CheckpointError: The file is damaged.
    """
    digest = (record.get("files") or {}).get(ERRORS)
    ended = record.get("status") in ("done", "stopped")  # of a run that goes on they would be those of other weights
    if digest is None or not ended or not (folder / ERRORS).is_file():
        return None
    try:
        if files.digest_file(folder / ERRORS) != digest:
            raise ValueError("it does not agree with its digest in run.json")
        ((word, errors),) = arrays.read_npz(place_of(folder / ERRORS)).items()
        return word, np.asarray(errors, dtype=np.float64)
    except (NetwrightError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{folder / ERRORS}: cannot be read ({error}); expected it as written; it is damaged"
        ) from error


def checked_threshold(program: Form, threshold: float | None) -> float | None:
    """Return a threshold that fits the network.

    Raises:
        ConfigError: There are not two classes with probabilities, or it is no probability.
    """
    if threshold is not None:
        outcome = program.outcome
        refuse_threshold(threshold, outcome.task, outcome.classes, outcome.probabilities)
    return threshold


def checked_level(folder: Path, config: RunConfig, program: Form, level: float | None) -> float:
    """Return the share of new values that intervals shall hold, ``evaluation.coverage`` where none is asked for.

    Raises:
        ConfigError: It is no share, or the network predicts classes.
    """
    level = config.evaluation.coverage if level is None else level
    if not 0 < level < 1:
        raise ConfigError(f"coverage {level:g} came; expected a share between 0 and 1; write for instance 0.9")
    if program.outcome.task != "regression":
        raise ConfigError(f"{folder}: the task is {program.outcome.task}; expected numbers; intervals are for a regression")
    return level


def widths_of(folder: Path, config: RunConfig, program: Form, record: Mapping[str, Any], level: float | None) -> Floats:
    """Return half the width of the prediction interval of each output.

    Args:
        folder: The run folder.
        config: Its settings.
        program: Its program.
        record: run.json.
        level: The share of new values that an interval shall hold; None for ``evaluation.coverage``.

    Raises:
        ConfigError: The network predicts classes, no errors are kept, or they are too few for the level.
    """
    level = checked_level(folder, config, program, level)
    kept = kept_errors(folder, record)
    if kept is None:
        raise ConfigError(
            f"{folder}: no errors of valid rows are kept; expected a run that ended, with valid rows; train it with some"
        )
    word, errors = kept
    widths = conformal.half_widths(errors, level)
    if widths is None:
        raise ConfigError(
            f"{folder}: {len(errors)} {word} rows came; an interval of {level:g} takes {conformal.fewest_rows(level)}; "
            f"lower the coverage or train with more {word} rows"
        )
    return widths


def bounds_around(values: Floats, widths: Floats, rates: bool) -> tuple[Floats, Floats]:
    """Return the interval around each predicted value; counts are never below 0."""
    low = values - widths
    return (np.maximum(low, 0.0) if rates else low), values + widths
