"""The closed registries: which layers, losses, optimizers and transforms a setting may name, and their parameters.

Reads the shipped tables signatures.json (made from torch by tools/signatures.py) and transforms.json (from torchvision by
tools/transforms.py), so that a misspelled name is answered without importing either. Floor 1.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

from netwright.config.calls import CONTAINERS, SCHEDULES, Call, parse_call
from netwright.config.values import shortened
from netwright.errors import ConfigError, did_you_mean, nearest

# The layers torch.nn does not have; their classes stand in model/modules.py and model/numeric.py.
OWN_LAYERS: dict[str, tuple[tuple[str, bool], ...]] = {
    "EmbedColumns": (("levels", False), ("dimensions", False)),
    "LastStep": (),
    "MeanOverTime": (),
    "Parallel": (("layers", True), ("dim", False)),
    "PeriodicEmbeddings": (("dimension", False), ("frequencies", False), ("sigma", False), ("columns", False)),
    "RandomMirror": (("dims", True),),
    "RandomShift": (("most", True),),
    "RandomStretch": (("factor", True),),
    "RandomTurn": (("dims", True),),
    "Residual": (("layers", True),),
    "Transpose": (),
}

# The losses torch.nn does not have; their classes stand in model/focal.py.
OWN_LOSSES: dict[str, tuple[tuple[str, bool], ...]] = {
    "FocalLoss": (("gamma", False), ("weight", False), ("pos_weight", False)),
}

# The transforms torchvision does not have, or not for prepared rows; their classes stand in data/transforms.py, data/mixing.py.
OWN_TRANSFORMS: dict[str, tuple[tuple[str, bool], ...]] = {
    "CutMix": (("alpha", False),),
    "MixUp": (("alpha", False),),
    "Noise": (("std", False),),
    "Scale": (("std", False),),
    "TimeMask": (("most", True),),
    "TimeShift": (("most", True),),
}

# Schedules of the learning rate torch does not have; see training/schedulers.py.
OWN_SCHEDULERS: dict[str, tuple[tuple[str, bool], ...]] = {
    "WarmupCosine": (("warmup", False), ("total_steps", False), ("final", False)),
}

# Averages of the weights; see training/averaging.py.
AVERAGES: dict[str, tuple[tuple[str, bool], ...]] = {"EMA": (("decay", False),), "SWA": (("start_epoch", False),)}

# The argument that may be left out, because the layer before or the data decide it.
INFERRED: dict[str, str] = {
    "Linear": "in_features",
    "Embedding": "num_embeddings",
    "EmbeddingBag": "num_embeddings",
    "GroupNorm": "num_channels",
    "LayerNorm": "normalized_shape",
    "RMSNorm": "normalized_shape",
    "MultiheadAttention": "embed_dim",
    "TransformerEncoderLayer": "d_model",
    **{f"{kind}{n}d": "in_channels" for kind in ("Conv", "ConvTranspose") for n in (1, 2, 3)},
    **{f"{kind}{n}d": "num_features" for kind in ("BatchNorm", "InstanceNorm") for n in (1, 2, 3)},
    **dict.fromkeys(("RNN", "LSTM", "GRU"), "input_size"),
    "CosineAnnealingLR": "T_max",
    "OneCycleLR": "max_lr",
}

# Arguments torch has and a setting may not give, with the reason.
UNWANTED = {
    "reduction": "the mean is taken exactly over all rows",
    "reduce": "the mean is taken exactly over all rows",
    "size_average": "the mean is taken exactly over all rows",
    "return_indices": "a layer gives one tensor",
    "device": "training.device decides",
    "dtype": "training runs in float32",
    "params": "all parameters of the network are trained",
    "num_classes": "the task decides",
    "labels_getter": "the target is known",
    "optimizer": "it is that of training.optimizer",
    "last_epoch": "the run counts its epochs and steps itself",
    "scale_fn": "no text holds a function; hand the schedule over in Python, nw.train(schedule=lambda optimizer: ...)",
}

# What the field or another library calls them, where no prefix of torch's own name is the same.
USUAL = "Default"  # as an optimizer: the one a network has where none is written, with other arguments
SYNONYMS: dict[str, tuple[str, ...]] = {
    "mae": ("L1Loss",), "l2": ("MSELoss",), "rmse": ("MSELoss",), "ce": ("CrossEntropyLoss",), "xent": ("CrossEntropyLoss",),
    "meansquarederror": ("MSELoss",), "meanabsoluteerror": ("L1Loss",), "logloss": ("CrossEntropyLoss", "BCEWithLogitsLoss"),
    "binarycrossentropy": ("BCEWithLogitsLoss",), "categoricalcrossentropy": ("CrossEntropyLoss",),
    "sparsecategoricalcrossentropy": ("CrossEntropyLoss",), "dense": ("Linear",), "fc": ("Linear",), "swish": ("SiLU",),
}  # fmt: skip


@dataclass(frozen=True)
class Registry:
    """The names of one kind, with ``(parameter, required)`` for each, and the names refused with the reason."""

    kind: str
    known: dict[str, tuple[tuple[str, bool], ...]]
    refused: dict[str, str]

    def parameters_of(self, name: str) -> tuple[tuple[str, bool], ...] | None:
        """Return ``(parameter, required)`` for each of a name, or None for one that is unknown."""
        return self.known.get("Adam" if name == USUAL and self.kind == "optimizer" else name)

    def problem(self, call: Call, where: str) -> str | None:
        """Return what is wrong with the name or the argument names of a call, or None."""
        if call.name in self.refused:
            return f"{where}: {call.name} came; {self.refused[call.name]}"
        parameters = self.parameters_of(call.name)
        if parameters is None:
            other = _kind_elsewhere(call.name, self.kind)
            if other:
                return f"{where}: {call.name} came, which is {other}"
            return f"{where}: {call.name!r} is no known {self.kind}; {self.advice(call.name)}"
        names = [name for name, _ in parameters]
        usual = call.name == USUAL and self.kind == "optimizer"
        called = "the default optimizer (Adam or AdamW)" if usual else call.name  # a setting alone does not write its name
        for keyword in call.keywords:
            if keyword in UNWANTED:
                return f"{where}: {called} came with {keyword}; {UNWANTED[keyword]}; leave it out"
            if keyword not in names:
                return f"{where}: {called} has no argument {keyword!r}; {did_you_mean(keyword, names)}"
        if call.name not in CONTAINERS and len(call.args) > len(names):
            return (
                f"{where}: {call} came with {len(call.args)} values; {called} has {len(names)} arguments "
                f"({', '.join(names)}); write them by keyword"
            )
        return None

    def resembling(self, name: str) -> list[str]:
        """Return up to three known names: the same but for case, else beginning so, else a synonym, else similar."""
        key = re.sub(r"[^a-z0-9]", "", name.lower())
        if not key:
            return []
        same = [known for known in self.known if known.lower() == key]
        begins = [known for known in sorted(self.known, key=len) if len(key) > 1 and known.lower().startswith(key)]
        synonyms = [known for known in SYNONYMS.get(key.removesuffix("loss"), ()) if known in self.known]
        stems = {known.lower().removesuffix("loss"): known for known in self.known}
        similar = [stems[stem] for stem in nearest(key.removesuffix("loss"), stems)]
        return (same or begins or synonyms or nearest(key, self.known) or similar)[:3]

    def advice(self, name: str) -> str:
        """Return the question for the nearest known names, or the list of them."""
        close = self.resembling(name)
        return f"did you mean {' or '.join(close)}?" if close else did_you_mean(name, self.known)

    def example(self, name: str) -> str:
        """Return the shortest call of a name, such as ``MaxPool2d(kernel_size=...)``."""
        inferred = INFERRED.get(name)
        needed = [parameter for parameter, required in self.known[name] if required and parameter != inferred]
        if name == "Linear":
            needed = []
        return f"{name}({', '.join(f'{parameter}=...' for parameter in needed)})"

    def bare_problem(self, text: str, where: str) -> str | None:
        """Return what to write instead of a name without brackets, or None where the text is something else."""
        words = text.strip()
        if "__" in words or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*([ -][A-Za-z0-9_]+)*", words):
            return None
        name = words.rpartition(".")[2]
        if name in self.refused:
            return f"{where}: {name} came; {self.refused[name]}"
        if name.capitalize() == USUAL and self.kind == "optimizer":
            return f"{where}: {shortened(text)!r} came; expected a call with brackets; write {USUAL}()"
        close = self.resembling(name)
        if close:
            written = " or ".join(self.example(known) for known in close)
            return f"{where}: {shortened(text)!r} came; expected a call with brackets; write {written}"
        if not name.isidentifier():
            return None
        return f"{where}: {shortened(text)!r} is no known {self.kind}; {did_you_mean(name, self.known)}"


def read_call(text: str, registry: Registry, where: str) -> Call:
    """Read one constructor text; a bare or misspelled name is answered with the call to write.

    Args:
        text: For instance ``Adam(lr=0.1)``; ``adam`` is answered with ``write Adam()``.
        registry: `layers`, `losses` or `optimizers`.
        where: The setting, for messages.

    Returns:
        The call; its name may still be unknown.

    Raises:
        ConfigError: The text is no call.
        SafetyError: The text hides code.
    """
    problem = registry.bare_problem(text, where)
    if problem:
        raise ConfigError(problem)
    return parse_call(text, where)


@functools.cache
def _table() -> dict[str, dict[str, list[tuple[str, bool]]]]:
    table: dict[str, dict[str, list[tuple[str, bool]]]] = {}
    for file in ("signatures.json", "transforms.json"):
        table |= json.loads(resources.files("netwright.config").joinpath(file).read_text(encoding="utf-8"))
    return table


def _registry(kind: str, section: str, refused: str | None) -> Registry:
    known = {
        name: tuple((str(parameter), bool(required)) for parameter, required in parameters)
        for name, parameters in _table()[section].items()
    }
    reasons = {name: str(reason) for name, reason in _table()[refused].items()} if refused else {}
    return Registry(kind, known, reasons)


@functools.cache
def layers() -> Registry:
    """Return the layers: torch.nn's with one tensor in and one out, and those of `OWN_LAYERS`."""
    found = _registry("layer", "layers", "refused_layers")
    return Registry("layer", {**found.known, **OWN_LAYERS}, found.refused)


