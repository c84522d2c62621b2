"""A task: which loss, how many outputs, how the target is spelled, and how outputs become predictions. Floor 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from netwright.config import signatures
from netwright.config.calls import OBJECT, Call, parse_call
from netwright.errors import ConfigError
from netwright.model.focal import FocalLoss
from netwright.model.losses import PerStep
from netwright.model.weighing import FOCAL, balanced, refuse_unread

DEFAULT_LOSS = {
    "binary": "BCEWithLogitsLoss()",
    "multiclass": "CrossEntropyLoss()",
    "multilabel": "BCEWithLogitsLoss()",
    "regression": "MSELoss()",
}
CLASS_LOSSES = ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")
BINARY_LOSSES = ("BCEWithLogitsLoss", "BCELoss")
LABEL_LOSSES = (*BINARY_LOSSES, "MultiLabelSoftMarginLoss")
VALUE_LOSSES = ("L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss", "PoissonNLLLoss")
FITTING = {
    "binary": (*BINARY_LOSSES, *CLASS_LOSSES, FOCAL),
    "multiclass": (*CLASS_LOSSES, FOCAL),
    "multilabel": (*LABEL_LOSSES, FOCAL),
    "regression": VALUE_LOSSES,
}
ROUNDING = 1e-14  # deviations of a target below this share of its mean are rounding
HOLDS = {"regression": "numbers (float32)", "multilabel": "0 and 1 per label (float32)"}


@final
class Decoding(nn.Module):
    """Turns the network's outputs into probabilities ``(rows, classes)`` or values ``(rows, outputs)``.

    Args:
        form: ``softmax``, ``exp``, ``sigmoid``, ``probability`` or ``score`` of classes; ``sigmoids`` or ``probabilities``
            of labels, each on its own; ``value``, ``count`` (the output is the logarithm of a rate) or ``rate``.
        outputs: Number of outputs.
        temperature: What outputs are divided by before they become probabilities, where they are logits.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, form: str, outputs: int, temperature: float = 1.0) -> None:
        super().__init__()
        self.form, self.outputs, self.temperature = form, outputs, temperature
        self.register_buffer("mean", torch.zeros(outputs, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(outputs, dtype=torch.float64))

    @property
    def probabilistic(self) -> bool:
        """Whether probabilities come out."""
        return self.form in ("softmax", "exp", "sigmoid", "probability", "sigmoids", "probabilities")

    @property
    def reads_logits(self) -> bool:
        """Whether the outputs are logits, which a temperature can divide."""
        return self.form in ("softmax", "sigmoid", "sigmoids")

    @property
    def rates(self) -> bool:
        """Whether expected counts come out."""
        return self.form in ("count", "rate")

    def forward(self, outputs: Tensor) -> Tensor:
        """Return probabilities, scores or values in the user's units, float64."""
        values = outputs.double()
        if self.reads_logits and self.temperature != 1.0:
            values = values / self.temperature
        if self.form == "softmax":
            return values.softmax(dim=1)
        if self.form in ("exp", "count"):
            return values.exp()
        if self.form == "sigmoids":
            return values.sigmoid()
        if self.form in ("sigmoid", "probability"):
            positive = values.sigmoid() if self.form == "sigmoid" else values
            return torch.cat([1.0 - positive, positive], dim=1)
        return values if self.form in ("score", "probabilities") else values * self.scale + self.mean


@dataclass(frozen=True)
class Task:
    """What is learned: the kind, the loss as text and module, the number of outputs, the decoding.

    With ``per_step`` the target has one value per step.
    """

    kind: str
    loss: str
    loss_function: Any
    outputs: int
    decoding: Decoding
    class_target: bool
    per_step: bool = False

    def spell_target(self, values: npt.NDArray[Any]) -> Tensor:
        """Return the target as the loss reads it, of rows or of steps.

        ``(rows,)`` int64 of class numbers, ``(rows, 1)`` or ``(rows, labels)`` float32 of 0 and 1, or ``(rows, outputs)``
        float32 scaled.
        """
        if self.kind == "regression":
            scaled = (torch.from_numpy(values) - self.decoding.mean) / self.decoding.scale
            return scaled.float()
        numbers = torch.from_numpy(values)
        if self.kind == "multilabel":
            return numbers.float()
        return numbers if self.class_target else numbers.float().unsqueeze(1)


def make_task(
    kind: str,
    loss: str | None,
    *,
    classes: int,
    columns: int,
    train_values: npt.NDArray[Any],
    scaling: str | None,
    own_loss: Any = None,
    found_outputs: int | None = None,
    per_step: bool = False,
) -> Task:
    """Choose loss, outputs, target spelling and decoding.

    Args:
        kind: binary, multiclass, multilabel or regression.
        loss: torch's text, or None for the usual one.
        classes: Number of classes or labels, 0 for regression.
        columns: Number of target columns of a regression.
        train_values: The target of the train rows: class numbers ``(rows,)``, 0 and 1 ``(rows, labels)`` or values
            ``(rows, columns)``.
        scaling: ``standardize``, ``none`` or None (standardised, but for counts).
        own_loss: A callable ``(output, target) -> loss`` from Python instead of ``loss``.
        found_outputs: Outputs an own module gives, to choose between one and two for binary.
        per_step: Whether the target has one value per step.

    Raises:
        ConfigError: The loss does not fit the target.
    """
    if own_loss is not None:
        call = _call_of(own_loss)
        text = f"{OBJECT}{call.name}"
        _refuse_unfit(kind, call, own_loss)
    else:
        text = loss or usual_loss(kind, found_outputs)
        call = parse_call(text, "training.loss")
        if problem := signatures.losses().problem(call, "training.loss"):
            raise ConfigError(problem)
    _refuse_mismatch(kind, call)
    own = own_loss is not None and call.name not in (*LABEL_LOSSES, *VALUE_LOSSES)
    class_target = call.name in CLASS_LOSSES or (kind == "multiclass" and call.name not in VALUE_LOSSES)
    class_target = class_target or (kind == "binary" and own and found_outputs == 2)
    outputs = columns if kind == "regression" else classes if class_target or kind == "multilabel" else 1
    function = own_loss
    if own_loss is None:
        call = signatures.named(call, signatures.losses(), "training.loss")
        refuse_unread(call, class_target)
        call = balanced(call, train_values, classes, kind)
        function = make_loss(call, outputs)
        text = str(call)
    decoding = Decoding(_form(kind, call, class_target), outputs)
    if kind == "regression":
        _scale(decoding, train_values, scaling)
    return Task(kind, text, PerStep(function) if per_step else function, outputs, decoding, class_target, per_step)


def usual_loss(kind: str, outputs: int | None) -> str:
    """Return the loss of a task where none is written; ``outputs`` an own module gives, if that is known."""
    return "CrossEntropyLoss()" if kind == "binary" and outputs == 2 else DEFAULT_LOSS[kind]


# torch.nn.functional's names of the losses, so that their outputs are decoded as the classes' are.
FUNCTIONAL = {
    "binary_cross_entropy": "BCELoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss",
    "cross_entropy": "CrossEntropyLoss",
    "nll_loss": "NLLLoss",
    "multi_margin_loss": "MultiMarginLoss",
    "multilabel_soft_margin_loss": "MultiLabelSoftMarginLoss",
    "mse_loss": "MSELoss",
    "l1_loss": "L1Loss",
    "smooth_l1_loss": "SmoothL1Loss",
    "huber_loss": "HuberLoss",
    "poisson_nll_loss": "PoissonNLLLoss",
}


def loss_name(loss: Any) -> str:
    """Return the name of a loss from Python: the class of torch.nn it is or computes, else its own.

    Raises:
        ConfigError: It does not take the mean, or is a class.
    """
    if isinstance(loss, type):
        raise ConfigError(f"loss: the class {loss.__name__} came; expected an object of it; write {loss.__name__}()")
    if getattr(loss, "reduction", "mean") != "mean":
        raise ConfigError(f"loss: {loss!r} came with reduction={loss.reduction!r}; expected the mean; leave reduction out")
    kind = type(loss) if isinstance(loss, nn.Module) else loss
    name = str(getattr(kind, "__name__", type(loss).__name__))
    return FUNCTIONAL.get(name, name) if getattr(kind, "__module__", "").startswith("torch.") else name


def _call_of(loss: Any) -> Call:
    """Return the name of a loss from Python, with the arguments that say what its outputs mean."""
    told = (("log_input", loss.log_input),) if isinstance(loss, nn.PoissonNLLLoss) else ()
    return Call(loss_name(loss), kwargs=told)


def _refuse_unfit(kind: str, call: Call, loss: Any) -> None:
    """Refuse a loss of torch from Python that reads something else than classes.

    Raises:
        ConfigError: It says what it reads.
    """
    module = getattr(type(loss) if isinstance(loss, nn.Module) else loss, "__module__", "") or ""
    reason = signatures.losses().refused.get(call.name)
    if kind != "regression" and reason is not None and module.startswith("torch."):
        raise ConfigError(
            f"training.loss: {call.name} came; {reason}; expected {' or '.join(FITTING[kind])} for a {kind} task; change the loss"
        )


def implied_task(loss: str | None, own_loss: Any) -> str | None:
    """Return the task that a loss leaves no doubt about; None where the target decides.

    The binary losses fit several labels too, where the target has several columns.
    """
    name = loss_name(own_loss) if own_loss is not None else None
    if name is None and loss is not None and not loss.startswith(OBJECT):
        name = parse_call(loss, "training.loss").name
    if name in BINARY_LOSSES:
        return "binary"
    if name in LABEL_LOSSES:
        return "multilabel"
    return "regression" if name in VALUE_LOSSES else None


def _refuse_mismatch(kind: str, call: Call) -> None:
    fitting = FITTING[kind]
    if call.name in (*LABEL_LOSSES, *CLASS_LOSSES, *VALUE_LOSSES, FOCAL) and call.name not in fitting:
        target = HOLDS.get(kind, "class numbers (int64)")
        raise ConfigError(
            f"training.loss: {call.name} came; the task is {kind}, its target holds {target}; expected "
            f"{' or '.join(fitting)}; change the loss or set data.task"
        )


def _form(kind: str, call: Call, class_target: bool) -> str:
    if kind == "regression" and call.name == "PoissonNLLLoss":
        return "count" if call.keywords.get("log_input", True) else "rate"
    if kind == "regression":
        return "value"
    if kind == "multilabel":
        return "probabilities" if call.name == "BCELoss" else "sigmoids"
    if call.name == "BCELoss":
        return "probability"
    if call.name == "NLLLoss":
        return "exp"
    if call.name == "MultiMarginLoss":
        return "score"
    return "softmax" if class_target else "sigmoid"


def _scale(decoding: Decoding, values: npt.NDArray[Any], scaling: str | None) -> None:
    counts = decoding.rates
    if counts and scaling == "standardize":
        raise ConfigError("data.preparation.target_scaling: PoissonNLLLoss reads plain counts; leave target_scaling out")
    if scaling == "none" or counts:
        return
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    decoding.mean.copy_(torch.from_numpy(mean))
    decoding.scale.copy_(torch.from_numpy(np.where(deviation > ROUNDING * np.abs(mean), deviation, 1.0)))


def make_loss(call: Call, outputs: int) -> nn.Module:
    """Build a loss of torch.nn, or `FocalLoss`; lists of weights become tensors.

    Raises:
        ConfigError: torch refuses an argument, or the number of weights is not the number of outputs.
    """
    arguments = {}
    for name, value in call.kwargs:
        if name in ("weight", "pos_weight"):
            expected = outputs
            if not isinstance(value, list) or not all(isinstance(item, int | float) for item in value):
                raise ConfigError(f'training.loss: {name}={value!r} came; expected a list of numbers or "balanced"')
            if len(value) != expected:
                raise ConfigError(f"training.loss: {name} has {len(value)} numbers; the network has {expected} outputs")
            arguments[name] = torch.tensor(value, dtype=torch.float32)
        else:
            arguments[name] = value
    gamma = arguments.get("gamma", 0.0)
    if isinstance(gamma, bool) or not isinstance(gamma, int | float) or gamma < 0:
        raise ConfigError(f"training.loss: gamma={gamma!r} came; expected a number from 0; write for instance gamma=2.0")
    kind: Any = FocalLoss if call.name == FOCAL else getattr(nn, call.name)
    try:
        made: nn.Module = kind(**arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"training.loss: {call} cannot be built: {error}; mend its arguments") from None
    return made
