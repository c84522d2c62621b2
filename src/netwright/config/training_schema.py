"""The settings of training: what a step does, how long, on what, and how it is executed. Floor 1."""

from __future__ import annotations

from math import inf
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from netwright.config.calls import OBJECT
from netwright.config.data_schema import Section, one_in_a_list
from netwright.config.layer_schema import UnfreezeConfig, layer_names
from netwright.config.metrics import KNOWN, problem_of
from netwright.config.updates import GRADIENTS, GROUP_SCHEMA
from netwright.config.values import shown

OPTIONAL = ("schedule", "average")  # texts that may be "none"


class EarlyStoppingConfig(Section):
    """Stop when the monitored figure has not improved for `patience` epochs."""

    monitor: str = Field("valid_loss", description="A column of history.csv.")
    mode: Literal["min", "max"] | None = Field(
        None, description="Whether less or more of it is better; needed for figures of one's own."
    )
    patience: Annotated[int, Field(ge=1)] = Field(20, description="Epochs without improvement.")


class TrainingConfig(Section):
    """How the network learns."""

    epochs: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Exactly so many; left out: at most 200, stopped early with patience 20; for a default network by its "
        "rows.",
    )
    steps: Annotated[int, Field(ge=1)] | None = Field(None, description="Stop after so many steps, even inside an epoch.")
    seconds: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Stop after the step that ends so many seconds of training, even inside an epoch."
    )
    optimizer: str = Field(
        "Adam(lr=0.001)",
        description="torch.optim's own spelling; default networks have one of their own, most with a schedule.",
    )
    parameter_groups: list[dict[str, Any]] = Field(
        default_factory=list,
        description='Parameters with arguments of the optimizer for themselves: [{ parameters = ["biases", "norms"], weight_decay '
        "= 0.0 }]; the first group that speaks of a parameter has it, the rest keep the optimizer's own (docs/optimizers.md).",
        json_schema_extra={"items": GROUP_SCHEMA},
    )
    clip_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="The 2-norm that the gradients have at most, by torch.nn.utils.clip_grad_norm_."
    )
    clip_grad_value: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="What each number of a gradient is at most by magnitude, by torch.nn.utils.clip_grad_value_."
    )
    l1: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = Field(
        None,
        description="Penalty on the magnitudes of weights, not of biases and norms: l1 * sign(weight) is added to the gradient; "
        "the losses told are without it. L2 is weight_decay of the optimizer.",
    )
    sharpness: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None,
        description="Sharpness-aware minimisation (Foret and others, 2021): the gradient is taken so far uphill (rho), such as "
        "0.05; a step takes twice as long.",
    )
    loss: str | None = Field(None, description="torch.nn's own spelling; left out, the task decides.")
    class_weight: Literal["balanced"] | list[float] | dict[str, float] | None = Field(
        None,
        description='How much each class counts in the loss: "balanced", by the inverse of its number of train rows; by class, '
        "{ yes = 5.0 }, those not named 1.0; or a list in the order of the classes. Written into the loss: weight, or pos_weight "
        "where outputs say yes or no.",
    )
    schedule: str | None = Field(
        None,
        description="Of the learning rate: torch.optim.lr_scheduler's own spelling, such as CosineAnnealingLR(); or "
        "WarmupCosine(warmup=0.05), which some default networks have.",
    )
    average: str | None = Field(
        None,
        description="Averaged weights that are validated and kept: EMA(decay=0.999) after every step, or SWA(start_epoch=15) after "
        "every epoch.",
    )
    early_stopping: EarlyStoppingConfig | Literal["none"] | None = Field(None)
    metrics: list[str] = Field(
        default_factory=list,
        description='Further figures of every epoch and of the test, by scikit-learn\'s names, such as ["cohen_kappa_score"].',
        json_schema_extra={"items": {"type": "string", "anyOf": [{"enum": list(KNOWN)}, {"pattern": f"^{OBJECT}"}]}},
    )
    step: str | None = Field(None, description="Written by netwright for a training step handed over in Python.")
    evaluate: str | None = Field(None, description="Written by netwright for the figures of such a step.")
    stop: str | None = Field(None, description="Written by netwright for a stop condition handed over in Python.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Of initialisation, order and dropout.")
    device: str | None = Field(None, description="auto, cpu, cuda, cuda:1 or mps.")
    threads: Annotated[int, Field(ge=1)] | None = Field(
        None, description="CPU threads; default by a rule on the work per step."
    )
    lanes: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Cores that share a captured step with threads = 1, or one in kernels of dense layers; default by a rule on "
        "the work per step.",
    )
    engine: Literal["auto", "eager", "captured", "compiled"] = Field(
        "auto",
        description="How a step is executed: eager, as it is written; captured, recorded once and replayed with the same bits. "
        "compiled, with other last bits: in kernels of dense layers, on the CPU of convolutions, recurrent layers and norms "
        "too, other networks by torch.compile. auto takes captured where that works, else eager. On a GPU captured is a CUDA "
        "graph of whole steps.",
    )
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = Field(
        "float32",
        description="Of products: tf32 on a GPU that has it, bfloat16 by torch.autocast, float16 with torch.amp.GradScaler too; "
        "weights and their updates stay float32.",
    )
    memory_format: Literal["contiguous", "channels_last"] = Field(
        "contiguous", description="How the weights of 2-d convolutions lie; channels_last is often faster for images."
    )
    micro_batch: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Rows that go forward and backward at a time; gradients are added up over the batch. Takes less memory; "
        "BatchNorm then sees so many rows at a time.",
    )
    strategy: Literal["auto", "ddp", "fsdp"] = Field(
        "auto",
        description="Where several processes train: ddp, each has the whole network; fsdp, each holds a piece of every parameter, "
        "gradient and optimizer state. auto takes fsdp where they are too much for a device.",
    )
    sync_batchnorm: bool = Field(
        False,
        description="Whether BatchNorm counts the rows of all processes, as one process would; else each counts its own.",
    )

    freeze: list[str] = Field(
        default_factory=list,
        description='Layers or parameters that do not learn, by name or pattern, such as ["0", "features.*", "embeddings"]; batch '
        "norm layers among them keep their statistics.",
    )
    unfreeze: list[UnfreezeConfig] = Field(
        default_factory=list,
        description='From which epoch on frozen ones learn, such as [{ epoch = 3, parameters = ["4"] }].',
    )

    @field_validator("freeze", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return layer_names(value)

    @field_validator("unfreeze", mode="before")
    @classmethod
    def _one_table(cls, value: Any) -> Any:
        return [] if value == "none" else [value] if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _frozen_before(self) -> TrainingConfig:
        if self.unfreeze and not self.freeze:
            raise ValueError("unfreeze came without freeze; expected layers that are frozen; write them in freeze too")
        return self

    @field_validator("early_stopping", mode="before")
    @classmethod
    def _on_or_off(cls, value: Any) -> Any:
        """Read true as the default section and false as "none"."""
        return ({} if value else "none") if isinstance(value, bool) else value

    @field_validator(*OPTIONAL, mode="before")
    @classmethod
    def _text_or_none(cls, value: Any) -> Any:
        """Read "none" as nothing, and refuse a list."""
        if isinstance(value, list | tuple):
            parts = ", ".join(map(str, value))
            raise ValueError(f"a list came; expected one text; write SequentialLR([{parts}], milestones=[...])")
        return None if value in ("none", False) else value

    @field_validator("parameter_groups", "micro_batch", *GRADIENTS, mode="before")
    @classmethod
    def _off(cls, value: Any, info: ValidationInfo) -> Any:
        if value == "none":
            return [] if info.field_name == "parameter_groups" else None
        return value

    @field_validator("class_weight", mode="before")
    @classmethod
    def _of_classes(cls, value: Any) -> Any:
        """Read "none" as nothing and classes as text, and refuse in one line what is no weight above 0."""
        if value in ("none", "balanced") or value is None:
            return None if value == "none" else value
        many = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        if not many or not all(isinstance(one, int | float) and not isinstance(one, bool) and 0 < one < inf for one in many):
            raise ValueError(
                f'{shown(value)} came; expected "balanced", or numbers above 0: a list in the order of the classes, or by class; '
                "write for instance { yes = 5.0 }"
            )
        if isinstance(value, dict):
            return {str(name): float(weight) for name, weight in value.items()}
        return [float(weight) for weight in value]

    @field_validator("metrics", mode="before")
    @classmethod
    def _single(cls, value: Any) -> Any:
        return [] if value == "none" else one_in_a_list(value)

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, value: list[str]) -> list[str]:
        for name in value:
            problem = None if name.startswith(OBJECT) else problem_of(name)
            if problem is not None:
                raise ValueError(f"{problem}; a function of one's own goes in from Python: metrics={{name: function}}")
        if len(set(value)) < len(value):
            raise ValueError(f"{shown(value)} came; expected each name once; leave one out")
        return value

    @field_validator("step", "evaluate", "stop")
    @classmethod
    def _from_python(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(OBJECT):
            raise ValueError(f"{shown(value)} came; expected a function, which is handed over in Python; call nw.train")
        return value

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str | None) -> str | None:
        kind = (value or "auto").partition(":")
        if kind[0] not in ("auto", "cpu", "cuda", "mps") or (kind[1] and not kind[2].isdecimal()):
            raise ValueError(f"{shown(value)} came; expected auto, cpu, cuda, cuda:N or mps; write one of these")
        return value
