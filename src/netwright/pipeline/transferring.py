"""What settings say of layers that do not learn, joined with a network. Floor 9."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from netwright.config.schema import RunConfig
from netwright.pipeline.network import Network
from netwright.training.freezing import Freezing, freezing_of


def freezing_in(config: RunConfig, model: nn.Module) -> Freezing | None:
    """Return which parameters of a network are frozen in which epoch; None where nothing was asked for.

    Raises:
        ConfigError: A pattern matches nothing, or nothing is left to train.
    """
    training = config.training
    return freezing_of(model, training.freeze, [(one.epoch, one.parameters) for one in training.unfreeze])


def held(network: Network, config: RunConfig) -> Network:
    """Return a network with the parameters frozen that do not learn in epoch 1, and with remarks on them.

    Raises:
        ConfigError: See `freezing_in`.
    """
    freezing = freezing_in(config, network.module)
    if freezing is None:
        return network
    freezing.hold(network.module, 1)
    trained = sum(value.numel() for value in network.module.parameters() if value.requires_grad)
    late = [one.epoch for one in config.training.unfreeze if one.epoch > (config.training.epochs or one.epoch)]
    notes = [
        f"training.unfreeze: epoch {epoch} comes after the last, {config.training.epochs}; those layers stay frozen"
        for epoch in sorted(set(late))
    ]
    summary = replace(network.summary, trainable=trained)
    return replace(network, summary=summary, notes=(*network.notes, *notes))
