"""A network and rows in, outputs and the exact mean loss out; under eval() and inference_mode. Floor 8."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from netwright.data.batches import Batch, Examples, Rows, batches, batches_in_order
from netwright.engine.forward import Forward
from netwright.errors import DataError, first_line
from netwright.model.losses import loss_weight
from netwright.model.summary import call_model, takes_lengths
from netwright.recording.state import parts_of
from netwright.seeding import forked

SMALLEST_BATCH = 128  # scoring needs no gradients, so small training batches are widened
SMALLEST_OF_VECTORS = 1024  # what layers hold of a vector is small


@dataclass(frozen=True)
class Scores:
    """Outputs ``(rows, ...)`` on the CPU in the order of the rows, and the loss as (weighted sum, weight).

    Outputs per step are ``(steps, ...)``, row after row, without what was padded.
    """

    outputs: Tensor
    loss_sum: float
    weight: float

    @property
    def loss(self) -> float:
        """The mean loss over all rows."""
        return self.loss_sum / self.weight if self.weight else float("nan")


@contextmanager
def evaluating(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Put a network into eval mode without gradients, and back; no generator of training is moved.

    Networks of torch's layers run under inference_mode. An own module may keep a tensor for later (a mask, a position),
    which inference_mode would make useless for training, so it runs under no_grad.
    """
    modes = {module: module.training for module in parts_of(model)}
    ours = all(type(module).__module__.startswith(("torch.nn.", "netwright.")) for module in modes)
    if not ours or any(modes.values()):
        model.eval()
    try:
        with torch.inference_mode() if ours else torch.no_grad(), forked(device):
            yield
    finally:
        for module, training in modes.items():
            if module.training != training:
                module.training = training


def at_once(axes: int, batch_size: int) -> int:
    """Return how many rows are scored or predicted at a time: of vectors more than of what lies in space or time.

    Args:
        axes: Of the batch, that of the rows included.
        batch_size: Rows of a training batch.
    """
    return max(batch_size, SMALLEST_OF_VECTORS if axes <= 2 else SMALLEST_BATCH)


def _at_once(examples: Examples, batch_size: int) -> int:
    axes = [len(shape) for shape in examples.shapes.values()]
    return at_once(3 if examples.spans is not None else max(axes) + 1, batch_size)


def score(
    forward: Forward,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    examples: Examples,
    rows: Rows,
    batch_size: int,
    most: int = 0,
) -> Scores:
    """Run rows through a network without training it.

    Args:
        forward: Calls a network, whose mode is put back afterwards.
        loss_function: Of output and target, the mean of a batch.
        examples: All prepared rows, on the model's device.
        rows: The row numbers, in order.
        batch_size: Rows at a time; fewer than `at_once` says are not taken.
        most: Rows of the process that has most of them, where the network is called by all as often.

    Returns:
        Outputs and loss; no generator of training is moved.
    """
    outputs: list[Tensor] = []
    loss_sum = weight = 0.0
    with evaluating(forward.model, examples.device):
        size = _at_once(examples, batch_size)
        for batch in batches(examples, rows, size):
            output = forward(batch)
            batch_weight = float(loss_weight(loss_function, batch.target))
            loss_sum += float(loss_function(output, batch.target)) * batch_weight
            weight += batch_weight
            outputs.append(_real(output, batch, examples.per_step).cpu())
        for _ in range(len(outputs), -(-most // size)):
            forward(batch)
    return Scores(torch.cat(outputs), loss_sum, weight)


def outputs_of(forward: Forward, examples: Examples, batch_size: int) -> Tensor:
    """Return the outputs ``(rows, ...)`` of all rows, or ``(steps, ...)`` of a target per step, on the CPU.

    Nobody else holds the rows: a network that writes into its input writes into them.
    A network that was trained on rows of one length and gets others reads those of each length together, unpadded.
    """
    model = forward.model
    if examples.padded and not takes_lengths(model):
        return _outputs_by_length(model, examples, batch_size)
    parts = []
    with evaluating(model, examples.device):
        for batch in batches_in_order(examples, _at_once(examples, batch_size)):
            parts.append(_real(forward(batch), batch, examples.per_step).cpu())
    return torch.cat(parts)


def _outputs_by_length(model: nn.Module, examples: Examples, batch_size: int) -> Tensor:
    """Return the outputs of rows of different length, of one length at a time.

    Raises:
        DataError: The network can read no sequences of such a length.
    """
    found: dict[int, Tensor] = {}
    with evaluating(model, examples.device):
        for same, rows in examples.by_length():
            for batch in batches(same, rows, _at_once(same, batch_size)):
                try:
                    outputs = call_model(model, batch.inputs).cpu()
                except Exception as error:  # an own module may raise anything
                    shape = tuple(next(iter(batch.inputs.values())).shape[1:])
                    raise DataError(
                        f"data: row {int(batch.rows[0])}: a sequence of shape {shape} came; the network fails on it: "
                        f"{first_line(error)}; give sequences of the length it was trained on"
                    ) from error
                found |= dict(zip(batch.rows.tolist(), outputs, strict=True))
    parts = [found[row] for row in range(examples.rows)]
    return torch.cat(parts) if examples.per_step else torch.stack(parts)


def _real(output: Tensor, batch: Batch, per_step: bool) -> Tensor:
    """Return outputs as they are, or of each step that is there, row after row."""
    if not per_step:
        return output
    if batch.lengths is None:
        return output.flatten(0, 1)
    return output[torch.arange(output.shape[1], device=output.device) < batch.lengths.unsqueeze(1)]