@functools.cache
def losses() -> Registry:
    """Return the losses of torch.nn that compare one output with one target, and those of `OWN_LOSSES`."""
    found = _registry("loss", "losses", "refused_losses")
    return Registry("loss", {**found.known, **OWN_LOSSES}, found.refused)


@functools.cache
def optimizers() -> Registry:
    """Return the optimizers of torch.optim."""
    return _registry("optimizer", "optimizers", None)


@functools.cache
def transforms() -> Registry:
    """Return the transforms of images of torchvision.transforms.v2, and those of `OWN_TRANSFORMS`."""
    found = _registry("transform", "transforms", "refused_transforms")
    return Registry("transform", {**found.known, **OWN_TRANSFORMS}, found.refused)


@functools.cache
def schedulers() -> Registry:
    """Return the schedulers of torch.optim.lr_scheduler, SWALR, and those of `OWN_SCHEDULERS`."""
    found = _registry("schedule", "schedulers", "refused_schedulers")
    return Registry("schedule", {**found.known, **OWN_SCHEDULERS}, found.refused)


@functools.cache
def averages() -> Registry:
    """Return the averages of weights of `AVERAGES`."""
    return Registry("average", AVERAGES, {})


def _kind_elsewhere(name: str, kind: str) -> str | None:
    """Return what a name of another registry is and where it belongs."""
    places = {
        "loss": (losses(), "a loss; write it in training.loss"),
        "optimizer": (optimizers(), "an optimizer; write it in training.optimizer"),
        "layer": (layers(), "a layer; write it in model.layers"),
        "transform": (transforms(), "a transform; write it in data.augmentation"),
        "schedule": (schedulers(), "a schedule of the learning rate; write it in training.schedule"),
        "average": (averages(), "an average of the weights; write it in training.average"),
    }
    for other, (registry, told) in places.items():
        if other != kind and (name in registry.known or (other == "loss" and name in registry.refused)):
            return told
    return None


