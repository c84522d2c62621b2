"""What an exported file tells of itself: columns, categories, classes; raw rows to its inputs, its outputs to rows.

Imports no torch, so that an ``.onnx`` file predicts without it. Floor 10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from netwright.data.columns import TableEncoder
from netwright.errors import CheckpointError, ConfigError, DataError, SafetyError, first_line
from netwright.sources import labels
from netwright.sources.arrays import Array, Arrays, named_rows, native
from netwright.sources.cells import LARGEST
from netwright.sources.labels import Label
from netwright.sources.sequences import Raw, Sequences, StepForm
from netwright.sources.tables import Table

Call = Callable[[list[npt.NDArray[Any]]], npt.NDArray[Any]]
FORMAT = "netwright export 1"
BUNDLE = "config.json"  # the file that makes a folder a bundle
ENDINGS = {"torch": ".pt2", "onnx": ".onnx"}
DESCRIPTION = "netwright.json"  # the name of the description within a file
OPSET = 20
AT_ONCE, LONG = 1024, 128  # rows that are predicted at a time, of vectors and of what lies in space or time
PROBABLE = ("softmax", "exp", "sigmoid", "probability", "sigmoids", "probabilities")
ELSEWHERE = b"\x0a\x08location"  # the key of a tensor whose numbers lie in another file


@final
@dataclass(frozen=True)
class Input:
    """One input of an exported program: its name, the shape of a raw row or step, and the number of codes it may hold."""

    name: str
    shape: tuple[int, ...]
    codes: bool = False
    limit: int | None = None


@final
@dataclass(frozen=True)
class Described:
    """What is known of an exported program without torch.

    ``lengths`` tells whether the lengths of sequences are its last input.
    """

    encoder: TableEncoder | None
    inputs: tuple[Input, ...]
    steps: StepForm | None
    lengths: bool
    task: str
    names: tuple[str, ...]
    classes: tuple[Label, ...]
    form: str

    @property
    def probabilities(self) -> bool:
        """Whether probabilities come out."""
        return self.form in PROBABLE

    @property
    def per_step(self) -> bool:
        """Whether each step of a row gets a prediction."""
        return self.steps is not None and self.steps.per_step

    @staticmethod
    def from_json(value: Mapping[str, Any], lengths: bool) -> Described:
        """Read what `netwright.exporting.bundle.describe` gave.

        Raises:
            KeyError, TypeError, AttributeError: It is something else.
        """
        prepared, told = value["preparation"], value["outcome"]
        encoder = None if prepared["encoder"] is None else TableEncoder.from_json(prepared["encoder"])
        inputs = []
        for name, one in prepared["modules"].items():
            shape = (len(one["kinds"]),) if "kinds" in one else tuple(one["shape"])
            inputs.append(Input(name, shape, one.get("mode") == "codes", one.get("limit")))
        classes = tuple(labels.from_json(label) for label in told["classes"])
        steps = StepForm.from_json(prepared["steps"])
        return Described(encoder, tuple(inputs), steps, lengths, told["task"], tuple(told["names"]), classes, told["form"])

    def decoded(self, raw: Raw, call: Call, path: Path) -> npt.NDArray[np.float64]:
        """Return probabilities or values ``(rows, ...)`` of raw rows, of a network that predicts each step of all steps.

        Args:
            raw: The rows.
            call: The program.
            path: Its file, for errors.

        Raises:
            DataError: The rows do not fit the inputs.
            CheckpointError: The program fails on them.
        """
        found = []
        for feed, lengths in self._feeds(raw):
            try:
                output = np.asarray(call(feed), dtype=np.float64)
            except Exception as error:  # torch's and onnxruntime's errors have no common class
                raise CheckpointError(
                    f"{path}: the program fails on the prepared rows ({first_line(error)[:200]}); expected a program of "
                    "netwright export; export it again"
                ) from error
            if lengths is not None and self.per_step:
                output = output[np.arange(output.shape[1]) < lengths[:, None]]
            found.append(output)
        return np.concatenate(found) if found else np.zeros((0, max(1, len(self.classes) or len(self.names))))

    def _feeds(self, raw: Raw) -> Iterator[tuple[list[Array], npt.NDArray[np.int64] | None]]:
        """Yield the inputs of some rows at a time, with the lengths of sequences."""
        if self.steps is None:
            if isinstance(raw, Sequences):
                raise DataError(f"{raw.origins[0].name}: sequences came; expected single rows; give such rows")
            values = self._checked(raw)
            axes = max(len(one.shape) for one in self.inputs)
            size = AT_ONCE if axes <= 1 else LONG
            for start in range(0, len(values[0]), size):
                yield [value[start : start + size] for value in values], None
            return
        if not isinstance(raw, Sequences):
            raise DataError(f"{raw.origins[0].name}: single rows came; expected sequences; give sequences")
        values = self._checked(self.steps.coded(raw))
        for start in range(0, raw.rows, LONG):
            rows = np.arange(start, min(start + LONG, raw.rows))
            yield self._padded(values, raw, rows)

    def _padded(
        self, values: list[Array], raw: Sequences, rows: npt.NDArray[np.int64]
    ) -> tuple[list[Array], npt.NDArray[np.int64]]:
        """Return the steps of rows as ``(rows, time, ...)``; what is padded is 0."""
        assert self.steps is not None  # noqa: S101 - asked before
        lengths = raw.lengths[rows]
        fixed = None if self.lengths else max(self.steps.rungs)
        if fixed is not None and (lengths != fixed).any():
            row = int(rows[int(np.argmax(lengths != fixed))])
            raise DataError(
                f"{raw.place(row)}: a sequence of {raw.lengths[row]} steps came; the exported program reads {fixed} steps; give "
                "such, or predict with the run or its bundle"
            )
        offsets = np.arange(int(lengths.max()))
        there = offsets < lengths[:, None]
        places = np.where(there, raw.starts[rows][:, None] + offsets, 0)
        feed = [np.where(there.reshape(*there.shape, *(1,) * (value.ndim - 1)), value[places], 0) for value in values]
        return [*feed, *([lengths.astype(np.int64)] if self.lengths else [])], lengths

    def _checked(self, raw: Table | Arrays) -> list[Array]:
        """Return the raw numbers of each input as the program reads them: float64, or int64 of codes."""
        if self.encoder is not None:
            if not isinstance(raw, Table):
                raise DataError(
                    f"{raw.origins[0].name}: {named_rows(raw.layout)} came; the network was trained on a table; give a table"
                )
            return [self.encoder.matrix(raw)]
        if not isinstance(raw, Arrays):
            raise DataError(f"{raw.origins[0].name}: a table came; the network was trained on arrays; give arrays")
        return [self._array(one, raw) for one in self.inputs]

    def _array(self, wanted: Input, raw: Arrays) -> Array:
        values = raw.inputs.get(wanted.name)
        if values is None and len(self.inputs) == len(raw.inputs) == 1:
            values = next(iter(raw.inputs.values()))
        name = raw.origins[0].name
        if values is None:
            raise DataError(f"{name}: array {wanted.name!r} is missing; the arrays are {', '.join(raw.inputs)}")
        if values.shape[1:] != wanted.shape:
            raise DataError(
                f"{name}: array {wanted.name!r} has rows of shape {values.shape[1:]}; the network was trained on {wanted.shape}; "
                "give rows of that shape"
            )
        numbers = native(np.asarray(values))
        if numbers.dtype.kind == "f" and not (np.isnan(numbers) | (np.abs(numbers) <= LARGEST)).all():
            raise DataError(f"{name}: array {wanted.name!r} is infinite or beyond float32; expected finite numbers; mend it")
        if not wanted.codes:
            return numbers.astype(np.float64)
        codes = numbers.astype(np.int64)
        if (codes != numbers).any() or (wanted.limit is not None and ((codes < 0) | (codes >= wanted.limit)).any()):
            most = "on" if wanted.limit is None else f"to {wanted.limit - 1}"
            raise DataError(f"{name}: array {wanted.name!r} holds other than whole numbers from 0 {most}; mend it")
        return codes


def open_onnx(path: Path) -> tuple[Call, Mapping[str, str]]:
    """Read an ``.onnx`` file for onnxruntime on the CPU; nothing of it is code.

    Returns:
        What predicts, and the texts among its metadata.

    Raises:
        ConfigError: onnxruntime is missing.
        CheckpointError: It cannot be read.
        SafetyError: It names other files, which it would make us read.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(without("onnxruntime", "to predict from .onnx files")) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    content = path.read_bytes()
    if ELSEWHERE in content:
        raise SafetyError(f"{path}: its weights shall be read from other files; expected all in one file; refused")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class
        raise CheckpointError(
            f"{path}: cannot be read by onnxruntime ({first_line(error)[:200]}); expected a file of netwright export --format "
            "onnx; export it again"
        ) from error
    names = [one.name for one in session.get_inputs()]

    def call(inputs: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        if len(inputs) != len(names):
            raise ValueError(f"{len(names)} inputs are read, {len(inputs)} came")
        return np.asarray(session.run(None, dict(zip(names, inputs, strict=True)))[0])

    return call, dict(session.get_modelmeta().custom_metadata_map)


def without(packages: str, use: str) -> str:
    """Return what to tell where a package of the extra onnx is missing."""
    return f"onnx: {packages} not found; expected the extra onnx {use}; pip install 'netwright[onnx]'"


def refuse_other(value: Mapping[str, Any]) -> None:
    """Raise `ValueError` where a description is of another format."""
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        told = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise ValueError(f"format {told!r} came, this version reads {FORMAT!r}")
