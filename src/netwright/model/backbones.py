"""Networks of torchvision and timm, made without weights: the one place that imports those libraries' networks. Floor 4."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from netwright.config.backbones import WHERE, Backbone
from netwright.errors import ConfigError, did_you_mean, first_line


def make_backbone(backbone: Backbone) -> nn.Module:
    """Build a network of a library from torch's global generator; nothing is downloaded.

    Args:
        backbone: With its number of outputs.

    Raises:
        ConfigError: The library is not installed or does not fit this torch, or it has no such network.
    """
    library = _library(backbone.library)
    known = _names(library, backbone.library)
    if backbone.name.partition(".")[0] not in known:
        raise ConfigError(
            f"{WHERE}: {backbone.library} has no network {backbone.name!r} that classifies; {did_you_mean(backbone.name, known)}"
        )
    arguments = dict(backbone.arguments)
    try:
        if backbone.library == "timm":
            made = library.create_model(backbone.name, pretrained=False, **arguments)
        else:
            made = getattr(library.models, backbone.name)(weights=None, **arguments)
    except Exception as error:  # a library may raise anything
        raise ConfigError(f"{WHERE}: {backbone} cannot be built: {first_line(error)}; mend its arguments") from error
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{WHERE}: {backbone} gave {type(made).__name__}; expected a network; name another")
    return made


def _library(name: str) -> Any:
    """Import a library.

    Raises:
        ConfigError: It is not there, or it fails beside this torch.
    """
    try:
        if name == "torchvision":
            importlib.import_module("torchvision.models")
        return importlib.import_module(name)
    except Exception as error:  # one built for another torch raises RuntimeError
        missing = isinstance(error, ModuleNotFoundError) and error.name == name
        what = "is not installed" if missing else f"cannot be imported ({type(error).__name__}: {first_line(error)})"
        raise ConfigError(
            f"{WHERE}: {name} {what}; expected the {name} that fits torch {torch.__version__}; pip install 'netwright[{name}]'"
        ) from error


def _names(library: Any, name: str) -> list[str]:
    if name == "timm":
        return list(library.list_models())
    return list(library.models.list_models(module=library.models))


def refuse_channels(module: nn.Module, backbone: Backbone, shape: Sequence[int]) -> None:
    """Refuse rows that are no images, or images of other channels than the network reads.

    Args:
        module: The network.
        backbone: Where it comes from.
        shape: Of one row.

    Raises:
        ConfigError: It says how they can be made to fit.
    """
    if len(shape) != 3:
        raise ConfigError(
            f"{WHERE}: rows of shape {tuple(shape)} came; {backbone.name} reads images (channels, height, width); give image files "
            "or an array (N, channels, height, width)"
        )
    first = next((one for one in module.modules() if isinstance(one, nn.Conv2d)), None)
    wanted = shape[0] if first is None else first.in_channels
    if wanted != shape[0]:
        way = f"in_chans={shape[0]} in the call, or " if backbone.library == "timm" else ""
        raise ConfigError(
            f'{WHERE}: images of {shape[0]} channel(s) came; {backbone.name} reads {wanted}; write {way}data.image_mode = "rgb" '
            "for image files, or np.repeat(images, 3, axis=1) for an array of grey ones"
        )
