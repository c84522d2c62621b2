"""Networks of torchvision and timm in their own spelling, read as data: never a download, never code. Floor 1."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from netwright.config.calls import Call, parse_call
from netwright.config.values import shortened
from netwright.errors import ConfigError

WHERE = "model.backbone"
EXAMPLE = 'torchvision.models.resnet18() or timm.create_model("resnet18")'
FETCHING = ("weights", "weights_backbone", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path")
IDLE = ("progress", "cache_dir")  # what only a download reads
AUXILIARY = ("googlenet", "inception_v3")  # of torchvision: with further outputs while they train


@dataclass(frozen=True)
class Backbone:
    """A network of a library: its name there, and the arguments it is made with."""

    library: str
    name: str
    arguments: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        """Return it as Python that makes it."""
        if self.library == "timm":
            return f"timm.{Call('create_model', (self.name,), self.arguments)}"
        return f"torchvision.models.{Call(self.name, (), self.arguments)}"

    def with_outputs(self, outputs: int) -> Backbone:
        """Return it with so many outputs where it does not say how many, and without further outputs in training."""
        given = dict(self.arguments)
        given.setdefault("num_classes", outputs)
        if self.library == "torchvision" and self.name in AUXILIARY:
            given = {**given, "aux_logits": given.get("aux_logits", False), "init_weights": given.get("init_weights", True)}
        return Backbone(self.library, self.name, tuple(given.items()))


def read_backbone(text: str) -> Backbone:
    """Read the text of a network of torchvision or timm.

    Args:
        text: ``torchvision.models.NAME(...)`` or ``timm.create_model(NAME, ...)``, arguments as literals.

    Raises:
        ConfigError: Neither, or an argument that would download weights.
        SafetyError: The text hides code.

    Example:
        >>> str(read_backbone("models.resnet18(weights=None)"))
        'torchvision.models.resnet18()'
        >>> str(read_backbone("timm.create_model('vit_tiny_patch16_224', img_size=32)").with_outputs(5))
        "timm.create_model('vit_tiny_patch16_224', img_size=32, num_classes=5)"
    """
    found = re.fullmatch(r"\s*(?:(torchvision\.models|models|timm)\.)?([A-Za-z_]\w*)\s*(\(.*\))\s*", text, re.DOTALL)
    if found is None:
        raise ConfigError(f"{WHERE}: {shortened(text)!r} came; expected a call such as {EXAMPLE}; write one")
    prefix, name, rest = found.groups()
    call = parse_call(f"{name}{rest}", WHERE)
    timm = prefix == "timm" or (prefix is None and name == "create_model")
    if timm and name != "create_model":
        raise ConfigError(f"{WHERE}: {shortened(text)!r} came; expected timm.create_model({name!r}); write that")
    given = call.keywords
    if timm:
        name = str(given.pop("model_name", call.args[0] if call.args else ""))
        if not re.fullmatch(r"\w+(\.\w+)?", name):  # hf-hub:..., local-dir:... fetch what they name
            raise ConfigError(
                f"{WHERE}: the name {shortened(name)!r} came; expected one of timm's own such as resnet18, because nothing is "
                "downloaded; name weights in a file by model.weights"
            )
    if len(call.args) > int(timm):
        raise ConfigError(
            f"{WHERE}: {call} came; expected its arguments by keyword; write num_classes=... and their like so"
        )
    _refuse_fetching(given, f"{shortened(text)}")
    kept = {key: value for key, value in given.items() if key not in (*FETCHING, *IDLE)}
    return Backbone("timm" if timm else "torchvision", name, tuple(kept.items()))


def _refuse_fetching(given: dict[str, Any], text: str) -> None:
    """Refuse an argument that asks for weights of the library's own.

    Raises:
        ConfigError: It says what to do.
    """
    for name in FETCHING:
        if given.get(name) not in (None, False):
            raise ConfigError(
                f"{WHERE}: {text} came; {name}={given[name]!r} would download weights, and netwright downloads none; expected it "
                "left out; where there is a network, torch.save(model.state_dict(), 'weights.pt'), then write model.weights = "
                '"weights.pt"'
            )


def backbone_problems(text: str) -> list[str]:
    """Return what is wrong with the text of a network; nothing where it can be read.

    Raises:
        SafetyError: The text hides code.
    """
    try:
        read_backbone(text)
    except ConfigError as error:
        return [str(error)]
    return []