def layer_problems(call: Call, where: str) -> list[str]:
    """Return the problems of a layer and of the layers inside it, each with its path."""
    problem = layers().problem(call, where)
    found = [problem] if problem else []
    for position, child in enumerate(call.children()):
        found += layer_problems(child, f"{where}.{position}")
    return found


def scheduler_problems(call: Call, where: str) -> list[str]:
    """Return the problems of a scheduler and of those inside it, each with its path."""
    problem = schedulers().problem(call, where)
    found = [problem] if problem else []
    if call.name in SCHEDULES and not problem and not call.children():
        found.append(
            f"{where}: {call} came; expected a list of schedulers in it; write {call.name}([StepLR(step_size=5), ...])"
        )
    for position, child in enumerate(call.children()):
        found += scheduler_problems(child, f"{where}.{position}")
    return found


def bind(call: Call, registry: Registry, where: str) -> dict[str, Any]:
    """Name every positional argument of a call.

    If the values bind to torch's own signature, torch's meaning holds: ``Linear(784, 128)`` is in, out. Else the
    inferred argument is the one left out: ``Conv2d(32, 3)`` is out, kernel.

    Args:
        call: A call whose name is known.
        registry: `layers`, `losses` or `optimizers`.
        where: The setting, for messages.

    Returns:
        The arguments by name in the order of the signature; inferred ones may be missing.

    Raises:
        ConfigError: An argument is missing or given twice.
    """
    parameters = registry.parameters_of(call.name) or ()
    inferred = INFERRED.get(call.name)
    whole = _bound(call, parameters)
    if not isinstance(whole, str):
        return whole
    if inferred is not None and inferred not in call.keywords:
        rest = tuple((name, required) for name, required in parameters if name != inferred)
        if call.name == "Linear":  # Linear() is the output layer: the task gives its size
            rest = tuple((name, False) for name, _ in rest)
        part = _bound(call, rest)
        if not isinstance(part, str):
            return part
        whole = part
    elif call.name == "Linear" and inferred in call.keywords:
        part = _bound(call, tuple((name, False) for name, _ in parameters))
        if not isinstance(part, str):
            return part
    needed = ", ".join(name for name, required in parameters if required and name != inferred)
    raise ConfigError(f"{where}: {call} came; {whole}; expected at least {needed or 'no argument'}")


def _bound(call: Call, parameters: tuple[tuple[str, bool], ...]) -> dict[str, Any] | str:
    """Return the arguments by name, or what hinders the binding."""
    names = [name for name, _ in parameters]
    if len(call.args) > len(names):
        return f"{len(call.args)} values are too many"
    given = dict(zip(names, call.args, strict=False))
    for name, value in call.kwargs:
        if name in given:
            return f"{name} is given twice"
        given[name] = value
    for name, required in parameters:
        if required and name not in given:
            return f"{name} is missing"
    return {name: given[name] for name in names if name in given}


def named(call: Call, registry: Registry, where: str) -> Call:
    """Return the call with every argument by keyword; containers keep their list."""
    if call.name in CONTAINERS:
        return call
    return Call(call.name, (), tuple(bind(call, registry, where).items()))
