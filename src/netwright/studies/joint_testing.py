"""Testing an ensemble: one look at rows that no member was trained on, its figures beside those of its members. Floor 15."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netwright import files
from netwright.config.calls import OBJECT
from netwright.config.schema import RunConfig
from netwright.data.mapped import Mapped
from netwright.errors import ConfigError, DivergedError
from netwright.evaluation import calibration, slices
from netwright.evaluation.ensembles import against_members, mean_of
from netwright.evaluation.prediction import prediction_columns, table_bytes, true_columns
from netwright.evaluation.testing import Verdict, all_figures
from netwright.lifecycle.run import Run
from netwright.model.decisions import places_of
from netwright.numerals import figure
from netwright.pipeline.balancing import headline_told
from netwright.rows import new_rows
from netwright.rows.inputs import Inputs
from netwright.runfolder import folder as folders
from netwright.runfolder.showing import Sheet, joined, several_html, write_together
from netwright.sources import labels
from netwright.trained.familiar import familiar
from netwright.trained.known import Known
from netwright.trained.testing import drawn_together, put_back, with_own_figures

Rows = npt.NDArray[np.int64]


def test_members(folder: Path, of: str, members: Sequence[Run], data: Any) -> dict[str, Any]:
    """Test an ensemble and count one look.

    Args:
        folder: Of the ensemble; with its own rows it gets test.json, predictions.csv and report.html.
        of: What the members differ in.
        members: The runs.
        data: Labelled rows; None for the test rows that all members share. Runs that were trained on Python objects are tested
            on these test rows by the same objects.

    Returns:
        The content of test.json: the figures with intervals, and ``members``; see
        `netwright.evaluation.ensembles.against_members`.

    Raises:
        ConfigError: Members were trained on these rows.
        DataError: The rows do not fit, or those of the members are gone.
        CheckpointError: The data changed since training, or came from Python.
    """
    first = members[0]
    if data is not None:
        raw, target, digest = new_rows.labelled(first.config, first.program, data)
        knowns = [member.known(raw, target) for member in members]
        trained = [member for member in members if digest == member.record["data"]["digest"]]
        if not trained:
            found, _ = _judged(folder, knowns, np.arange(raw.rows), first.record["task"])
            notes = new_rows.remarks(first.program, raw)
            notes += familiar([(member.folder, member.program.preparation.encoder) for member in members], raw)
            return {**found, **({"notes": notes} if notes else {}), "looks": folders.look(folder, digest, "all")}
        from_python = all((member.config.data.source or "").startswith(OBJECT) for member in members)
        if of != "folds" and from_python and len(trained) == len(members):
            return _test_shared(folder, members, knowns, _shared_rows(folder, of, members), digest)
        raise ConfigError(
            f"{folder}: these rows are those of {trained[0].folder}, which was trained on some of them; expected rows that no "
            f"member has seen; {_instead(folder, of, first.config)}"
        )
    rows = _shared_rows(folder, of, members)
    inputs = first.own_inputs()
    return _test_shared(folder, members, _knowns(members, inputs), rows, inputs.digest)


def _test_shared(folder: Path, members: Sequence[Run], knowns: Sequence[Known], rows: Rows, digest: str) -> dict[str, Any]:
    """Test the ensemble on the test rows of its members, and write what a test leaves in its folder."""
    config, program = members[0].config, members[0].program
    found, verdict = _judged(folder, knowns, rows, members[0].record["task"])
    found["looks"] = folders.look(folder, digest, files.digest_bytes(rows.astype("<i8").tobytes()))
    outcome = program.outcome
    columns = {
        **new_rows.row_columns(config, program, knowns[0].raw, rows),
        **true_columns(outcome.task, verdict.true, outcome.names, outcome.classes),
    }
    columns |= prediction_columns(outcome.task, verdict.decoded, outcome.names, outcome.classes, outcome.probabilities)
    files.write_bytes(folder / folders.PREDICTIONS, table_bytes(columns, ".csv", config.data.label_separator))
    files.write_json(folder / folders.TEST, found)
    _write_page(folder, members, found)
    return found


def _knowns(members: Sequence[Run], inputs: Inputs) -> list[Known]:
    """Return each member with the rows of the first; those of a map are prepared already, so each reads its own."""
    if not isinstance(inputs.raw, Mapped):
        return [member.known(inputs.raw, inputs.target) for member in members]
    read = [inputs, *(member.own_inputs() for member in members[1:])]
    return [member.known(own.raw, own.target) for member, own in zip(members, read, strict=True)]


def _instead(folder: Path, of: str, config: RunConfig) -> str:
    """Return what to do where an ensemble cannot be tested on some rows."""
    if of == "folds":
        return f"the figures of rows that were not trained on are those out of fold, in {folder / folders.FOLDS}"
    return f"{put_back(config)}leave DATA out for the test rows that all members share"


def _shared_rows(folder: Path, of: str, members: Sequence[Run]) -> Rows:
    """Return the test rows that all members share.

    Raises:
        ConfigError: They have none, or each has others.
    """
    if of == "folds":
        raise ConfigError(
            f"{folder}: each row was trained on by some of its {len(members)} folds, so none of its rows can test the ensemble; "
            f"expected new rows: netwright test {folder} DATA; {_instead(folder, of, members[0].config)}"
        )
    if not (members[0].folder / folders.SPLIT).is_file():
        raise ConfigError(f"{folder}: a bundle holds no rows; expected some; give a file: netwright test {folder} DATA")
    rows = folders.read_split(members[0].folder).test
    for member in members[1:]:
        same = member.record["data"]["digest"] == members[0].record["data"]["digest"]
        if not same or not np.array_equal(folders.read_split(member.folder).test, rows):
            raise ConfigError(
                f"{folder}: {member.folder} has other test rows than {members[0].folder}, which may have trained on them; "
                f"expected the same data and split; give new rows: netwright test {folder} DATA"
            )
    if not len(rows):
        raise ConfigError(f"{folder}: its runs have no test rows; expected some; give a file: netwright test {folder} DATA")
    return rows


def _judged(folder: Path, knowns: Sequence[Known], rows: Rows, task: dict[str, Any]) -> tuple[dict[str, Any], Verdict]:
    """Return the content of test.json but for the looks, and the rows with the mean of what the members gave."""
    each = np.stack([known.decoded(known.scores(rows).outputs) for known in knowns])
    if not np.isfinite(each).all():
        place = int(np.flatnonzero(~np.isfinite(each).reshape(len(each), -1).all(axis=1))[0])
        raise DivergedError(
            f"{folder}: member {place} gives values that are not finite; expected finite ones; leave it out of the ensemble"
        )
    known, target = knowns[0], knowns[0].target
    outcome = known.program.outcome
    verdict = Verdict(target.task, target.of(rows), mean_of(each), outcome.decoding, drawn_together(known, rows))
    shown = [labels.shown(label) for label in target.classes]
    found = {"n": len(verdict.true), "looks": 0, "weights": f"mean of {len(knowns)} networks"}
    found |= with_own_figures(all_figures(verdict, None, shown), known, verdict)
    found |= headline_told(task, verdict.own)
    if target.task in ("binary", "multiclass"):
        found["classes"] = slices.class_table(verdict.true, places_of(verdict.decoded), [str(label) for label in shown])
    if outcome.probabilities:
        names = [str(label) for label in shown]
        found["calibration"] = {**calibration.calibration_table(verdict.true, verdict.decoded, names), "temperature": None}
    found["members"] = against_members(verdict, each)
    return found, verdict


def _write_page(folder: Path, members: Sequence[Run], found: dict[str, Any]) -> None:
    """Write report.html: the figures of the ensemble beside those of its members, and their curves."""
    beside = found["members"]
    rows = []
    for name, entry in found["metrics"].items():
        gap = beside["difference"].get(name)
        known = "" if gap is None else figure(gap["value"], 4, "+")
        values = [one[name] for one in beside["each"] if name in one]
        rows.append((name, figure(entry["value"]), _between(entry), joined(values), known, _between(gap or {}, "+")))
    heading = ("test figure", "ensemble", "95 % interval", "members", "less their mean", "95 % interval")
    sheet = Sheet(heading, rows)
    remarks = [
        f"{found['n']:,} test rows, {found['weights']}; look {found['looks']} at these rows.",
        "The last interval is of rows drawn for the ensemble and its members at once.",
        *found.get("notes", []),
    ]
    paths = [member.folder for member in members]
    body = several_html(f"Ensemble of {len(members)}: {folder.name}", [sheet], {folder.name: paths}, remarks)
    write_together(folder.name, body, [str(path) for path in paths], folder / folders.REPORT)


def _between(entry: dict[str, Any], sign: str = "") -> str:
    return f"{figure(entry['low'], 4, sign)} to {figure(entry['high'], 4, sign)}" if "low" in entry else ""
