"""A network in eval mode: rows that meet, answers that are drawn or constant, a batch of one, inputs that change. Floor 10."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from netwright.checks.findings import Finding
from netwright.checks.flow import DROPOUTS, RANDOM, Flow
from netwright.checks.rehearsal import Rehearsed, still_after_steps
from netwright.data.batches import Batch
from netwright.errors import first_line
from netwright.model.summary import call_model

SAME = 1e-5  # of the size of the outputs
CONSTANT = 1e-5
MODES = (
    nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase, nn.MultiheadAttention, nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer, nn.RReLU, nn.RNNBase,
)  # fmt: skip


def consistent(one: Rehearsed, flow: Flow) -> list[Finding]:
    """Return what is odd about a network in eval mode.

    Args:
        one: The network is a copy that has not been trained.
        flow: Of a forward pass in training mode.
    """
    model = one.model.eval()
    with torch.no_grad():
        given = {name: value.clone() for name, value in one.batch.inputs.items()}
        whole = call_model(model, given, one.batch.lengths)
        if not isinstance(whole, Tensor) or not bool(torch.isfinite(whole).all()):
            return []
        found = _changed(one.batch.inputs, given)
        again = _answer(model, one.batch)
        if not _close(whole, again):
            return [*found, _random(whole, again)]
        found += _mixed(model, one.batch, whole)
        found += _single(model, one.batch, whole)
        found += _modes(one, flow, whole)
        found += _forgotten(one)
    return found + _constant(one, whole)


def _forgotten(one: Rehearsed) -> list[Finding]:
    """Tell a buffer that each training step changes but that is not saved; one that is filled once is a cache."""
    model, kept = one.model, set(one.model.state_dict())
    if all(name in kept for name, _ in model.named_buffers()):
        return []
    model.train()
    _answer(model, one.batch)
    before = {name: value.clone() for name, value in model.named_buffers() if name not in kept}
    _answer(model, one.batch)
    model.eval()
    after = dict(model.named_buffers())
    return [
        Finding(
            "state-not-registered",
            f"buffer {name}",
            "it changes while the network trains, but with persistent=False neither weights nor checkpoints hold it, so that a run "
            "that is resumed or loaded answers otherwise",
            "leave persistent=False out",
            confidence="sure",
        )
        for name, value in before.items()
        if name in after and not torch.equal(value, after[name])
    ]


def _answer(model: nn.Module, batch: Batch) -> Tensor:
    found: Tensor = call_model(model, {name: value.clone() for name, value in batch.inputs.items()}, batch.lengths)
    return found


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and float((one - other).abs().max()) <= SAME * (float(one.abs().max()) + 1e-6)


def _changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[Finding]:
    for name, value in before.items():
        if not torch.equal(value, after[name]):
            return [
                Finding(
                    "input-changed-in-place",
                    f"input {name}",
                    "forward changes the tensor that it is given (+=, an assignment to x[...], a function with _ at its end, or "
                    "inplace=True), so that whoever holds the rows sees other numbers afterwards",
                    "make a new tensor: x = x + 1, torch.relu(x)",
                    confidence="sure",
                )
            ]
    return []


def _random(one: Tensor, other: Tensor) -> Finding:
    gap = float((one - other).abs().max()) if one.shape == other.shape else float("nan")
    return Finding(
        "random-in-eval",
        "the network in eval mode",
        f"two calls with the same rows differ (by up to {gap:.2g}), so that predictions and validation are drawn at random: "
        "F.dropout without training=self.training is on always, and so is a Dropout made in forward",
        "write F.dropout(x, p, training=self.training), or nn.Dropout in __init__",
        confidence="sure",
    )


def _mixed(model: nn.Module, batch: Batch, whole: Tensor) -> list[Finding]:
    """Put other rows in the place of the first and the last, and see whether the answers for the others move."""
    rows = len(batch)
    if rows < 3 or whole.shape[:1] != (rows,):
        return []
    inputs = {name: value.clone() for name, value in batch.inputs.items()}
    target = rows - 1
    lengths = None if batch.lengths is None else batch.lengths.clone()
    for value in [*inputs.values(), *([] if lengths is None else [lengths])]:
        value[0], value[target] = value[rows // 2].clone(), value[1].clone()  # the first too: rows may be read as time
    if all(torch.equal(inputs[name], batch.inputs[name]) for name in inputs):
        return []
    try:
        moved: Any = call_model(model, inputs, lengths)
    except Exception:  # the user's own module may raise anything on a row twice; the batch itself went through
        return []
    others = slice(1, target)
    if not isinstance(moved, Tensor) or moved.shape != whole.shape or _close(whole[others], moved[others]):
        return []
    gap = float((whole[others] - moved[others]).abs().max())
    return [
        Finding(
            "rows-mixed",
            "the network in eval mode",
            f"the answers for other rows move (by up to {gap:.2g}) where two rows are exchanged: rows meet, through an axis taken "
            "for another (an LSTM without batch_first=True, softmax or mean over axis 0, a view that cuts rows anew), or "
            "through statistics of the batch",
            "keep the first axis apart: name the axis that is meant",
            "error",
            "sure",
            {"gap": gap},
        )
    ]


def _single(model: nn.Module, batch: Batch, whole: Tensor) -> list[Finding]:
    """Ask for one row alone."""
    alone = batch.part(0, 1)
    try:
        found: Any = call_model(model, {name: value.clone() for name, value in alone.inputs.items()}, alone.lengths)
        told = (
            f"it gives {tuple(found.shape)} instead of {(1, *whole.shape[1:])}"
            if isinstance(found, Tensor)
            else "it gives no tensor"
        )
        fits = isinstance(found, Tensor) and found.shape == (1, *whole.shape[1:])
    except Exception as error:  # the user's own module may raise anything
        fits, told = False, f"it fails: {type(error).__name__}: {first_line(error)}"
    if fits:
        return []
    return [
        Finding(
            "batch-of-one",
            "a batch of one row",
            f"{told}; a last batch or a single prediction may be one row: squeeze() without an axis takes that axis away, and a "
            "number of rows written into view() does not fit",
            "name the axis: squeeze(1), flatten(1), x.view(len(x), -1)",
            confidence="sure",
        )
    ]


def _modes(one: Rehearsed, flow: Flow, whole: Tensor) -> list[Finding]:
    """Tell a network that does something else in training though nothing in it has two modes."""
    two_modes = any(isinstance(module, MODES) for module in one.model.modules())
    drawn = any(
        True for _ in flow.named((*RANDOM, *DROPOUTS, "batch_norm", "instance_norm", "multi_head_attention_forward"))
    )
    if two_modes or drawn:
        return []
    one.model.train()
    trained = _answer(one.model, one.batch)
    one.model.eval()
    if _close(whole, trained):
        return []
    return [
        Finding(
            "train-eval-differ",
            "the network",
            "it answers otherwise in training mode than in eval mode, though no Dropout, BatchNorm or random number is in it",
            "look at what hangs on self.training",
        )
    ]


def _constant(one: Rehearsed, whole: Tensor) -> list[Finding]:
    """Tell a network that answers the same for different rows, also after two steps."""
    rows = next(iter(one.batch.inputs.values())).flatten(1)
    if len(whole) < 8 or bool((rows == rows[0]).all()) or not _flat(whole):
        return []
    one.model.train()
    still_after_steps(one, ())
    one.model.eval()
    with torch.no_grad():
        after = _answer(one.model, one.batch)
    if not _flat(after):
        return []
    return [
        Finding(
            "constant-output",
            "the network",
            f"it gives the same answer for {len(whole)} different rows (deviation {float(whole.float().std(dim=0).max()):.1g}), "
            "also after two steps: what tells the rows apart is lost on the way",
            "look for a layer that is dead or saturated, a chain of many sigmoids, or a normalisation of a single number",
            confidence="sure",
        )
    ]


def _flat(values: Tensor) -> bool:
    spread = values.float().std(dim=0)
    return bool((spread <= CONSTANT * (values.float().abs().mean(dim=0) + 1e-3)).all())
