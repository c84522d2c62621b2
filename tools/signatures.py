"""Writes src/netwright/config/signatures.json: names and parameters of torch's layers, losses, optimizers and schedulers.

The table lets a misspelled name be answered without importing torch. Run `python tools/signatures.py` after a
change of torch; tests/config/test_signatures.py compares the table with the torch that is installed.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

TABLE = Path(__file__).parent.parent / "src" / "netwright" / "config" / "signatures.json"

HIDDEN = {"self", "device", "dtype", "_weight", "_freeze", "_random_samples", "params", "_stacklevel"}
HIDDEN |= {"optimizer", "last_epoch", "scale_fn"}  # likewise
HIDDEN |= {"return_indices", "reduction", "reduce", "size_average"}  # refused with a reason where they are written
TWO_INPUTS = "it reads more than one tensor, a layer of a list reads one; write an own module (model.module)"
CONTAINER = "it holds modules and is no layer; write Sequential, Residual or Parallel with a list"
CELL = "it makes one step in time only; write {name} without Cell"
LAZY = "sizes are worked out already; write {name} without Lazy"
REFUSED_LAYERS = {
    "Bilinear": TWO_INPUTS,
    "CosineSimilarity": TWO_INPUTS,
    "PairwiseDistance": TWO_INPUTS,
    "MaxUnpool1d": TWO_INPUTS,
    "MaxUnpool2d": TWO_INPUTS,
    "MaxUnpool3d": TWO_INPUTS,
    "Transformer": TWO_INPUTS,
    "TransformerDecoder": TWO_INPUTS,
    "TransformerDecoderLayer": TWO_INPUTS,
    "TransformerEncoder": "it is built from a module; write TransformerEncoderLayer once per layer",
    "AdaptiveLogSoftmaxWithLoss": "it is a loss that holds weights; write an own module (model.module)",
    "DataParallel": CONTAINER,
    "ModuleDict": CONTAINER,
    "ModuleList": CONTAINER,
    "ParameterDict": CONTAINER,
    "ParameterList": CONTAINER,
    "Container": CONTAINER,
    "Module": CONTAINER,
    "RNNBase": "it is a base class; write RNN, LSTM or GRU",
    "RNNCellBase": "it is a base class; write RNN, LSTM or GRU",
    "SyncBatchNorm": "it needs several processes; write BatchNorm1d, BatchNorm2d or BatchNorm3d",
}
RECURRENT = [
    ["input_size", True],
    ["hidden_size", True],
    ["num_layers", False],
    ["bias", False],
    ["batch_first", False],
    ["dropout", False],
    ["bidirectional", False],
]
BY_HAND = {
    "RNN": [*RECURRENT[:3], ["nonlinearity", False], *RECURRENT[3:]],
    "LSTM": [*RECURRENT, ["proj_size", False]],
    "GRU": RECURRENT,
    "Sequential": [["layers", True]],
    "Identity": [],
}
REFUSED_LOSSES = {
    "CTCLoss": "it needs lengths",
    "CosineEmbeddingLoss": "it compares two outputs",
    "GaussianNLLLoss": "it needs a predicted variance",
    "HingeEmbeddingLoss": "it reads a distance and a target of 1 and -1",
    "KLDivLoss": "its target is a distribution, not a column",
    "LinearCrossEntropyLoss": "it holds weights of its own",
    "MarginRankingLoss": "it compares two outputs",
    "MultiLabelMarginLoss": "it reads lists of label numbers, no 0 and 1; write MultiLabelSoftMarginLoss",
    "NLLLoss2d": "it is torch's old name; write NLLLoss",
    "SoftMarginLoss": "its target is 1 and -1; write BCEWithLogitsLoss",
    "TripletMarginLoss": "it compares three outputs",
    "TripletMarginWithDistanceLoss": "it compares three outputs",
}
FUNCTION = "no text holds its function; hand it over in Python: nw.train(schedule=lambda optimizer: {name}(optimizer, ...))"
REFUSED_SCHEDULERS = {
    "LambdaLR": FUNCTION.format(name="LambdaLR"),
    "MultiplicativeLR": FUNCTION.format(name="MultiplicativeLR"),
    "LRScheduler": "it is a base class; write for instance CosineAnnealingLR()",
}


def parameters(kind: type) -> list[list[object]]:
    """Return [name, required] for each parameter a setting may give."""
    found = []
    for name, parameter in inspect.signature(kind).parameters.items():
        if name in HIDDEN or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        found.append([name, parameter.default is parameter.empty])
    return found


def describe() -> dict[str, object]:
    """Return the whole table for the torch that is installed."""
    layers: dict[str, object] = {}
    refused: dict[str, str] = {}
    losses: dict[str, object] = {}
    for name in sorted(vars(nn) | {"Sequential": None}):
        kind = getattr(nn, name)
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            continue
        if name in REFUSED_LAYERS:
            refused[name] = REFUSED_LAYERS[name]
        elif name.endswith("Loss") or name == "NLLLoss2d":
            if name not in REFUSED_LOSSES:
                losses[name] = parameters(kind)
        elif name.startswith("Lazy"):
            refused[name] = LAZY.format(name=name.removeprefix("Lazy"))
        elif name.endswith("Cell"):
            refused[name] = CELL.format(name=name.removesuffix("Cell"))
        else:
            layers[name] = BY_HAND.get(name) or parameters(kind)
    optimizers = {
        name: parameters(kind)
        for name, kind in sorted(vars(torch.optim).items())
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    }
    schedulers = {
        name: parameters(getattr(lr_scheduler, name))
        for name in sorted(lr_scheduler.__all__)
        if name not in REFUSED_SCHEDULERS
    }
    return {
        "torch": ".".join(torch.__version__.split(".")[:2]),
        "layers": layers,
        "refused_layers": refused,
        "losses": losses,
        "refused_losses": REFUSED_LOSSES,
        "optimizers": optimizers,
        "schedulers": {**schedulers, "SWALR": parameters(SWALR)},
        "refused_schedulers": REFUSED_SCHEDULERS,
    }


def render() -> str:
    """Return the table as the text of the shipped file: one name a line."""
    parts = []
    for section, value in describe().items():
        if isinstance(value, dict):
            rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in value.items())
            parts.append(f" {json.dumps(section)}: {{\n{rows}\n }}")
        else:
            parts.append(f" {json.dumps(section)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    TABLE.write_text(render(), encoding="utf-8")
    print(TABLE)
