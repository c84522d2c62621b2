"""What a network that is fitted shows on one batch before it trains, as warnings of Python. Floor 17."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from netwright.checks import code, description, one_batch
from netwright.checks.ending import broadcasts, own_parameters, purpose_of
from netwright.checks.findings import Finding, in_order
from netwright.checks.rehearsal import Rehearsed
from netwright.data.batches import Examples, Rows
from netwright.errors import warn_of
from netwright.estimators.networks import Network
from netwright.estimators.settings import in_own_words
from netwright.training.optimizer import make_optimizer, resolve_optimizer

MOST_PARAMETERS = 2_000_000  # a copy of more takes longer than a search should wait in each of its fits
LOOKED_AT = 256  # networks that nothing was found in, so that a search does not look again

_clear: dict[tuple[object, ...], None] = {}


def warn_of_findings(
    network: Network, optimizer: str, loss: Callable[..., Tensor], examples: Examples, rows: Rows, weighted: bool
) -> None:
    """Warn of what checks find in a network, its code and one batch, but for notes; torch's generators are moved.

    A network made of texts that nothing was found in is not looked at again in this process, with the same optimizer, loss and
    shape, and numbers of the same size.

    Args:
        network: Nothing of it is changed.
        optimizer: Its text.
        loss: Of output and target.
        examples: On the device of the network.
        rows: The numbers of the train rows.
        weighted: Whether the last column of the target are weights.
    """
    large = sum(value.numel() for value in network.module.parameters()) > MOST_PARAMETERS
    if large or not one_batch.quick(network.multiply_adds):
        return
    key = None if network.layers is None else _key(network, optimizer, examples, rows, weighted)
    if key in _clear:
        return
    try:
        found = _findings(network, optimizer, loss, examples, rows, weighted)
    except Exception:  # what can be looked at is; a fit does without
        return
    for one in found:
        warn_of(in_own_words(str(one)))
    if key is not None and not found:
        _clear[key] = None
        if len(_clear) > LOOKED_AT:
            _clear.pop(next(iter(_clear)))


def _key(network: Network, optimizer: str, examples: Examples, rows: Rows, weighted: bool) -> tuple[object, ...]:
    """Return what the findings of a network made of texts hang on, of the numbers about how large they are."""
    batch = examples.batch(one_batch.drawn_from(rows, network.multiply_adds))
    target = _alone(network, examples.target[torch.from_numpy(rows[: one_batch.TARGETS])], weighted)
    sizes = [_size(values) for values in (*batch.inputs.values(), target) if values.is_floating_point()]
    shapes = tuple(examples.shapes.items())
    return (network.layers, network.task.kind, network.task.loss, optimizer, shapes, weighted, *sizes)


def _size(values: Tensor) -> tuple[float, ...]:
    """Return the least, the greatest and the deviation of some numbers as powers of two with their signs."""
    found = torch.stack([values.min(), values.max(), values.std(correction=0)]).double()
    return tuple((found.sign() * found.abs().log2().ceil().exp2()).tolist())


def _findings(
    network: Network, optimizer: str, loss: Callable[..., Tensor], examples: Examples, rows: Rows, weighted: bool
) -> list[Finding]:
    """Return the findings that are more than notes."""
    module = network.module
    call = resolve_optimizer(optimizer, examples.target.device)
    group = make_optimizer(call, module).param_groups[0]
    sources = code.sources_of(type(part) for part in module.modules())
    purpose = purpose_of(
        network.task, _alone(network, examples.target[torch.from_numpy(rows[: one_batch.TARGETS])], weighted).cpu()
    )
    found = [*description.optimizer(call.name, group), *code.read(sources), *broadcasts(network.task.loss_function, purpose)]
    found += own_parameters(network.task.loss_function)
    batch = examples.batch(one_batch.drawn_from(rows, network.multiply_adds))
    files = sorted({source.file for source in sources})

    def rehearsed() -> Rehearsed:
        own = copy.deepcopy((module, loss, batch))
        return Rehearsed(own[0], own[1], lambda model: make_optimizer(call, model), own[2], purpose, files)

    trained = sum(value.numel() for value in module.parameters() if value.requires_grad)
    return [one for one in in_order(one_batch.look(rehearsed, found, trained)[0]) if one.refuses]


def _alone(network: Network, target: Tensor, weighted: bool) -> Tensor:
    """Return the target as the loss reads it, without weights."""
    if not weighted:
        return target
    plain = target[:, :-1]
    return plain[:, 0].long() if network.task.class_target and network.task.kind != "multilabel" else plain
