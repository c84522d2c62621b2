"""The program of a run: preparation -> model -> decoding, as files that hold no code.

preparation.json and preparation.safetensors say how raw rows become inputs and outputs become predictions; the weights
are in model/best.safetensors and model/last.safetensors. Floor 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from netwright import files
from netwright.data.batches import Examples
from netwright.data.preparation import Preparation
from netwright.engine.base import Execution
from netwright.engine.forward import WRITTEN, Forward
from netwright.errors import CheckpointError, DataError, first_line, out_of_memory
from netwright.evaluation.scoring import outputs_of
from netwright.exporting.prepared import RawForward
from netwright.model.masked import Masked
from netwright.model.padding import unmaskable
from netwright.model.task import Decoding
from netwright.sources import labels
from netwright.sources.arrays import Array, Arrays
from netwright.sources.labels import Label
from netwright.sources.sequences import Raw, Sequences

PREPARATION = "preparation.json"
PREPARATION_TENSORS = "preparation.safetensors"
BEST = "model/best.safetensors"
LAST = "model/last.safetensors"


@dataclass(frozen=True)
class Outcome:
    """What the outputs mean: task, target columns, classes or labels, decoding."""

    task: str
    names: tuple[str, ...]
    classes: tuple[Label, ...]
    decoding: Decoding

    @property
    def probabilities(self) -> bool:
        """Whether the decoding gives probabilities."""
        return self.decoding.probabilistic


class Form(Protocol):
    """What is told of a program without calling it: of one network, or of several as one."""

    @property
    def preparation(self) -> Preparation:
        """What raw rows hold, and how they become inputs."""

    @property
    def outcome(self) -> Outcome:
        """What the outputs mean."""

    @property
    def per_step(self) -> bool:
        """Whether each step of a row gets a prediction."""


@dataclass(frozen=True)
class Program:
    """Preparation, network and decoding: all it takes from raw rows to predictions.

    ``how`` says how the network is called; see `netwright.engine.forward.Forward`.
    """

    preparation: Preparation
    model: nn.Module
    outcome: Outcome
    batch_size: int
    device: torch.device
    how: Execution = WRITTEN

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies and pickles hold: recordings are of this object alone."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @cached_property
    def forward(self) -> Forward:
        """What calls the network."""
        return Forward(self.model, self.how)

    @cached_property
    def raw_forward(self) -> RawForward | None:
        """What calls preparation and network as one, where rows are one array of numbers and nothing is narrowed by autocast."""
        only = self.preparation.only
        if only is None or self.how.update.autocast is not None or self.device.type != "cpu":
            return None
        return RawForward(*only, self.model, self.outcome.decoding, self.how, self.batch_size)

    @property
    def per_step(self) -> bool:
        """Whether each step of a row gets a prediction."""
        return self.preparation.steps is not None and self.preparation.steps.per_step

    def decoded(self, raw: Raw) -> Tensor:
        """Return probabilities ``(rows, classes)`` or values ``(rows, outputs)`` in the user's units, float64.

        Of a network that predicts each step: of all steps, row after row.

        Raises:
            DataError: A sequence is so short that nothing of it reaches the end of the network.
            CheckpointError: Preparation and network are not of one run.
        """
        if isinstance(self.model, Masked) and isinstance(raw, Sequences) and raw.rows:
            _refuse_too_short(self.model, raw)
        if self.raw_forward is not None and isinstance(raw, Arrays):
            (values,) = self.preparation.raw_inputs(raw).values()
            decoded = partial(self.raw_forward.decoded, values)
        else:
            decoded = partial(self._decoded_examples, self.preparation.examples(raw).to(self.device))
        try:
            return decoded()
        except (RuntimeError, IndexError) as error:
            if out_of_memory(error):
                raise
            raise CheckpointError(
                f"predict: the network fails on the prepared rows ({first_line(error)}); expected preparation and network of one "
                "run; check the run folder"
            ) from error

    def _decoded_examples(self, examples: Examples) -> Tensor:
        decoded: Tensor = self.outcome.decoding(outputs_of(self.forward, examples, self.batch_size))
        return decoded

    def trusted(self, values: Array) -> Tensor | None:
        """Return what `decoded` gives for rows of one array, where recordings are trusted that need nothing of their caller.

        Args:
            values: Numbers ``(rows, ...)``.

        Returns:
            None: ask `decoded`, which tells what is wrong, too; see `Forward.trusted`.
        """
        try:
            return None if self.raw_forward is None else self.raw_forward.trusted(values)
        except (RuntimeError, IndexError):
            return None


def _refuse_too_short(model: Masked, raw: Sequences) -> None:
    problem = unmaskable(model, torch.from_numpy(raw.lengths))
    if problem:
        shortest = int(raw.lengths.argmin())
        raise DataError(
            f"{raw.place(shortest)}: a sequence of {raw.lengths[shortest]} steps came; layer {problem[0]} of the network: "
            f"{problem[1]}"
        )


def describe(preparation: Preparation, outcome: Outcome) -> dict[str, Any]:
    """Return how rows are prepared and outputs decoded as plain values, without the tensors."""
    return {
        "preparation": preparation.to_json(),
        "outcome": {
            "task": outcome.task,
            "names": list(outcome.names),
            "classes": [labels.to_json(label) for label in outcome.classes],
            "form": outcome.decoding.form,
            "outputs": outcome.decoding.outputs,
        },
    }


def fitted_tensors(preparation: Preparation, outcome: Outcome) -> dict[str, Tensor]:
    """Return what was learned of the train rows for preparation and decoding, by name."""
    tensors = {f"preparation.{name}": value for name, value in preparation.modules.state_dict().items()}
    return tensors | {f"decoding.{name}": value for name, value in outcome.decoding.state_dict().items()}


def from_description(described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[Preparation, Outcome]:
    """Return what `describe` and `fitted_tensors` told.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, RuntimeError: They tell something else.
    """
    preparation = Preparation.from_json(described["preparation"], below(tensors, "preparation."))
    told = described["outcome"]
    decoding = Decoding(told["form"], told["outputs"])
    decoding.load_state_dict(below(tensors, "decoding."))
    classes = tuple(labels.from_json(label) for label in told["classes"])
    return preparation, Outcome(told["task"], tuple(told["names"]), classes, decoding)


def save_preparation(folder: Path, preparation: Preparation, outcome: Outcome) -> None:
    """Write how rows are prepared and outputs decoded."""
    files.write_json(folder / PREPARATION, describe(preparation, outcome))
    files.write_bytes(folder / PREPARATION_TENSORS, safetensors.torch.save(fitted_tensors(preparation, outcome)))


def load_preparation(folder: Path) -> tuple[Preparation, Outcome]:
    """Read what `save_preparation` wrote.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    try:
        described = files.read_json(folder / PREPARATION)
        return from_description(described, read_tensors(folder / PREPARATION_TENSORS))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"{folder / PREPARATION}: cannot be read ({reason}); expected the files of a run; train again or name another run"
        ) from error


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def weights_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """Return weights as a safetensors file; tensors that share memory are written once each."""
    return safetensors.torch.save(
        {name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}, {"format": "pt"}
    )


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write parameters and buffers by name."""
    files.write_bytes(path, weights_bytes(weights))


def load_weights(path: Path, model: nn.Module) -> None:
    """Read parameters and buffers into a model.

    Raises:
        CheckpointError: The file is missing or damaged, or a name or shape differs; the first difference is named.
    """
    fill(model, read_tensors(path), path)


def fill(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put weights into a model.

    Args:
        model: The network.
        tensors: Parameters and buffers by name.
        path: Where they come from, for errors.

    Raises:
        CheckpointError: A name or shape differs; the first difference is named.
    """
    own = model.state_dict()
    for name in sorted({*own, *tensors}):
        if name not in tensors or name not in own:
            where = "the file" if name not in tensors else "the network"
            raise CheckpointError(f"{path}: {name} is missing in {where}; expected the same network; check the run")
        if own[name].shape != tensors[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensors[name].shape)}; the network has {tuple(own[name].shape)}; check the run"
            )
    model.load_state_dict(tensors)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: Missing or damaged.
    """
    try:
        files.refuse_no_file(path)
        return safetensors.torch.load(path.read_bytes())
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); expected a safetensors file; check the run") from error
